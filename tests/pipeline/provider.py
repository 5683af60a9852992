"""A model provider on this machine: real sockets, OpenAI's and Anthropic's streaming protocols, scripted answers."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass
class Says:
    """Streams these texts. Then it ends as told: `stop`, `length`, `content_filter`; or it `dies`, `hangs`, `errs`
    (an error amid the stream), `garbles` (no JSON), or `stops short` (a stream that ends in order, without a reason).
    """

    texts: Sequence[str]
    ends: str = "stop"
    usage: tuple[int, int] | None = (100, 20)

    def __post_init__(self) -> None:
        if isinstance(self.texts, str):
            # A few letters at a time, so that marks and tags come in pieces.
            self.texts = [self.texts[at : at + 7] for at in range(0, len(self.texts), 7)]


@dataclass
class Fails:
    """Answers with a status; `why` is what a client must not repeat."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None
    why: str = "secret words of the provider"


@dataclass
class Hears:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """All that was said to the model, in order."""
        return "\n".join(
            content if isinstance(content := message["content"], str) else "".join(part["text"] for part in content)
            for message in self.body["messages"]
        )


Answer = Says | Fails
Script = Callable[[Hears], Answer]


class Provider:
    """Serves while it is open. `heard`: requests in order; `gone`: connections that the client closed on an answer."""

    def __init__(self, *answers: Answer, script: Script | None = None, port: int = 0) -> None:
        self._port = port
        self._answers = list(answers)
        self._script = script or (lambda _: self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])
        self._connections: set[asyncio.Task[None]] = set()
        self.heard: list[Hears] = []
        self.hanging, self.gone = asyncio.Event(), asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def prompts(self) -> list[str]:
        return [one.prompt for one in self.heard]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while heard := await self._hear(reader):
                self.heard.append(heard)
                answer = self._script(heard)
                if isinstance(answer, Fails):
                    self._fail(writer, answer)
                elif not await self._say(reader, writer, answer, anthropic=heard.path.endswith("/messages")):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        except asyncio.CancelledError:
            pass  # the server closes; asyncio would tell of a connection that ends so as of a fault
        finally:
            self._connections.discard(task)
            writer.close()

    async def _hear(self, reader: asyncio.StreamReader) -> Hears | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Hears(first.split()[1], headers, json.loads(body))

    def _fail(self, writer: asyncio.StreamWriter, answer: Fails) -> None:
        body = json.dumps(_error(answer)).encode()
        more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        head = f"HTTP/1.1 {answer.status} Nope\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{head}{more}\r\n".encode() + body)

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Says, *, anthropic: bool
    ) -> bool:
        """Whether the connection can be used again."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        begin, piece, end = (_anthropic if anthropic else _openai)(answer)
        for event in [*begin, *(piece(text) for text in answer.texts)]:
            _chunk(writer, event)
            await writer.drain()
            await asyncio.sleep(0)
        if answer.ends == "dies":
            writer.transport.abort()
            return False
        if answer.ends == "hangs":
            self.hanging.set()
            await reader.read()  # returns when the client has closed
            self.gone.set()
            return False
        wrong = {"errs": f"event: error\ndata: {json.dumps(_error(Fails(500)))}\n\n", "garbles": "data: {oh\n\n"}
        for event in [wrong[answer.ends]] if answer.ends in wrong else [] if answer.ends == "stops short" else end:
            _chunk(writer, event)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


Frames = tuple[list[str], Callable[[str], str], list[str]]


def _error(answer: Fails) -> dict[str, Any]:
    return {"type": "error", "error": {"message": answer.why, "type": "api_error", "code": answer.code}}


def _chunk(writer: asyncio.StreamWriter, text: str) -> None:
    data = text.encode()
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _openai(answer: Says) -> Frames:
    def chunk(**fields: Any) -> str:
        whole = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served", **fields}
        return f"data: {json.dumps(whole)}\n\n"

    def choice(delta: dict[str, str], reason: str | None = None) -> str:
        return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])

    end = [choice({}, answer.ends)]
    if answer.usage is not None:
        given, made = answer.usage
        usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
        end.append(chunk(choices=[], usage=usage))
    return (
        [choice({"role": "assistant", "content": ""})],
        lambda text: choice({"content": text}),
        [*end, "data: [DONE]\n\n"],
    )


def _anthropic(answer: Says) -> Frames:
    def event(type: str, **fields: Any) -> str:
        return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n"

    given, made = answer.usage or (0, 0)
    message = {
        "id": "m1", "type": "message", "role": "assistant", "model": "served", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": given, "output_tokens": 1},
    }  # fmt: skip
    reason = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}.get(answer.ends, "end_turn")
    begin = [
        event("message_start", message=message),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]
    end = [
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": made}),
        event("message_stop"),
    ]
    return begin, lambda text: event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}), end
