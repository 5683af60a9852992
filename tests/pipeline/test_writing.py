"""Autopilot and generation: every sentence is a document's own, blocks grow side by side, anything can stop."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import BudgetExceeded, Context, PipelineError, ProviderError, Recorder, Rejected, StagesFailed, writing
from pipeline.models import Claim, Piece, Request
from pipeline.models.extractive import escape
from pipeline.models.passages import Passages
from pipeline.models.sentences import flat
from pipeline.registry import REGISTRY
from pipeline.writing import AutopilotInput, Generated, GenerationInput, Outline
from tests.pipeline.test_campaign import KETTLE, Pausing, Stopping, of
from tests.pipeline.texts import WORKS, Work, read

LIGHT = {"topic": WORKS[4].topic, "documents": [read(WORKS[4])]}


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PACE_S", 0)


class Failing:
    """A model that fails after a word in the blocks whose passages hold a text, and writes the others."""

    def __init__(self, error: Exception, *parts: str) -> None:
        self._error, self._parts = error, parts

    async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
        if any(part in source.text for part in self._parts for source in request.sources):
            yield Piece("Well, ")
            raise self._error
        async for piece in Passages().write(prompt, request):
            yield piece


async def planned(*, run: str = "", **given: Any) -> tuple[Outline, Recorder]:
    recorder = Recorder()
    return await writing.autopilot(Context(recorder, run=run), AutopilotInput.model_validate(given)), recorder


async def written(*, run: str = "", **given: Any) -> tuple[Generated, Recorder]:
    recorder = Recorder()
    return await writing.generation(Context(recorder, run=run), GenerationInput.model_validate(given)), recorder


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
async def test_an_outlines_points_stand_in_the_document(work: Work) -> None:
    """From any real work: several sections with different headings, whose points are sentences of it, none twice."""
    text = read(work)
    result, _ = await planned(topic=work.topic, documents=[text])
    points = [point for section in result.outline for point in section.points]
    assert len(points) == len({point.text for point in points}) >= 5
    assert all(flat(point.text) in flat(text) and point.source == "1" for point in points)
    assert len({section.heading for section in result.outline}) == len(result.outline) >= 2
    assert result.stats["sections"] == len(result.outline) <= 6
    assert 0 < result.stats["verified"] <= result.stats["hits"]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
async def test_a_text_is_made_of_cited_sentences_in_blocks(work: Work) -> None:
    """From the outline of any real work: within the length, a block for each section, every quotation verbatim."""
    text = read(work)
    plan, _ = await planned(topic=work.topic, documents=[text])
    result, recorder = await written(
        topic=plan.topic, documents=[text], outline=plan.outline, doc_id=plan.doc_id, max_words=700
    )
    assert result.doc_id == plan.doc_id
    assert len(result.blocks) == len(plan.outline)
    assert 100 < result.words <= 700
    assert not result.failed
    for citation in result.citations:
        assert flat(citation.quote) in flat(text)
        assert flat(escape(citation.quote)) in flat(result.blocks[citation.block])
    for section, block in zip(plan.outline, result.blocks.values(), strict=True):
        assert block.startswith(f"## {escape(section.heading)}\n\n")
    quotes = [citation.quote for citation in result.citations]
    assert len(quotes) == len(set(quotes))
    assert not of(recorder, "warning")


async def test_different_documents_give_different_texts() -> None:
    """Texts from different works share no quotation, nor do their outlines."""
    results = [(await written(topic=work.topic, documents=[read(work)]))[0] for work in WORKS]
    quotes = [{citation.quote for citation in result.citations} for result in results]
    assert all(quotes)
    assert not any(one & other for one, other in pairwise(quotes))


async def test_the_topic_decides_the_outline() -> None:
    """The same document gives other points to another topic, and documents that do not mention it are left out."""
    text = read(WORKS[3])
    goose, _ = await planned(topic="the Christmas goose", documents=[text, KETTLE])
    hat, _ = await planned(topic="the hat of Henry Baker", documents=[text, KETTLE])
    assert goose.outline != hat.outline
    assert {point.source for section in goose.outline for point in section.points} == {"1"}
    assert goose.documents.keys() == {"1", "2"}


async def test_the_search_says_what_it_found() -> None:
    """Stages in order, progress to 100 with hits, verified and sections that only rise."""
    _, recorder = await planned(**LIGHT)
    assert [fields["stage"] for fields in of(recorder, "stage.completed")] == list(writing.AUTOPILOT)
    progress = of(recorder, "progress")
    assert [fields["progress"] for fields in progress] == sorted(fields["progress"] for fields in progress)
    assert progress[-1]["progress"] == 100
    stats = [fields["stats"] for fields in progress]
    assert all(one.keys() == {"hits", "verified", "sections"} for one in stats)
    assert all(one[key] <= two[key] for one, two in pairwise(stats) for key in one)


async def test_blocks_grow_side_by_side_and_each_ends() -> None:
    """Deltas of the blocks alternate, cite, add up to the result, and each block's last says `done`."""
    result, recorder = await written(**LIGHT)
    deltas = of(recorder, "delta")
    order = [fields["block"] for fields in deltas]
    assert len(set(order[: 3 * len(result.blocks)])) == len(result.blocks) > 2
    for block, text in result.blocks.items():
        own = [fields for fields in deltas if fields["block"] == block]
        assert "".join(fields["delta"] for fields in own).strip() == text
        assert [fields.get("done") for fields in own].count(True) == 1
        assert own[-1]["done"] is True
        cites = [cite for fields in own for cite in fields.get("cites", [])]
        assert len(cites) == sum(citation.block == block for citation in result.citations)
    assert [fields["stage"] for fields in of(recorder, "stage.completed")] == list(writing.GENERATION)


