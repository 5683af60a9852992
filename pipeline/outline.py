"""From documents to an outline, and from an outline to what each section is to be written from.

Rule 1: a point of an outline is a sentence of a document, word for word; a point that is in none is left out.
Rule 2: no sentence stands in two sections.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import chain

from pydantic import BaseModel, Field

from pipeline.calling import Writer, ask
from pipeline.context import Context
from pipeline.models import Request, Source
from pipeline.models.chat import Chat, chosen
from pipeline.models.extractive import Extractive, quotable
from pipeline.models.rank import term, terms, topic_weights
from pipeline.models.sentences import Sentence, flat, joined, split, words
from pipeline.prompting import prompt

MOST_CHOICE = 300  # sentences that a model is given to choose from
SECTION_WORDS = 110  # of points: about five sentences
_ESCAPED = re.compile(r"\\([^\w\s])")


class Point(BaseModel):
    """A sentence of the document with the key `source`."""

    text: str = Field(min_length=1, max_length=1_000)
    source: str = Field(max_length=80)


class Section(BaseModel):
    """What one part of the text is about."""

    heading: str = Field(min_length=1, max_length=200)
    points: list[Point] = Field(min_length=1, max_length=60)


@dataclass(frozen=True)
class Hits:
    """What a search in one document found: sentences that share a word with the topic, and those worth quoting."""

    source: Source
    sentences: int
    hits: int
    verified: tuple[Sentence, ...]


@dataclass(frozen=True)
class Strategy:
    """How the text is to be made: from which documents, most telling first, about what, in how many sections."""

    sources: tuple[Source, ...]
    subjects: tuple[str, ...]
    sections: int


def search(topic: str, source: Source) -> Hits:
    """Look for a topic in one document. A hit is verified when it reads as a sentence and stands there once."""
    sentences = split(source.text)
    weights = topic_weights(topic, {one for sentence in sentences for one in terms(sentence.text)})
    found = [sentence for sentence in sentences if any(one in weights for one in terms(sentence.text))]
    document, seen, verified = flat(source.text), set[str](), list[Sentence]()
    for sentence in found:
        text = flat(sentence.text)
        if quotable(sentence) and text in document and text not in seen:
            seen.add(text)
            verified.append(sentence)
    return Hits(source, len(sentences), len(found), tuple(verified))


def plan(topic: str, found: Sequence[Hits], *, most: int) -> Strategy:
    """Documents by their hits (all of them when none has any), the words that go with the topic, and the sections."""
    having = sorted((one for one in found if one.verified), key=lambda one: -len(one.verified))
    used = having or list(found)
    own = {*terms(topic), *(term(word) for word in words(topic))}
    together = Counter(
        one
        for hits in having
        for sentence in hits.verified
        for one in set(terms(sentence.text)) - own
        if not one.isdigit()
    )
    subjects = tuple(one for one, count in together.most_common(6) if count > 1)
    sentences = sum(len(one.verified) for one in having) or sum(one.sentences for one in found)
    # The order of the documents is the reader's own; only the choice depends on the search.
    kept = {one.source.key for one in used}
    sources = tuple(one.source for one in found if one.source.key in kept)
    return Strategy(sources, subjects, max(1, min(most, round(sentences / 4))))


async def outline(ctx: Context, topic: str, strategy: Strategy, found: Sequence[Hits]) -> list[Section]:
    """The sections with their points. Raises Rejected when the documents hold nothing that can be quoted."""
    if (chat := chosen()) is not None and (choice := _choice(strategy, found)):
        return await _asked(ctx, chat, topic, strategy, choice)
    request = Request(
        topic=topic, sources=strategy.sources, tone="concise", max_words=max(60, SECTION_WORDS * strategy.sections)
    )
    names, points = list[str](), list[list[Point]]()
    text = prompt("generator.md.j2", **vars(request))
    async with aclosing(Writer(ctx, Extractive()).write(text, request)) as pieces:
        async for piece in pieces:
            if piece.text.startswith("## "):
                names.append(_ESCAPED.sub(r"\1", flat(piece.text[3:])))
                points.append([])
            points[-1] += [Point(text=claim.quote, source=claim.key) for claim in piece.claims]
    while len(points) > strategy.sections:
        at = min(range(len(points) - 1), key=lambda at: len(points[at]) + len(points[at + 1]))
        points[at] += points.pop(at + 1)
        del names[at + 1]
    return [Section(heading=name, points=held) for name, held in zip(names, points, strict=True) if held]


class PlannedSection(BaseModel):
    heading: str = Field(min_length=1, max_length=200)
    points: list[str] = Field(min_length=1, max_length=20, description="Numbers of sentences, in a good order.")


class Plan(BaseModel):
    """What a model answers when it is asked for an outline."""

    sections: list[PlannedSection] = Field(min_length=1, max_length=12)


def _choice(strategy: Strategy, found: Sequence[Hits]) -> dict[str, Point]:
    """The sentences that a model may choose from, by number, `2.7` being one of document 2; evenly of all documents."""
    texts = {one.source.key: [each.text for each in one.verified] for one in found}
    if not any(texts.values()):
        texts = {one.key: [each.text for each in split(one.text) if quotable(each)] for one in strategy.sources}
    points = [
        [(f"{key}.{at}", Point(text=flat(text), source=key)) for at, text in enumerate(held, 1) if len(text) <= 1_000]
        for key, held in texts.items()
        if key in {one.key for one in strategy.sources}
    ]
    share = MOST_CHOICE // max(len(points), 1)
    return dict(chain.from_iterable(held[:: max(1, -(-len(held) // share))] for held in points))


async def _asked(ctx: Context, chat: Chat, topic: str, strategy: Strategy, choice: dict[str, Point]) -> list[Section]:
    """The outline by a model: it orders and names, the points are the documents' own."""

    def wrong(plan: Plan) -> list[str]:
        named = [number for section in plan.sections for number in section.points]
        faults = [f"There is no sentence {number}." for number in named if number not in choice]
        faults += [f"Sentence {number} is used twice." for number in set(named) if named.count(number) > 1]
        if len(plan.sections) > strategy.sections:
            faults.append(f"There are {len(plan.sections)} sections; at most {strategy.sections} are wanted.")
        return faults

    text = prompt("outline.md.j2", topic=topic, sections=strategy.sections, choice=choice, sources=strategy.sources)
    plan = await ask(ctx, chat, text, Plan, wrong=wrong)
    return [
        Section(heading=flat(section.heading), points=[choice[number] for number in section.points])
        for section in plan.sections
    ]


