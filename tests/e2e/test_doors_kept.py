"""A connection that is kept: whichever way each request goes, it gets its own answer, and in its turn."""

import asyncio
import json
import random
from itertools import pairwise

import pytest

from tests.e2e.clients import authorization, by_sse, caller, exchange, head, log_of, started
from tests.e2e.process import GatewayProcess

KEPT = "Connection: keep-alive"


class Kept:
    """One connection, used again and again."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader

    @classmethod
    async def to(cls, gateway: GatewayProcess) -> "Kept":
        return cls(*await asyncio.open_connection("127.0.0.1", gateway.port))

    async def answer(self) -> tuple[int, dict]:
        """Status and JSON of the next answer."""
        async with asyncio.timeout(10):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
            return int(lines[0].split()[1]), json.loads(await self._reader.readexactly(length))


@pytest.fixture
async def kept(gateway):
    made = await Kept.to(gateway)
    yield made
    made.writer.close()


@pytest.fixture
async def client(gateway):
    async with caller(gateway) as client:
        yield client


def said(run: str, number: int, *lines: str) -> bytes:
    """A request that publishes one event, in one piece."""
    body = json.dumps({"type": "x.said", "number": number}).encode()
    return head("POST", f"/runs/{run}/events", authorization(), KEPT, *lines, f"Content-Length: {len(body)}") + body


def chunked(run: str, number: int) -> bytes:
    body = json.dumps({"type": "x.said", "number": number}).encode()
    lines = authorization(), KEPT, "Transfer-Encoding: chunked"
    return head("POST", f"/runs/{run}/events", *lines) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


async def numbers(client, run: str) -> list[int]:
    polled = await client.get(f"/runs/{run}/events", params={"limit": 1000})
    return [event["number"] for event in polled.json()["events"] if event["type"] == "x.said"]


@pytest.mark.parametrize("cut", ["whole", "behind its head", "by bytes", "in the head"])
async def test_a_request_may_come_in_pieces(kept, client, cut):
    run = await started(client, "external")
    for number in range(5):
        request = said(run, number)
        at = request.index(b"\r\n\r\n") + 4
        cuts = {"whole": [], "behind its head": [at], "by bytes": range(at, len(request)), "in the head": [20, at]}
        ends = [0, *cuts[cut], len(request)]
        for begin, end in pairwise(ends):
            kept.writer.write(request[begin:end])
            await asyncio.sleep(0.002)
        status, answer = await kept.answer()
        assert (status, answer["cursor"].partition("-")[2]) == (202, str(number + 3))
    assert await numbers(client, run) == [*range(5)]


async def test_the_ways_may_change_from_request_to_request(kept, client):
    run = await started(client, "external")
    for number, make in enumerate((said, said, chunked, said)):
        kept.writer.write(make(run, number))
        assert (await kept.answer())[0] == 202
        kept.writer.write(head("GET", f"/runs/{run}", authorization(), KEPT))
        assert (await kept.answer())[1]["tail"].endswith(f"-{number + 3}")
    assert await numbers(client, run) == [*range(4)]


@pytest.mark.parametrize("seed", range(5))
async def test_requests_one_behind_the_other_are_answered_in_order(kept, client, seed):
    """Cut anywhere: what belongs to the next request is not lost, and not taken for a body."""
    rng = random.Random(seed)
    run = await started(client, "external")
    whole = b"".join(rng.choice([said, chunked])(run, number) for number in range(20))
    while whole:
        size = rng.choice([7, 150, 700, 5000])
        kept.writer.write(whole[:size])
        whole = whole[size:]
        await asyncio.sleep(rng.choice([0, 0, 0.003]))
    cursors = [(await kept.answer())[1]["cursor"] for _ in range(20)]
    assert [int(cursor.partition("-")[2]) for cursor in cursors] == [*range(3, 23)]
    assert await numbers(client, run) == [*range(20)]


async def test_what_comes_while_another_request_is_answered_waits_its_turn(kept, client):
    run = await started(client, "external")
    body = b'{"pipeline":"words","input":{"count":3,"gap_s":0.1}}'
    kept.writer.write(head("POST", "/run", authorization(), KEPT, f"Content-Length: {len(body)}") + body)
    await asyncio.sleep(0.05)
    # More than is read meanwhile.
    for number in range(400):
        kept.writer.write(said(run, number, f"X-Pad: {'x' * 500}"))
    status, outcome = await kept.answer()
    assert (status, outcome["status"]) == (200, "completed")
    for _ in range(400):
        assert (await kept.answer())[0] == 202
    assert await numbers(client, run) == [*range(400)]


async def test_a_refusal_does_not_end_the_connection(kept, client):
    run = await started(client, "external")
    for wrong, status in (
        (head("POST", f"/runs/{run}/events", KEPT, "Content-Length: 2") + b"{}", 401),
        (head("POST", f"/runs/{run}/events", authorization(), KEPT, "Content-Length: 2") + b"{}", 422),
        (head("POST", "/runs/none/events", authorization(), KEPT, "Content-Length: 2") + b"{}", 404),
        (head("POST", "/nothing", authorization(), KEPT, "Content-Length: 2") + b"{}", 404),
        (head("POST", f"/runs/{run}", authorization(), KEPT), 405),
    ):
        kept.writer.write(wrong)
        assert (await kept.answer())[0] == status
    kept.writer.write(said(run, 0))
    assert (await kept.answer())[0] == 202


@pytest.mark.parametrize("kept_by", [KEPT, "TE: trailers"], ids=["short way", "long way"])
async def test_an_answer_without_a_body_says_no_length(gateway, client, kept_by):
    run = await started(client, "words", count=0)
    await by_sse(client, run)
    lines = authorization(), kept_by, "Connection: keep-alive", "Accept: text/event-stream"
    asked = head("GET", f"/runs/{run}/events?after={(await log_of(client, run))[-1]['id']}", *dict.fromkeys(lines))
    told = exchange(gateway, asked, until=b"\r\n\r\n").lower()
    assert told.startswith(b"http/1.1 204 ")
    assert b"content-length" not in told
    assert b"transfer-encoding" not in told


async def test_a_body_that_never_ends_says_nothing(gateway, client):
    run = await started(client, "external")
    kept = await Kept.to(gateway)
    kept.writer.write(said(run, 0)[:-1])
    await kept.writer.drain()
    kept.writer.close()
    other = await Kept.to(gateway)
    other.writer.write(said(run, 1))
    assert (await other.answer())[0] == 202
    other.writer.close()
    assert await numbers(client, run) == [1]
