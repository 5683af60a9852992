"""The client without `await`, from plain threads."""

import threading

import pytest

from runcast import NotFound, SyncClient
from tests.e2e.clients import PATIENCE_S, caller
from tests.e2e.process import token
from tests.faults.check import log_of


def in_a_thread(work) -> None:
    """Run it in a thread that has never seen a loop; what it raises is raised here."""
    raised = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(2 * PATIENCE_S)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


async def test_a_run_from_its_start_to_its_end(gateway):
    seen = []

    def work() -> None:
        with SyncClient(gateway.url, token=token) as client:
            run = client.start("words", {"count": 30})
            seen.extend((run.id, [event.fields() for event in run.events(replay="full")]))
            assert run.wait().status == "completed"
            assert run.state().result == {"words": 30}
            assert run.id in {state.id for state in client.runs(pipeline="words")}
            assert "words" in {pipeline.name for pipeline in client.pipelines()}
            again = run.retry()
            assert again.wait().status == "completed"
            again.erase()
            with pytest.raises(NotFound):
                again.state()

    in_a_thread(work)
    async with caller(gateway) as http:
        assert seen[1] == await log_of(http, seen[0])


def test_a_stream_is_left_and_the_run_cancelled(gateway):
    def work() -> None:
        with SyncClient(gateway.url, token=token()) as client:
            run = client.start("forever", {"gap_s": 0.01})
            for event in run.events():
                if event.type == "delta":
                    break
            assert run.cancel("enough").status == "cancelling"
            assert run.wait().status == "cancelled"
            assert run.cancel() == ("finished", "cancelled")

    in_a_thread(work)


def test_commands_reach_a_run(gateway):
    def work() -> None:
        with SyncClient(gateway.url, token=token()) as client:
            run = client.start("asking")
            for event in run.events():
                if event.type == "input.requested":
                    run.input(event.input_id, 3)
            assert event.result == 3
            steps = client.start("steps", {"count": 500, "gap_s": 0.01})
            steps.pause()
            steps.resume()
            steps.cancel()

    in_a_thread(work)


def test_several_threads_share_one_client(gateway):
    results = []

    def work() -> None:
        with SyncClient(gateway.url, token=token()) as client:

            def one() -> None:
                results.append(sum(1 for _ in client.start("words", {"count": 10}).events(replay="full")))

            threads = [threading.Thread(target=one) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)

    in_a_thread(work)
    assert len(results) == 5
    assert len(set(results)) == 1


def test_a_worker_publishes_and_is_told_of_a_cancel(gateway):
    def work() -> None:
        with SyncClient(gateway.url, token=token()) as client:
            run = client.start("external", {"title": "t"})
            with run.publisher() as publisher:
                for percent in range(0, 100, 10):
                    publisher.checkpoint()
                    publisher.emit("progress", stage="s", message="m", progress=percent)
                publisher.flush()
                assert publisher.finish(result="done") == "completed"
            assert (publisher.status, run.state().progress) == ("completed", 90)

            run = client.start("external", {"title": "t"})
            with run.publisher() as publisher:
                publisher.emit("x.word")
                run.cancel()
                while True:
                    publisher.checkpoint()
            assert publisher.cancelled
            assert run.wait().status == "cancelled"

            run = client.start("external", {"title": "t"})
            with pytest.raises(ZeroDivisionError), run.publisher():
                raise ZeroDivisionError
            assert run.state().status == "failed"

    in_a_thread(work)


def test_it_is_used_within_its_block(gateway):
    with SyncClient(gateway.url, token=token()) as client:
        run = client.start("words", {"count": 1})
    with pytest.raises(RuntimeError):
        run.state()
