# ruff: noqa: INP001 - a script to copy, not a package
"""A worker in a process of its own that shows its user what it does, through a Runcast gateway.

It counts the words of files: start a run of the pipeline `external` for the user, publish events as things happen,
finish. Standard library only. See docs/agent.md.

    export RUNCAST_URL=http://127.0.0.1:8000
    export RUNCAST_TOKEN=…      # scopes runs:start runs:delegate runs:read runs:publish
    python docs/examples/worker.py --owner alice README.md clients/PROTOCOL.md

Rule 1: every request may be repeated. A start carries an Idempotency-Key, everything else a Producer header with a
number that goes up by one for each new request; the gateway answers a repeat as it did the first time.
Rule 2: what the gateway refuses for good ends the worker; what may pass is tried again with the same number.
"""

import argparse
import http.client
import json
import os
import random
import re
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Send = Callable[[str, str, bytes | None, dict[str, str]], tuple[int, Json]]

ATTEMPTS = 8
LONGEST_WAIT_S = 30.0
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class Refused(Exception):
    """The gateway said no, and would say so again."""

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail') or problem.get('title', '')}")
        self.code = str(problem.get("code", ""))


class Away(Exception):
    """Nothing answered for all attempts. Whether the last request arrived is not known."""


class Gateway:
    """Speaks to a gateway; `send` makes one HTTP exchange and raises OSError when none came about."""

    def __init__(
        self, url: str, token: str, *, send: Send | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._send = send or exchange
        self._sleep = sleep

    def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> Json:
        """One request until it is answered, at most ATTEMPTS times. Raises Refused, Away."""
        content = None if body is None else json.dumps(body).encode()
        every = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **headers}
        for attempt in range(ATTEMPTS):
            try:
                status, answer = self._send(method, self._url + path, content, every)
            except OSError as error:
                if attempt + 1 == ATTEMPTS:
                    raise Away(f"{method} {path} was tried {ATTEMPTS} times: {error}") from error
                answer = {}
            else:
                if status < 300:
                    return answer
                if status not in PASSING or attempt + 1 == ATTEMPTS:
                    raise Refused(status, answer)
            # Full jitter: workers that lost the same gateway do not come back together.
            wait_s = random.uniform(0, min(0.25 * 2**attempt, LONGEST_WAIT_S))  # noqa: S311 - no secret
            self._sleep(max(wait_s, answer.get("retry_after_ms", 0) / 1000))
        raise AssertionError


class Run:
    """A run of the pipeline `external` that this process publishes."""

    def __init__(self, gateway: Gateway, *, owner: str, title: str) -> None:
        self._gateway = gateway
        body = {"pipeline": "external", "input": {"title": title}, "owner": owner}
        self.id: str = gateway.call("POST", "/runs", body, **{"Idempotency-Key": str(uuid.uuid4())})["id"]
        self._producer = f"worker-{self.id}"
        # A worker that takes a run over from one that died comes with a later epoch, and the old one is fenced off.
        self._epoch = int(time.time())
        self._seq = 0

    def publish(self, *events: Json) -> None:
        """Append the events, all or none, exactly once."""
        self._numbered("events", {"events": list(events)})

    def finish(self, status: str, **more: Any) -> Json:
        """End the run. One that was cancelled in the meantime ends cancelled, whatever is said here."""
        return self._numbered("finish", {"status": status, **more})

    def cancelled(self) -> bool:
        """Whether the user has stopped the run."""
        return self._gateway.call("GET", f"/runs/{self.id}")["status"] in ("cancelling", "cancelled")

    def _numbered(self, what: str, body: Json) -> Json:
        self._seq += 1
        producer = f"{self._producer}; epoch={self._epoch}; seq={self._seq}"
        return self._gateway.call("POST", f"/runs/{self.id}/{what}", body, Producer=producer)


def exchange(method: str, url: str, content: bytes | None, headers: dict[str, str]) -> tuple[int, Json]:
    """One HTTP exchange: status and JSON, also of a refusal. Raises OSError."""
    request = urllib.request.Request(url, data=content, headers=headers, method=method)  # noqa: S310 - the operator's URL
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - the same
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refusal:
        with refusal:
            try:
                return refusal.code, json.loads(refusal.read())
            except ValueError:  # a proxy's own page
                return refusal.code, {}
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error


def work(run: Run, files: Iterable[Path]) -> bool:
    """Count the words of the files; False when the user stopped it."""
    paths = list(files)
    total: Counter[str] = Counter()
    for number, path in enumerate(paths, 1):
        if run.cancelled():
            run.finish("cancelled")
            return False
        stage = {"stage": path.name, "index": number, "of": len(paths)}
        began = time.monotonic()
        run.publish({"type": "stage.started", **stage})
        words = Counter(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="replace").lower()))
        total += words
        often = ", ".join(f"{word} ({count})" for word, count in words.most_common(5))
        message = f"{path.name}: {words.total():,} words"
        run.publish(
            {"type": "delta", "block": "report", "delta": f"- {message}; most often {often}\n"},
            {
                "type": "progress",
                "stage": path.name,
                "message": message,
                "progress": round(100 * number / len(paths)),
            },
            {"type": "stage.completed", **stage, "duration_ms": round((time.monotonic() - began) * 1000)},
        )
    result = {"files": len(paths), "words": total.total(), "different": len(total)}
    return bool(run.finish("completed", result=result)["status"] == "completed")


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the words of files, for a user to watch.")
    parser.add_argument("--owner", required=True, help="the `sub` of the user whose run it is")
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    gateway = Gateway(os.environ.get("RUNCAST_URL", "http://127.0.0.1:8000"), os.environ["RUNCAST_TOKEN"])
    run = Run(gateway, owner=given.owner, title="Words in files")
    sys.stdout.write(f"{run.id}\n")
    sys.stdout.flush()
    try:
        return 0 if work(run, given.files) else 1
    except Refused as refused:
        if refused.code == "run.finished":  # cancelled, and the grace is over
            return 1
        raise
    except Away:  # without a publish the gateway ends the run by itself, after RUNCAST_EXTERNAL_IDLE_S
        raise
    except Exception as error:
        message = f"The worker failed ({type(error).__name__})."
        run.finish("failed", error={"code": "pipeline.error", "message": message, "retryable": False})
        raise


if __name__ == "__main__":
    sys.exit(main())
