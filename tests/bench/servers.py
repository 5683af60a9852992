"""The servers that are compared, each as it is told to start, to let viewers in and to publish."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import httpx

from tests.bench.machine import SERVERS, on_processor
from tests.bench.viewers import Step
from tests.e2e.process import ROOT, GatewayProcess, free_port, token
from tests.faults.crowd import request, subscribe

MESSAGE = 190  # bytes of JSON that a viewer gets
PEERS = ROOT / ".venv-bench/bin/python"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_STREAM = b"Accept: text/event-stream"
_UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
)
_NGINX = """
load_module {module};
daemon off; pid {folder}/nginx.pid; error_log stderr error;
worker_processes 1; worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
    access_log off; keepalive_requests 1000000; nchan_shared_memory_size 256M;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /watch {{
            nchan_subscriber eventsource websocket; nchan_channel_id one; nchan_subscriber_first_message newest;
        }}
        location /publish {{ nchan_publisher; nchan_channel_id one; nchan_message_buffer_length 1000; }}
    }}
}}
"""


class Server(Protocol):
    """`names`: what it is called, by the transport. `missing`: why it cannot be measured here, "" when it can."""

    names: ClassVar[dict[str, str]]
    pid: int
    port: int

    @classmethod
    def missing(cls) -> str: ...

    def start(self, folder: Path) -> None: ...

    def stop(self) -> None: ...

    def steps(self, kind: str) -> Sequence[Step]:
        """How a viewer joins by `sse` or `websocket`."""

    def post(self, stamp: bytes) -> bytes:
        """The request that publishes one message to all viewers."""


class _Process:
    """A server that is a command. It has started when it accepts connections."""

    def __init__(self) -> None:
        self.port = free_port()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _run(self, folder: Path, *command: object) -> None:
        with on_processor(SERVERS), (folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log, cwd=folder)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{command[0]} did not start: {(folder / 'server.log').read_text()[-1000:]}")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def post(self, stamp: bytes) -> bytes:
        return _request(b"/publish", _padded(b'{"bench":"%b"' % stamp, MESSAGE))


class Starlette(_Process):
    names: ClassVar = {"sse": "sse-starlette", "websocket": "Starlette"}

    @classmethod
    def missing(cls) -> str:
        return "" if PEERS.with_name("uvicorn").exists() else "its packages could not be installed"

    def start(self, folder: Path) -> None:
        self._run(
            folder, PEERS, "-m", "uvicorn", "--app-dir", Path(__file__).parent, "--port", self.port,
            "--backlog", 4096, "--log-level", "warning", "--timeout-graceful-shutdown", 1, "peer:app",
        )  # fmt: skip

    def steps(self, kind: str) -> Sequence[Step]:
        return [_joins(kind, b"/sse" if kind == "sse" else b"/ws")]

    def tokens(self, rate: float) -> Sequence[Step]:
        """One viewer of a stream of its own."""
        return [_joins("sse", b"/tokens?rate=%d" % rate)]


class Nchan(_Process):
    names: ClassVar = {"sse": "Nchan", "websocket": "Nchan"}

    @classmethod
    def missing(cls) -> str:
        return (
            "" if shutil.which("nginx") and NCHAN.exists() else "nginx-light and libnginx-mod-nchan are not installed"
        )

    def start(self, folder: Path) -> None:
        conf = folder / "nginx.conf"
        conf.write_text(_NGINX.format(module=NCHAN, folder=folder, files=20_000, port=self.port))
        self._run(folder, "nginx", "-p", folder, "-c", conf)

    def steps(self, kind: str) -> Sequence[Step]:
        return [_joins(kind, b"/watch")]


class Floor(_Process):
    names: ClassVar = {"sse": "C floor"}

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("cc") else "there is no C compiler"

    def start(self, folder: Path) -> None:
        floor = folder / "floor"
        subprocess.run(["cc", "-O2", "-o", floor, Path(__file__).with_name("floor.c")], check=True)
        self._run(folder, floor, self.port)

    def steps(self, kind: str) -> Sequence[Step]:
        return [_joins(kind, b"/")]


class Runcast:
    names: ClassVar = {"sse": "Runcast", "websocket": "Runcast"}
    settings: ClassVar = {
        "pipelines": "tests.bench.pipelines,tests.e2e.probe",
        "log_level": "warning",
        "drain_runs": "end",
        "drain_s": 2,
        **dict.fromkeys(("max_runs", "max_runs_per_subject", "max_connections"), 50_000),
        **dict.fromkeys(("max_connections_per_subject", "max_connections_per_address"), 50_000),
    }

    @classmethod
    def missing(cls) -> str:
        return ""

    def start(self, folder: Path) -> None:
        self._gateway = GatewayProcess(folder, **self.settings)
        with on_processor(SERVERS):
            self._gateway.start()
        assert self._gateway.process is not None
        self.port, self.pid = self._gateway.port, self._gateway.process.pid
        self._bearer = token(ttl_s=3600)
        authorization = {"Authorization": f"Bearer {self._bearer}"}
        self.client = httpx.Client(base_url=self._gateway.url, headers=authorization, timeout=60)
        self.run = self.started("external")

    def stop(self) -> None:
        self.client.close()
        self._gateway.stop()

    def restart(self) -> None:
        """With the same log."""
        self.stop()
        self.start(self._gateway.folder)

    def started(self, pipeline: str, **input: object) -> str:
        answer = self.client.post("/runs", json={"pipeline": pipeline, "input": input})
        answer.raise_for_status()
        run: str = answer.json()["id"]
        return run

    def look(self, *, rest: bool = False) -> dict[str, float]:
        """What the probe in the gateway has seen since the last look. The first one sets it going, `rest` stops it."""
        answer = self.client.post("/run", json={"pipeline": "probe", "input": {"rest": rest}})
        answer.raise_for_status()
        seen: dict[str, float] = answer.json()["result"]
        return seen

    def steps(self, kind: str, run: str | None = None, *, replay: str = "none") -> Sequence[Step]:
        run = run or self.run
        opens = Step(request(run, kind, bearer=self._bearer, replay=replay), b'"hello"')
        return [opens] if kind == "sse" else [opens, Step(subscribe(run, replay), b'"reply"')]

    def post(self, stamp: bytes) -> bytes:
        # What the gateway adds to an event is part of the message that arrives.
        added = len(f'"run":"{self.run}","id":"abcdef-10","ts":{time.time_ns() // 1_000_000},')
        own = _padded(b'{"type":"x.bench","bench":"%b"' % stamp, MESSAGE - added)
        return _request(
            b"/runs/%b/events" % self.run.encode(), own, b"Authorization: Bearer %b" % self._bearer.encode()
        )


def _head(method: bytes, path: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join((b"%b %b HTTP/1.1" % (method, path), b"Host: 127.0.0.1", *lines, b"", b""))


def _joins(kind: str, path: bytes) -> Step:
    return Step(_head(b"GET", path, _STREAM if kind == "sse" else _UPGRADE), b"\r\n\r\n")


def _request(path: bytes, body: bytes, *lines: bytes) -> bytes:
    length = b"Content-Length: %d" % len(body)
    return _head(b"POST", path, b"Content-Type: application/json", length, *lines) + body


def _padded(opened: bytes, size: int) -> bytes:
    """A JSON object of this size, from the beginning of one."""
    return b'%b,"pad":"%b"}' % (opened, b"x" * (size - len(opened) - 10))


@contextlib.contextmanager
def serving(server: Server, folder: Path) -> Iterator[None]:
    """A server in a folder of its own."""
    own = folder / f"{type(server).__name__}-{time.monotonic_ns()}"
    own.mkdir()
    server.start(own)
    try:
        yield
    finally:
        server.stop()
