"""The content pipeline: its stages, what it checks, and that every sentence is really its source's."""

import asyncio
import re
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import Context, Recorder, Rejected, StagesFailed, content
from pipeline.checking import check, count_words
from pipeline.content import Content, ContentInput
from pipeline.models import Claim, Format, Piece, Request, Source, Tone
from pipeline.models.extractive import escape
from pipeline.models.sentences import flat
from pipeline.registry import REGISTRY
from tests.pipeline.texts import WORKS, Work, read

FORMATS: tuple[Format, ...] = ("article", "summary", "bullets")
TONES: tuple[Tone, ...] = ("neutral", "formal", "friendly", "concise")
BEES = (
    "Bees carry pollen from flower to flower. The workers of a colony feed the queen all summer long. "
    "A colony of bees stores honey for the cold months. Beekeepers open the hive on warm and quiet days."
)


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "PACE_S", 0)


class Script:
    """A model that writes what it was given, one text per attempt, and keeps what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.asked: list[tuple[str, Request]] = []

    async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
        self.asked.append((prompt, request))
        yield Piece(self.texts.pop(0), (Claim("1", "Bees carry pollen from flower to flower."),))


GOOD = "## Pollen\n\nBees carry pollen from flower to flower. [1]\n"


async def run(**given: object) -> tuple[Content, Recorder]:
    recorder = Recorder()
    return await content.content(Context(recorder), ContentInput.model_validate(given)), recorder


def of(recorder: Recorder, type: str) -> list[dict[str, object]]:
    return [fields for kind, fields in recorder.events if kind == type]


async def test_stages_and_progress_come_in_order() -> None:
    """A run that needs no retry goes through its stages once, and progress only rises from 10 to 100."""
    _, recorder = await run(topic="bees", sources=[BEES])
    stages = [fields["stage"] for fields in of(recorder, "stage.completed")]
    assert stages == ["load_prompts", "generator", "formatter", "validator", "done"]
    progress = [float(str(fields["progress"])) for fields in of(recorder, "progress")]
    assert progress == sorted(progress)
    assert {10, 30, 60, 80, 100} <= set(progress)


async def test_deltas_add_up_to_the_draft() -> None:
    """The block's deltas joined are the draft, several come before it, and the last says that it is done."""
    _, recorder = await run(topic="bees", sources=[BEES])
    deltas = of(recorder, "delta")
    assert len(deltas) > 5
    assert deltas[-1]["done"] is True
    assert "".join(str(fields["delta"]) for fields in deltas) == of(recorder, "draft")[-1]["draft"]
    assert any(fields.get("cites") for fields in deltas)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
@pytest.mark.parametrize("format", FORMATS)
async def test_real_text_gives_a_cited_text_of_the_format(work: Work, format: Format) -> None:
    """From any real work and in any format: within the limit, shaped as asked, and every quotation is the source's."""
    text = read(work)
    result, recorder = await run(topic=work.topic, sources=[text], format=format, max_words=250)
    assert 60 < result.words <= 250
    assert result.words == count_words(result.markdown)
    body = result.markdown.split("\n---\n")[0]
    assert ("\n## " in body) == (format == "article")
    assert ("\n- " in body) == (format == "bullets")
    assert len(result.citations) == len(re.findall(r" \[1\]", body)) >= 3
    for citation in result.citations:
        assert flat(citation.quote) in flat(text)
        assert flat(escape(citation.quote)) in flat(body)
    assert not of(recorder, "warning")


async def test_different_sources_give_different_texts() -> None:
    """Real works differ, so what is written from them shares no quotation."""
    results = [await run(topic=work.topic, sources=[read(work)]) for work in WORKS]
    quotes = [{citation.quote for citation in result.citations} for result, _ in results]
    assert not any(one & other for one, other in pairwise(quotes))


async def test_each_source_gets_its_own_key() -> None:
    """With several sources each citation names the one that holds its quotation."""
    pair = [read(WORKS[2]), read(WORKS[4])]
    result, _ = await run(topic="red light and the Red-headed League", sources=pair)
    assert {citation.key for citation in result.citations} == {"1", "2"}
    for citation in result.citations:
        assert citation.source.startswith(f"Source {citation.key}: ")
        assert flat(citation.quote) in flat(pair[int(citation.key) - 1])


@pytest.mark.parametrize("sources", [[], ["", " \n"]])
async def test_no_source_is_rejected_before_any_stage(sources: list[str]) -> None:
    """Without a source that holds text the run is refused and says what to give."""
    recorder = Recorder()
    with pytest.raises(Rejected, match="at least one text"):
        await content.content(Context(recorder), ContentInput(topic="bees", sources=sources))
    assert not recorder.events


async def test_a_topic_that_no_source_mentions_is_said() -> None:
    """A foreign topic gives the sources' gist with a warning."""
    result, recorder = await run(topic="submarines", sources=[BEES])
    assert [fields["code"] for fields in of(recorder, "warning")] == ["topic.not_in_sources"]
    assert result.citations


