"""What no client library would send: refused at the door, and the connection closed."""

import asyncio
import contextlib
import re

import httpx
import pytest

from tests.e2e.clients import UPGRADE, assert_problem, authorization, eventually, exchange, head, served, started
from tests.e2e.process import bearer, token


@pytest.mark.parametrize(
    "request_",
    [
        head("GET", "/runs", f"X-Large: {'x' * 200_000}"),
        head("GET", "/runs", *(f"X-{number}: {'x' * 1000}" for number in range(200))),
        head("GET", "/" + "x" * 100_000),
        head("POST", "/runs", "Content-Length: -1"),
        head("POST", "/runs", "Content-Length: 1, 2"),
        head("POST", "/runs", "Transfer-Encoding: gzip, chunked"),
        head("POST", "/runs", "Transfer-Encoding: chunked") + b"zz\r\n",
        head("GET", "/runs", "Authorization: Bearer \x01\x02"),
        head("PRI", "*"),
        head("CONNECT", "example.org:443"),
        b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\r\n" * 10 + b"nonsense\r\n\r\n",
    ],
    ids=range(14),
)
async def test_what_is_not_http_is_refused_and_the_connection_closed(gateway, request_):
    answer = exchange(gateway, request_)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501")), answer[:200]
    assert b"Traceback" not in answer


HIDDEN = b"GET /healthz HTTP/1.1\r\nHost: hidden\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        (f"Content-Length: {5 + len(HIDDEN)}", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", f"Content-Length: {5 + len(HIDDEN)}"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding: xchunked", "Content-Length: 5"),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: \x0bchunked",),
        ("Host: second",),
    ],
)
async def test_a_request_that_two_readers_would_end_at_different_places_is_refused_whole(gateway, lines):
    request = head("POST", "/runs", authorization(), "Connection: keep-alive", *lines) + b"0\r\n\r\n" + HIDDEN
    answer = exchange(gateway, request)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501")), answer
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b'"status":"ok"' not in answer


async def test_headers_that_nobody_would_send_are_refused_in_order(client):
    for value in (b"Bearer", b"Basic YTpi", b"Bearer a.b.c", b"Bearer \xff\xfe", b"Bearer " + b"x" * 9000):
        answer = await client.get("/runs", headers={b"Authorization": value})
        assert_problem(answer, 401, "auth.invalid")
        assert answer.headers["www-authenticate"]


async def test_expect_100_continue_is_answered(gateway):
    body = b'{"pipeline":"words","input":{"count":0}}'
    request = head("POST", "/run", authorization(), "Expect: 100-continue", f"Content-Length: {len(body)}")
    assert b'"status":"completed"' in exchange(gateway, request + body)


@pytest.mark.parametrize("path", ["%2e%2e%2fapp.py", "..%5capp.py", ".hidden", "%2fetc%2fpasswd", "%00", "x" * 3000])
async def test_static_files_are_only_those_of_their_folder(client, path):
    for folder in ("js", "js/elements", "js/elements/pictures", "console"):
        assert_problem(await client.get(f"/{folder}/{path}"), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/runs/",
        "/runs/a/b/c",
        "/Runs",
        "/runs//events",
        "//runs",
        "///healthz",
        "http://gateway.example//runs",
        "/../etc/passwd",
        "/%2e%2e/a",
        "/js/",
    ],
)
async def test_an_unknown_path_is_not_found_and_never_a_redirect(gateway, path):
    answer = exchange(gateway, head("GET", path, authorization()))
    assert answer.startswith(b"HTTP/1.1 404"), answer
    assert b'"code":"not_found"' in answer


async def test_bytes_behind_a_stream_cut_it_off_and_leak_nothing(gateway):
    """Two requests for a stream in one write: the connection ends, and its place is free again."""
    async with httpx.AsyncClient(base_url=gateway.url, headers=bearer("piper")) as client:
        run = (await client.post("/runs", json={"pipeline": "external"})).json()["id"]
        request = (
            f"GET /runs/{run}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {token('piper')}\r\n\r\n"
        ).encode()
        for late in (False, True):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(request if late else request * 2)
            if late:
                await reader.readuntil(b"hello")
                writer.write(request)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 5)
            writer.close()
        await client.post(f"/runs/{run}/finish", json={"status": "completed"})


