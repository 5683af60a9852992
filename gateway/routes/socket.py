"""The WebSocket door (PROTOCOL section 6).

Rule 1: a refused socket is accepted and closed with its code, for a browser cannot see a refused handshake; only a
foreign Origin is refused by HTTP.
Rule 2: it reads all the time, so a client that takes nothing can still cancel.
Rule 3: the audit hears of each command as it is replied to, in one place.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import structlog
from quart import Response, Websocket

from gateway.auth import Principal, Scope
from gateway.errors import Forbidden, FrameInvalid, Problem, TooLarge, TooMany, Unauthorized
from gateway.hub import Connection, Join
from gateway.hub.subscription import Subscription
from gateway.routes.audit import Visit
from gateway.routes.endpoint import incident, presented, refuse
from gateway.routes.services import Services, caller
from gateway.routes.streams import transport_for
from gateway.transports import Transport
from gateway.wire import commands, control
from gateway.wire.codes import OF_PROBLEM, Close
from gateway.wire.framing import WEBSOCKET
from gateway.wire.websocket import payloads, text

if TYPE_CHECKING:
    from gateway.routes.door import Handshake, PlainSocket

log = structlog.get_logger(__name__)

SUBPROTOCOL = "runcast.v1"
AUTHENTICATE_WITHIN_S = 5
MAX_INVALID_FRAMES = 10
MAX_REFUSED_COMMANDS = 10
# Beyond what a slow connection may have unsent: replies to a client that goes on asking and takes none of them.
MAX_UNREAD_BYTES = 2 << 20
GOODBYE_S = 5
MAX_GOODBYES = 1000
# What these do stands in the audit, under these names; of the other commands only refusals do.
ACTIONS = {
    "subscribe": "watch", "start": "start", "cancel": "cancel", "pause": "pause", "resume": "resume", "input": "answer",
}  # fmt: skip


class Socket:
    """One WebSocket, from its handshake to its close."""

    def __init__(self, services: Services, websocket: "Websocket | PlainSocket", visit: Visit) -> None:
        self._services = services
        self._websocket = websocket
        self._principal: Principal | None = None
        self._connection: Connection
        self._visit = visit

    async def serve(self, handshake: "Websocket | Handshake") -> Response | None:
        """Serve it to its end, or refuse it by the response that is returned."""
        websocket, services = self._websocket, self._services
        headers = handshake.headers
        if not services.authenticator.welcomes(headers.get("Origin"), headers.get("Host")):
            self._visit.code = "auth.forbidden"
            return await refuse(Forbidden(detail="this origin may not open a WebSocket"), None)
        wanted = SUBPROTOCOL if SUBPROTOCOL in handshake.requested_subprotocols else None
        await websocket.accept(subprotocol=wanted)
        transport, framing = transport_for(handshake, services, direct=WEBSOCKET, fallback=WEBSOCKET)
        try:
            self._principal = await services.authenticator.identify(
                presented(handshake, services, joins=True, websocket=True)
            )
            subject = self._visit.subject = self._principal.subject if self._principal else ""
            self._connection = services.hub.open(
                transport,
                framing,
                subject=subject,
                address=self._visit.address,
                expires_at=self._principal.expires_at if self._principal else float("inf"),
                sole=False,
                bearer=self._principal,
            )
        except Problem as problem:
            self._visit.code = problem.code
            await websocket.close(OF_PROBLEM.get(problem.code, Close.INTERNAL), problem.code)
            await self._see_off(transport)
            return None
        self._visit.connection = self._connection.id
        del handshake, headers  # a socket lives long, and needs them no more
        self._say_hello()
        # Its own task, owned here: reading must go on while a slow client is written to.
        reader = asyncio.ensure_future(self._read())
        try:
            async for frames in transport.outlet():
                for payload in payloads(frames):
                    await websocket.send(payload)
            await websocket.close(self._connection.close or Close.NORMAL)
        finally:
            services.hub.forget(self._connection)
            reader.cancel()
            await asyncio.wait([reader])
        await self._see_off(transport)
        return None

    async def _see_off(self, transport: Transport) -> None:
        """Read on until a client that was told to go is gone, and cut off one that stays or talks on.

        The server waits to hand over what came in, and would keep the socket as long as nobody takes it.
        """
        with contextlib.suppress(ConnectionResetError):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    for _ in range(MAX_GOODBYES):
                        await self._websocket.receive()
            transport.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    while True:
                        await self._websocket.receive()

    def _say_hello(self) -> None:
        hub = self._services.hub
        self._connection.control(
            control.hello(connection=self._connection.id, heartbeat_ms=hub.heartbeat_ms, retry_ms=hub.pace.retry_ms)
        )

    async def _read(self) -> None:
        try:
            if self._principal is None:
                async with asyncio.timeout(AUTHENTICATE_WITHIN_S):
                    frame = await self._receive()
                await self._prove(frame)
            await self._commands()
        except TimeoutError:
            self._visit.code = "auth.missing"
            self._connection.finish(Close.CREDENTIAL)
        except ConnectionResetError:
            self._connection.finish()
        except Problem as problem:
            self._visit.code = problem.code
            self._connection.finish(OF_PROBLEM.get(problem.code, Close.CREDENTIAL))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - it is logged, and the socket closes with 1011
            incident(error, self._visit)
            self._connection.finish(Close.INTERNAL)

    async def _prove(self, first: str | bytes | None) -> None:
        """Raises Problem unless the client proves who it is by its first frame."""
        command = commands.decode(first)
        if command["type"] != "authenticate":
            raise Unauthorized("auth.missing")
        reply, _ = await self._perform(command)
        self._say(reply, commands.ref_of(command))
        if isinstance(reply, Problem):
            self._connection.finish(OF_PROBLEM.get(reply.code, Close.CREDENTIAL))

    async def _receive(self) -> str | bytes | None:
        """The next frame. Raises TooLarge."""
        frame: str | bytes | None = await self._websocket.receive()
        size = len(frame.encode() if isinstance(frame, str) else frame or b"")
        if size > self._services.max_body_bytes:
            raise TooLarge
        return frame

    async def _commands(self) -> None:
        invalid = refused = 0
        while self._connection.close is None:
            frame = await self._receive()
            command: dict[str, Any] = {}
            started: Subscription | None = None
            try:
                command = commands.decode(frame)
                invalid = 0
                outcome, started = await self._perform(command)
            except FrameInvalid as problem:
                outcome = problem
                invalid += 1
                self._services.audit.refused(self._visit, "frame", "", problem.code)
            self._say(outcome, commands.ref_of(command))
            if started is not None:
                started.start()
            if isinstance(outcome, Problem) and command.get("type") == "authenticate":
                self._connection.finish(OF_PROBLEM.get(outcome.code, Close.CREDENTIAL))
            if invalid >= MAX_INVALID_FRAMES:
                self._connection.finish(Close.PROTOCOL)
            if command:  # what is none stands between two refusals and not for an end of them
                refused = refused + 1 if isinstance(outcome, TooMany) and outcome.code == "rate.limited" else 0
            if refused >= MAX_REFUSED_COMMANDS:
                self._connection.finish(Close.RATE)
            if self._connection.transport.unsent() > self._services.hub.limits.max_buffer_bytes + MAX_UNREAD_BYTES:
                self._connection.finish(Close.TOO_SLOW)

    async def _perform(self, command: dict[str, Any]) -> tuple[dict[str, Any] | Problem, Subscription | None]:
        """The reply, and a subscription to start once the reply is out."""
        outcome: dict[str, Any] | Problem
        started = None
        try:
            self._services.rates.connection(self._connection.id)
            if self._principal is not None:
                self._services.rates.subject(self._principal.subject)
            outcome, started = await self._dispatch(commands.parse(command))
        except Problem as problem:
            outcome = problem
        except Exception as error:  # noqa: BLE001 - it is logged, and the client gets its number
            outcome = incident(error, self._visit)
        self._tell(command, outcome)
        return outcome, started

    def _tell(self, command: dict[str, Any], outcome: dict[str, Any] | Problem) -> None:
        audit, type = self._services.audit, command["type"]
        audit.commands[type] += 1
        named = command.get("run") if isinstance(command.get("run"), str) else ""
        if isinstance(outcome, Problem):
            audit.refused(self._visit, ACTIONS.get(type, type), str(named)[:64], outcome.code)
        elif type in ACTIONS:
            audit.done(self._visit, ACTIONS[type], str(outcome.get("run", named)))

    def _say(self, outcome: dict[str, Any] | Problem, ref: str | None = None) -> None:
        self._connection.write(text(commands.reply(ref, outcome)))

    async def _dispatch(self, command: commands.AnyCommand) -> tuple[dict[str, Any], Subscription | None]:
        runs, hub = self._services.runs, self._services.hub
        match command:
            case commands.Authenticate():
                await self._authenticate(command.token)
                await self._check_again()
            case commands.Subscribe():
                self._bearer.require(Scope.READ)
                run = await runs.views.find(caller(self._bearer), command.run)
                types = commands.filter_of(command.types) if command.types is not None else None
                join = Join(command.after, command.replay, types)
                subscription = await hub.subscribe(self._connection, run, join)
                told: dict[str, Any] = {"resume": subscription.resume}
                if subscription.at_end:
                    told["done"] = True
                return told, subscription
            case commands.Unsubscribe():
                known = self._connection.subscriptions.get(command.run)
                if known is not None:
                    known.end()
            case commands.StartRun():
                self._bearer.require(Scope.START, Scope.READ)
                hub.check_room(self._connection)
                request = commands.Start(pipeline=command.pipeline, input=command.input, options=command.options)
                run, _ = await runs.start(caller(self._bearer), request, key=command.key)
                return {"run": run.id}, await hub.subscribe(self._connection, run, Join())
            case commands.CancelRun():
                self._bearer.require(Scope.CANCEL)
                run = await runs.views.find(caller(self._bearer), command.run)
                return (await runs.cancel(caller(self._bearer), run, command.reason)).fields(), None
            case commands.PauseRun() | commands.ResumeRun() | commands.AnswerRun():
                self._bearer.require(Scope.CONTROL)
                return await self._control(command), None
            case commands.Ping():
                pass
        return {}, None

    async def _control(self, command: commands.PauseRun | commands.ResumeRun | commands.AnswerRun) -> dict[str, Any]:
        steering, who = self._services.runs.control, caller(self._bearer)
        run = await self._services.runs.views.find(who, command.run)
        match command:
            case commands.PauseRun():
                return {"status": await steering.pause(who, run)}
            case commands.ResumeRun():
                return {"status": await steering.resume(who, run)}
            case commands.AnswerRun():
                await steering.answer(who, run, command.input_id, command.value)
                return {"input_id": command.input_id}

    @property
    def _bearer(self) -> Principal:
        """Whose credential is good now. Raises Unauthorized."""
        if self._principal is None:
            raise Unauthorized("auth.missing")
        self._services.authenticator.check(self._principal)
        return self._principal

    async def _authenticate(self, token: str) -> None:
        """Take the first or a fresh token. Raises Unauthorized, Forbidden (another subject), TooMany."""
        principal = await self._services.authenticator.token(token)
        if self._principal is not None and principal.subject != self._principal.subject:
            raise Forbidden(detail="a fresh token must be of the same subject")
        self._services.hub.belongs(self._connection, principal.subject, principal.expires_at, principal)
        self._principal = principal
        self._visit.subject = principal.subject

    async def _check_again(self) -> None:
        """What the fresh token does not allow ends."""
        for run, subscription in tuple(self._connection.subscriptions.items()):
            try:
                self._bearer.require(Scope.READ)
                await self._services.runs.views.find(caller(self._bearer), run)
            except Problem:
                subscription.end()
