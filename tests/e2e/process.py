"""A real gateway in a process of its own, for the tests to talk to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from gateway.auth import mint

SECRET = "test-secret-of-at-least-32-bytes-length"
ALL_SCOPES = "runs:start runs:read runs:cancel runs:control runs:publish runs:delegate"
ROOT = Path(__file__).parents[2]


def token(sub: str = "alice", scope: str = ALL_SCOPES, ttl_s: float = 600, **more) -> str:
    return mint(SECRET, subject=sub, scope=scope, ttl_s=ttl_s, now=time.time(), **more)


def bearer(*args, **kwargs) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(*args, **kwargs)}"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class GatewayProcess:
    """`settings` become `RUNCAST_*`. The log is in `folder`, with the gateway's output."""

    command: tuple[str, ...] = ("gateway", "serve")

    def __init__(self, folder: Path, *arguments: str, **settings: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.arguments = arguments
        self.settings = {
            "jwt_secret": SECRET,
            "broker": f"sqlite:///{folder}/runcast.db",
            "pipelines": "tests.e2e.pipelines",
            "log_format": "json",
            "rate_limit": "off",  # a test asks faster than anybody
            "command_rate": "off",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def output(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def faults(self) -> list[str]:
        """Lines of the log that tell of a fault of the gateway's own, not of a pipeline's."""
        logged = [line for line in self.output.splitlines() if not line.startswith("{")]
        events = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        own = [str(event) for event in events if event["event"] in ("request failed", "task failed")]
        # What asyncio and other libraries say has the name of its logger.
        own += [str(event) for event in events if "logger" in event and event["level"] in ("error", "critical")]
        return own + [line for line in logged if line.startswith(("Traceback", "ERROR", "Exception", "Task "))]

    def start(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNCAST_")}
        environment |= {f"RUNCAST_{n.upper()}": str(v) for n, v in self.settings.items() if v is not None}
        environment["PYTHONPATH"] = str(ROOT)
        environment["PYTHONUNBUFFERED"] = "1"
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command, "--bind", f"127.0.0.1:{self.port}", *self.arguments],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 60  # a model's library takes seconds to import, many on a machine that is busy
        while time.monotonic() < end:
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
                return self
            except httpx.TransportError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.05)
        raise AssertionError(f"the gateway did not start:\n{self.output}")

    def stop(self, number: int = signal.SIGTERM, within_s: float = 20) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the gateway did not stop:\n{self.output}") from None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop(signal.SIGKILL)
