"""What is wrong with a channel's copy, whoever wrote it: the templates, a model, or a person who edited it.

Rule 1: copy goes in with its brief and sources, findings come out; nothing is put right here.
Rule 2: a check that could not be made is a finding that is not `ok`.
"""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from pipeline.copywriting import LIMITS, Channel, Copy, frame_terms
from pipeline.documents import plural
from pipeline.facts import names
from pipeline.models import Source
from pipeline.models.rank import terms
from pipeline.models.sentences import flat

_ESCAPED = re.compile(r"\\([^\w\s])")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


class Finding(BaseModel):
    """One check of one channel's copy and what it showed."""

    check: Literal["length", "product", "claims", "call_to_action"]
    ok: bool
    message: str


class Review(BaseModel):
    """`channels` holds each channel's four findings; `reservations` are sentences of the sources to weigh."""

    passed: bool
    channels: dict[Channel, list[Finding]]
    reservations: list[str] = []


def review(channel: Channel, copy: Copy, *, product: str, audience: str, sources: Sequence[Source]) -> list[Finding]:
    """The four findings. Without sources the claims cannot be checked, and are said not to be."""
    return [
        _length(channel, copy),
        _product(copy, product),
        _claims(copy, product, audience, sources),
        _call(channel, copy),
    ]


def _finding(check: Literal["length", "product", "claims", "call_to_action"], wrong: str, right: str) -> Finding:
    return Finding(check=check, ok=not wrong, message=wrong or right)


def _length(channel: Channel, copy: Copy) -> Finding:
    parts = copy.parts()
    lengths = {part: (len(parts.get(part, "")), most) for part, most in LIMITS[channel].items()}
    wrong = [
        f"The {part} has {count:,} characters; {most:,} are the most." if count else f"The {part} is missing."
        for part, (count, most) in lengths.items()
        if not 0 < count <= most
    ]
    right = ", ".join(f"{part} {count:,} of {most:,}" for part, (count, most) in lengths.items())
    return _finding("length", " ".join(wrong), f"Characters: {right}.")


def _product(copy: Copy, product: str) -> Finding:
    naming = [part for part, text in copy.parts().items() if names(product, text)]
    return _finding(
        "product", "" if naming else f"{product} is not named.", f"{product} is named in: {', '.join(naming)}."
    )


def _claims(copy: Copy, product: str, audience: str, sources: Sequence[Source]) -> Finding:
    if not sources:
        return _finding("claims", "Not checked: no sources were given.", "")
    texts = {source.key: flat(source.text) for source in sources}
    shown = flat(_plain(" \n ".join(copy.parts().values())))
    wrong = [
        f"Source [{claim.key}] does not say: “{claim.quote[:120]}”."
        for claim in copy.claims
        if not claim.quote or flat(claim.quote) not in texts.get(claim.key, "")
    ]
    wrong += [
        f"The copy no longer says: “{claim.quote[:120]}”."
        for claim in copy.claims
        if claim.repeated and flat(_plain(claim.quote)).casefold() not in shown.casefold()
    ]
    if foreign := _foreign(copy, shown, product, audience, sources):
        wrong.append(f"No source has: {', '.join(foreign[:8])}.")
    count = len(copy.claims)
    how = "word for word from the sources" if all(one.repeated for one in copy.claims) else "which the sources have"
    right = f"{plural(count, 'claim')}, {how}." if count else "Nothing is claimed."
    return _finding("claims", " ".join(wrong), right)


def _foreign(copy: Copy, shown: str, product: str, audience: str, sources: Sequence[Source]) -> list[str]:
    """Telling words and numbers that are neither quoted nor known from brief, sources or templates.

    Of a copy that says what it claims in its own words only the numbers: its words are bound to be others.
    """
    own = shown
    for claim in sorted(copy.claims, key=lambda claim: -len(claim.quote)):
        own = own.replace(flat(_plain(claim.quote)), " ")
    known = " ".join([product, audience, copy.call_to_action, *(source.text for source in sources)])
    # A hashtag joins the product's words.
    vocabulary = {*frame_terms(), *terms(known), "".join(re.findall(r"\w+", product.lower()))}
    tags = {word.casefold() for word in re.findall(r"#(\w+)", own)}
    found = [one for one in terms(own) if one not in vocabulary and one not in tags]
    if not all(claim.repeated for claim in copy.claims):
        found = []
    return list(dict.fromkeys([*found, *foreign_numbers(own, known)]))


def foreign_numbers(text: str, known: str) -> list[str]:
    """Numbers that a text has and what is known has not."""
    numbers = set(_NUMBER.findall(known))
    return [one for one in _NUMBER.findall(text) if one not in numbers]


def _call(channel: Channel, copy: Copy) -> Finding:
    call = flat(copy.call_to_action)
    there = bool(call) and (channel == "ad" or call in flat(_plain(copy.body)))
    wrong = "" if there else f"The body lacks the call to action: {call}" if call else "There is no call to action."
    return _finding("call_to_action", wrong, f"There: {call}")


def _plain(text: str) -> str:
    """The text without Markdown's backslashes."""
    return _ESCAPED.sub(r"\1", text)