async def test_a_bad_text_is_written_again_with_its_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is warned of, told to the model in prompt and request, and the second text is the result."""
    model = Script("Bees carry pollen from flower to flower. [1] [2]", GOOD)
    monkeypatch.setattr(content, "MODEL", model)
    result, recorder = await run(topic="bees", sources=[BEES])
    codes = [fields["code"] for fields in of(recorder, "warning")]
    assert codes == ["text.structure", "claim.unsupported"]
    assert [failure.code for failure in model.asked[1][1].failures] == codes
    assert model.asked[1][1].failures[0].message in model.asked[1][0]
    assert GOOD.strip() in result.markdown
    assert {fields["block"] for fields in of(recorder, "delta")} == {"body", "body-2"}
    progress = [float(str(fields["progress"])) for fields in of(recorder, "progress")]
    assert progress == sorted(progress)
    assert any(85 <= value <= 95 for value in progress)


async def test_three_bad_texts_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two retries the run fails and says why; a bad text is never a result."""
    model = Script(*["nothing of the kind"] * 4)
    monkeypatch.setattr(content, "MODEL", model)
    with pytest.raises(StagesFailed, match="after 3 attempts"):
        await run(topic="bees", sources=[BEES])
    assert len(model.asked) == 3


async def test_a_cancelled_run_stops_and_closes_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancellation reaches the model's generator and nothing is said afterwards."""
    closed, begun = asyncio.Event(), asyncio.Event()

    class Endless:
        async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:
            try:
                while True:
                    begun.set()
                    yield Piece("word ")
            finally:
                closed.set()

    monkeypatch.setattr(content, "MODEL", Endless())
    recorder = Recorder()
    task = asyncio.create_task(content.content(Context(recorder), ContentInput(topic="bees", sources=[BEES])))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()
    assert not of(recorder, "draft")


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": " "},
        {"topic": "x" * 301},
        {"topic": "x", "sources": ["a"] * 21},
        {"topic": "x", "sources": ["a" * 200_001]},
        {"topic": "x", "sources": ["a" * 200_000] * 3},
        {"topic": "x", "max_words": 29},
        {"topic": "x", "max_words": 5001},
        {"topic": "x", "tone": "shouting"},
        {"topic": "x", "format": "poem"},
        {"topic": "x", "other": 1},
        {},
    ],
    ids=str,
)
def test_input_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    """Nothing beyond the documented bounds is taken."""
    with pytest.raises(ValidationError):
        ContentInput.model_validate(wrong)


def test_the_form_knows_what_to_show() -> None:
    """Every field has a title and a description, and sources ask for a text area."""
    declared = REGISTRY.get("content")
    assert declared is not None
    properties = declared.input_schema()["properties"]
    assert all(field["title"] and field["description"] for field in properties.values())
    assert properties["sources"]["x-widget"] == "textarea"


REQUEST = Request(topic="bees", sources=(Source("1", "One", BEES),), max_words=30)
QUOTE = Claim("1", "Bees carry pollen from flower to flower.")


@pytest.mark.parametrize(
    ("body", "claims", "code"),
    [
        ("## A\n\n" + "bees " * 31 + "[1]", [QUOTE], "text.too_long"),
        ("", [], "text.empty"),
        ("## A\n\n## B\n\nBees carry pollen from flower to flower. [1]", [QUOTE], "text.structure"),
        ("## A\n\nThe cold months. [1]", [Claim("1", "the cold months.")], "topic.missing"),
        (GOOD, [], "claim.unsupported"),
        (GOOD, [Claim("2", QUOTE.quote)], "claim.unknown_source"),
        (GOOD, [QUOTE, Claim("1", "Bees sleep.")], "claim.not_in_source"),
        (GOOD, [QUOTE, Claim("1", "A colony of bees stores honey for the cold months.")], "claim.not_in_text"),
    ],
)
def test_each_fault_is_found(body: str, claims: list[Claim], code: str) -> None:
    """Every kind of fault is reported under its own code."""
    assert code in [failure.code for failure in check(body, claims, REQUEST)]


def test_a_good_body_has_no_failures() -> None:
    """A right text passes."""
    assert check(GOOD, [QUOTE], REQUEST) == []


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(
    topic=st.text(min_size=1, max_size=80).filter(str.strip),
    prose=st.text(
        alphabet=st.one_of(st.sampled_from("  \n.?!\"'ab[]*_#-1<"), st.characters(exclude_categories=["Cs"])),
        max_size=400,
    ),
    format=st.sampled_from(FORMATS),
    tone=st.sampled_from(TONES),
    max_words=st.integers(30, 5000),
)
async def test_any_input_gives_a_right_text_or_a_reason(
    topic: str, prose: str, format: Format, tone: Tone, max_words: int
) -> None:
    """Any text, topic, tone, format and length gives a text within its limit, or a refusal; never a crash."""
    try:
        result, _ = await run(topic=topic, sources=[prose, BEES], format=format, tone=tone, max_words=max_words)
    except Rejected:
        return
    assert 0 < result.words <= max_words
    kept = [flat(source) for source in (prose, BEES) if source.strip()]
    for citation in result.citations:
        assert flat(citation.quote) in kept[int(citation.key) - 1]


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
@settings(SETTINGS, max_examples=20)
@given(max_words=st.integers(30, 5000), format=st.sampled_from(FORMATS), tone=st.sampled_from(TONES))
async def test_any_length_is_kept(work: Work, max_words: int, format: Format, tone: Tone) -> None:
    """Whatever length is asked of a real work, the text is not longer."""
    text = read(work)[:12_000]
    result, _ = await run(topic=work.topic, sources=[text], format=format, tone=tone, max_words=max_words)
    assert 0 < result.words <= max_words
