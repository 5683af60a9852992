"""The Publisher against a real gateway: exactly once, bounded, told of a cancel."""

import asyncio
import random
import signal

import pytest

import runcast.api
import runcast.policy
from runcast import Cancelled, Client, Conflict, Invalid, Publisher, Refused
from tests.e2e.clients import PATIENCE_S, caller, served
from tests.e2e.process import token
from tests.faults.check import log_of, seed_of
from tests.faults.proxy import Proxy


async def numbers(gateway, run: str) -> list[int]:
    async with caller(gateway) as http:
        return [event["number"] for event in await log_of(http, run) if event["type"] == "x.number"]


@pytest.fixture
async def client(gateway):
    async with Client(gateway.url, token=token()) as client:
        yield client


@pytest.fixture
async def run(client):
    """A run for a worker."""
    return await client.start("external", {"title": "work"})


@pytest.fixture
def impatient(monkeypatch):
    """Whatever failed is tried again soon."""
    monkeypatch.setattr(runcast.api, "RETRY_MS", 50)
    monkeypatch.setattr(runcast.policy, "MAX_DELAY_MS", 200)


async def test_what_is_said_arrives_once_in_order_and_by_few_requests(gateway, run, client):
    calls = []
    once = client.api.call

    async def counted(method, path, **more):
        calls.append(path)
        return await once(method, path, **more)

    client.api.call = counted
    async with Publisher(run) as publisher:
        for number in range(500):
            await publisher.emit("x.number", number=number)
        assert await publisher.finish(result={"n": 500}) == "completed"
    assert await numbers(gateway, run.id) == list(range(500))
    assert (await run.state()).result == {"n": 500}
    assert sum(path.endswith("/events") for path in calls) < 100


async def test_a_worker_is_told_at_once_what_is_no_event(run):
    async with Publisher(run) as publisher:
        for type, fields in (
            ("run.completed", {"result": 1}),
            ("gap", {"after": "0", "from": "a-1"}),
            ("nonsense", {}),
            ("progress", {"stage": "s"}),
            ("progress", {"stage": "s", "message": "m", "progress": "50"}),
            ("progress", {"stage": "s", "message": "m", "progress": 101}),
            ("delta", {"block": "b", "delta": "d", "ts": 1}),
            ("x.own", {"value": object()}),
        ):
            with pytest.raises(ValueError, match=type.partition(".")[0] if type != "delta" else "reserved"):
                await publisher.emit(type, **fields)
        await publisher.emit("delta", block="b", delta="d", cites=[{"key": "1", "source": "s"}])
        await publisher.finish()


async def test_what_the_gateway_alone_refuses_ends_the_publisher_after_what_was_before(gateway, run):
    async with Publisher(run) as publisher:
        for number in range(3):
            await publisher.emit("x.number", number=number)
        await publisher.emit("x.big", text="x" * 70_000)
        await publisher.emit("x.number", number=3)
        with pytest.raises(Invalid, match=r"event\.invalid"):
            await publisher.flush()
        with pytest.raises(Invalid):
            await publisher.emit("x.number", number=4)
        error = {"code": "pipeline.error", "message": "too big", "retryable": False}
        assert await publisher.finish("failed", error=error) == "failed"
    assert await numbers(gateway, run.id) == [0, 1, 2]


async def test_a_cancel_reaches_the_worker_and_ends_the_run(client, run):
    async def work() -> None:
        async with Publisher(run) as publisher:
            for number in range(1_000_000):
                await publisher.checkpoint()
                await publisher.emit("x.number", number=number)
                working.set()
                await asyncio.sleep(0.01)
            raise AssertionError("it was never cancelled")

    working = asyncio.Event()
    worker = asyncio.create_task(work())
    async with asyncio.timeout(PATIENCE_S):
        await working.wait()
        await run.cancel("enough")
        await worker
        state = await run.wait()
    assert state.status == "cancelled"
    # By the worker's own word, within its grace.
    assert [event.forced async for event in run.events() if event.type == "run.cancelled"] == [False]


async def test_a_worker_that_looks_at_nothing_is_stopped_by_its_next_word(run):
    async with asyncio.timeout(PATIENCE_S), Publisher(run) as publisher:
        await publisher.emit("x.number", number=0)
        await publisher.flush()
        await run.cancel()
        await run.wait()
        with pytest.raises(Cancelled):
            await _for_ever(publisher)
        assert publisher.cancelled


