"""What Prometheus is told moves as things happen, and only those see it who may.

Over 300 lines, because one gateway's numbers are moved by every kind of thing that happens to it.
"""

import asyncio

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.clients import (
    STREAM,
    asked,
    assert_problem,
    by_sse,
    caller,
    closed,
    eventually,
    finished,
    opened,
    published,
    said,
    served,
    started,
    until_end,
)
from tests.e2e.process import bearer

SETTINGS = {
    "max_connections_per_subject": 3,
    "max_events_per_run": 20,
    "request_timeout_s": 0.5,
    "heartbeat_s": 0.5,
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("gateway"), **SETTINGS) as running:
        yield running


async def scraped(gateway) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus would write them; the exposition must parse."""
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation, family.name
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            key = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert key not in found
            found[key] = sample.value
    return found


@pytest.fixture
async def moved(gateway):
    """How far each sample has moved since the test began; those that have not are left out."""
    before = await scraped(gateway)

    async def difference() -> dict[str, float]:
        now = await scraped(gateway)
        return {name: value - before.get(name, 0) for name, value in now.items() if value != before.get(name, 0)}

    return difference


def runcast(moves: dict[str, float], *prefixes: str) -> dict[str, float]:
    """The samples of some families, without `runcast_`; what only time moves is left out."""
    own = {name.removeprefix("runcast_"): value for name, value in moves.items() if name.startswith("runcast_")}
    return {name: value for name, value in own.items() if name.startswith(prefixes) and "_sum" not in name}


async def test_connections_by_transport_and_their_subscriptions(gateway, client, moved):
    run = await started(client, "external")
    async with opened(gateway) as ws, client.stream("GET", f"/runs/{run}/events", headers=STREAM) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines)
        await asked(ws, type="subscribe", run=run)
        moves = runcast(await moved(), "connections", "subscriptions", "watched", "joins", "commands")
        assert moves == {
            "connections{transport=sse,way=direct}": 1,
            "connections{transport=websocket,way=direct}": 1,
            "connections_opened_total{transport=sse,way=direct}": 1,
            "connections_opened_total{transport=websocket,way=direct}": 1,
            "subscriptions{state=live}": 2,
            "watched_runs": 1,
            "joins_total{resume=start}": 2,
            "commands_total{type=subscribe}": 1,
        }
    await finished(client, run)

    async def gone():
        return runcast(await moved(), "connections{", "subscriptions", "watched") == {}

    await eventually(gone)


async def test_a_connection_through_asgi_is_told_apart(gateway, client, moved):
    """As an HTTP/1.0 proxy opens it."""
    run = await started(client, "external")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    authorization = bearer()["Authorization"]
    head = f"GET /runs/{run}/events HTTP/1.0\r\nAuthorization: {authorization}\r\nAccept: text/event-stream\r\n\r\n"
    writer.write(head.encode())
    await asyncio.wait_for(reader.readuntil(b"run.started"), 5)
    assert runcast(await moved(), "connections{") == {"connections{transport=sse,way=asgi}": 1}
    writer.close()
    await finished(client, run)


async def test_events_in_and_out_and_the_bytes_of_them(gateway, client, moved):
    run = await started(client, "external")
    async with opened(gateway, "alice") as one, opened(gateway, "alice") as two:
        for ws in (one, two):
            await said(ws, type="subscribe", run=run, replay="full")
            while (await asyncio.wait_for(ws.recv(), 5)).find("run.started") < 0:
                pass
        moves = runcast(await moved(), "events")
        assert moves == {"events_in_total": 2, "events_out_total{part=past}": 4}
        await published(client, run, *({"type": "x.a", "text": "y" * 1000} for _ in range(10)))
        await finished(client, run)
        for ws in (one, two):
            await until_end(ws)
    moves = runcast(await moved(), "events", "sent_bytes", "subscriptions")
    assert {name: value for name, value in moves.items() if name != "sent_bytes_total"} == {
        "events_in_total": 13,
        "events_out_total{part=past}": 4,
        "events_out_total{part=live}": 22,
    }
    assert 20_000 < moves["sent_bytes_total"] < 40_000


async def test_resumes_and_gaps(gateway, client, moved):
    run = await started(client, "external")
    await published(client, run, *({"type": "x.a"} for _ in range(60)))

    async def shortened():
        return (await client.get(f"/runs/{run}/events")).json()["events"][0]["type"] == "gap"

    await eventually(shortened, within_s=10)
    tail = (await client.get(f"/runs/{run}")).json()["tail"]
    async with opened(gateway, max_queue=None) as ws:
        for after in (None, tail, tail.partition("-")[0] + "-1", "nonsense"):
            reply = await asked(ws, type="subscribe", run=run, after=after)
            assert reply["ok"], reply
    moves = runcast(await moved(), "joins", "gaps")
    assert moves == {
        "joins_total{resume=start}": 1,
        "joins_total{resume=resumed}": 1,
        "joins_total{resume=gap}": 2,
        "gaps_total": 3,
    }
    await finished(client, run)


async def test_runs_by_outcome_and_what_a_cancel_took(gateway, client, moved):
    await client.post("/run", json={"pipeline": "words"})
    await client.post("/run", json={"pipeline": "broken"})
    run = await started(client, "forever")
    assert runcast(await moved(), "runs_unfinished") == {"runs_unfinished{status=running}": 1}
    await client.post(f"/runs/{run}/cancel")
    await by_sse(client, run)

    async def over():
        return runcast(await moved(), "runs_unfinished") == {}

    await eventually(over)
    moves = runcast(await moved(), "run")
    assert {name: value for name, value in moves.items() if "_bucket" not in name} == {
        "runs_started_total{pipeline=words}": 1,
        "runs_started_total{pipeline=broken}": 1,
        "runs_started_total{pipeline=forever}": 1,
        "run_duration_seconds_count{outcome=completed,pipeline=words}": 1,
        "run_duration_seconds_count{outcome=failed,pipeline=broken}": 1,
        "run_duration_seconds_count{outcome=cancelled,pipeline=forever}": 1,
        "run_cancel_seconds_count": 1,
    }
    assert moves["run_cancel_seconds_bucket{le=+Inf}"] == moves["run_cancel_seconds_bucket{le=5}"] == 1


async def test_answers_refusals_and_tokens(gateway, client, moved):
    async with httpx.AsyncClient(base_url=gateway.url) as nobody:
        await nobody.get("/runs")
        await nobody.get("/nothing")
    for _ in range(3):
        await client.get("/runs")
    async with opened(gateway, headers={}) as ws:
        await asked(ws, type="authenticate", token="x")
        assert await closed(ws) == 4001
    async with opened(gateway) as ws:
        await ws.send("nonsense")
        assert not (await asked(ws, type="ping", extra=1))["ok"]
    moves = await moved()
    assert moves["runcast_requests_total{status=404}"] == 1
    assert moves["runcast_requests_total{status=401}"] == 1
    assert moves["runcast_requests_total{status=200}"] >= 3
    assert runcast(moves, "refusals", "commands") == {
        "refusals_total{code=auth.missing}": 1,
        "refusals_total{code=not_found}": 1,
        "refusals_total{code=auth.invalid}": 1,
        "refusals_total{code=frame.invalid}": 1,
        "refusals_total{code=input.invalid}": 1,
        "commands_total{type=authenticate}": 1,
        "commands_total{type=ping}": 1,
    }
    assert moves["runcast_tokens_verified_total{cache=miss}"] >= 1
    assert moves["runcast_tokens_verified_total{cache=hit}"] >= 2


async def test_connections_that_are_refused_and_requests_that_are_too_slow(gateway, client, moved):
    run = await started(client, "external")
    async with opened(gateway), opened(gateway), opened(gateway):
        await by_sse(client, run)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"GET")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    moves = runcast(await moved(), "refusals", "slow_requests")
    assert moves == {"refusals_total{code=limit.connections}": 1, "slow_requests_cut_off_total": 1}
    await finished(client, run)


async def test_commits_the_loop_and_the_process(gateway, client, moved):
    run = await started(client, "external")
    await asyncio.gather(*(published(client, run, {"type": "x.a"}) for _ in range(20)))
    await finished(client, run)

    async def ticked():
        return "runcast_event_loop_lag_seconds_count" in await moved()

    await eventually(ticked)
    moves = await moved()
    commits = moves["runcast_broker_commit_seconds_count"]
    assert moves["runcast_broker_batch_events_count"] == commits
    assert 0 < commits <= moves["runcast_broker_batch_events_sum"]
    assert moves["runcast_broker_batch_events_sum"] >= 22
    assert moves["runcast_broker_commit_seconds_sum"] > 0
    now = await scraped(gateway)
    assert (now["runcast_broker_available"], now["runcast_broker_queue"], now["runcast_draining"]) == (1, 0, 0)
    assert now["runcast_retry_seconds"] >= 1
    assert now["runcast_sockets"] >= 1
    assert now["runcast_tokens_remembered"] >= 1
    assert "runcast_rate_buckets" in now
    for name in ("process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"):
        assert now[name] > 0
    (version,) = [name for name in now if name.startswith("runcast_info")]
    assert "version=" in version


async def test_a_client_that_takes_nothing_is_seen_lagging_and_cut_off(tmp_path):
    settings = {"pipelines": "tests.faults.pipelines", "max_buffer_bytes": 65_536, "stall_timeout_s": 1.5}
    from tests.faults import crowd

    with served(tmp_path, heartbeat_s=0.3, **settings) as gateway:
        async with caller(gateway) as client:
            run = await started(client, "ticking", prefix=300, size=8192, ticks=1_000_000, gap_s=0.05)
            (stuck,) = await crowd.stuck(gateway, run, 1, kinds=["sse"])

            async def lags():
                now = await scraped(gateway)
                return now["runcast_unsent_bytes"] > 65_536 and now["runcast_connections_lagging"] == 1

            async def cut():
                now = await scraped(gateway)
                return now["runcast_slow_clients_cut_off_total"] == 1 and now["runcast_connections_lagging"] == 0

            await eventually(lags, within_s=10)
            assert (await scraped(gateway))["runcast_subscriptions{state=behind}"] == 1
            await eventually(cut, within_s=15)
            stuck.close()
            await client.post(f"/runs/{run}/cancel")


@pytest.mark.parametrize(
    ("shown_to", "nobody", "somebody", "admin", "forwarded"),
    [
        ("off", 404, 404, 404, 404),
        ("admin", 401, 403, 200, 401),
        ("local", 200, 200, 200, 401),
        ("open", 200, 200, 200, 200),
    ],
)
async def test_who_sees_it_is_a_setting(tmp_path, shown_to, nobody, somebody, admin, forwarded):
    with served(tmp_path, metrics=shown_to, broker="memory:") as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            for headers, status in (
                ({}, nobody),
                (bearer("alice"), somebody),
                (bearer("root", "admin"), admin),
                ({"X-Forwarded-For": "127.0.0.1"}, forwarded),
                ({"Host": "metrics.example.org"}, forwarded),
            ):
                answer = await client.get("/metrics", headers=headers)
                assert answer.status_code == status, (shown_to, headers)
                if status != 200:
                    code = {401: "auth.missing", 403: "auth.forbidden", 404: "not_found"}[status]
                    assert_problem(answer, status, code)
                else:
                    assert "runcast_connections" in answer.text


async def test_no_label_tells_of_a_run_a_person_or_an_address(gateway, client):
    run = await started(client)
    await by_sse(client, run)
    async with opened(gateway, "very-private-person") as ws:
        await asked(ws, type="subscribe", run=run)
    text = httpx.get(f"{gateway.url}/metrics").text
    for private in (run, "alice", "very-private-person", "127.0.0.1"):
        assert private not in text
