"""Every case of the table through the real door."""

import asyncio
import contextlib
import zlib

import pytest

from tests.e2e.clients import served
from tests.faults import crowd
from tests.fuzz.beside import ROOMY, unharmed
from tests.fuzz.cases import CASES
from tests.fuzz.frames import TEXT, RawSocket, close, frame, told


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served(tmp_path_factory.mktemp("frames"), **ROOMY) as gateway:
        yield gateway


def test_the_table_is_as_long_as_it_should_be():
    assert len(CASES) >= 120


@pytest.mark.parametrize("name", CASES)
async def test_a_case_comes_out_as_it_should(gateway, name):
    case = CASES[name]
    expected = len(case.refs) + len(case.refused) + len(case.pongs)
    then = case.sent if case.first else close(1000) if case.closed == 1000 and not case.ends else b""
    async with RawSocket(gateway) as ws:
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
async def test_no_extension_is_agreed_on_and_a_deflate_bomb_is_no_frame(gateway, offer):
    async with RawSocket(gateway, f"Sec-WebSocket-Extensions: {offer}") as ws:
        bomb = zlib.compress(bytes(5_000_000), 9)[2:-4]
        ws.write(frame(TEXT, bomb, rsv=4))
        assert (await ws.heard()).closed == 1002


async def test_whoever_sends_on_and_takes_no_reply_is_not_held_in_memory(gateway):
    """Frames wait in the kernel, not in a queue: it is not read from until it reads."""
    before = crowd.rss_bytes(gateway)
    flood = told("x" * 64) * 2000
    async with RawSocket(gateway) as ws:
        ws.reader._transport.pause_reading()
        stuck = 0
        for _ in range(200):
            ws.write(flood)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ws.writer.drain(), 0.5)
                continue
            stuck = 1
            break
        assert crowd.rss_bytes(gateway) - before < 60_000_000
    assert stuck


async def test_after_all_of_them_nothing_is_left(gateway):
    async with unharmed(gateway) as beside:
        for case in CASES.values():
            async with RawSocket(gateway) as ws:
                ws.write(case.first + case.sent + close(1000))
                await ws.heard()
    assert not beside.wrong
