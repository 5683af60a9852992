"""Commands on one WebSocket, in a process of its own: `python -m tests.bench.asking`, told what by JSON.

Prints how long each reply took, in nanoseconds, as a JSON list. Its own process, as it would otherwise wait for its
turn among the viewers.
"""

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.bench.servers import Runcast
from tests.bench.viewers import PATIENCE_S, until
from tests.e2e.process import ROOT
from tests.faults.crowd import masked

GAP_S = (0.004, 0.016)


def asking(server: Runcast, commands: Sequence[dict[str, str]]) -> subprocess.Popen[bytes]:
    """Begin to ask; the answers are at the standard output when it ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.asking"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    opening = server.steps("websocket")[0].says.decode()
    assert process.stdin is not None
    process.stdin.write(json.dumps([server.port, opening, commands]).encode())
    process.stdin.close()
    return process


def main() -> None:
    port, opening, commands = json.load(sys.stdin)
    rng = random.Random(0)
    took_ns = []
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connected:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.sendall(opening.encode())
        until(connected, b'"hello"')
        for number, command in enumerate(commands):
            time.sleep(rng.uniform(*GAP_S))
            frame = masked(1, json.dumps({**command, "ref": f"r{number}."}).encode())
            began = time.perf_counter_ns()
            connected.sendall(frame)
            reply = until(connected, b'"ref":"r%d."' % number)
            took_ns.append(time.perf_counter_ns() - began)
            if b'"ok":true' not in reply:
                raise RuntimeError(reply.decode())
    print(json.dumps(took_ns))


if __name__ == "__main__":
    main()
