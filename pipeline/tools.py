"""The tools of an agent: by name, each from its arguments and a `Desk` to a JSON object.

Rule 1: a tool that cannot do what it is asked raises `ToolFailed` with words that are safe to show.
Rule 2: no tool writes anything, runs anything, or reaches further than its arguments and the desk allow.
"""

import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pipeline.calculator import CannotCalculate, calculate
from pipeline.context import in_thread
from pipeline.fetching import Refused, fetch
from pipeline.models import Source
from pipeline.models.extractive import quotable
from pipeline.models.rank import term, terms, topic_weights
from pipeline.models.sentences import Sentence, ended, flat, split, word_set, words

MOST_PASSAGES = 3
MOST_SENTENCES = 4000
EXCERPT_CHARS = 600
_WEAK = word_set("find happen mention want explain describe called name know get use happened mentioned")
_ASKING = word_set("""
    wer wen wem was wann wo wohin warum wieso wie viel viele hoch lang welche welcher welches qui que quoi quand où
    pourquoi comment combien quel quelle quién qué cuándo dónde cómo cuánto cuántos cuál chi cosa quando dove perché
    quanto
""")
_WANTS = {
    "who": re.compile(r"(?<=\w )(?:[A-Z][a-z]+|[Ii])\b"),
    "when": re.compile(
        r"\d|\b(?:morning|evening|night|noon|day|week|month|year|o'clock|ago|spring|summer|autumn|winter)\b"
    ),
    "where": re.compile(r"\b(?:in|at|on|near|under|behind|from) (?:the |a )?[A-Z]?[a-z]+"),
    "why": re.compile(r"\b(?:because|since|therefore|for the reason|in order|so that)\b", re.IGNORECASE),
    "how many": re.compile(r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|thousand)\b"),
    "how much": re.compile(r"\d|\b(?:hundred|thousand|pounds|half)\b"),
}


class ToolFailed(Exception):
    """The message is safe to show."""


@dataclass
class Desk:
    """What the tools work on; a page that was fetched joins the documents."""

    documents: list[Source]
    allowed_hosts: tuple[str, ...] = ()


Tool = Callable[[Desk, dict[str, Any]], Awaitable[dict[str, Any]]]


async def calculator(desk: Desk, args: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 - tools have one shape
    """`{expression}` to `{value}`, both text."""
    try:
        return {"value": calculate(args["expression"])}
    except CannotCalculate as error:
        raise ToolFailed(str(error)) from None


async def word_count(desk: Desk, args: dict[str, Any]) -> dict[str, Any]:
    """`{text?, word?}` to `{count, parts?}`: of a text, otherwise of every document; of one word or of all."""
    word = args.get("word")

    def count(text: str) -> int:
        return sum(1 for one in words(text) if word is None or term(one) == term(word))

    if (text := args.get("text")) is not None:
        return {"count": count(text)}
    if not desk.documents:
        raise ToolFailed("There are no documents to count in.")
    parts = [{"key": one.key, "source": one.name, "count": await in_thread(count, one.text)} for one in desk.documents]
    return {"count": sum(int(str(part["count"])) for part in parts), "parts": parts}


async def search(desk: Desk, args: dict[str, Any]) -> dict[str, Any]:
    """`{query}` to `{passages: [{key, source, quote}], missing: [words that no document has]}`, the best first."""
    if not desk.documents:
        raise ToolFailed("There are no documents to search.")
    return await in_thread(_search, tuple(desk.documents), args["query"])


async def http_get(desk: Desk, args: dict[str, Any]) -> dict[str, Any]:
    """`{url}` to `{url, status, type, bytes, cut, key?, excerpt}`; a page with status 200 joins the documents."""
    try:
        page = await fetch(args["url"], desk.allowed_hosts)
    except Refused as error:
        raise ToolFailed(str(error)) from None
    told: dict[str, Any] = {"url": page.url, "status": page.status, "type": page.type, "bytes": page.size}
    if page.status == 200 and words(page.text):
        key = str(1 + max((int(one.key) for one in desk.documents), default=0))
        desk.documents.append(Source(key, page.url, page.text))
        told["key"] = key
    return {**told, "cut": page.cut, "excerpt": flat(page.text)[:EXCERPT_CHARS]}


TOOLS: dict[str, Tool] = {
    "calculator": calculator,
    "word_count": word_count,
    "search": search,
    "http_get": http_get,
}


def _search(documents: tuple[Source, ...], query: str) -> dict[str, Any]:
    sentences = [
        sentence for at, one in enumerate(documents) for sentence in split(one.text, at) if quotable(sentence)
    ][:MOST_SENTENCES]
    # What stands under a heading is about it.
    bags = [set(terms(f"{sentence.heading} {sentence.text}")) for sentence in sentences]
    spread = Counter(one for bag in bags for one in bag)
    wanted = {one: topic_weights(one, spread) for one in dict.fromkeys(terms(query))}
    rarity = {one: math.log((len(bags) + 1) / (found + 0.5)) for one, found in spread.items()}

    def score(sentence: Sentence, bag: set[str]) -> float:
        met = (
            max((near[one] * rarity[one] for one in near.keys() & bag), default=0.0) * (0.3 if word in _WEAK else 1)
            for word, near in wanted.items()
        )
        return sum(met) * _fitness(sentence, query)

    scores = [score(sentence, bag) for sentence, bag in zip(sentences, bags, strict=True)]
    # Who was named a sentence ago is often "he" in the next.
    near = [score + 0.25 * before for score, before in zip(scores, [0.0, *scores], strict=False)]
    order = sorted((at for at in range(len(near)) if scores[at] > 0), key=lambda at: (-near[at], at))
    once: dict[str, int] = {}
    for at in order:
        once.setdefault(sentences[at].text, at)
    best = [at for at in once.values() if near[at] >= 0.5 * near[order[0]]][:MOST_PASSAGES]
    passages = [
        {
            "key": documents[sentences[at].source].key,
            "source": documents[sentences[at].source].name,
            "quote": sentences[at].text[:EXCERPT_CHARS],
        }
        for at in best
    ]
    missing = [one for one, near in wanted.items() if not near and len(one) > 1 and one not in _ASKING]
    return {"passages": passages, "missing": missing}


def _fitness(sentence: Sentence, query: str) -> float:
    """How well a sentence could answer: one that holds what is asked for, whole, and neither a scrap nor a page."""
    count = len(words(sentence.text))
    fitness = 1.0 if 6 <= count <= 60 else 0.6
    if not ended(sentence.text) or sentence.text.rstrip("\"'”’").endswith("?"):
        fitness *= 0.6
    asked = next((sign for word, sign in _WANTS.items() if re.search(rf"\b{word}\b", query, re.IGNORECASE)), None)
    return fitness * (1.3 if asked is not None and asked.search(sentence.text) else 1.0)
