"""Calls to real models, against a provider on this machine: what is told, paid, tried again, refused and cut off.

Over 300 lines, because the cases of one call, in two protocols, share one provider and one way to ask it.
"""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline import BudgetExceeded, Context, ProviderError, ProviderRefused, Recorder, Rejected, StagesFailed, calling
from pipeline.calling import ask, opening, stream, whole
from pipeline.content import ContentInput, content
from pipeline.errors import Interrupted
from pipeline.models import chat
from pipeline.models.chat import Chat, Turn
from pipeline.models.choosing import ModelUnusable, choose, made
from pipeline.spending import OverBudget, Price
from tests.pipeline.provider import Answer, Fails, Provider, Says

SOON_S = 10  # how long a provider may take to see that its connection is closed; it takes milliseconds
KEY = "sk-do-not-tell"
PROMPT = "a prompt that nobody else may read"
PRICE = Price(input_usd=1_000.0, output_usd=10_000.0)  # a thousandth and a hundredth of a dollar for each token
PROTOCOLS = ("openai:served", "anthropic:claude-served")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "BACKOFF_S", 0)


@pytest.fixture(autouse=True)
def _offline_afterwards() -> Iterator[None]:
    yield
    chat.use(None)


@asynccontextmanager
async def served(
    *answers: Answer, spec: str = PROTOCOLS[0], price: Price | None = PRICE, **more
) -> AsyncGenerator[tuple[Provider, Chat], None]:
    """A provider and the model that speaks with it, which is the chosen one."""
    async with Provider(*answers, **more) as provider:
        environment = {
            "OPENAI_BASE_URL": f"{provider.url}/v1", "OPENAI_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": provider.url, "ANTHROPIC_API_KEY": KEY,
        }  # fmt: skip
        model = made(spec, price=price, environment=environment)
        chat.use(model)
        try:
            yield provider, model
        finally:
            await model.close()


def of(recorder: Recorder, *types: str) -> list[dict]:
    return [fields for kind, fields in recorder.events if kind in types]


async def said(ctx: Context, model: Chat) -> list[str]:
    async with aclosing(stream(ctx, model, opening(PROMPT), expected=50)) as texts:
        return [text async for text in texts]


@pytest.mark.parametrize("spec", PROTOCOLS)
async def test_an_answer_streams_and_is_told_and_paid(spec: str) -> None:
    """In both protocols: pieces as they come, one pair of events, the provider's own count and its price."""
    async with served(Says(["The tide ", "turns."], usage=(100, 20)), spec=spec) as (provider, model):
        recorder = Recorder()
        ctx = Context(recorder)
        assert await said(ctx, model) == ["The tide ", "turns."]
    (heard,) = provider.heard
    assert heard.body["stream"] is True
    assert heard.body["model"] == spec.partition(":")[2]
    assert PROMPT in heard.prompt
    assert KEY in heard.headers.get("authorization", "") + heard.headers.get("x-api-key", "")
    (started,), (completed,) = of(recorder, "llm.started"), of(recorder, "llm.completed")
    assert started["call"] == completed["call"]
    assert started["model"] == model.name
    assert 0 < started["estimated_cost_usd"] < 1
    assert completed["usage"] == {"input_tokens": 100, "output_tokens": 20}
    assert completed["cost_usd"] == pytest.approx(0.1 + 0.2)
    assert ctx.usage.cost_usd == completed["cost_usd"]


async def test_a_conversation_goes_out_in_its_order() -> None:
    """System, user, what the model said, and what is asked again, each in its role."""
    async with served(Says("ok")) as (provider, model):
        turns = [Turn("system", "be brief"), Turn("user", "one"), Turn("model", "two"), Turn("user", "three")]
        await whole(Context(Recorder()), model, turns, expected=1)
    assert [(one["role"], one["content"]) for one in provider.heard[0].body["messages"]] == [
        ("system", "be brief"), ("user", "one"), ("assistant", "two"), ("user", "three"),
    ]  # fmt: skip


@pytest.mark.parametrize("spec", PROTOCOLS)
async def test_a_cancel_closes_the_providers_stream(spec: str) -> None:
    """The provider sees its connection end, and what had come by then is paid for."""
    async with served(Says(["some words ", "and more"], ends="hangs"), spec=spec) as (provider, model):
        recorder, read = Recorder(), asyncio.Event()

        async def reading() -> None:
            async with aclosing(stream(Context(recorder), model, opening(PROMPT), expected=1)) as texts:
                async for text in texts:
                    if text == "and more":
                        read.set()

        running = asyncio.create_task(reading())
        await asyncio.wait_for(read.wait(), 10)
        running.cancel()
        async with asyncio.timeout(SOON_S):
            await provider.gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await running
    (completed,) = of(recorder, "llm.completed")
    assert completed["usage"]["output_tokens"] == 4
    assert completed["cost_usd"] > 0.04


