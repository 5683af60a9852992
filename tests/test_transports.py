"""What a transport does before and after its response has begun."""

import asyncio

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
