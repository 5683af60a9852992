# ruff: noqa: INP001 - a script to copy, not a package
"""A worker in a process of its own that shows its user what it does, through a Runcast gateway.

It counts the words of files: start a run of the pipeline `external` for the user, publish events as things happen,
finish. Standard library only. See docs/agent.md.

    export RUNCAST_URL=http://127.0.0.1:8000
    export RUNCAST_TOKEN=…      # scopes runs:start runs:delegate runs:read runs:publish
    python docs/examples/worker.py --owner alice --journal words.json README.md clients/PROTOCOL.md

Rule 1: every request may be repeated. A start carries an Idempotency-Key, everything else a Producer header with a
number that goes up by one for each new request; the gateway answers a repeat as it did the first time.
Rule 2: what the gateway refuses for good ends the worker; what may pass is tried again with the same number.
Rule 3: a request stands in the journal before it is sent. A worker that died is started again with the same journal:
it repeats the last request, under its number, and goes on behind it.
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
    """A run of the pipeline `external` that this process publishes.

    `journal`: a file that lets another process go on where this one died; `note` is what that process needs to know.
    """

    def __init__(self, gateway: Gateway, *, owner: str, title: str, journal: Path | None = None) -> None:
        self._gateway = gateway
        self._journal = journal
        if journal is not None and journal.exists():
            self._kept: Json = json.loads(journal.read_text(encoding="utf-8"))
        else:
            body = {"pipeline": "external", "input": {"title": title}, "owner": owner}
            # A worker that takes a run over without its journal comes with a later epoch: the old one is fenced off.
            self._kept = {"start": body, "key": str(uuid.uuid4()), "epoch": int(time.time()), "seq": 0, "note": None}
            self._keep()
        self.id: str = gateway.call("POST", "/runs", self._kept["start"], **{"Idempotency-Key": self._kept["key"]})[
            "id"
        ]

    def repeat(self) -> None:
        """Send the journal's last request again: whether it arrived, the process that died did not know."""
        if self._kept["seq"]:
            self._send()

    @property
    def note(self) -> Any:
        """What was noted with the last request; None before the first."""
        return self._kept["note"]

    def publish(self, *events: Json, note: Any = None) -> None:
        """Append the events, all or none, exactly once."""
        self._numbered("events", {"events": list(events)}, note)

    def finish(self, status: str, **more: Any) -> Json:
        """End the run. One that was cancelled in the meantime ends cancelled, whatever is said here."""
        if self._kept.get("what") == "finish":
            return self._send()
        return self._numbered("finish", {"status": status, **more}, self.note)

    def cancelled(self) -> bool:
        """Whether the user has stopped the run."""
        return self._gateway.call("GET", f"/runs/{self.id}")["status"] in ("cancelling", "cancelled")

    def _numbered(self, what: str, body: Json, note: Any) -> Json:
        self._kept |= {"seq": self._kept["seq"] + 1, "what": what, "body": body, "note": note}
        self._keep()
        return self._send()

    def _send(self) -> Json:
        kept = self._kept
        producer = f"worker-{self.id}; epoch={kept['epoch']}; seq={kept['seq']}"
        return self._gateway.call("POST", f"/runs/{self.id}/{kept['what']}", kept["body"], Producer=producer)

    def _keep(self) -> None:
        """Write the journal so that whoever reads it finds the old one or the new one, whole."""
        if self._journal is not None:
            beside = self._journal.with_name(self._journal.name + ".new")
            with beside.open("w", encoding="utf-8") as file:
                json.dump(self._kept, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._journal)


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
    """Count the words of the files, those that are noted as done left out; False when the user stopped it."""
    run.repeat()
    paths = list(files)
    note = run.note or {"begun": 0, "done": 0, "words": {}}
    total = Counter(note["words"])
    for number, path in enumerate(paths[note["done"] :], note["done"] + 1):
        if run.cancelled():
            run.finish("cancelled")
            return False
        stage = {"stage": path.name, "index": number, "of": len(paths)}
        began = time.monotonic()
        if note["begun"] < number:
            run.publish({"type": "stage.started", **stage}, note={**note, "begun": number})
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
            note=(note := {"begun": number, "done": number, "words": dict(total)}),
        )
    result = {"files": len(paths), "words": total.total(), "different": len(total)}
    return bool(run.finish("completed", result=result)["status"] == "completed")


def main() -> int:
    parser = argparse.ArgumentParser(description="Count the words of files, for a user to watch.")
    parser.add_argument("--owner", required=True, help="the `sub` of the user whose run it is")
    parser.add_argument("--journal", type=Path, help="a file to go on from after a crash")
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    gateway = Gateway(os.environ.get("RUNCAST_URL", "http://127.0.0.1:8000"), os.environ["RUNCAST_TOKEN"])
    run = Run(gateway, owner=given.owner, title="Words in files", journal=given.journal)
    sys.stdout.write(f"{run.id}\n")
    sys.stdout.flush()
    try:
        done = work(run, given.files)
    except Refused as refused:
        if refused.code != "run.finished":  # cancelled, and the grace is over
            raise
        done = False
    except Away:  # without a publish the gateway ends the run by itself, after RUNCAST_EXTERNAL_IDLE_S
        raise
    except Exception as error:
        message = f"The worker failed ({type(error).__name__})."
        run.finish("failed", error={"code": "pipeline.error", "message": message, "retryable": False})
        raise
    if given.journal:
        given.journal.unlink()  # the run has ended: nothing to go on from
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