def supported(sections: Sequence[Section], sources: Sequence[Source]) -> tuple[list[Section], list[Point]]:
    """The sections with the points that stand in their documents, and the points that do not."""
    texts = {source.key: flat(source.text) for source in sources}
    kept, lost = list[Section](), list[Point]()
    for section in sections:
        there = [point for point in section.points if flat(point.text) in texts.get(point.source, "")]
        lost += [point for point in section.points if point not in there]
        if there:
            kept.append(Section(heading=section.heading, points=there))
    return kept, lost


def passages(sections: Sequence[Section], sources: Sequence[Source], *, most: int) -> list[tuple[Source, ...]]:
    """For each section its points, each with the sentences that follow it in its paragraph, of about `most` words.

    Points come before what follows them: every section first gets all of its own, then grows.
    """
    where = {source.key: split(source.text, number) for number, source in enumerate(sources)}
    at = {key: {flat(one.text): one.index for one in reversed(found)} for key, found in where.items()}
    taken = {(point.source, at[point.source].get(flat(point.text), -1)) for one in sections for point in one.points}
    names = {source.key: source.name for source in sources}
    result = []
    for section in sections:
        left = most - sum(len(words(point.text)) for point in section.points)
        runs: list[tuple[str, list[str]]] = []
        last: tuple[str, int, int] | None = None
        for point in section.points:
            texts, index = [flat(point.text)], at[point.source].get(flat(point.text), -1)
            start = (point.source, where[point.source][index].paragraph, index) if index >= 0 else None
            for following in _following(where[point.source], index):
                count = len(words(following.text))
                if count > left or (point.source, following.index) in taken:
                    break
                taken.add((point.source, following.index))
                texts.append(following.text)
                left -= count
            # Points that follow one another in their document stay one paragraph.
            if start is not None and start == last:
                runs[-1][1].extend(texts)
            else:
                runs.append((point.source, texts))
            last = (*start[:2], index + len(texts)) if start else None
        result.append(_joined(runs, names))
    return result


def _following(sentences: Sequence[Sentence], index: int) -> list[Sentence]:
    """At most two sentences after this one, in its paragraph."""
    if index < 0:
        return []
    after = sentences[index + 1 : index + 3]
    return [one for one in after if one.paragraph == sentences[index].paragraph and quotable(one)]


def _joined(runs: Sequence[tuple[str, list[str]]], names: dict[str, str]) -> tuple[Source, ...]:
    """One source for each stretch of runs from the same document, a paragraph for each run."""
    made: list[Source] = []
    for key, texts in runs:
        text = joined(texts) if len(texts) == 1 else " ".join(texts)
        if made and made[-1].key == key:
            made[-1] = Source(key, names[key], f"{made[-1].text}\n\n{text}")
        else:
            made.append(Source(key, names[key], text))
    return tuple(made)
