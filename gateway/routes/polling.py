"""Long-polls: a piece of a run's stream as one JSON response (PROTOCOL section 4)."""

import asyncio
import contextlib

from quart import Response

from gateway.errors import NotFound
from gateway.hub import Join, Topic
from gateway.hub.subscription import NO_CURSOR, read_past
from gateway.routes.endpoint import Call, reply
from gateway.wire import control, json
from gateway.wire.cursor import Cursor, Resume

MAX_POLLED = 1000
POLL_LOOKS_S = 0.5


async def poll(call: Call, join: Join, *, wait_s: float, limit: int) -> Response:
    """What lies after the cursor, or what comes within the wait."""
    services, hub = call.services, call.services.hub
    hub.admit(call.bearer.subject, call.visit.address)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    async with hub.topic(call.run) as topic:
        resume, cursor = join.resolve(topic)
        frames: list[bytes] = []
        if join.misses_the_beginning(topic, cursor) or resume is Resume.GAP:
            frames.append(_gap(topic, join.after or NO_CURSOR, cursor + 1))
        while True:
            while cursor < topic.tail and len(frames) < limit:
                room = limit - len(frames)
                chosen, reached, first = await read_past(services.broker, topic, join, cursor, limit=room)
                if not first and topic.terminal and reached >= topic.tail:
                    raise NotFound  # it was erased
                if first > cursor + 1:  # the oldest was let go of in the meantime
                    frames.append(_gap(topic, str(Cursor(topic.epoch, cursor)) if cursor else NO_CURSOR, first))
                cursor = reached
                frames += [event.json for event in chosen]
            left = deadline - loop.time()
            if frames or topic.terminal or left <= 0 or hub.draining:
                break
            # A look every now and then, so that a drain and the end of a credential find it answered.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(topic.moved(cursor), min(left, POLL_LOOKS_S))
            services.authenticator.check(call.bearer)
        done = topic.terminal and cursor >= topic.tail
        told = json.dumps(
            {
                "cursor": str(Cursor(topic.epoch, cursor)) if cursor else NO_CURSOR,
                "resume": resume,
                "done": done,
                "retry_ms": hub.pace.retry_ms,
                "heartbeat_ms": hub.heartbeat_ms,
            }
        )
    return reply(b'{"events":[' + b",".join(frames) + b"]," + told[1:])


def _gap(topic: Topic, after: str, first: int) -> bytes:
    return control.gap(run=topic.run, after=after, first=str(Cursor(topic.epoch, first))).json