async def test_a_cancel_before_the_first_word_closes_the_call_and_pays_the_prompt() -> None:
    """The provider has read it; nothing was said."""
    async with served(Says([], ends="hangs")) as (provider, model):
        recorder = Recorder()
        running = asyncio.create_task(said(Context(recorder), model))
        await asyncio.wait_for(provider.hanging.wait(), 10)
        running.cancel()
        async with asyncio.timeout(SOON_S):
            await provider.gone.wait()
        await asyncio.wait({running})
    (completed,) = of(recorder, "llm.completed")
    assert completed["usage"]["output_tokens"] == 0
    assert completed["usage"]["input_tokens"] > 10


async def test_a_reader_that_goes_away_closes_the_providers_stream() -> None:
    """Closing the generator is enough."""
    async with served(Says(["a ", "b"], ends="hangs")) as (provider, model):
        texts = stream(Context(Recorder()), model, opening(PROMPT), expected=1)
        assert await anext(texts) == "a "
        await texts.aclose()
        async with asyncio.timeout(SOON_S):
            await provider.gone.wait()


@pytest.mark.parametrize("spec", PROTOCOLS)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
async def test_a_failing_provider_is_tried_again(spec: str, status: int) -> None:
    """Each further attempt is a warning; the answer is as if nothing had been, in one pair of events."""
    async with served(Fails(status), Fails(status), Says("at last"), spec=spec) as (provider, model):
        recorder = Recorder()
        assert "".join(await said(Context(recorder), model)) == "at last"
    assert len(provider.heard) == 3
    warnings = of(recorder, "warning")
    assert [one["code"] for one in warnings] == ["provider.retry"] * 2
    assert str(status) in warnings[0]["message"]
    assert "(2 of 4)" in warnings[0]["message"]
    assert len(of(recorder, "llm.started")) == len(of(recorder, "llm.completed")) == 1


async def test_a_provider_that_stays_away_fails_the_call() -> None:
    """After the last of a bounded number of attempts, retryable; an attempt without an answer costs nothing."""
    async with served(Fails(503)) as (provider, model):
        recorder = Recorder()
        with pytest.raises(ProviderError, match="503") as caught:
            await said(Context(recorder), model)
    assert (caught.value.code, caught.value.retryable) == ("provider.error", True)
    assert len(provider.heard) == calling.ATTEMPTS == 1 + len(of(recorder, "warning"))
    assert of(recorder, "llm.completed")[0]["usage"] == {"input_tokens": 0, "output_tokens": 0}


async def test_a_provider_that_nobody_reaches_fails_the_call() -> None:
    """A refused connection is tried again like any other failure."""
    async with served(Says("never heard")) as (provider, model):
        await provider.__aexit__(None, None, None)
        recorder = Recorder()
        with pytest.raises(ProviderError, match="connection"):
            await said(Context(recorder), model)
    assert len(of(recorder, "warning")) == calling.ATTEMPTS - 1


async def test_the_provider_says_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After is waited for; one beyond all patience fails the call at once."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(calling.asyncio, "sleep", sleep)
    async with served(Fails(429, {"Retry-After": "7"}), Fails(429), Says("now")) as (_, model):
        await said(Context(Recorder()), model)
    assert waited[0] == 7
    async with served(Fails(429, {"Retry-After": "3600"})) as (provider, model):
        with pytest.raises(ProviderError):
            await said(Context(Recorder()), model)
    assert len(provider.heard) == 1


async def test_the_backoff_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is longer than the one before, whatever chance says, but for the part that is chance."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:
            waited.append(seconds)

    monkeypatch.setattr(calling, "BACKOFF_S", 1.0)
    monkeypatch.setattr(calling.asyncio, "sleep", sleep)
    async with served(Fails(500)) as (_, model):
        with pytest.raises(ProviderError):
            await said(Context(Recorder()), model)
    assert len(waited) == calling.ATTEMPTS - 1
    assert all(0.5 * 2**at <= wait <= 2**at for at, wait in enumerate(waited))
    assert all(one <= two for one, two in pairwise(waited))


