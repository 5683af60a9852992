"""A gateway's life: starting, stopping in order, being killed, and going on where it was."""

import asyncio
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.e2e.clients import (
    authorization,
    by_poll,
    by_socket,
    by_sse,
    caller,
    closed,
    eventually,
    finished,
    head,
    heard,
    opened,
    own,
    published,
    said,
    started,
    terminals,
)
from tests.e2e.process import ROOT, GatewayProcess

SETTINGS = {"cancel_grace_s": 0.5, "drain_s": 2}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


@pytest.fixture
def gateway(tmp_path):
    """A gateway for one test, which starts and stops it as it likes."""
    with GatewayProcess(tmp_path, **SETTINGS) as running:
        yield running


async def ended(client, run: str) -> bool:
    return (await client.get(f"/runs/{run}")).json()["finished_at"] is not None


def test_after_a_restart_runs_streams_and_cursors_are_there(gateway):
    async def before():
        async with caller(gateway) as client:
            run = await started(client, count=5)
            kept = own(await by_sse(client, run, replay="full"))
            return run, kept, (await client.get(f"/runs/{run}")).json(), (await client.get("/runs")).json()

    async def after():
        async with caller(gateway) as client:
            assert own(await by_sse(client, run, replay="full")) == kept
            assert await by_socket(gateway, run, after=kept[3]["id"], replay="full") == kept[4:]
            assert (await client.get(f"/runs/{run}")).json() == described
            assert (await client.get("/runs")).json() == listed
            assert await by_sse(client, run, after=kept[-1]["id"]) == []
            again = await started(client, count=1)
            assert own(await by_sse(client, again))[-1]["type"] == "run.completed"

    run, kept, described, listed = asyncio.run(before())
    for number in (signal.SIGTERM, signal.SIGKILL):
        gateway.stop(number)
        gateway.start()
        asyncio.run(after_only_reads(gateway, run, kept))
    listed = asyncio.run(listing(gateway))
    asyncio.run(after())
    assert not gateway.faults(), gateway.output


async def listing(gateway) -> dict:
    async with caller(gateway) as client:
        return (await client.get("/runs")).json()


async def after_only_reads(gateway, run: str, kept: list[dict]) -> None:
    async with caller(gateway) as client:
        assert await by_poll(client, run, replay="full") == kept


def test_after_a_kill_an_interrupted_run_ends_orphaned_exactly_once(gateway):
    async def before():
        async with caller(gateway) as client:
            run, external = await started(client, "forever"), await started(client, "external")
            await published(client, external, {"type": "x.before"}, Producer="p; epoch=1; seq=1")
            async with opened(gateway) as ws:
                await said(ws, type="subscribe", run=run, replay="full")
                seen = [await heard(ws) for _ in range(20)][1:]
                gateway.stop(signal.SIGKILL)
            return run, external, seen

    async def after():
        async with caller(gateway) as client:
            events = own(await by_sse(client, run, replay="full"))
            assert events[: len(seen)] == seen
            assert own(await by_sse(client, run, after=seen[-1]["id"], replay="full")) == events[len(seen) :]
            assert [event["type"] for event in terminals(events)] == ["run.failed"]
            assert events[-1]["error"]["code"] == "run.orphaned"
            assert events[-1]["error"]["retryable"] is True
            assert [int(event["id"].split("-")[1]) for event in events] == list(range(1, len(events) + 1))
            assert (await client.get(f"/runs/{external}")).json()["status"] == "running"
            repeat = await published(client, external, {"type": "x.before"}, Producer="p; epoch=1; seq=1")
            assert (repeat.status_code, repeat.json()["cursor"].split("-")[1]) == (202, "3")
            return events

    run, external, seen = asyncio.run(before())
    gateway.start()
    first = asyncio.run(after())
    gateway.stop(signal.SIGKILL)
    gateway.start()
    assert asyncio.run(after()) == first
    assert gateway.stop() == 0
    assert not gateway.faults(), gateway.output


def test_after_a_stop_runs_have_ended_draining_and_external_ones_go_on(gateway):
    async def before():
        async with caller(gateway) as client:
            return await started(client, "forever"), await started(client, "external")

    async def after():
        async with caller(gateway) as client:
            events = own(await by_sse(client, run, replay="full"))
            assert [event["type"] for event in terminals(events)] == ["run.failed"]
            assert (events[-1]["error"]["code"], events[-1]["error"]["retryable"]) == ("server.draining", True)
            assert (await published(client, external, {"type": "x.after"})).status_code == 202
            assert (await finished(client, external)).status_code == 200
            types = [event["type"] for event in own(await by_sse(client, external))]
            assert types == ["run.queued", "run.started", "x.after", "run.completed"]

    run, external = asyncio.run(before())
    assert gateway.stop() == 0
    gateway.start()
    asyncio.run(after())
    assert gateway.stop() == 0
    assert not gateway.faults(), gateway.output


