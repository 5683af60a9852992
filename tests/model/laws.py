"""What must hold when all is over: the log against what callers were told, and nothing left behind."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from gateway.broker import Page, Run
from gateway.errors import NotFound
from gateway.wire import json
from gateway.wire.status import AFTER, TERMINAL_TYPES, Status, allows
from tests.model.viewers import Viewer, offset_of
from tests.model.world import KEPT_EVENTS, Told, World
from tests.runs.doubles import ALICE, LOTS, log_of

Log = list[dict[str, Any]]


async def judge(world: World, viewers: list[Viewer]) -> None:
    """Hold a world that has come to rest against the laws; its faults get longer by what does not hold."""
    logs = {
        run.id: (run, await log_of(world.runs, run)) for run in await world.broker.page(Page(ALICE.visible, limit=LOTS))
    }
    found = [*left_behind(world), *lost_or_kept(world, set(logs)), *keys_told(world)]
    for run, log in logs.values():
        told = world.told[run.id]
        wrong = [*_shape(run, log), *_published(told, run, log), *_endings(told, log)]
        if world.conditions.trim and len(log) > KEPT_EVENTS:
            wrong.append(f"{len(log)} events are kept")
        found += [f"run {run.id} ({run.pipeline}): {each}" for each in wrong]
    for viewer in viewers:
        if viewer.run in logs:
            wrong = [*_heard(viewer, world.told[viewer.run], logs[viewer.run][1]), *await _state(world, viewer)]
            found += [f"{viewer}: {each}" for each in wrong]
    for each in found:
        world.fault(each)


def left_behind(world: World) -> Iterator[str]:
    runs, hub = world.runs, world.hub
    for active in runs._roster:
        yield f"left in charge of {active.id} ({active.record.pipeline}, {active.state.status})"
    if runs._roster._owners:
        yield f"places of runs left: {dict(runs._roster._owners)}"
    if names := [task.get_name() for tasks in (runs._tasks, runs._stragglers, hub._tasks) for task in tasks._tasks]:
        yield f"tasks left: {names}"
    if hub.topics or hub.connections or hub._places.taken:
        yield f"the hub is left with {hub.topics} topics, {hub.connections} connections, {hub._places.taken} places"
    if watched := world.broker.watched:
        yield f"sinks left in {watched}"


def lost_or_kept(world: World, there: set[str]) -> Iterator[str]:
    """Every run that anybody was told of is there, but those that somebody wanted erased; erased ones are not."""
    for id in {*world.started, *world.told} - there:
        if id and not world.told[id].erasing:
            yield f"run {id} is lost"
    for id in there:
        if world.told[id].erased:
            yield f"run {id} was erased and is there"


def keys_told(world: World) -> Iterator[str]:
    """A key names one run, which is new once; erased, it names another."""
    for key, answers in world.keys.items():
        named = {id for id, _ in answers}
        if len({id for id in named if not world.told[id].erasing}) > 1:
            yield f"key {key} names several runs: {answers}"
        if sum(new for _, new in answers) > len(named):
            yield f"key {key} made a run twice: {answers}"


def _shape(run: Run, log: Log) -> Iterator[str]:
    """Offsets without a hole, each status where it may stand, and one end."""
    if [offset_of(event["id"]) for event in log] != list(range(run.floor + 1, run.tail + 1)):
        yield f"holes between {run.floor} and {run.tail}: {[event['id'] for event in log]}"
    status = None
    for event in log if run.floor == 0 else []:
        if not allows(status, event["type"]):
            yield f"{event['id']} is {event['type']}, after {status}"
        status = AFTER.get(event["type"], status)
    ends = [event["id"] for event in log if event["type"] in TERMINAL_TYPES]
    if len(ends) != 1 or ends[0] != log[-1]["id"] or AFTER[log[-1]["type"]] != run.status:
        yield f"it is {run.status}, its ends are {ends} and its last event {log[-1:]}"


def _published(told: Told, run: Run, log: Log) -> Iterator[str]:
    """What was acknowledged is there once, together, where it was said to be and in the publisher's order."""
    held = {offset_of(event["id"]): event["n"] for event in log if event["type"] == "x.n"}
    numbers = Counter(held.values())
    if twice := [number for number, times in numbers.items() if times > 1]:
        yield f"said once and held twice: {twice}"
    if strange := set(numbers) - told.said:
        yield f"never said: {strange}"
    if refused := set(numbers) & told.refused:
        yield f"refused and there: {refused}"
    latest: dict[str, int] = {}
    for batch in told.published:
        last = offset_of(batch.cursor)
        places = range(last - len(batch.numbers) + 1, last + 1)
        wrong = {
            n: held.get(at) for n, at in zip(batch.numbers, places, strict=True) if at > run.floor and held.get(at) != n
        }
        if wrong:
            yield f"{batch} was acknowledged, and its places hold {wrong}"
        if last <= latest.get(batch.publisher, 0):
            yield f"{batch} was said after what stands at {latest[batch.publisher]}"
        latest[batch.publisher] = last


def _endings(told: Told, log: Log) -> Iterator[str]:
    last = log[-1]
    if wrong := {cursor for cursor in told.ends if cursor != last["id"]}:
        yield f"finish was answered {wrong}, and the end is {last['id']}"
    if told.cancelling and last["type"] != "run.cancelled":
        yield f"its cancel was under way, and it ended with {last['type']}"
    if wrong := {final for final in told.finals if final != AFTER[last["type"]]}:
        yield f"a cancel came too late for {wrong}, and it ended with {last['type']}"
    received = {event["input_id"] for event in log if event["type"] == "input.received"}
    if log[0]["type"] == "run.queued" and (lost := set(told.answered) - received):
        yield f"answers were taken and are not there: {lost}"


def _heard(viewer: Viewer, told: Told, log: Log) -> Iterator[str]:
    """A viewer heard what the log holds, and every acknowledged event but those in gaps that it was told of."""
    events = {offset_of(event["id"]): event for event in log}
    if viewer.replay == "full":
        changed = [at for at, event in viewer.heard.items() if at in events and events[at] != event]
        if changed:
            yield f"heard other words than the log holds at {changed}"
    if not viewer.over:
        yield "has not come to the end"
    numbers = {event["n"] for event in viewer.heard.values() if event["type"] == "x.n"}
    for batch in told.published:
        last = offset_of(batch.cursor)
        for number, at in zip(batch.numbers, range(last - len(batch.numbers) + 1, last + 1), strict=True):
            if number not in numbers and not any(first <= at <= gone for first, gone in viewer.gaps):
                yield f"was not told {number}, acknowledged at {at}; gaps {viewer.gaps}"
                return


async def _state(world: World, viewer: Viewer) -> list[str]:
    """Who heard everything has come to the state that the gateway tells."""
    run = await world.broker.get(viewer.run)
    if viewer.gaps or run is None:
        return []
    try:
        described = await world.runs.views.describe(run)
    except NotFound:
        return ["the run is there and is not described"]
    own = json.loads(json.dumps(viewer.state.fields()))
    theirs = {name: described[name] for name in own}
    if own != json.loads(json.dumps(theirs)):
        return [f"came to {own}, and the gateway tells {theirs}"]
    return [] if Status(own["status"]).terminal else [f"came to {own['status']}"]