async def test_an_outline_alone_is_enough() -> None:
    """Without documents the outline's own points are the text."""
    plan, _ = await planned(**LIGHT)
    result, _ = await written(outline=plan.outline)
    assert [citation.quote for citation in result.citations] == [
        point.text for section in plan.outline for point in section.points
    ]


async def test_a_point_that_no_document_has_is_left_out() -> None:
    """A foreign point is warned of and not written; with foreign points only the run is refused."""
    real = {"text": "The base is guaranteed for five years.", "source": "1"}
    made_up = {"text": "The base is guaranteed for ever.", "source": "1"}
    outline = [{"heading": "Base", "points": [real, made_up]}]
    result, recorder = await written(topic="kettle", documents=[KETTLE], outline=outline)
    assert [fields["code"] for fields in of(recorder, "warning")] == ["point.not_in_documents"]
    assert "for ever" not in result.markdown
    with pytest.raises(Rejected, match="No point"):
        await written(documents=[KETTLE], outline=[{"heading": "Base", "points": [made_up]}])


async def test_the_document_has_one_id_for_each_run() -> None:
    """The same run always gives the same id, other runs and nameless ones another; one that is given is kept."""
    ids = [(await planned(**LIGHT, run=run))[0].doc_id for run in ("a", "a", "b", "", "")]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4
    assert (await planned(**LIGHT, doc_id="mine"))[0].doc_id == "mine"


@pytest.mark.parametrize("error", [ProviderError("out of order"), RuntimeError("secret path")], ids=repr)
async def test_a_failing_block_is_ended_and_left_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The others are written; the failed one ends with `done`, a warning and an entry in `failed`."""
    plan, _ = await planned(**LIGHT)
    monkeypatch.setattr(writing, "MODEL", Failing(error, flat(plan.outline[1].points[0].text)))
    result, recorder = await written(**LIGHT, outline=plan.outline)
    (warning,) = of(recorder, "warning")
    assert warning["code"] == "block.failed"
    assert ("out of order" in warning["message"]) == isinstance(error, ProviderError)
    assert "secret" not in warning["message"]
    assert [one.heading for one in result.failed] == [plan.outline[1].heading]
    assert "section-2" not in result.blocks
    assert len(result.blocks) == len(plan.outline) - 1
    assert [fields for fields in of(recorder, "delta") if fields["block"] == "section-2"][-1]["done"] is True


async def test_a_block_that_quotes_what_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a model invents quotations in every block, nothing is left and the run fails."""

    class Inventing:
        async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
            yield Piece("Light is heavy. [1]", (Claim("1", "Light is heavy."),))

    monkeypatch.setattr(writing, "MODEL", Inventing())
    with pytest.raises(StagesFailed, match=r"does not say: Light is heavy\."):
        await written(**LIGHT)


async def test_a_spent_budget_ends_the_run_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends a run comes out of the blocks' tasks as it was raised."""
    monkeypatch.setattr(writing, "MODEL", Failing(BudgetExceeded("spent"), ""))
    with pytest.raises(BudgetExceeded):
        await written(**LIGHT)


