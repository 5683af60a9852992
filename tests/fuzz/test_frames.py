"""Every case of the table through the real door, by both ways of the server."""

import asyncio
import zlib

import pytest

from tests.e2e.clients import PATIENCE_S, served
from tests.faults import crowd
from tests.fuzz.beside import ROOMY, unharmed
from tests.fuzz.cases import CASES
from tests.fuzz.frames import TEXT, WAYS, RawSocket, close, frame, told

BY_BOTH = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("frames"), **ROOMY) as gateway:
        yield gateway


def test_the_table_is_as_long_as_it_should_be():
    assert len(CASES) >= 120


@pytest.mark.parametrize("name", CASES)
@BY_BOTH
async def test_a_case_comes_out_as_it_should(gateway, way, name):
    case = CASES[name]
    expected = len(case.refs) + len(case.refused) + len(case.pongs)
    then = case.sent if case.first else close(1000) if case.closed == 1000 and not case.ends else b""
    async with RawSocket(gateway, way=way) as ws:
        ws.write(case.first or case.sent)
        heard = await ws.heard(expected, then)
    assert heard == (list(case.refs), list(case.refused), list(case.pongs), case.closed)


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate",
        "permessage-bzip2",
    ],
)
@BY_BOTH
async def test_no_extension_is_agreed_on_and_a_deflate_bomb_is_no_frame(gateway, way, offer):
    async with RawSocket(gateway, f"Sec-WebSocket-Extensions: {offer}", way=way) as ws:
        bomb = zlib.compress(bytes(5_000_000), 9)[2:-4]
        ws.write(frame(TEXT, bomb, rsv=4))
        assert (await ws.heard()).closed == 1002


@BY_BOTH
async def test_whoever_asks_on_and_on_and_takes_no_reply_is_cut_off(gateway, way):
    """Where no rate stops it, its replies must not fill the memory."""
    before, flood = crowd.rss_bytes(gateway), told("x" * 64) * 500

    async def ask_on(ws: RawSocket) -> None:
        ws.writer.transport.pause_reading()
        while True:
            ws.writer.write(flood)
            await asyncio.wait_for(ws.writer.drain(), PATIENCE_S)

    async with RawSocket(gateway, way=way) as ws:
        with pytest.raises(ConnectionError):
            await ask_on(ws)
    assert crowd.rss_bytes(gateway) - before < 40_000_000


@BY_BOTH
async def test_after_all_of_them_nothing_is_left(gateway, way):
    async with unharmed(gateway) as beside:
        for case in CASES.values():
            async with RawSocket(gateway, way=way) as ws:
                ws.write(case.first + case.sent + close(1000))
                await ws.heard()
    assert not beside.wrong
