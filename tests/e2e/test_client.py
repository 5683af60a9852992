"""The Python client against a real gateway, over every transport: runs, commands, refusals."""

import asyncio

import pytest

from runcast import Conflict, Invalid, NotFound, RuncastError, Unauthorized
from tests.e2e.clients import caller, eventually
from tests.e2e.following import Seen, client_of, collected, every_transport
from tests.e2e.middle import Middle
from tests.e2e.process import token
from tests.faults.check import log_of


@every_transport
async def test_every_event_comes_once_and_in_order_and_the_state_is_told(gateway, transport):
    async with client_of(gateway, transport) as client, caller(gateway) as http:
        run = await client.start("words", {"count": 200})
        assert await collected(run.events(replay="full")) == await log_of(http, run.id)
        state = await run.wait()
        assert (state.status, state.result, state.pipeline) == ("completed", {"words": 200}, "words")


@every_transport
async def test_it_goes_on_from_a_cursor_and_takes_only_the_types_it_asked_for(gateway, transport):
    async with client_of(gateway, transport) as client, caller(gateway) as http:
        run = await client.start("words", {"count": 20})
        await run.wait()
        log = await log_of(http, run.id)
        assert await collected(run.events(after=log[6]["id"], replay="full")) == log[7:]
        progress = await collected(run.events(types=["progress"], replay="full"))
        assert progress == [
            event for event in log if event["type"] not in ("delta", "stage.started", "stage.completed")
        ]
        assert await collected(run.events(after=log[-1]["id"])) == []


@every_transport
async def test_a_cancel_is_acknowledged_and_ends_the_run(gateway, transport):
    async with client_of(gateway, transport) as client:
        run = await client.start("forever")
        async for event in run.events():
            if event.type == "delta":
                assert await run.cancel("enough") in (("cancelling", None), ("finished", "cancelled"))
        assert (event.type, event.reason, event.by) == ("run.cancelled", "enough", "alice")
        assert await run.cancel() == ("finished", "cancelled")


async def test_a_cancel_goes_over_the_websocket_if_there_is_one(gateway):
    """Also while nobody takes the events that lie before the reply."""
    async with Middle(gateway.port, buffers=False) as middle, client_of(gateway, "websocket") as client:
        client.api.url = middle.url
        run = await client.start("forever", {"gap_s": 0.0001})
        events = run.events()
        await anext(events)
        await asyncio.sleep(0.3)  # for more to come than is kept
        requests = middle.seen["other"]
        told = await run.cancel("enough")
        assert told.status == "cancelling"
        assert (middle.seen["websocket"], middle.seen["other"]) == (1, requests)
        rest = await collected(events)
        assert rest[-1]["type"] == "run.cancelled"


async def test_whoever_is_slow_loses_nothing(gateway):
    async with client_of(gateway) as client, caller(gateway) as http:
        run = await client.start("words", {"count": 400})
        seen = []
        async for event in run.events(replay="full"):
            if len(seen) < 20:
                await asyncio.sleep(0.02)
            seen.append(event.fields())
        assert seen == await log_of(http, run.id)


async def test_a_run_is_paused_resumed_and_started_anew(gateway):
    async with client_of(gateway) as client:
        run = await client.start("steps", {"count": 40, "gap_s": 0.02})
        seen = Seen(run.events())
        await seen.until("delta")
        await run.pause()
        await seen.until("run.paused")
        assert (await run.state()).status == "paused"
        await run.resume()
        await seen.until("run.resumed")
        await seen.ended()
        again = await run.retry()
        assert (await again.wait()).result == 40
        with pytest.raises(Conflict, match=r"run\.finished"):
            await run.pause()
        assert [state.id async for state in client.runs(pipeline="steps", limit=2)] == [again.id, run.id]
        await again.erase()
        with pytest.raises(NotFound):
            await again.state()


async def test_a_question_is_answered(gateway):
    async with client_of(gateway) as client:
        run = await client.start("asking")
        async for event in run.events():
            if event.type == "input.requested":
                assert (event.prompt, event.schema_) == ("How many?", {"type": "integer"})
                with pytest.raises(Invalid) as refusal:
                    await run.input(event.input_id, "many")
                assert refusal.value.errors[0]["path"][0] == "value"
                await run.input(event.input_id, 7)
                with pytest.raises(Conflict):
                    await run.input(event.input_id, 8)
        assert event.result == 7


async def test_the_same_key_gives_the_same_run_and_runs_are_listed_by_pages(gateway):
    async with client_of(gateway, token=token("lister")) as client:
        first = await client.start("words", {"count": 1}, key="once")
        assert (await client.start("words", {"count": 1}, key="once")).id == first.id
        with pytest.raises(Conflict, match=r"key\.conflict"):
            await client.start("words", {"count": 2}, key="once")
        ids = [(await client.start("words", {"count": 0})).id for _ in range(4)]
        for id in ids:
            await client.run(id).wait()
        client_page = [state.id async for state in client.runs(limit=3)]
        assert client_page == ids[:0:-1]
        assert [s.status async for s in client.runs(status="completed")].count("completed") >= 4
        assert "words" in {pipeline.name for pipeline in await client.pipelines()}


async def test_what_the_gateway_refuses_is_an_exception_that_says_why(gateway):
    async with client_of(gateway) as client:
        with pytest.raises(NotFound, match=r"pipeline\.unknown"):
            await client.start("nope")
        with pytest.raises(Invalid) as invalid:
            await client.start("words", {"count": -1})
        assert invalid.value.errors[0]["path"] == ["input", "count"]
        with pytest.raises(NotFound, match=r"not_found"):
            await client.run("no such/run").state()


@every_transport
async def test_following_ends_with_the_refusal(gateway, transport):
    async with client_of(gateway, transport) as client:
        with pytest.raises(NotFound, match=r"run\.not_found"):
            await collected(client.run("nope").events())
    async with client_of(gateway, transport, token="bad") as client:
        with pytest.raises(Unauthorized, match=r"auth\.invalid"):
            await collected(client.run("nope").events())


@every_transport
async def test_a_join_that_is_wrong_is_told_at_once(gateway, transport):
    async with client_of(gateway) as direct:
        run = await direct.start("words", {"count": 1})
    async with client_of(gateway, transport) as client:
        with pytest.raises(Invalid):
            await collected(client.run(run.id).events(types=["nonsense"]))


async def test_a_client_that_is_closed_ends_its_streams(gateway):
    async with client_of(gateway) as client:
        run = await client.start("forever", {"gap_s": 0.05})
        events = run.events()
        await anext(events)
    with pytest.raises(RuncastError, match="closed"):
        await collected(events)
    async with client_of(gateway) as client:
        await client.run(run.id).cancel()


async def test_a_stream_that_is_left_leaves_its_connection(gateway):
    async with client_of(gateway) as client:
        run = await client.start("forever", {"gap_s": 0.05})
        async for _ in run.events():
            break

        async def none_left():
            return not client._following

        await eventually(none_left)
        await run.cancel()