CASES = [(writing.autopilot, AutopilotInput, stage) for stage in writing.AUTOPILOT]
CASES += [(writing.generation, GenerationInput, stage) for stage in writing.GENERATION]


# After the progress of `done` nothing is left to stop.
STOPS = [(*case, on) for case in CASES for on in ("stage.started", "progress") if (case[2], on) != ("done", "progress")]
STOPS.append((writing.generation, GenerationInput, "write", "delta"))


@pytest.mark.parametrize("function, shape, stage, on", STOPS)
async def test_cancelling_stops_in_any_stage(function: Any, shape: Any, stage: str, on: str) -> None:
    """Cancelled in any stage, the run says nothing more; the blocks' tasks stop with it."""
    sink = Stopping(stage, on)
    sink.task = asyncio.create_task(function(Context(sink), shape(**LIGHT)))
    with pytest.raises(asyncio.CancelledError):
        await sink.task
    said = len(sink.events)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(sink.events) == said
    assert not [1 for type, fields in sink.events if type == "stage.completed" and fields["stage"] == "done"]


@pytest.mark.parametrize("function, shape, stage", CASES, ids=[stage for *_, stage in CASES])
async def test_a_paused_run_waits_and_goes_on(function: Any, shape: Any, stage: str) -> None:
    """Held in any stage the run says nothing until it may, then ends as if nothing had been."""
    sink = Pausing(stage)
    task = asyncio.create_task(function(Context(sink, run="one"), shape(**LIGHT)))
    await sink.held.wait()
    for _ in range(40):  # the blocks that are on their way to their checkpoint
        await asyncio.sleep(0)
    said = len(sink.events)
    for _ in range(40):
        await asyncio.sleep(0)
    assert len(sink.events) == said
    sink.go_on.set()
    assert await task == await function(Context(Recorder(), run="one"), shape(**LIGHT))


@pytest.mark.parametrize("documents", [[], [" \n"], ["… !"]])
async def test_nothing_to_read_is_rejected(documents: list[str]) -> None:
    """Without a document that holds words both refuse."""
    with pytest.raises(Rejected, match="at least one document"):
        await planned(topic="bees", documents=documents)
    with pytest.raises(Rejected, match="at least one document"):
        await written(topic="bees", documents=documents)


async def test_a_topic_that_no_document_mentions_is_said() -> None:
    """A foreign topic gives the documents' gist with a warning."""
    result, recorder = await planned(topic="submarines", documents=[KETTLE])
    assert [fields["code"] for fields in of(recorder, "warning")] == ["topic.not_in_documents"]
    assert result.outline


@pytest.mark.parametrize("wrong", [{}, {"topic": ""}, {"topic": "a", "max_words": 59}, {"topic": "a", "doc_id": "a b"}])
def test_input_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    """Nothing beyond the documented bounds is taken."""
    with pytest.raises(ValidationError):
        GenerationInput.model_validate(wrong)


@pytest.mark.parametrize("name", ["autopilot", "generation"])
def test_the_form_knows_what_to_show(name: str) -> None:
    """Every field has a title and a description."""
    declared = REGISTRY.get(name)
    assert declared is not None
    assert all(field["title"] and field["description"] for field in declared.input_schema()["properties"].values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    topic=st.text(min_size=1, max_size=80).filter(str.strip),
    prose=st.text(
        alphabet=st.one_of(st.sampled_from("  \n.,?!\"'ab[]*_#-(1{%}\\"), st.characters(exclude_categories=["Cs"]))
    ),
    max_words=st.integers(60, 2000),
)
async def test_any_document_gives_a_cited_text_or_a_reason(topic: str, prose: str, max_words: int) -> None:
    """Whatever stands in the documents: an outline and a text of verbatim sentences, or a refusal; never a crash."""
    documents = [prose, KETTLE]
    try:
        plan, _ = await planned(topic=topic, documents=documents)
        result, _ = await written(topic=topic, documents=documents, outline=plan.outline, max_words=max_words)
    except PipelineError:
        return
    texts = {str(number): flat(text) for number, text in enumerate(documents, 1)}
    assert all(flat(citation.quote) in texts[citation.key] for citation in result.citations)
    assert not [one for one in result.failed if "unexpected" in one.reason]
