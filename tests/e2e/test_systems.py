"""The built-in pipelines over the wire, at the pace that people see: waited for, paused, cancelled, retried."""

import asyncio
import json

from httpx_sse import aconnect_sse

from tests.e2e.clients import PATIENCE_S, TERMINAL, by_socket, by_sse, own, started, terminals
from tests.runs.test_pipelines import INPUTS, STAGES, plain, spent


async def every(check) -> dict:
    """A check of every pipeline, side by side: most of it is waiting for their pace."""
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(check(name), name=name) for name in STAGES}
    return {name: task.result() for name, task in tasks.items()}


async def waited(client, name: str, **input) -> dict:
    """The answer of `POST /run`."""
    answer = await client.post("/run", json={"pipeline": name, "input": input or INPUTS[name]}, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def told(client, run: str, react=None) -> list[dict]:
    """A run's events as they come; what `react` gives for one of them is awaited before the next."""
    events = []
    async with (
        asyncio.timeout(4 * PATIENCE_S),
        aconnect_sse(client, "GET", f"/runs/{run}/events", params={"replay": "full"}) as source,
    ):
        async for event in source.aiter_sse():
            events.append(json.loads(event.data))
            if react is not None:
                await react(events[-1])
    return own(events)


async def test_who_waits_and_who_streams_get_the_same_result(client):
    """`POST /run`, the stream of the same input, and `GET /runs/{id}` agree, the usage too."""

    async def check(name: str) -> None:
        expected = await waited(client, name)
        run = await started(client, name, **INPUTS[name])
        events = await told(client, run)
        assert len(terminals(events)) == 1, name
        assert plain(events[-1]["result"]) == plain(expected["result"]), name
        assert events[-1].get("usage") == expected["usage"] == spent(events), name
        assert plain((await client.get(f"/runs/{run}")).json()["result"]) == plain(expected["result"]), name

    await every(check)


async def test_a_pause_in_each_stage_holds_and_changes_nothing(client):
    """Paused whenever a stage begins and resumed once it stands still, each pipeline ends as if nothing had been."""

    async def check(name: str) -> None:
        run = await started(client, name, **INPUTS[name])

        async def react(event: dict) -> None:
            if event["type"] == "stage.started":
                answer = await client.post(f"/runs/{run}/pause")
                assert answer.status_code in (202, 409)
            elif event["type"] == "run.paused":
                state = (await client.get(f"/runs/{run}")).json()
                assert state["status"] == "paused", name
                assert (await client.post(f"/runs/{run}/resume")).status_code == 202

        events = await told(client, run, react)
        pauses = [event["type"] for event in events if event["type"] in ("run.paused", "run.resumed")]
        assert pauses == ["run.paused", "run.resumed"] * (len(pauses) // 2), name
        assert pauses, name
        assert plain(events[-1]["result"]) == plain((await waited(client, name))["result"]), name

    await every(check)


async def test_a_cancelled_run_tells_its_usage_and_can_be_retried(client):
    """Cancelled in the middle: `run.cancelled`, nothing after it; the retry gives what the run would have given."""

    async def check(name: str) -> None:
        run = await started(client, name, **INPUTS[name])
        middle = STAGES[name][len(STAGES[name]) // 2 - (name == "content")]

        async def react(event: dict) -> None:
            if event["type"] == "stage.started" and event["stage"] == middle:
                answer = await client.post(f"/runs/{run}/cancel", json={"reason": "changed my mind"})
                assert answer.status_code == 202, name

        events = await told(client, run, react)
        assert (events[-1]["type"], events[-1]["reason"]) == ("run.cancelled", "changed my mind"), name
        assert events[-1].get("usage") == spent(events), name
        again = (await client.post(f"/runs/{run}/retry")).json()["id"]
        events = await told(client, again)
        assert events[0]["retry_of"] == run
        assert plain(events[-1]["result"]) == plain((await waited(client, name))["result"]), name

    await every(check)


async def test_every_operation_of_a_campaign_streams(gateway, client):
    """Create, regenerate one channel, review: milestones, drafts and the whole campaign, over SSE and WebSocket."""
    brief = INPUTS["campaign"]
    made = (await waited(client, "campaign"))["result"]
    operations = {
        "create": (brief, STAGES["campaign"]),
        "regenerate": (
            {"operation": "regenerate", "campaign": made, "channel": "email", "sources": brief["sources"]},
            ["research", "copy:email", "review", "assemble"],
        ),
        "review": (
            {"operation": "review", "campaign": made, "sources": brief["sources"]},
            ["research", "review", "assemble"],
        ),
    }

    async def check(operation: str) -> None:
        given, stages = operations[operation]
        run = await started(client, "campaign", **given)
        async with asyncio.TaskGroup() as group:
            by_stream = group.create_task(by_sse(client, run, replay="full"))
            by_web = group.create_task(by_socket(gateway, run, replay="full"))
        events = own(by_stream.result())
        assert own(by_web.result()) == events
        assert [event["stage"] for event in events if event["type"] == "stage.completed"] == stages
        assert {event["stage"] for event in events if event["type"] == "draft"} == set(stages)
        progress = [event["progress"] for event in events if event["type"] == "progress"]
        assert (progress, progress[-1]) == (sorted(progress), 100)
        whole = events[-1]["result"]
        assert whole["review"]["passed"], operation
        assert (whole["channels"]["email"] != made["channels"]["email"]) == (operation == "regenerate")
        assert whole["channels"]["ad"] == made["channels"]["ad"]

    await asyncio.gather(*map(check, operations))


async def test_a_crew_is_told_alike_to_all_who_watch(gateway, client):
    """Ten viewers on both transports, some of them late, see the same tasks in the same order."""
    run = await started(client, "crew", **INPUTS["crew"])
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(by_sse(client, run, replay="full")) for _ in range(4)]
        watching += [group.create_task(by_socket(gateway, run, replay="full")) for _ in range(4)]
        await watching[0]
        watching.append(group.create_task(by_sse(client, run, replay="full")))
        watching.append(group.create_task(by_sse(client, run, replay="full")))
    first, *others = [own(task.result()) for task in watching]
    assert first[-1]["type"] in TERMINAL
    assert all(other == first for other in others)
    said = [(event["task"], event["status"]) for event in first if event["type"] == "x.crew.task"]
    assert len(said) == 12
    # Neither waits for the other.
    assert {said.index(("analysis", "running")), said.index(("critique", "running"))} == {6, 7}
