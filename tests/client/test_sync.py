"""The client without `await` in programs of their own, which Ctrl-C and the client's end must not leave hanging."""

import asyncio
import sys
from contextlib import asynccontextmanager

import pytest

from tests.client.scripted import PATIENCE_S, Server, event, hello, told

BEGIN = """
import contextlib, signal, sys, threading, time
from runcast import SyncClient

def interrupted_in(name):
    "Ctrl-C when a line has come and the main thread waits within a function of this name."
    def interrupt():
        sys.stdin.readline()
        main = threading.main_thread().ident
        while True:
            frame, within = sys._current_frames()[main], []
            while frame is not None:
                within.append(frame.f_code.co_name)
                frame = frame.f_back
            if within[0] == "wait" and name in within and "start_task_soon" not in within:
                return signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.01)
    threading.Thread(target=interrupt).start()
"""
PAUSED_WORKER = """
with SyncClient(sys.argv[1], token="t") as client:
    with contextlib.suppress(KeyboardInterrupt), client.run("r").publisher() as publisher:
        while publisher._publisher._going.is_set():
            time.sleep(0.01)
        interrupted_in("checkpoint")
        publisher.checkpoint()
print("left")
"""
READER = """
with SyncClient(sys.argv[1], token="t", transports=["sse"]) as client:
    interrupted_in("_each")
    with contextlib.suppress(KeyboardInterrupt):
        for event in client.run("r").events():
            print(event.type, flush=True)
    sys.stdin.read()  # to its end
print("left")
"""
WORKER_IN_A_THREAD = """
def work():
    with contextlib.suppress(Exception), client.run("r").publisher() as publisher:
        while True:
            publisher.emit("x.a")

with SyncClient(sys.argv[1], token="t") as client:
    worker = threading.Thread(target=work)
    worker.start()
    sys.stdin.read()  # to its end
worker.join()
print("left")
"""


@asynccontextmanager
async def program(server: Server, text: str):
    """One that is told the server's address; killed when it goes on for too long."""
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BEGIN + text, server.url, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield running
            running.stdin.close()
            told, _ = await running.communicate()
            assert (told, running.returncode) == (b"left\n", 0)
    finally:
        if running.returncode is None:
            running.kill()
            await running.communicate()


@pytest.fixture
async def server():
    """A run that is paused and goes on for ever."""

    async def answer(request, connection):
        if request.method == "POST":
            return told({"cursor": "a-1"}, 202)
        await connection.stream(hello(), event(1, "run.paused", by="a"))
        return await connection.gone()

    async with Server(answer) as server:
        yield server


async def test_ctrl_c_at_a_checkpoint_leaves_the_publisher_and_the_client(server):
    async with program(server, PAUSED_WORKER) as running:
        running.stdin.write(b"\n")


async def test_ctrl_c_amid_a_stream_closes_its_connection(server):
    """At once, not at the client's end."""
    async with program(server, READER) as running:
        assert await running.stdout.readline() == b"run.paused\n"
        running.stdin.write(b"\n")
        await server.until(lambda: not server.open)


async def test_the_clients_end_ends_a_publisher_in_another_thread(server):
    async with program(server, WORKER_IN_A_THREAD):
        await server.until(lambda: server.asked("POST"))
