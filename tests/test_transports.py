"""What a transport does before and after its response has begun."""

import asyncio
import socket

from gateway.transports import DirectTransport


class Plain:
    """Implements Wire on a stream writer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.transport = writer.transport
        self.drain = writer.drain
        self.heard_at = 0.0
        self.owner = None
        self.one_way = False

    def pipelined(self) -> bool:
        return False

    def at_end(self) -> bool:
        return False


async def received(serve) -> bytes:
    """What a client gets from a server that does this with its wire and closes."""

    async def accepted(_reader, writer):
        await serve(Plain(writer), writer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        data = await reader.read()
        writer.close()
        await writer.wait_closed()
    return data


async def test_nothing_goes_out_before_the_head_and_all_of_it_after():
    """A heartbeat or a drain between the count of a connection and its first frame must not come before the head."""

    async def serve(wire, writer):
        transport = DirectTransport(wire, limit=1000, one_way=True)
        transport.write(b"early ")
        transport.offer(b"offered ")
        await asyncio.sleep(0)
        writer.write(b"head ")
        transport.begin()
        transport.write(b"late ")
        transport.offer(b"live")

    assert await received(serve) == b"head early offered late live"


async def test_what_the_server_writes_itself_is_not_overtaken():
    async def serve(wire, writer):
        transport = DirectTransport(wire, limit=10_000_000, one_way=False)
        transport.offer(b"a")
        wire.owner.preceded()
        writer.write(b"b" * 5_000_000)
        transport.offer(b"c")

    assert await received(serve) == b"a" + b"b" * 5_000_000 + b"c"


async def test_what_did_not_fit_comes_before_what_is_offered_next():
    async def serve(wire, _writer):
        transport = DirectTransport(wire, limit=10_000_000, one_way=False)
        for letter in (b"a", b"b", b"c"):
            assert transport.offer(letter * 3_000_000)
        assert transport.unsent() + transport.taken() > 0

    assert await received(serve) == b"a" * 3_000_000 + b"b" * 3_000_000 + b"c" * 3_000_000


async def test_nothing_is_written_after_the_client_is_lost():
    async def serve(wire, _writer):
        transport = DirectTransport(wire, limit=1000, one_way=False)
        transport.offer(b"a")
        wire.owner.lost()
        assert transport.offer(b"b")
        transport.write(b"c")

    assert await received(serve) == b"a"


async def test_who_is_gone_before_the_transport_is_made_does_not_keep_it_open():
    """Whoever watches the connection has said it already, when nobody was there to be told."""
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await asyncio.open_connection(sock=ours)
        writer.transport.abort()
        transport = DirectTransport(Plain(writer), limit=1000, one_way=True)
        assert transport.offer(b"a")
        async with asyncio.timeout(5):
            assert [frame async for frame in transport.outlet()] == []
