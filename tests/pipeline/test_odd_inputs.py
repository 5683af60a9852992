"""Every built-in pipeline on texts of every shape: other languages, one sentence, lists, Markdown, a whole book.

What comes out quotes what went in, whatever the shape; and nothing of a page's machinery (code, tables, pictures)
is passed off as a sentence.
"""

import re
from typing import Any

import pytest

from pipeline import Context, Recorder, agent, campaign, content, crew, writing
from pipeline.builtin import load
from pipeline.models.sentences import flat, split
from tests.pipeline.texts import WORKS, read

ONE = "The tides follow the moon, which pulls the sea twice a day."
GERMAN = (
    "Die Gezeiten folgen dem Mond. Zweimal am Tag steigt und fällt das Meer an der Küste. Im Jahr 1687 zeigte Newton, "
    "dass die Anziehung des Mondes das Wasser hebt. Eine Springflut entsteht, wenn Sonne und Mond gemeinsam ziehen. "
    "Das Gezeitenkraftwerk an der Rance erzeugt seit 1966 Strom aus diesem Unterschied."
)
JAPANESE = (
    "潮の満ち引きは月に従う。海は一日に二度、満ちては引く。1687年、ニュートンは月の引力が水を持ち上げることを示した。"
    "太陽と月が一緒に引くとき、大潮になる。漁師たちは何世紀も前から港の潮見表に従って働いてきた。"
)
ARABIC = (
    "المد والجزر يتبعان القمر كل يوم. يرتفع البحر وينخفض مرتين في اليوم على الساحل. "
    "أظهر نيوتن أن جاذبية القمر ترفع الماء."
)
ITEMS = """# Harbor Kettle: facts

- Boils a litre in two minutes
- Weighs 840 grams
- Handle of ash wood
- Keeps water hot for an hour
- Guarantee on the base: five years

| property | value |
|---|---|
| colour | black |
"""
MARKDOWN = """# The tide gauge

![A picture of the gauge](gauge.png)

The tide gauge stands in the harbour of Brest and has measured the height of the sea in every hour of every day since
the year 1807. Its float rests in a well beside the quay, where waves cannot reach it, and a pen draws what the
`float` does on paper.

    gauge = Gauge("brest")
    gauge.read()

```
gauge.close()
```

| hour | height |
|------|--------|
| The tide gauge stands high at noon, they say. | 4 m |

## Readings

- The tide gauge is read every morning by the harbour master himself.
- Its readings are sent to Paris, where **two** clerks compare them with the tables.
"""
BOOK = (read(WORKS[3]) + read(WORKS[2])) * 3

TEXTS = {
    "german": ("Gezeiten und Mond", GERMAN),
    "japanese": ("月", JAPANESE),
    "arabic": ("القمر", ARABIC),
    "one-sentence": ("the tides", ONE),
    "items": ("Harbor Kettle", ITEMS),
    "markdown": ("tide gauge", MARKDOWN),
    "book": ("the blue carbuncle", BOOK[:200_000]),
}
PIPELINES = ("content", "campaign", "crew", "agent", "autopilot", "generation")


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (content, campaign, crew, agent, writing):
        monkeypatch.setattr(module, "PACE_S", 0)


def given(name: str, topic: str, text: str) -> dict[str, Any]:
    """An input for the pipeline that is about this topic in this text."""
    return {
        "content": {"topic": topic, "sources": [text], "max_words": 200},
        "campaign": {"product": topic, "audience": "sailors", "sources": [text], "channels": ["email", "social"]},
        "crew": {"goal": topic, "documents": [text]},
        "agent": {"task": topic, "documents": [text]},
        "autopilot": {"topic": topic, "documents": [text], "max_sections": 2},
        "generation": {"topic": topic, "documents": [text], "max_words": 300},
    }[name]


