"""Every built-in pipeline with a real model: what it is asked, how its answers are used, and what a bad one costs.

Over 300 lines, because six pipelines answer the same questions here, and share the provider that asks them.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Context, ProviderError, ProviderRefused, Recorder, StagesFailed, calling
from pipeline.agent import AgentInput, agent
from pipeline.brief import Campaign, CampaignInput
from pipeline.campaign import campaign
from pipeline.content import ContentInput, content
from pipeline.crew import CrewInput, crew
from pipeline.models import Claim, Source, chat
from pipeline.models.choosing import made
from pipeline.models.cited import Cited
from pipeline.spending import OverBudget, Price
from pipeline.writing import AutopilotInput, GenerationInput, autopilot, generation
from tests.pipeline.provider import Answer, Fails, Hears, Provider, Says
from tests.pipeline.test_campaign import KETTLE

MOON = "The tides follow the moon. Twice a day the sea rises and falls. Newton explained the tides in 1687."
HARBOUR = "In the harbour the boats lie dry at low tide. A tide table hangs at the door of the pilots."
E1 = '<cite key="1">The tides follow the moon.</cite>'
E2 = '<cite key="2">A tide table hangs at the door of the pilots.</cite>'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(calling, "BACKOFF_S", 0)
    for name in ("agent", "campaign", "content", "crew", "writing"):
        monkeypatch.setattr(f"pipeline.{name}.PACE_S", 0)
    yield
    chat.use(None)


@asynccontextmanager
async def model(*answers: Answer, script: Callable[[Hears], Answer] | None = None) -> AsyncGenerator[Provider, None]:
    """A provider, whose model is the chosen one."""
    async with Provider(*answers, script=script) as provider:
        environment = {"OPENAI_BASE_URL": f"{provider.url}/v1"}
        chosen = made("openai:served", price=Price(1.0, 2.0), environment=environment)
        chat.use(chosen)
        try:
            yield provider
        finally:
            await chosen.close()


def of(recorder: Recorder, *types: str) -> list[dict]:
    return [fields for kind, fields in recorder.events if kind in types]


def codes(recorder: Recorder) -> list[str]:
    return [one["code"] for one in of(recorder, "warning")]


def block(recorder: Recorder, name: str) -> str:
    return "".join(one["delta"] for one in of(recorder, "delta") if one["block"] == name)


async def run(pipeline: Any, input: Any, **options: Any) -> tuple[Any, Recorder]:
    recorder = Recorder()
    return await pipeline(Context(recorder, options=options), input), recorder


# --- evidence --------------------------------------------------------------------------------------------------------

SOURCES = (Source("1", "One", MOON), Source("2", "Two", HARBOUR))


def parsed(pieces: list[str]) -> tuple[str, list[Claim]]:
    reader = Cited(SOURCES)
    read = [piece for text in pieces for piece in reader.feed(text)] + list(reader.end())
    return "".join(piece.text for piece in read), [claim for piece in read for claim in piece.claims]


def test_evidence_becomes_marks_and_claims() -> None:
    """A mark in its place, with a space before it; the claim in the source's own letters."""
    text, claims = parsed([f"The sea moves.{E1} So <b>it</b> is <cite> {E2}", "<CITE KEY=1>“NEWTON explained…”</CITE>"])
    assert text == "The sea moves. [1] So <b>it</b> is <cite> [2] [1]"
    assert [(one.key, one.quote, one.repeated) for one in claims] == [
        ("1", "The tides follow the moon.", False),
        ("2", "A tide table hangs at the door of the pilots.", False),
        ("1", "Newton explained", False),
    ]


@given(
    st.lists(st.sampled_from(["a < b ", "<cite", "<", "<c", E1, E2, '<cite key="9">no</cite>', "\n", " ", "x</cite>"])),
    st.lists(st.integers(0, 400)),
)
def test_evidence_is_read_however_it_is_cut(parts: list[str], cuts: list[int]) -> None:
    """Any way of cutting the same text into pieces gives the same text and claims, and loses nothing."""
    whole = "".join(parts)
    at = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    pieces = [whole[one:two] for one, two in pairwise(at)]
    assert parsed(pieces) == parsed([whole])
    text, claims = parsed(pieces)
    assert len(claims) == len(re.findall(r"<cite key=\"\d\">[^<]*</cite>", whole)) == len(re.findall(r"\[\d\]", text))


# --- content ---------------------------------------------------------------------------------------------------------

ARTICLE = f"## The moon\n\nThe moon moves the sea.{E1} Pilots keep a table of tides.{E2}\n"


