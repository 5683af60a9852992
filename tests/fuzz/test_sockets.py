"""WebSocket sessions at random: each frame that comes back is one, no reply is a fault, nothing is left."""

import asyncio

from tests.e2e.clients import caller, served, started
from tests.faults.check import seed_of
from tests.fuzz.beside import ROOMY, unharmed
from tests.fuzz.sockets import sessions


async def test_no_session_makes_the_door_fail(tmp_path):
    with served(tmp_path, **ROOMY) as gateway:
        async with caller(gateway, "framer") as client:
            runs = [await started(client, "external"), await started(client, "words")]
        async with unharmed(gateway) as beside:
            found = await asyncio.to_thread(sessions, gateway, runs, seed=seed_of(13), count=400)
    print(found, beside)
    assert not found.wrong, found.wrong[0]
    assert not beside.wrong
    assert found.replies["ok"] > 50
    assert found.replies["frame.invalid"] > 50
    assert {"1000", "1002"} <= found.closes.keys()
