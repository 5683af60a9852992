"""What a transport does before and after its response has begun."""

import asyncio
import os
import socket
import stat
import struct

import pytest
import uvloop

from gateway.server import Arrival
from gateway.transports import DirectTransport, Wire


async def test_nothing_goes_out_before_the_head_and_all_of_it_after():
    """A heartbeat or a drain between the count of a connection and its first frame must not come before the head."""

    async def accepted(reader, writer):
        transport = DirectTransport(Wire(writer, 0.0, pipelined=lambda: False), limit=1000, one_way=True)
        transport.write(b"early ")
        await asyncio.sleep(0)
        writer.write(b"head ")
        transport.begin()
        transport.write(b"late ")
        transport.offer(b"live")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert received == b"head early late live"


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("end", ["closed", "reset", "aborted"])
def test_an_owner_hears_of_the_end_while_the_descriptor_is_still_its_own(loop_factory, end):
    """Later it may be another client's, and what is written to it would come before that one's head."""

    async def check() -> None:
        heard = asyncio.get_running_loop().create_future()

        class Owner:
            def lost(self) -> None:
                heard.set_result(os.fstat(accepted_file))

            def preceded(self) -> None: ...

        async def accepted(reader, writer):
            nonlocal accepted_file
            accepted_file = writer.get_extra_info("socket").fileno()
            wire = Wire(writer, 0.0, pipelined=lambda: False, owner=Owner())
            writer.transport.get_protocol().wire = wire
            if end == "aborted":
                writer.transport.abort()
            elif end == "closed":
                await reader.read()
                writer.close()

        accepted_file = -1
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Arrival(asyncio.StreamReader(loop=loop), accepted, loop=loop), "127.0.0.1", 0
        )
        async with server:
            client = socket.create_connection(server.sockets[0].getsockname()[:2])
            await asyncio.sleep(0.05)
            if end == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if end != "aborted":
                client.close()
            assert stat.S_ISSOCK((await asyncio.wait_for(heard, 5)).st_mode)
            client.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(check())
