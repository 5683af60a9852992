"""A real HTTP server that publishes keys, and misbehaves when told."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Self

import jwt

from tests.auth.doubles import private

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def jwk(kind: str, *, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """The public key of a kind, as an issuer publishes it; a None leaves a member out."""
    algorithms = jwt.algorithms.get_default_algorithms()
    algorithm = algorithms["EdDSA" if kind.startswith("Ed") else kind]
    made = algorithm.to_jwk(private(kind).public_key(), as_dict=True)
    made = {name: value for name, value in made.items() if name not in ("key_ops", "alg")}
    return {name: value for name, value in {**made, "kid": kid or kind, **more}.items() if value is not None}


class PublishedKeys:
    """Serves `keys` at `url`, or does what `instead` says. `asked` counts the requests."""

    def __init__(self, *keys: Any) -> None:
        self.keys: list[Any] = list(keys)
        self.instead: Answer | None = None
        self.asked = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/keys.json"

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def begin(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def end(self) -> None:
        """Away: connections are refused from now on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            await (self.instead or self._publish)(writer)
            await writer.drain()
        except OSError:
            pass  # whoever asked has seen enough
        finally:
            writer.close()

    async def _publish(self, writer: asyncio.StreamWriter) -> None:
        writer.write(response(json.dumps({"keys": self.keys}).encode()))


def response(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *lines, "", ""))
    return head.encode() + body


def says(body: bytes, *lines: str, status: str = "200 OK") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(response(body, *lines, status=status))

    return answer


async def huge(writer: asyncio.StreamWriter) -> None:
    """A set that does not end."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b'{"keys":[')
    while True:
        writer.write(b" " * 65_536)
        await writer.drain()


async def slow(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def silent(writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    while not writer.transport.is_closing():
        await asyncio.sleep(0.02)


async def rude(writer: asyncio.StreamWriter) -> None:
    """Hangs up."""
    writer.transport.abort()
