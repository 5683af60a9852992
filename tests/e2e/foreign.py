"""Runs as front ends read them that know nothing of Runcast."""

import httpx

from gateway.wire.dialects import DIALECTS
from tests.e2e.clients import finished, published, started
from tests.wire.sse_parser import Parsed, parse

FOREIGN = [name for name in DIALECTS if name != "native"]
USAGE = {"input_tokens": 1, "output_tokens": 2}
WORK = [
    {"type": "stage.started", "stage": "writer", "index": 1, "of": 1},
    {"type": "progress", "stage": "writer", "message": "Writing", "progress": 10, "stats": {"words": 1}},
    {"type": "llm.completed", "call": "c", "model": "m", "usage": USAGE, "cost_usd": 0.5},
    {"type": "delta", "block": "b", "delta": "one\ntwo \u2028", "cites": [{"key": "1", "source": "s"}]},
    {"type": "draft", "stage": "editor", "draft": "one"},
    {"type": "x.own", "more": 1},
    {"type": "progress", "stage": "editor", "message": "Editing", "progress": 90},
    {"type": "delta", "block": "c", "delta": "three", "done": True},
    {"type": "stage.completed", "stage": "writer", "index": 1, "of": 1, "duration_ms": 5},
]
FAILURE = {"code": "stages.failed", "message": "No luck.", "retryable": True}


async def made(client, **ending) -> str:
    """A finished run with something of everything."""
    run = await started(client, "external")
    await published(client, run, *WORK)
    assert (await finished(client, run, **ending)).status_code == 200
    return run


async def read(client, path: str, *, after: str | None = None, **params) -> Parsed:
    """A whole stream from an address; empty where everything is known already."""
    headers = {} if after is None else {"Last-Event-ID": after}
    answer = await client.get(httpx.URL(path).copy_merge_params(params), headers=headers)
    if answer.status_code == 204:
        return parse(b"")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    return parse(answer.content)
