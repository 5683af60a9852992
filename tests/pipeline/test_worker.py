"""The example of a worker: what it sends again, and under which number, without a gateway."""

import importlib.util
from pathlib import Path

import pytest


def worker():
    """The example, which is no package."""
    spec = importlib.util.spec_from_file_location("worker", Path(__file__).parents[2] / "docs/examples/worker.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_worker_repeats_a_request_under_its_number(tmp_path: Path) -> None:
    """Lost and refused for the moment: the same request again; every new one has the next number."""
    example, seen, waits = worker(), [], []
    trouble = {2: OSError("lost"), 4: (503, {"retry_after_ms": 2500}), 5: OSError("lost")}

    def send(method, url, content, headers):
        seen.append((method, url.rsplit("/", 1)[1], content, headers.get("Producer", "").rpartition("seq=")[2]))
        match trouble.get(len(seen)):
            case OSError() as error:
                raise error
            case tuple() as answer:
                return answer
        return 200, {"id": "r1", "status": "completed" if "finish" in url else "running"}

    file = tmp_path / "a.txt"
    file.write_text("to be or not to be")
    gateway = example.Gateway("http://gateway", "token", send=send, sleep=waits.append)
    assert example.work(example.Run(gateway, owner="alice", title="t"), [file])
    assert [(name, seq) for _, name, _, seq in seen] == [
        ("runs", ""), ("r1", ""), ("r1", ""), *[("events", "1")] * 3, ("events", "2"), ("finish", "3"),
    ]  # fmt: skip
    assert seen[3] == seen[4] == seen[5]
    assert len(waits) == 3
    assert waits[1] >= 2.5
    assert b'"words": 6, "different": 4' in seen[-1][2]


@pytest.mark.parametrize(("refused", "error", "sent"), [(True, "Refused", 1), (False, "Away", 8)])
def test_the_worker_stops_where_trying_is_no_use(refused: bool, error: str, sent: int) -> None:
    """A conflict is not repeated; a gateway that stays away is given up after a bounded number of attempts."""
    example, seen = worker(), []

    def send(*request):
        seen.append(request)
        if refused:
            return 409, {"code": "producer.fenced"}
        raise OSError("nobody")

    with pytest.raises(getattr(example, error), match=r"producer\.fenced|nobody"):
        example.Gateway("http://gateway", "token", send=send, sleep=lambda _: None).call("POST", "/runs/r1/events", {})
    assert len(seen) == sent