async def quotes(name: str, topic: str, text: str) -> tuple[list[str], Any, Recorder]:
    """What a pipeline quotes from a text, its result, and what it said."""
    declared, recorder = load().get(name), Recorder()
    assert declared is not None
    result = await declared(Context(recorder), declared.input_type.validate_python(given(name, topic, text)))
    match name:
        case "content" | "generation":
            return [one.quote for one in result.citations], result, recorder
        case "campaign":
            return [one.quote for one in result.concept.proof_points], result, recorder
        case "crew":
            found = re.findall(r"^- (.*) \[1\]$", result.tasks["research"].output, re.MULTILINE)
            return [one.replace("\\", "").removesuffix(" …") for one in found], result, recorder
        case "agent":
            return [one["quote"] for step in result.steps for one in (step.result or {})["passages"]], result, recorder
        case _:
            return [point.text for section in result.outline for point in section.points], result, recorder


@pytest.mark.parametrize("shape", TEXTS)
@pytest.mark.parametrize("name", PIPELINES)
async def test_every_shape_of_text_is_quoted(name: str, shape: str) -> None:
    """Whatever the text is like, its own sentences come out, none twice, with no warning that it is off the topic."""
    topic, text = TEXTS[shape]
    said, _, recorder = await quotes(name, topic, text)
    assert said
    assert len(set(said)) == len(said)
    assert all(flat(one) in flat(text) for one in said)
    codes = {fields["code"] for kind, fields in recorder.events if kind == "warning"}
    assert not {code for code in codes if code.startswith(("topic.", "product."))}
    if name != "agent":
        assert len(said) >= min(3, len(split(text)) // 3)


@pytest.mark.parametrize("name", PIPELINES)
async def test_a_pages_machinery_is_not_quoted(name: str) -> None:
    """Code, tables and pictures stay out, a sentence over several lines stays whole, and inline code shows as code."""
    said, result, _ = await quotes(name, *TEXTS["markdown"])
    assert not [one for one in said if re.search(r"\||gauge\.(?:png|read|close)|Gauge\(", one)]
    assert all(one.endswith(".") for one in said)
    assert "\\`" not in result.model_dump_json()


@pytest.mark.parametrize("shape", ["german", "japanese", "arabic"])
async def test_no_english_is_put_around_another_language(shape: str) -> None:
    """A text in another language is its sources' words alone, and so are its headings."""
    topic, text = TEXTS[shape]
    result = await content.content(
        Context(Recorder()), content.ContentInput(topic=topic, sources=[text], tone="formal")
    )
    assert not re.search(r"\b(?:the|of|and|this|given)\b", result.markdown.lower())
    framed = await content.content(Context(Recorder()), content.ContentInput(topic="sea", sources=[ONE], tone="formal"))
    assert "drawn entirely from one text" in framed.markdown


async def test_an_outline_has_no_more_sections_than_were_asked_for() -> None:
    """Also where the text would give more."""
    for most in (1, 2, 3):
        outline = load().get("autopilot")
        asked = {"topic": "the blue carbuncle", "documents": [read(WORKS[3]), MARKDOWN], "max_sections": most}
        result = await outline(Context(Recorder()), outline.input_type.validate_python(asked))
        assert len(result.outline) <= most
        assert result.stats["sections"] == len(result.outline)


async def test_a_text_that_was_pasted_twice_answers_once() -> None:
    """The agent does not give the same sentence as two passages."""
    said, _, _ = await quotes("agent", "the tides", f"{ONE}\n\n" * 3)
    assert said == [ONE]


@pytest.mark.parametrize("width", [60, 90, 120, 180, 10_000])
def test_sentences_do_not_depend_on_where_lines_are_broken(width: int) -> None:
    """A real chapter, wrapped at any width, has the same sentences."""
    paragraphs = [flat(part) for part in re.split(r"\n\s*\n", read(WORKS[2])) if len(part) > 400][:20]
    text = "\n\n".join(wrapped(one, width) for one in paragraphs)
    assert [one.text for one in split(text)] == [one.text for one in split("\n\n".join(paragraphs))]


def wrapped(text: str, width: int) -> str:
    lines, line = list[str](), ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = ""
        line += f" {word}" if line else word
    return "\n".join([*lines, line])