@pytest.mark.parametrize("spec", PROTOCOLS)
@pytest.mark.parametrize(
    "answer",
    [*(Fails(status) for status in (400, 401, 402, 403, 404, 422)), Says("I'd rather", ends="content_filter")],
    ids=lambda answer: str(getattr(answer, "status", "filter")),
)
async def test_a_refusal_is_not_tried_again(spec: str, answer: Answer) -> None:
    """Bad keys, unknown models, bad requests and declined content end the call at once."""
    async with served(answer, spec=spec) as (provider, model):
        recorder = Recorder()
        with pytest.raises(ProviderRefused) as caught:
            await said(Context(recorder), model)
    assert (caught.value.code, caught.value.retryable) == ("provider.refused", False)
    assert len(provider.heard) == 1
    assert not of(recorder, "warning")


@pytest.mark.parametrize("answer", [Fails(401), Fails(400), Fails(500)], ids=lambda one: str(one.status))
async def test_neither_key_nor_prompt_nor_the_providers_words_are_told(
    caplog: pytest.LogCaptureFixture, answer: Fails
) -> None:
    """Not in events, not in the error and its trace, not in the log."""
    caplog.set_level(logging.INFO)
    answer.why = f"{PROMPT} {KEY}"
    async with served(answer) as (_, model):
        recorder = Recorder()
        with pytest.raises((ProviderError, ProviderRefused)) as caught:
            await said(Context(recorder), model)
    logging.getLogger("test").error("it failed", exc_info=caught.value)
    told = f"{recorder.events} {caught.value} {caplog.text}"
    assert PROMPT not in told
    assert KEY not in told


@pytest.mark.parametrize("spec", PROTOCOLS)
async def test_what_was_shown_is_not_said_again(spec: str) -> None:
    """A provider that dies amid its answer is not asked again: the reader has a part. It is paid for."""
    async with served(Says(["half of ", "it"], ends="dies"), Says("all"), spec=spec) as (provider, model):
        recorder = Recorder()
        with pytest.raises(Interrupted) as caught:
            await said(Context(recorder), model)
    assert caught.value.retryable
    assert len(provider.heard) == 1
    assert of(recorder, "llm.completed")[0]["usage"]["output_tokens"] == 3


async def test_what_was_not_shown_is_asked_for_again() -> None:
    """An answer that is only read when it is whole begins anew; both attempts are paid for."""
    async with served(Says(["half of ", "it"], ends="dies"), Says("all", usage=(100, 20))) as (_, model):
        recorder = Recorder()
        assert await whole(Context(recorder), model, opening(PROMPT), expected=1) == "all"
    assert [one["code"] for one in of(recorder, "warning")] == ["provider.retry"]
    assert of(recorder, "llm.completed")[0]["usage"]["output_tokens"] == 20 + 3


@pytest.mark.parametrize("spec", PROTOCOLS)
@pytest.mark.parametrize("ends", ["errs", "garbles", "stops short", "dies"])
async def test_a_stream_that_goes_wrong_is_a_failure_like_any_other(spec: str, ends: str) -> None:
    """An error amid it, nonsense, an end without a reason: tried again while nothing was shown, in our own words."""
    async with served(Says([], ends=ends), Says("", ends="stop"), Says("all"), spec=spec) as (provider, model):
        recorder = Recorder()
        assert "".join(await said(Context(recorder), model)) == "all"
    assert len(provider.heard) == 3
    assert "secret" not in str(recorder.events)
    async with served(Says("half", ends=ends), spec=spec) as (_, model):
        with pytest.raises(Interrupted):
            await said(Context(Recorder()), model)


async def test_what_a_model_thinks_is_paid_for_and_not_shown() -> None:
    """Reasoning between its tags costs tokens and is no part of the answer."""
    async with served(Says(["<think>", "let me see, ", "the moon", "</think>", "The moon."], usage=None)) as (_, model):
        recorder = Recorder()
        assert "".join(await said(Context(recorder), model)).strip() == "The moon."
    assert of(recorder, "llm.completed")[0]["usage"]["output_tokens"] > 6


async def test_an_answer_that_was_cut_off_is_none() -> None:
    """Half a text must not pass for a whole one."""
    async with served(Says("half of", ends="length")) as (_, model):
        with pytest.raises(StagesFailed, match="cut off"):
            await said(Context(Recorder()), model)


async def test_tokens_are_estimated_where_the_provider_counts_none() -> None:
    """A local server that tells no usage still has its calls told with numbers."""
    async with served(Says(["one two ", "three"], usage=None)) as (_, model):
        recorder = Recorder()
        await said(Context(recorder), model)
    usage = of(recorder, "llm.completed")[0]["usage"]
    assert usage["output_tokens"] == 3
    assert usage["input_tokens"] > 10