async def test_who_may_only_see_a_run_cannot_speak_for_it(gateway):
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        run = (await client.post("/runs", json={"pipeline": "external"}, headers=bearer("maker"))).json()["id"]
        guest = bearer("guest", runs=[run])
        for path, body in (("events", {"type": "x.a"}), ("finish", {"status": "completed"})):
            answer = await client.post(f"/runs/{run}/{path}", json=body, headers=guest)
            assert (answer.status_code, answer.json()["code"]) == (403, "auth.forbidden")
        assert (await client.get(f"/runs/{run}", headers=guest)).status_code == 200


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1/healthz", "https://gateway.example:8443/healthz", "http://x/%68ealthz", "HTTP://x/healthz"],
)
async def test_a_whole_address_is_asked_for_as_its_path_is(gateway, address):
    """RFC 9112, section 3.2.2."""
    answer = exchange(gateway, head("GET", address))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"status":"ok"' in answer


async def test_every_way_in_takes_a_whole_address(gateway, client):
    run = await started(client, "words", count=1)
    origin = "http://gateway.example"
    answer = exchange(gateway, head("GET", f"{origin}/runs?limit=1", authorization()))
    assert b'"runs":[{' in answer
    answer = exchange(gateway, head("GET", f"{origin}/runs/{run}/events", authorization(), "Accept: text/event-stream"))
    assert b"event: run.completed" in answer
    body = b'{"pipeline":"words","input":{"count":0}}'
    lines = (authorization(), f"Content-Length: {len(body)}")
    assert exchange(gateway, head("POST", f"{origin}/run", *lines) + body).startswith(b"HTTP/1.1 200")
    assert b"<!doctype html>" in exchange(gateway, head("GET", origin))
    handshake = head("GET", f"{origin}/ws", authorization(), *UPGRADE)
    assert exchange(gateway, handshake, until=b"retry_ms").startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("target", ["*", "http://", "http:///healthz", "http://me:secret@127.0.0.1/healthz"])
async def test_what_is_no_address_has_nothing_at_it(gateway, target):
    assert exchange(gateway, head("GET", target)).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("named", "header", "status"), [("evil.example", "127.0.0.1", 404), ("127.0.0.1", "evil.example", 200)]
)
async def test_the_host_of_a_whole_address_is_the_host(tmp_path, named, header, status):
    """Whatever the header says: what a page of this machine alone is given depends on it."""
    lines = f"Host: {header}", "Connection: keep-alive", "Sec-Fetch-Site: same-origin"
    with served(tmp_path, "--dev", jwt_secret=None) as gateway:
        request = f"GET http://{named}/console/token HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        assert exchange(gateway, request.encode(), until=b"}").startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize("cut", [-40, -5, -3, -2, -1])
async def test_what_comes_behind_a_handshake_that_is_none_keeps_no_socket(gateway, client, cut):
    async def sockets() -> float:
        told = (await client.get("/metrics")).text
        return float(re.search(r"^runcast_sockets (\S+)", told, re.MULTILINE)[1])

    before = await sockets()
    # No key, and two bytes more than a head.
    data = head("GET", "/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13") + b"\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(data[:cut])
    await sockets()  # it has been read by then
    writer.write(data[cut:])
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 400")
    writer.transport.abort()

    async def back() -> bool:
        return await sockets() <= before

    await eventually(back)


@pytest.mark.parametrize("cut", [None, 20], ids=["in one piece", "in two"])
async def test_a_stream_of_one_who_said_its_last_ends(gateway, cut):
    """Half a connection is not read any more, so nobody would ever learn that the rest of it is gone."""
    async with httpx.AsyncClient(base_url=gateway.url, headers=bearer("halver")) as client:
        run = (await client.post("/runs", json={"pipeline": "external"})).json()["id"]
        data = head("GET", f"/runs/{run}/events", "Accept: text/event-stream", authorization("halver"))
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            if cut is not None:
                writer.write(data[:cut])
                await client.get("/healthz")
            writer.write(data[cut or 0 :])
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 10)
            writer.close()
        await client.post(f"/runs/{run}/finish", json={"status": "completed"})
