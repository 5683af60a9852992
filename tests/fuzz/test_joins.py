"""Joins at random: each gets exactly what the protocol says of its cursor, filter and dialect."""

import asyncio

from tests.e2e.clients import caller, finished, published, served, started
from tests.faults.check import log_of, seed_of
from tests.fuzz.beside import ROOMY, unharmed
from tests.fuzz.joins import joins


async def test_every_join_gets_what_the_protocol_says(tmp_path):
    with served(tmp_path, **ROOMY) as gateway:
        async with caller(gateway, "joiner") as client:
            run = await started(client, "external")
            for number in range(5):
                at = {"stage": "s", "message": str(number), "progress": number}
                delta = {"block": "b", "delta": f"{number}\u2028\n\n"}
                await published(
                    client, run, {"type": "x.a", "n": number}, {"type": "progress", **at}, {"type": "delta", **delta}
                )
            await finished(client, run)
            log = await log_of(client, run)
        async with unharmed(gateway) as beside:
            found = await asyncio.to_thread(joins, gateway, run, log, seed=seed_of(17), count=600)
    print(found, beside)
    assert not found.wrong, found.wrong[0]
    assert not beside.wrong
    assert {200, 204, 422} <= found.statuses.keys()
    assert {"start", "resumed", "gap"} <= found.resumed.keys()
