"""A gateway with a real model: its words reach viewers, a cancel reaches the provider, every end tells its cost."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.clients import PATIENCE_S, STREAM, by_sse, caller, eventually, own, served, started
from tests.e2e.process import GatewayProcess, free_port
from tests.pipeline.provider import Fails, Provider, Says

SOURCE = "The tides follow the moon. Twice a day the sea rises and falls."
TEXT = 'The moon moves the sea.<cite key="1">The tides follow the moon.</cite>'
INPUT = {"topic": "tides", "sources": [SOURCE], "format": "summary"}
KEY = "sk-do-not-tell"


@pytest.fixture(scope="module")
def port() -> int:
    """Where each test's provider listens."""
    return free_port()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, port: int) -> Iterator[GatewayProcess]:
    """A gateway whose model is the test's provider's; it never tells the key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
        patch.setenv("OPENAI_API_KEY", KEY)
        with served(tmp_path_factory.mktemp("gateway"), model="openai:served", model_price="1000,10000") as running:
            yield running
    assert KEY not in running.output


async def test_a_models_words_reach_the_viewer_and_are_paid_for(gateway, port) -> None:
    """After a failure of the provider, told; the terminal event sums what the calls took."""
    async with Provider(Fails(503), Says(TEXT, usage=(40, 9)), port=port), caller(gateway) as client:
        frames = own(await by_sse(client, await started(client, "content", **INPUT), headers=STREAM, replay="full"))
        said = "".join(one["delta"] for one in frames if one["type"] == "delta")
        assert said == "The moon moves the sea. [1]"
        assert len([one for one in frames if one["type"] == "delta"]) > 4
        assert [one["code"] for one in frames if one["type"] == "warning"] == ["provider.retry"]
        assert frames[-1]["type"] == "run.completed"
        assert frames[-1]["usage"] == {"input_tokens": 40, "output_tokens": 9, "cost_usd": pytest.approx(0.13)}
        assert frames[-1]["result"]["citations"][0]["quote"] == "The tides follow the moon."


async def test_a_cancel_reaches_the_provider(gateway, port) -> None:
    """The stream to the provider is closed, the run ends unforced, and what had come is in its usage."""
    answer = Says(["The moon ", "moves "], ends="hangs")
    async with Provider(answer, port=port) as provider, caller(gateway) as client:
        run = await started(client, "content", **INPUT)

        async def written():
            return "moves" in (await client.get(f"/runs/{run}")).json()["blocks"].get("body", "")

        await eventually(written, within_s=PATIENCE_S)
        assert (await client.post(f"/runs/{run}/cancel", json={})).status_code == 202
        await asyncio.wait_for(provider.gone.wait(), PATIENCE_S)
        last = own(await by_sse(client, run, headers=STREAM))[-1]
        assert (last["type"], last["forced"]) == ("run.cancelled", False)
        assert last["usage"]["output_tokens"] == 3
        assert last["usage"]["cost_usd"] > 0.03


async def test_a_budget_ends_the_run_amid_its_stream(gateway, port) -> None:
    """Cancelled for the budget's sake, with the usage so far; the provider sees its stream closed."""
    answer = Says(["word "] * 300, ends="hangs")
    async with Provider(answer, port=port) as provider, caller(gateway) as client:
        body = {"pipeline": "content", "input": INPUT, "options": {"budget_usd": 1.5}}
        run = (await client.post("/runs", json=body)).json()["id"]
        frames = own(await by_sse(client, run, headers=STREAM))
        await asyncio.wait_for(provider.gone.wait(), PATIENCE_S)
        exceeded, last = frames[-2:]
        assert exceeded["type"] == "budget.exceeded"
        assert (last["type"], last["by"], last["reason"]) == ("run.cancelled", "gateway", "budget")
        assert last["usage"]["cost_usd"] == exceeded["spent_usd"] > exceeded["limit_usd"] == 1.5


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [(Fails(401), "provider.refused", False), (Fails(429, {"Retry-After": "3600"}), "provider.error", True)],
)
async def test_a_provider_that_will_not_is_the_runs_end(gateway, port, answer, code, retryable) -> None:
    """With the protocol's code; the provider's words are told to nobody."""
    async with Provider(answer, port=port) as provider, caller(gateway) as client:
        last = own(await by_sse(client, await started(client, "content", **INPUT), headers=STREAM))[-1]
        assert last["type"] == "run.failed"
        assert (last["error"]["code"], last["error"]["retryable"]) == (code, retryable)
        assert answer.why not in str(last) + gateway.output
        assert len(provider.heard) == 1
        assert last["usage"] == {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