class Shape(BaseModel):
    number: int


async def test_an_answer_in_another_shape_is_asked_for_again() -> None:
    """The model is told what was wrong, at most twice; the third answer is used. Each is a call of its own."""
    answers = Says("I think seven."), Says('{"number": "seven"}'), Says('Here:\n```json\n{"number": 7}\n```')
    async with served(*answers) as (provider, model):
        recorder = Recorder()
        assert await ask(Context(recorder), model, PROMPT, Shape) == Shape(number=7)
    assert '"number"' in provider.prompts[0]
    assert "I think seven." in provider.prompts[1]
    assert "number: Input should be a valid integer" in provider.prompts[2]
    assert [one["code"] for one in of(recorder, "warning")] == ["llm.answer"] * 2
    assert len(of(recorder, "llm.completed")) == 3


async def test_answers_that_never_fit_end_the_run() -> None:
    """After the last re-ask, with what was wrong with it."""
    async with served(Says('{"number": 7}')) as (provider, model):
        with pytest.raises(StagesFailed, match="Seven is unlucky"):
            await ask(Context(Recorder()), model, PROMPT, Shape, wrong=lambda _: ["Seven is unlucky."])
    assert len(provider.heard) == 1 + calling.REASKS


@pytest.mark.parametrize("spec", PROTOCOLS)
async def test_a_call_that_exceeds_the_budget_stops_amid_its_stream(spec: str) -> None:
    """As soon as the tokens so far cost too much: the connection is closed, the rest is never read."""
    endless = Says(["word "] * 150, ends="hangs")
    async with served(endless, spec=spec) as (provider, model):
        recorder = Recorder()
        with pytest.raises(OverBudget) as caught:
            await said(Context(recorder, options={"budget_usd": 1.0}), model)
        async with asyncio.timeout(SOON_S):
            await provider.gone.wait()
    assert [kind for kind, _ in recorder.events] == ["llm.started", "llm.completed", "budget.exceeded"]
    (exceeded,), (completed,) = of(recorder, "budget.exceeded"), of(recorder, "llm.completed")
    assert exceeded == {"limit_usd": 1.0, "spent_usd": completed["cost_usd"]}
    assert 1.0 < completed["cost_usd"] < 1.1
    assert isinstance(caught.value, BudgetExceeded)
    assert caught.value.usage.cost_usd == completed["cost_usd"]


async def test_a_prompt_that_alone_is_too_dear_is_not_sent() -> None:
    """The call is not made when its input would exceed what is left."""
    async with served(Says("never sent")) as (provider, model):
        recorder = Recorder()
        with pytest.raises(OverBudget):
            await said(Context(recorder, options={"budget_usd": 0.01}), model)
    assert not provider.heard
    assert [kind for kind, _ in recorder.events] == ["budget.exceeded"]


async def test_calls_side_by_side_share_the_budget() -> None:
    """What two calls under way have come to together stops both; it is said once."""
    async with served(Says(["word "] * 40, ends="hangs")) as (_, model):
        recorder = Recorder()
        ctx = Context(recorder, options={"budget_usd": 0.7})
        calls = await asyncio.gather(said(ctx, model), said(ctx, model), return_exceptions=True)
    assert any(isinstance(one, OverBudget) for one in calls)
    assert len(of(recorder, "budget.exceeded")) == 1
    assert ctx.usage.cost_usd == pytest.approx(sum(one["cost_usd"] for one in of(recorder, "llm.completed")))


async def test_a_budget_that_is_nearly_spent_is_warned_of_once() -> None:
    """At four fifths; later calls below the limit say nothing more."""
    async with served(Says("a", usage=(850, 0)), Says("b", usage=(10, 0))) as (_, model):
        recorder = Recorder()
        ctx = Context(recorder, options={"budget_usd": 1})
        await said(ctx, model)
        await said(ctx, model)
    assert of(recorder, "budget.warning") == [{"limit_usd": 1.0, "spent_usd": 0.85}]
    assert not of(recorder, "budget.exceeded")


async def test_a_model_without_a_price_costs_nothing_and_says_so_once() -> None:
    """A warning for the run, calls told at 0, and a budget is refused rather than not held."""
    async with served(Says("a"), price=None) as (_, model):
        recorder = Recorder()
        ctx = Context(recorder)
        await said(ctx, model)
        await said(ctx, model)
        assert [one["code"] for one in of(recorder, "warning")] == ["price.unknown"]
        assert [one["cost_usd"] for one in of(recorder, "llm.completed")] == [0, 0]
        assert "estimated_cost_usd" not in of(recorder, "llm.started")[0]
        with pytest.raises(Rejected, match="no budget can be held"):
            await said(Context(Recorder(), options={"budget_usd": 1}), model)


