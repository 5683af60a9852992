"""Several runs on one SSE response: an id never claims an event that was not sent."""

import re

from gateway.wire.framing import CompositeSse
from tests.broker.doubles import begun
from tests.hub.doubles import connect, hub_on, join, many, settled


async def test_ids_claim_only_what_was_sent_when_one_run_lags():
    """While the client is stalled both runs go on; whatever it gets later, each id's parts were all sent before."""
    hub = hub_on()
    runs = [await begun(hub._broker), await begun(hub._broker)]
    connection = connect(hub, framing=CompositeSse(dict.fromkeys(runs, "0")))
    for run in runs:
        await join(hub, connection, run, replay="full")
    await settled(hub)
    transport = connection.transport
    transport.stalled = True
    for _ in range(4):
        await many(hub, runs[0], 3)
        await many(hub, runs[1], 1)
    transport.drain()
    await settled(hub)
    sent = dict.fromkeys(runs, 0)
    frames = re.findall(r'id: (\S+)\nevent: .*\ndata: .*?"run":"(.*?)"', transport.data.decode())
    assert len(frames) > 16
    for composite, run in frames:
        offsets = [int(part.rpartition("-")[2]) for part in composite.split("~")]
        assert offsets[runs.index(run)] == sent[run] + 1
        sent[run] += 1
        assert offsets == [sent[each] for each in runs]
    assert [sent[run] for run in runs] == [(await hub._broker.get(run)).tail for run in runs]