@SIGNALS
async def test_open_streams_end_in_order_and_the_exit_code_is_0(gateway, number):
    async with caller(gateway) as client, opened(gateway) as ws:
        run, external = await started(client, "forever", gap_s=0.05), await started(client, "external")
        for each in (run, external):
            await said(ws, type="subscribe", run=each)
        with (
            socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as of_run,
            socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as of_external,
        ):
            for plain, each in ((of_run, run), (of_external, external)):
                plain.sendall(head("GET", f"/runs/{each}/events", authorization(), "Accept: text/event-stream"))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            gateway.process.send_signal(number)
            frames = []
            try:
                while True:
                    frames.append(await heard(ws))
            except Exception:
                assert await closed(ws) == 4100
            received = [await asyncio.to_thread(everything, plain) for plain in (of_run, of_external)]
        assert await asyncio.to_thread(gateway.process.wait, 10) == 0
        assert time.monotonic() - began < SETTINGS["drain_s"] + 2
    assert all(each.endswith(b"\r\n0\r\n\r\n") for each in received), received
    told = [frame for frame in frames if frame["type"] == "reconnect"]
    assert [frame["reason"] for frame in told] == ["server.draining"]
    assert all(b"event: reconnect" in each for each in received)
    assert not gateway.faults(), gateway.output


def everything(plain: socket.socket) -> bytes:
    received = b""
    while part := plain.recv(65536):
        received += part
    return received


@SIGNALS
@pytest.mark.parametrize("pipeline", ["stubborn", "blocking"])
async def test_a_pipeline_that_does_not_stop_does_not_keep_the_process(gateway, number, pipeline):
    async with caller(gateway) as client:
        run = await started(client, pipeline, gap_s=30)
        stream = asyncio.create_task(by_sse(client, run))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        gateway.process.send_signal(number)
        assert await asyncio.to_thread(gateway.process.wait, 15) == 0
        assert time.monotonic() - began < SETTINGS["drain_s"] + 3
        await stream
    assert not gateway.faults(), gateway.output
    await asyncio.to_thread(gateway.start)
    async with caller(gateway) as client:
        events = own(await by_sse(client, run, replay="full"))
        assert [event["error"]["code"] for event in terminals(events)] == ["server.draining"]


async def test_a_client_that_takes_nothing_does_not_keep_the_process(gateway):
    async with caller(gateway) as client:
        run = await started(client, "external")
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as plain:
            plain.sendall(head("GET", f"/runs/{run}/events", authorization(), "Accept: text/event-stream"))
            for _ in range(20):
                await published(client, run, *[{"type": "x.a", "data": "y" * 60_000}] * 10)
            began = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(gateway.process.wait, 15) == 0
            assert time.monotonic() - began < SETTINGS["drain_s"] + 3
    assert not gateway.faults(), gateway.output


async def test_while_draining_new_work_is_refused_and_readiness_says_so(gateway):
    async with caller(gateway) as client, opened(gateway) as ws:
        await started(client, "stubborn")
        run = await started(client, "external")
        await said(ws, type="subscribe", run=run)
        assert (await client.get("/readyz")).status_code == 200
        gateway.process.send_signal(signal.SIGTERM)

        async def draining():
            return (await client.get("/readyz")).status_code == 503

        await eventually(draining, within_s=2)
        answer = await client.post("/runs", json={"pipeline": "words", "input": {}})
        assert (answer.status_code, answer.json()["code"]) == (503, "server.draining")
        assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/healthz")).status_code == 200
        short = await by_sse(client, run)
        assert [(frame["type"], frame.get("reason")) for frame in short] == [
            ("hello", None),
            ("reconnect", "server.draining"),
        ]
    assert await asyncio.to_thread(gateway.process.wait, 10) == 0


async def test_a_long_poll_that_waits_is_answered_at_the_end(gateway):
    async with caller(gateway) as client:
        run = await started(client, "external")
        cursor = (await client.get(f"/runs/{run}/events")).json()["cursor"]
        waiting = asyncio.create_task(client.get(f"/runs/{run}/events", params={"after": cursor, "wait": 30}))
        await asyncio.sleep(0.3)
        gateway.process.send_signal(signal.SIGTERM)
        answer = await waiting
        assert answer.status_code in (200, 503)
        assert answer.status_code == 503 or answer.json()["cursor"] == cursor
    assert await asyncio.to_thread(gateway.process.wait, 10) == 0


def command(gateway: GatewayProcess, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    environment = {f"RUNCAST_{name.upper()}": str(value) for name, value in {**gateway.settings, **settings}.items()}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        env={**environment, "PYTHONPATH": str(ROOT)},
        cwd=gateway.folder,
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def test_a_second_gateway_on_the_same_database_is_refused_with_one_line(gateway):
    refused = command(gateway, "serve", "--bind", "127.0.0.1:0")
    assert refused.returncode != 0
    lines = [line for line in refused.stderr.splitlines() if not line.startswith("{")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert "another gateway" in lines[0]
    asyncio.run(after_only_reads_nothing(gateway))


async def after_only_reads_nothing(gateway) -> None:
    async with caller(gateway) as client:
        assert (await client.get("/runs")).json()["runs"] == []


def test_a_port_in_use_is_one_line_and_exit_status_2(gateway):
    refused = command(gateway, "serve", "--bind", f"127.0.0.1:{gateway.port}", broker="memory:")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert str(gateway.port) in refused.stderr


def test_a_database_that_is_none_is_refused_with_one_line(gateway):
    other = gateway.folder / "other.db"
    other.write_text("not a database" * 1000)
    refused = command(gateway, "serve", "--bind", "127.0.0.1:0", broker=f"sqlite:///{other}")
    assert refused.returncode != 0
    assert [line[:7] for line in refused.stderr.splitlines() if not line.startswith("{")] == ["error: "]