async def _for_ever(publisher: Publisher) -> None:
    while True:
        await publisher.emit("x.number", number=1)
        await asyncio.sleep(0.01)


async def test_a_worker_waits_while_its_run_is_paused(run):
    async with asyncio.timeout(PATIENCE_S), Publisher(run) as publisher:
        await publisher.checkpoint()
        await run.pause()
        while publisher._going.is_set():
            await asyncio.sleep(0.01)
        waiting = asyncio.create_task(publisher.checkpoint())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await run.resume()
        await waiting
        await publisher.finish()


async def test_a_worker_that_fails_fails_its_run_and_tells_nothing_of_why(run):
    with pytest.raises(RuntimeError):
        async with Publisher(run):
            raise RuntimeError("the password is swordfish")
    state = await run.state()
    assert (state.status, state.error.code) == ("failed", "pipeline.error")
    assert state.error.message == "The worker failed (RuntimeError)."


async def test_a_later_worker_goes_on_and_shuts_out_the_earlier_one(gateway, run):
    async with Publisher(run) as first:
        await first.emit("x.number", number=0)
        await first.flush()
        async with Publisher(run) as second:
            await second.emit("x.number", number=1)
            await second.flush()
            await first.emit("x.number", number=666)
            with pytest.raises(Conflict, match=r"producer\.fenced"):
                await first.flush()
            await second.finish()
        assert await numbers(gateway, run.id) == [0, 1]
        with pytest.raises(Conflict):
            await first.finish()


async def test_who_says_too_much_waits(run):
    """The buffer is bounded, whatever the worker does."""
    most = 0
    async with Publisher(run, max_buffer_bytes=20_000) as publisher:
        for number in range(200):
            await publisher.emit("x.number", number=number, text="x" * 1000)
            most = max(most, publisher._bytes)
        await publisher.finish()
    assert most < 20_000 + 1100


async def test_a_run_that_is_not_external_is_refused(client):
    run = await client.start("forever", {"gap_s": 0.05})
    async with Publisher(run) as publisher:
        await publisher.emit("x.number", number=0)
        with pytest.raises(Refused, match=r"run\.not_external"):
            await publisher.flush()
    await run.cancel()


async def test_nothing_is_lost_or_repeated_through_outages(tmp_path, impatient):
    """The gateway is killed and comes back while a worker speaks without a pause."""
    rng = random.Random(seed_of(99))
    with served(tmp_path, retry_ms=50) as gateway:
        async with Client(gateway.url, token=token(), max_retries=100) as client:
            run = await client.start("external", {"title": "through outages"})
            most = 0

            async def speak() -> None:
                nonlocal most
                async with Publisher(run, max_buffer_bytes=4000) as publisher:
                    number = 0
                    while not stop.is_set() or number < 300:
                        await publisher.emit("x.number", number=number)
                        most = max(most, publisher._bytes)
                        number += 1
                        await asyncio.sleep(0.001)
                    await publisher.finish(result=number)

            stop = asyncio.Event()
            async with asyncio.timeout(120), asyncio.TaskGroup() as group:
                group.create_task(speak())
                for _ in range(2):
                    await asyncio.sleep(rng.uniform(0.1, 0.5))
                    await asyncio.to_thread(gateway.stop, signal.SIGKILL)
                    await asyncio.to_thread(gateway.start)
                stop.set()
            said = (await run.wait()).result
            assert await numbers(gateway, run.id) == list(range(said))
            assert most < 4100


async def test_nothing_is_lost_or_repeated_when_answers_are_lost(gateway, impatient):
    """A request whose answer broke off was perhaps taken: the number tells."""
    rng = random.Random(seed_of(7))
    async with (
        Proxy(gateway.port, rng, reach=600, limit=40, kinds=("rst", "fin", "bytes", "delay")) as proxy,
        Client(f"http://127.0.0.1:{proxy.port}", token=token(), max_retries=1000, attempts=50) as client,
    ):
        run = await client.start("external", {"title": "through faults"})
        async with asyncio.timeout(120), Publisher(run) as publisher:
            for number in range(400):
                await publisher.emit("x.number", number=number)
                if number % 10 == 9:
                    await publisher.flush()
            await publisher.finish()
        assert await numbers(gateway, run.id) == list(range(400))
        assert proxy.faults >= 10
