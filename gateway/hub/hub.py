"""The connections of this node and the topics they watch.

Rule 1: connections are counted when they open and forgotten when they close, whatever happens in between.
Rule 2: one clock serves them all: heartbeats, credentials that run out, clients that take nothing.

Longer than others: whatever walks all connections (clock, drain, end) stands beside the one place that holds them.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from gateway.broker import Broker, Run
from gateway.errors import NotFound, Problem, Unavailable
from gateway.hub.connection import Connection
from gateway.hub.counts import Counts
from gateway.hub.pacing import Pace
from gateway.hub.past import Pasts
from gateway.hub.places import Limits, Places
from gateway.hub.subscription import Join, Subscription
from gateway.hub.topic import Topic
from gateway.tasks import Tasks
from gateway.transports import Transport
from gateway.wire import control
from gateway.wire.codes import OF_PROBLEM, Close
from gateway.wire.framing import Framing

TICKS_PER_HEARTBEAT = 10
MAX_TICK_S = 1.5
SLICE = 250  # connections looked at before the loop gets a turn


class Hub:
    """`heartbeat_s` is the silence after which a heartbeat goes out; `now` gives Unix seconds.

    `watching` is told whenever a run gets a viewer more (1) or less (-1). `check` is asked whether a connection's
    bearer is still good; it raises Problem if not.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        limits: Limits,
        pace: Pace,
        pasts: Pasts,
        heartbeat_s: float,
        now: Callable[[], float],
        watching: Callable[[str, int], None] = lambda _run, _change: None,
        check: Callable[[Any], None] = lambda _bearer: None,
    ) -> None:
        self.pace = pace
        self.limits = limits
        self.draining = False
        self.counts = Counts()
        self._broker = broker
        self._heartbeat_s = heartbeat_s
        self._now = now
        self._watching = watching
        self._check = check
        self._connections: dict[Connection, None] = {}
        self._places = Places(limits, pace)
        self._topics: dict[str, Topic] = {}
        self._pasts = pasts
        self._tasks = Tasks("hub")

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def kinds(self) -> Mapping[tuple[str, str], int]:
        """Open connections by transport and by the way their bytes go."""
        return self._places.kinds

    @property
    def subscriptions(self) -> tuple[int, int]:
        """How many subscriptions are live, and how many are behind or wait in a long-poll."""
        live = sum(topic.live_count for topic in self._topics.values())
        return live, sum(topic.holders for topic in self._topics.values()) - live

    @property
    def topics(self) -> int:
        return len(self._topics)

    @property
    def heartbeat_ms(self) -> int:
        return round(self._heartbeat_s * 1000)

    def start(self) -> None:
        self._tasks.spawn(self._tick(), name="clock")

    async def close(self) -> None:
        """Cut off whoever is left."""
        for connection in tuple(self._connections):
            connection.transport.abort()
        await self._tasks.close()

    def open(
        self,
        transport: Transport,
        framing: Framing,
        *,
        subject: str,
        expires_at: float,
        sole: bool,
        address: str = "",
        bearer: object = None,
    ) -> Connection:
        """Count a connection in. `sole`: it ends with its last subscription. `address`: where it comes from, if known.

        Raises TooMany (`limit.connections`), Unavailable (`server.busy`, `server.draining`) and what `check` raises.
        """
        self.admit(subject, address)
        if bearer is not None:
            self._check(bearer)
        connection = Connection(
            transport,
            framing,
            pump=self._catch_up,
            left=self._left,
            subject=subject,
            address=address,
            expires_at=expires_at,
            warn_at=self._warn_at(expires_at),
            sole=sole,
            bearer=bearer,
        )
        self._connections[connection] = None
        self._places.take(connection)
        self.counts.opened[connection.kind] += 1
        self.pace.opened()
        return connection

    def admit(self, subject: str, address: str = "") -> None:
        """Whether one more connection of this subject, from this address, may open; raises as `open` does."""
        if self.draining:
            raise Unavailable("server.draining", retry_after_ms=self.pace.after_ms())
        if not self._broker.available:
            raise Unavailable("broker.unavailable", retry_after_ms=self.pace.after_ms())
        self._places.check(subject, address)

    def check_room(self, connection: Connection, run: str | None = None) -> None:
        """Whether a connection may watch one more run. Raises TooMany (`limit.connections`)."""
        self._places.check_room(connection, run)

    def belongs(self, connection: Connection, subject: str, expires_at: float, bearer: object = None) -> None:
        """A connection has proved whose it is. Raises TooMany when the subject has too many."""
        self._places.change_hands(connection, subject)
        connection.bearer = bearer
        connection.expires_at = expires_at
        connection.warn_at = self._warn_at(expires_at)

    def _warn_at(self, expires_at: float) -> float:
        """In time for a fresh one. Of a short life half is left alone: fresh ones would be asked for without end."""
        return expires_at - min(self.limits.auth_warning_s, (expires_at - self._now()) / 2)

    def forget(self, connection: Connection) -> None:
        """The connection is closed. Idempotent."""
        if connection not in self._connections:
            return
        del self._connections[connection]
        self._places.give_back(connection)
        for subscription in tuple(connection.subscriptions.values()):
            subscription.end()
        connection.transport.finish()

    @asynccontextmanager
    async def topic(self, run: Run) -> AsyncIterator[Topic]:
        """Watch a run for a while. Raises NotFound."""
        topic = await self._hold(run)
        try:
            yield topic
        finally:
            self._release(topic)

    async def subscribe(self, connection: Connection, run: Run, join: Join) -> Subscription:
        """Put a run on a connection, in place of an earlier subscription to it. `run` is its record of now.

        The caller tells the client and then calls `start` on it. Raises NotFound, TooMany (`limit.connections`).
        """
        self.check_room(connection, run.id)
        topic = await self._hold(run)
        if connection not in self._connections:
            self._release(topic)
            raise ConnectionResetError
        subscription = Subscription(connection, topic, join)
        self.counts.joins[subscription.resume] += 1
        earlier = connection.subscriptions.get(run.id)
        connection.subscriptions[run.id] = subscription
        if earlier is not None:
            earlier.end()
        return subscription

    async def _hold(self, run: Run) -> Topic:
        topic = self._topics.get(run.id)
        if topic is None:
            opened = Topic(
                run.id,
                counts=self.counts,
                pasts=self._pasts,
                max_event_bytes=self.limits.max_event_bytes,
            )
            position = await self._broker.watch(run.id, opened.publish)
            if position is None:
                raise NotFound
            opened.stands_at(position)
            topic = self._topics.setdefault(run.id, opened)
            if topic is not opened:
                self._broker.unwatch(run.id, opened.publish)
        topic.floor = max(topic.floor, run.floor)
        topic.holders += 1
        self._watching(topic.run, 1)
        return topic

    def _release(self, topic: Topic) -> None:
        topic.holders -= 1
        self._watching(topic.run, -1)
        if topic.holders == 0:
            self._broker.unwatch(topic.run, topic.publish)
            if self._topics.get(topic.run) is topic:
                del self._topics[topic.run]

    def _left(self, subscription: Subscription) -> None:
        self._release(subscription.topic)

    def _catch_up(self, connection: Connection) -> None:
        connection.pumping = True
        self._tasks.spawn(self._pump(connection), name=f"catch-up:{connection.id}")

    async def _pump(self, connection: Connection) -> None:
        """Read on from the log, a page a turn for each run that is behind, whenever the client has room."""
        try:
            while behind := connection.behind():
                for subscription in behind:
                    await connection.transport.drained()
                    await subscription.catch_up(self._broker)
        except ConnectionError:
            pass  # the client is gone; its route forgets the connection
        except Unavailable as refusal:
            self.send_away(connection, reason=refusal.code)
        except BaseException:
            connection.finish(Close.INTERNAL)
            raise
        finally:
            connection.pumping = False

    async def review(self) -> None:
        """Credentials were taken back: end every connection whose bearer is no longer good."""
        for count, connection in enumerate(tuple(self._connections), start=1):
            if connection.bearer is not None:
                try:
                    self._check(connection.bearer)
                except Problem as refusal:
                    connection.finish(OF_PROBLEM.get(refusal.code, Close.CREDENTIAL))
                    if connection.transport.unsent():  # it must not go on reading what it had not taken
                        connection.transport.abort()
            if count % SLICE == 0:
                await asyncio.sleep(0)

    def abandon(self, *, reason: str) -> None:
        """The log is lost: nobody can be served any more."""
        for connection in tuple(self._connections):
            self.send_away(connection, reason=reason)

    def send_away(self, connection: Connection, *, reason: str, close: Close = Close.DRAINING) -> None:
        """End a connection that should come back later."""
        connection.control(control.reconnect(after_ms=self.pace.after_ms(), reason=reason))
        connection.finish(close)

    async def drain(self, *, over_s: float, gone_in_s: float) -> None:
        """Tell everyone when to come back, and end the connections one by one over this time.

        A delay counts from the connection's own end and lands after this process is gone, which is at the latest in
        `gone_in_s`.
        """
        start = self._loop_time()
        connections = list(self._connections)
        random.shuffle(connections)
        share_s = over_s / max(1, len(connections))
        endings = [(connection, index * share_s) for index, connection in enumerate(connections, start=1)]
        for count, (connection, at_s) in enumerate(endings, start=1):
            after_ms = self.pace.after_ms((gone_in_s - at_s) * 1000)
            connection.control(control.reconnect(after_ms=after_ms, reason="server.draining"))
            if count % SLICE == 0:
                await asyncio.sleep(0)
        for connection, at_s in endings:
            while connection in self._connections and (left_s := start + at_s - self._loop_time()) > 0:  # noqa: ASYNC110 - once, at the end
                await asyncio.sleep(min(left_s, 0.05))
            connection.finish(Close.DRAINING)

    @staticmethod
    def _loop_time() -> float:
        return asyncio.get_running_loop().time()

    async def gone(self) -> None:
        """Return when no connection is left."""
        while self._connections:  # noqa: ASYNC110 - once, at the end of the process
            await asyncio.sleep(0.02)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        period = min(self._heartbeat_s / TICKS_PER_HEARTBEAT, MAX_TICK_S)
        due = loop.time()
        while True:
            due = max(due + period, loop.time())
            await asyncio.sleep(due - loop.time())
            lag_s = loop.time() - due
            self.pace.tick(elapsed_s=period, lag_s=lag_s)
            self.counts.loop_lag_s.observe(lag_s)
            await self._look_after_all(within_s=period / 2)

    async def _look_after_all(self, *, within_s: float) -> None:
        """One round of the clock. A large crowd is spread over the time: its pongs would all come at once, too."""
        connections = tuple(self._connections)
        pause_s = within_s * SLICE / max(SLICE, len(connections))
        now, wall = self._loop_time(), self._now()
        beat = control.heartbeat(round(wall * 1000))
        frames: dict[Framing, bytes] = {}
        stall_s = self.limits.stall_timeout_s
        unsent_bytes = lagging = 0
        for count, connection in enumerate(connections, start=1):
            if now - connection.wrote_at >= self._heartbeat_s and connection.transport.unsent() == 0:
                framing = connection.framing
                if framing not in frames:
                    frames[framing] = framing.control(beat)
                connection.beat(frames[framing], now)
            if wall >= connection.warn_at:
                self._expire(connection, wall)
            if connection.waits_for(now) >= stall_s:
                # With nothing in its way the close can still be sent, and the owner of the response sees to the rest.
                if connection.close is None:
                    self.counts.cut_off += 1
                connection.finish(Close.TOO_SLOW)
                if connection.transport.unsent():
                    connection.transport.abort()
            unsent_bytes += connection.unsent
            lagging += connection.unsent > self.limits.max_buffer_bytes
            if count % SLICE == 0:
                await asyncio.sleep(pause_s)
                now, wall = self._loop_time(), self._now()
        self.counts.unsent_bytes, self.counts.lagging = unsent_bytes, lagging

    def _expire(self, connection: Connection, wall: float) -> None:
        """Told of, then ended: both at once if the clock did not look in between."""
        if connection.warn_at < connection.expires_at:
            connection.warn_at = connection.expires_at
            connection.control(control.auth_expiring(round(connection.expires_at * 1000)))
        if wall >= connection.expires_at:
            connection.finish(Close.TOKEN_EXPIRED)