async def test_content_streams_a_cited_text() -> None:
    """The sources are in the prompt, the text in the deltas, its evidence in the citations."""
    async with model(Says(ARTICLE, usage=(900, 60))) as provider:
        result, recorder = await run(content, ContentInput(topic="tides", sources=[MOON, HARBOUR]))
    assert MOON in provider.prompts[0]
    assert '<source key="2"' in provider.prompts[0]
    assert block(recorder, "body") == ("## The moon\n\nThe moon moves the sea. [1] Pilots keep a table of tides. [2]\n")
    assert len(of(recorder, "delta")) > 10
    assert [(one.key, one.quote) for one in result.citations] == [
        ("1", "The tides follow the moon."), ("2", "A tide table hangs at the door of the pilots."),
    ]  # fmt: skip
    assert [cite["key"] for one in of(recorder, "delta") for cite in one.get("cites", [])] == ["1", "2"]
    assert of(recorder, "llm.completed")[0]["usage"] == {"input_tokens": 900, "output_tokens": 60}
    assert not codes(recorder)


async def test_content_with_invented_evidence_is_written_again() -> None:
    """The model is told what no source says; the second attempt is the result."""
    invented = '## The moon\n\nThe moon is heavy.<cite key="1">The moon weighs a lot.</cite>\n'
    async with model(Says(invented), Says(ARTICLE)) as provider:
        result, recorder = await run(content, ContentInput(topic="tides", sources=[MOON, HARBOUR]))
    assert "claim.not_in_source" in codes(recorder)
    assert "does not say: The moon weighs a lot." in provider.prompts[1]
    assert "heavy" not in result.markdown
    assert block(recorder, "body-2")


async def test_content_that_broke_off_begins_again_in_another_block() -> None:
    """What was shown stays as it was, ended; the next block has the whole text."""
    async with model(Says(["## The moon\n\n", "The moon "], ends="dies"), Says(ARTICLE)) as provider:
        result, recorder = await run(content, ContentInput(topic="tides", sources=[MOON, HARBOUR]))
    assert block(recorder, "body") == "## The moon\n\nThe moon "
    assert [one["block"] for one in of(recorder, "delta") if one.get("done")] == ["body", "body-2"]
    assert codes(recorder) == ["provider.interrupted"]
    assert "Pilots keep" in result.markdown
    assert len(provider.heard) == 2


async def test_content_that_always_breaks_off_fails_with_the_provider() -> None:
    """Retryable: another day may be better."""
    async with model(Says(["## The moon\n\n"], ends="dies")):
        with pytest.raises(ProviderError):
            await run(content, ContentInput(topic="tides", sources=[MOON]))