def test_published_prices_are_known() -> None:
    """A model of OpenAI's costs what OpenAI says, cached input less."""
    model = made("openai:gpt-4o-mini", environment={"OPENAI_API_KEY": KEY})
    million = model.cost_usd(chat.Tokens(1_000_000, 1_000_000))
    assert million == pytest.approx(0.15 + 0.60)


TIDES = "The tides follow the moon. Twice a day the sea rises and falls. Newton explained the tides in 1687."
GOOD = 'The moon moves the sea.<cite key="1">The tides follow the moon.</cite>'


async def test_the_offline_model_keeps_to_a_budget_too() -> None:
    """At its notional price: warned of, stopped, with the usage so far."""
    given = ContentInput(topic="tides", sources=[TIDES * 20], format="summary")
    recorder = Recorder()
    await content(Context(recorder), given)
    (completed,) = of(recorder, "llm.completed")
    assert completed["model"] == "offline-extractive"
    for share, said in ((1.1, "budget.warning"), (0.99, "budget.exceeded"), (0.01, "budget.exceeded")):
        recorder = Recorder()
        ctx = Context(recorder, options={"budget_usd": completed["cost_usd"] * share})
        if said == "budget.warning":
            await content(ctx, given)
        else:
            with pytest.raises(OverBudget):
                await content(ctx, given)
        assert len(of(recorder, said)) == 1


@pytest.mark.parametrize(
    ("spec", "environment", "why"),
    [
        ("gpt-4o", {}, "say PROVIDER:NAME"),
        ("openai:", {"OPENAI_API_KEY": KEY}, "say PROVIDER:NAME"),
        ("llama:3", {}, "openai or anthropic"),
        ("openai:gpt-4o", {}, "needs a key in OPENAI_API_KEY"),
        ("openai:gpt-4o", {"OPENAI_API_KEY": " "}, "needs a key in OPENAI_API_KEY"),
        ("anthropic:claude", {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}, "needs a key in ANTHROPIC_API_KEY"),
        ("openai:x", {"OPENAI_BASE_URL": "127.0.0.1:8000"}, "must begin with http"),
    ],
)
def test_a_model_that_cannot_be_used_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, spec: str, environment: dict[str, str], why: str
) -> None:
    """Before any run, and without the key."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ModelUnusable, match=why) as caught:
        choose(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("price", ["1", "a,b", "1,-1", "1,inf", "1,2,3"])
def test_a_price_that_is_none_is_refused(price: str) -> None:
    """Two numbers, in dollars."""
    with pytest.raises(ModelUnusable, match="INPUT,OUTPUT"):
        choose("openai:x", price=price)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin", "RUNCAST_JWT_SECRET": "x" * 32, "RUNCAST_BROKER": "memory:", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_without_a_model_no_providers_library_is_imported() -> None:
    """The gateway with all its pipelines starts as quickly as ever."""
    code = "import sys, gateway.__main__, pipeline.builtin as b; b.load(); print(sorted(sys.modules))"
    loaded = python(code).stdout
    assert "pipeline.calling" in loaded
    assert not any(f"'{name}'" in loaded for name in ("pydantic_ai", "openai", "anthropic", "genai_prices", "httpx2"))


OPENAI = {"RUNCAST_MODEL": "openai:x", "OPENAI_API_KEY": KEY}
MAIN = "import sys; {}from gateway.__main__ import main; sys.exit(main(['serve', '--bind', '127.0.0.1:0']))"


@pytest.mark.parametrize(
    ("before", "environment", "line"),
    [
        (
            "sys.modules['pydantic_ai'] = None; ",
            {"RUNCAST_MODEL": "openai:x", "OPENAI_API_KEY": KEY},
            "pip install 'runcast[llm]'",
        ),
        ("", {"RUNCAST_MODEL": "openai:x"}, "openai:x needs a key in OPENAI_API_KEY"),
        ("", {"RUNCAST_MODEL": "x"}, "is no model"),
    ],
)
def test_an_operator_is_told_in_one_line(before: str, environment: dict[str, str], line: str) -> None:
    """Without the extra, without a key, with nonsense: status 2, no traceback."""
    done = python(MAIN.format(before), **environment)
    assert done.returncode == 2
    told = [one for one in done.stderr.splitlines() if "RUNCAST_MODEL" in one]
    assert len(told) == 1
    assert line in told[0]
    assert "Traceback" not in done.stderr