@pytest.mark.parametrize(("answer", "kind"), [(Fails(401), ProviderRefused), (Fails(503), ProviderError)])
@pytest.mark.parametrize(
    ("pipeline", "input"),
    [
        (content, ContentInput(topic="tides", sources=[MOON])),
        (autopilot, AutopilotInput(topic="tides", documents=[MOON])),
        (generation, GenerationInput(topic="tides", documents=[MOON, HARBOUR])),
        (crew, CrewInput(goal="tides", documents=[MOON, HARBOUR])),
        (agent, AgentInput(task="Why do tides come?", documents=[MOON])),
        (campaign, CampaignInput(product="Harbor Kettle", audience="cooks", sources=[KETTLE], channels=["ad"])),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_every_pipeline_ends_with_the_providers_fault(
    pipeline: Any, input: Any, answer: Fails, kind: type[Exception]
) -> None:
    """A provider that refuses everything, or is away, is the reason that is told."""
    async with model(answer):
        with pytest.raises(kind):
            await run(pipeline, input)


@pytest.mark.parametrize(
    ("pipeline", "input"),
    [
        (content, ContentInput(topic="tides", sources=[MOON])),
        (generation, GenerationInput(outline=[
            {"heading": name, "points": [{"text": "The tides follow the moon.", "source": "1"}]} for name in "ABC"
        ])),
        (crew, CrewInput(goal="tides", documents=[MOON, HARBOUR])),
        (agent, AgentInput(task="Why do tides come?", documents=[MOON])),
        (campaign, CampaignInput(product="Harbor Kettle", audience="cooks", sources=[KETTLE], channels=["ad"])),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)  # fmt: skip
async def test_every_pipeline_stops_at_its_budget(pipeline: Any, input: Any) -> None:
    """Amid whatever it is doing, said once, as what it is; all that was spent is told."""
    async with model(Says(["word " * 40] * 60, ends="hangs")) as provider:
        recorder = Recorder()
        ctx = Context(recorder, options={"budget_usd": 0.004})
        with pytest.raises(OverBudget):
            await pipeline(ctx, input)
        async with asyncio.timeout(10):
            await provider.gone.wait()
    (exceeded,) = of(recorder, "budget.exceeded")
    assert exceeded["spent_usd"] > 0.004
    assert len(of(recorder, "llm.started")) == len(of(recorder, "llm.completed"))
    assert ctx.usage.cost_usd == pytest.approx(sum(one["cost_usd"] for one in of(recorder, "llm.completed")))


# --- autopilot and generation ----------------------------------------------------------------------------------------


async def test_autopilot_has_the_model_choose_sentences() -> None:
    """It names them by number; a number that is none is asked about again; the points are the documents' own."""
    bad = {"sections": [{"heading": "Why", "points": ["1.1", "7.7"]}]}
    good = {"sections": [{"heading": "Why tides", "points": ["1.2", "1.1"]}]}
    async with model(Says(json.dumps(bad)), Says(json.dumps(good))) as provider:
        result, recorder = await run(autopilot, AutopilotInput(topic="tides", documents=[MOON, "Nothing of it."]))
    assert "1.1  The tides follow the moon." in provider.prompts[0]
    assert "There is no sentence 7.7." in provider.prompts[1]
    assert codes(recorder) == ["llm.answer"]
    (section,) = result.outline
    assert section.heading == "Why tides"
    assert [point.text for point in section.points] == [
        "Newton explained the tides in 1687.", "The tides follow the moon.",
    ]  # fmt: skip
    assert {point.source for point in section.points} == {"1"}


OUTLINE = [
    {"heading": "Moon", "points": [{"text": "The tides follow the moon.", "source": "1"}]},
    {"heading": "Harbour", "points": [{"text": "A tide table hangs at the door of the pilots.", "source": "2"}]},
]


def section(heard: Hears, moon: str, harbour: str = f"Pilots keep a table.{E2}") -> Says:
    return Says(moon if "“Moon”" in heard.prompt else harbour)


async def test_generation_has_each_section_written() -> None:
    """From its own passages alone; cited and in the outline's order."""
    given = GenerationInput(topic="tides", documents=[MOON, HARBOUR], outline=OUTLINE)
    async with model(script=lambda heard: section(heard, f"The moon moves the sea.{E1}")) as provider:
        result, recorder = await run(generation, given)
    moon, harbour = sorted(provider.prompts, key=lambda one: "“Harbour”" in one)
    assert "table hangs" not in moon
    assert "table hangs" in harbour
    assert result.blocks == {
        "section-1": "## Moon\n\nThe moon moves the sea. [1]", "section-2": "## Harbour\n\nPilots keep a table. [2]",
    }  # fmt: skip
    assert [(one.block, one.key) for one in result.citations] == [("section-1", "1"), ("section-2", "2")]
    assert not codes(recorder)


async def test_a_section_that_breaks_off_or_invents_goes_on_in_another_block() -> None:
    """The first block ends as it is, the result has the other; the rest is untouched."""
    tries = iter([Says(["The mo"], ends="dies"), Says("Odd. [1]"), Says(f"The moon moves the sea.{E1}")])

    def script(heard: Hears) -> Answer:
        return next(tries) if "“Moon”" in heard.prompt else section(heard, "")

    given = GenerationInput(topic="tides", documents=[MOON, HARBOUR], outline=OUTLINE)
    async with model(script=script) as provider:
        result, recorder = await run(generation, given)
    assert list(result.blocks) == ["section-1-3", "section-2"]
    assert [one.block for one in result.citations] == ["section-1-3", "section-2"]
    assert codes(recorder) == ["block.again"] * 2
    assert block(recorder, "section-1") == "## Moon\n\nThe mo"
    done = [one["block"] for one in of(recorder, "delta") if one.get("done")]
    assert sorted(done) == ["section-1", "section-1-2", "section-1-3", "section-2"]
    assert "[1] is cited, but no sentence of it is quoted." in provider.prompts[-1]


async def test_a_section_that_never_holds_is_left_out() -> None:
    """After its last attempt, in words; the others stand."""
    given = GenerationInput(topic="tides", documents=[MOON, HARBOUR], outline=OUTLINE)
    async with model(script=lambda heard: section(heard, "The moon is a cheese. [1]")):
        result, recorder = await run(generation, given)
    assert list(result.blocks) == ["section-2"]
    assert [(one.block, one.heading) for one in result.failed] == [("section-1-3", "Moon")]
    assert codes(recorder) == ["block.again", "block.again", "block.failed"]


# --- crew ------------------------------------------------------------------------------------------------------------


async def test_a_crew_has_its_texts_written_and_its_counts_counted() -> None:
    """Findings, critique and lead are the model's, the comparison is counted; the critic reads the findings."""

    def script(heard: Hears) -> Answer:
        return Says("- Nothing on the sun." if "Judge their findings" in heard.prompt else f"- The moon does it.{E1}")

    async with model(script=script) as provider:
        result, recorder = await run(crew, CrewInput(goal="tides", documents=[MOON, HARBOUR]))
    assert result.tasks["research"].output == "- The moon does it. [1]"
    assert result.tasks["critique"].output == "- Nothing on the sun."
    assert "| word |" in result.tasks["analysis"].output
    assert len(provider.heard) == 3
    (critique,) = [one for one in provider.prompts if "Judge their findings" in one]
    assert "- The moon does it. [1]" in critique
    assert block(recorder, "research") == "- The moon does it. [1]"


async def test_a_crews_text_is_asked_for_again_before_anyone_sees_it() -> None:
    """One that breaks off, then one without evidence; viewers see the good one alone."""
    tries = [Says(["- half"], ends="dies"), Says("- No evidence. [1]"), Says(f"- The moon does it.{E1}")]
    given = CrewInput(goal="tides", documents=[MOON], tasks=[{"id": "a", "agent": "researcher", "action": "extract"}])
    async with model(*tries):
        result, recorder = await run(crew, given)
    assert result.report == block(recorder, "a") == "- The moon does it. [1]"
    assert result.tasks["a"].attempts == 1


# --- agent -----------------------------------------------------------------------------------------------------------


def steps(*calls: tuple[str, dict[str, str]]) -> Says:
    return Says(json.dumps({"steps": [{"tool": tool, "args": args, "why": f"use {tool}"} for tool, args in calls]}))


async def test_an_agent_plans_acts_and_answers_by_the_model() -> None:
    """Tools get the model's arguments, it gets their results, its marks become cites of their calls."""
    plan = steps(("search", {"query": "moon"}), ("calculator", {"expression": "1687 + 2"}))
    async with model(plan, Says("Newton knew [t1]. It was 1689 [t2] [t9].")) as provider:
        result, recorder = await run(agent, AgentInput(task="Who, and 1687 plus 2?", documents=[MOON]))
    assert "- calculator: " in provider.prompts[0]
    assert "Who, and 1687 plus 2?" in provider.prompts[0]
    assert '"value": "1689"' in provider.prompts[1]
    assert "The tides follow the moon." in provider.prompts[1]
    assert result.answer == "Newton knew [t1]. It was 1689 [t2] [t9]."
    assert block(recorder, "answer") == result.answer
    cites = [cite for one in of(recorder, "delta") for cite in one.get("cites", [])]
    assert cites == [{"key": "t1", "source": "search"}, {"key": "t2", "source": "calculator"}]
    assert codes(recorder) == ["cite.unknown"]
    assert result.usage.cost_usd == pytest.approx(sum(one["cost_usd"] for one in of(recorder, "llm.completed")))


async def test_an_agents_impossible_plan_is_asked_for_again() -> None:
    """Tools that are none and arguments that are missing never reach a tool."""
    bad = steps(("shell", {"command": "rm"}), ("search", {"text": "moon"}))
    async with model(bad, steps(("search", {"query": "moon"})), Says("The moon [t1].")) as provider:
        result, _ = await run(agent, AgentInput(task="Why?", documents=[MOON]))
    assert "There is no tool shell" in provider.prompts[1]
    assert "search needs query." in provider.prompts[1]
    assert [step.tool for step in result.steps] == ["search"]


async def test_an_agent_may_try_something_else() -> None:
    """After a search without a result the model is asked once more, with what was tried; never the same again."""
    again = steps(("search", {"query": "zebras"}), ("search", {"query": "moon"}))
    async with model(steps(("search", {"query": "zebras"})), again, Says("The moon [t2].")) as provider:
        result, _ = await run(agent, AgentInput(task="Why?", documents=[MOON]))
    assert '"query": "zebras"' in provider.prompts[1]
    assert [step.args["query"] for step in result.steps] == ["zebras", "moon"]


async def test_a_page_that_was_not_asked_about_is_asked_about() -> None:
    """A person's yes holds for the pages that were named, not for what a model thinks of later."""
    first, later = "http://one.example/a", "http://two.example/b"
    plan = steps(("http_get", {"url": first}))
    async with model(plan, steps(("http_get", {"url": later})), Says("No [t1] [t2].")):
        recorder = Recorder(answers=[True, False])
        input = AgentInput(task=f"Read {first}", ask_before=True)
        result = await agent(Context(recorder), input)
    assert [one["prompt"] for one in of(recorder, "input.requested")] == [
        f"May the agent fetch {first}?", f"May the agent fetch {later}?",
    ]  # fmt: skip
    assert "not among" in str(result.steps[0].error)
    assert result.steps[1].error == "A person declined it."


async def test_an_answer_that_breaks_off_begins_again_in_another_block() -> None:
    """The first block ends where it broke."""
    async with model(steps(("search", {"query": "moon"})), Says(["The "], ends="dies"), Says("The moon [t1].")):
        result, recorder = await run(agent, AgentInput(task="Why?", documents=[MOON]))
    assert (block(recorder, "answer"), block(recorder, "answer-2")) == ("The ", "The moon [t1].")
    assert result.answer == "The moon [t1]."
    assert codes(recorder) == ["provider.interrupted"]


# --- campaign --------------------------------------------------------------------------------------------------------

BRIEF: dict[str, Any] = {
    "product": "Harbor Kettle", "audience": "people who work from home, and travellers", "sources": [KETTLE],
    "call_to_action": "Order at harbor.example",
}  # fmt: skip
DIVISION = {
    "segments": [{"segment": "people who work from home", "facts": [1]}, {"segment": "travellers", "facts": []}]
}
CONCEPT = {"headline": "Hot for an hour", "message": "The Harbor Kettle keeps up with you.", "proof_points": [1, 2]}
SOCIAL = {"parts": {"body": "Harbor Kettle: ready when you are. Order at harbor.example"}, "facts": [1]}


def marketer(copy: Callable[[Hears], dict]) -> Callable[[Hears], Answer]:
    def script(heard: Hears) -> Answer:
        if "segments of an audience" in heard.prompt:
            return Says(json.dumps(DIVISION))
        if "Find the concept" in heard.prompt:
            return Says(json.dumps(CONCEPT))
        return Says(json.dumps(copy(heard)))

    return script


async def test_a_campaign_is_worded_by_the_model_and_proved_by_the_sources() -> None:
    """Concept and copy are the model's words, proof points and claims the sources' sentences; the review agrees."""
    async with model(script=marketer(lambda _: SOCIAL)) as provider:
        result, recorder = await run(campaign, CampaignInput(**BRIEF, channels=["social"]))
    assert "1. " in provider.prompts[0]
    assert CONCEPT["message"] in provider.prompts[2]
    assert (result.concept.headline, result.concept.message) == (CONCEPT["headline"], CONCEPT["message"])
    assert all(point.quote in KETTLE for point in result.concept.proof_points)
    copy = result.channels["social"]
    assert copy.body == SOCIAL["parts"]["body"]
    assert [claim.repeated for claim in copy.claims] == [False]
    assert copy.claims[0].quote in KETTLE
    assert result.review.passed, result.review
    assert [len(one.speaks_to) for one in result.audience.segments] == [1, 0]
    assert not codes(recorder)


async def test_copy_that_breaks_its_bounds_is_asked_for_again() -> None:
    """Too long, without the call, with a figure that no fact has: all is told; then the channel is left out."""
    bad = {"parts": {"body": "Harbor Kettle saves 95 percent! " * 12}, "facts": [99]}
    async with model(script=marketer(lambda heard: SOCIAL if "one text message" in heard.prompt else bad)) as provider:
        with pytest.raises(StagesFailed, match="3 attempts"):
            await run(campaign, CampaignInput(**BRIEF, channels=["social"]))
    last = provider.prompts[-1]
    for fault in ("280 are the most", "word for word: Order at", "number 95", "There is no fact 99."):
        assert fault in last
    assert len(provider.heard) == 2 + 1 + calling.REASKS


async def test_a_channel_is_written_anew_in_other_words() -> None:
    """Regenerated copy differs, and the model is told to lead with another fact."""
    other = {"parts": {"body": "Fold it, pack it: Harbor Kettle. Order at harbor.example"}, "facts": [2]}
    async with model(script=marketer(lambda heard: other if "written before" in heard.prompt else SOCIAL)):
        made, _ = await run(campaign, CampaignInput(**BRIEF, channels=["social"]))
        before = Campaign.model_validate_json(made.model_dump_json())
        again = CampaignInput(operation="regenerate", campaign=before, channel="social", sources=[KETTLE])
        after, _ = await run(campaign, again)
    assert after.channels["social"].body == other["parts"]["body"]
    assert after.review.passed
