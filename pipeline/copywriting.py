"""One channel's copy from a brief and its facts.

Rule 1: what a copy says of the product is a piece of a source and is claimed; the lines around it come from the
templates in `prompts/campaign` and state nothing.
Rule 2: a copy keeps its channel's lengths or is not written at all.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, Literal, Protocol, get_args

from jinja2 import Environment, PackageLoader
from pydantic import BaseModel, Field

from pipeline.documents import plural
from pipeline.errors import StagesFailed
from pipeline.facts import Fact, capital, shortened
from pipeline.models import Request, Source
from pipeline.models.extractive import Extractive, escape
from pipeline.models.rank import terms
from pipeline.models.sentences import flat
from pipeline.prompting import environment

Channel = Literal["email", "landing_page", "social", "ad", "blog", "sms"]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)

# In characters. Beyond 60 a subject is cut off in most inboxes; 30 and 90 are a search ad's lines, 280 a short post,
# 160 one text message. The long forms' limits only keep them readable.
LIMITS: Final[dict[Channel, dict[str, int]]] = {
    "email": {"subject": 60, "preheader": 90, "body": 1_400},
    "landing_page": {"headline": 70, "subheadline": 160, "body": 3_000},
    "social": {"body": 280},
    "ad": {"headline": 30, "body": 90, "call_to_action": 40},
    "blog": {"headline": 80, "body": 6_000},
    "sms": {"body": 160},
}
MARKDOWN: Final = ("landing_page", "blog")
_MOST: Final = {"email": 5, "landing_page": 9, "social": 1, "ad": 1, "sms": 1}
_LEAST: Final = {"email": 1, "landing_page": 2, "blog": 3}
_SHORT: Final = {"social": 190, "ad": 90, "sms": 110}  # the one line that they have for a fact
_SECOND: Final = {"email": 90, "landing_page": 160}
_CALLS: Final = ("Learn more about {}.", "Take a closer look at {}.", "Find out more about {}.")
_BLOG_WORDS: Final = (420, 320, 260)
_MARK = re.compile(r" \[\d+\](?=\s*$)")
_BLANK = re.compile(r"\n{3,}")


class Cited(BaseModel):
    """`quote` stands in the source `key`, but for white space; `repeated`: the copy has it word for word."""

    key: str
    source: str
    quote: str
    repeated: bool = True


class Copy(BaseModel):
    """One channel's copy: what goes where. `body` ends with the call to action, but for an ad, whose button it is.

    `landing_page` and `blog` bodies are Markdown, the others plain text.
    """

    subject: str | None = None
    preheader: str | None = None
    headline: str | None = None
    subheadline: str | None = None
    body: str
    call_to_action: str
    characters: dict[str, int] = Field(default_factory=dict)
    claims: list[Cited] = Field(default_factory=list)
    variant: int = 0

    def parts(self) -> dict[str, str]:
        """The texts by name, in the order in which they are read."""
        held = {name: getattr(self, name) for name in ("subject", "preheader", "headline", "subheadline", "body")}
        return {name: text for name, text in held.items() if text} | {"call_to_action": self.call_to_action}


@dataclass(frozen=True, kw_only=True)
class Brief:
    """What every channel's copy is written from. Another `variant` leads with another fact, in other words.

    `message` is the concept's, once there is one.
    """

    product: str
    audience: str
    message: str = ""
    facts: tuple[Fact, ...]
    sources: tuple[Source, ...]
    call: str = ""
    variant: int = 0


class Copywriter(Protocol):
    """Writes one channel's copy. May raise any `PipelineError`; the campaign then goes on without the channel."""

    async def write(self, channel: Channel, brief: Brief) -> Copy: ...


class Templates:
    """The offline copywriter. Raises StagesFailed when the facts give no copy of the channel's shape and length."""

    async def write(self, channel: Channel, brief: Brief) -> Copy:
        least = _LEAST.get(channel, 0)
        if len(brief.facts) < least:
            raise StagesFailed(
                f"It takes {plural(least, 'fact')} about {brief.product}; the sources have {len(brief.facts)}."
            )
        if channel == "blog":
            return await _blog(brief)
        for led in _led(brief):
            for count in range(min(_MOST[channel], len(led.facts)), max(least, 1) - 1, -1):
                copy = _copy(channel, replace(led, facts=led.facts[:count]))
                if fits(channel, copy):
                    return copy
        copy = _copy(channel, replace(brief, facts=()))
        if least or not fits(channel, copy):
            raise StagesFailed(too_long(channel, copy))
        return copy


def fits(channel: Channel, copy: Copy) -> bool:
    """Whether every part is there and within the channel's limit."""
    return all(0 < copy.characters.get(part, 0) <= most for part, most in LIMITS[channel].items())


def counted(channel: Channel, copy: Copy) -> Copy:
    """The copy with its characters counted anew."""
    parts = copy.parts()
    return copy.model_copy(update={"characters": {part: len(parts.get(part, "")) for part in LIMITS[channel]}})


def headline(brief: Brief, most: int) -> tuple[str, list[Cited]]:
    """A line for the first fact that fits, of those that name the product if there are any.

    When none does: the product and whom it is for, which claims nothing.
    """
    product = capital(brief.product)
    both = f"{product} for {brief.audience}"
    named = [fact for fact in brief.facts if fact.named or fact.rests]
    for fact in named or (brief.facts if len(both) > most else ()):
        if told := shortened(fact, brief.product, most):
            return capital(told[0]), [Cited(key=fact.key, source=fact.source, quote=told[1])]
    return (both if len(both) <= most else product), []


def call_to_action(brief: Brief) -> str:
    """The brief's own, or one that only points to the product."""
    return flat(brief.call) or _CALLS[brief.variant % len(_CALLS)].format(brief.product)


def frame_terms() -> frozenset[str]:
    """Every word that the templates themselves may say."""
    loader = PackageLoader("pipeline", "prompts/campaign")
    written = [loader.get_source(templates(), name)[0] for name in loader.list_templates()]
    return frozenset(terms(" ".join([*_CALLS, *written])))


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The templates of campaigns; what is quoted in Markdown is escaped by `escape`."""
    return environment("prompts/campaign", trim_blocks=True)


def leads(facts: Sequence[Fact]) -> list[Fact]:
    """The facts that can be read first: those that name the product, then those that need nothing before them."""
    alone = [fact for fact in facts if not fact.rests]
    return [fact for fact in alone if fact.named] + [fact for fact in alone if not fact.named] or list(facts)


def _led(brief: Brief) -> Iterator[Brief]:
    """The brief with each fact that can stand alone put first, from the variant's on."""
    able = leads(brief.facts)
    for step in range(len(able)):
        first = able[(brief.variant + step) % len(able)]
        yield replace(brief, facts=(first, *(fact for fact in brief.facts if fact is not first)))


def _copy(channel: Channel, brief: Brief, *, article: str = "", claims: Sequence[Cited] = ()) -> Copy:
    said = list(claims)
    written = escape if channel in MARKDOWN else flat
    title, cited = headline(brief, LIMITS[channel].get("subject", LIMITS[channel].get("headline", 60)))
    said += cited if channel not in _SHORT else []
    other = tuple(fact for fact in brief.facts[1:] if all(one.quote not in flat(fact.quote) for one in cited))
    second, cited = headline(replace(brief, facts=other), _SECOND.get(channel, 60))
    said += cited if channel in _SECOND else []
    if not cited:
        second = f"For {brief.audience}: {call_to_action(brief)}"[: _SECOND.get(channel, 60)]
    line, cited = _line(brief, _SHORT.get(channel, 60))
    said += cited if channel in _SHORT else []
    if channel not in _SHORT:
        said += [Cited(key=fact.key, source=fact.source, quote=fact.quote) for fact in brief.facts]
    ours = [fact for fact in brief.facts[1:] if fact.audience]
    template = (
        templates()
        .get_template(f"{channel}.j2")
        .make_module(
            {
                "product": brief.product,
                "audience": brief.audience,
                "variant": brief.variant % 3,
                "call": call_to_action(brief),
                "title": title,
                "second": second,
                "line": line,
                "lead": written(brief.facts[0].quote) if brief.facts else "",
                "ours": [written(fact.quote) for fact in ours],
                "rest": [written(fact.quote) for fact in brief.facts[1:] if fact not in ours],
                "tag": _tag(brief.product),
                "article": article,
                "capital": capital,
                "escape": escape,
            }
        )
    )
    parts: dict[str, Any] = {
        name: str(text).strip() for name, text in vars(template).items() if name in Copy.model_fields
    }
    parts["body"] = _BLANK.sub("\n\n", parts["body"])
    copy = Copy(**{"call_to_action": call_to_action(brief), **parts}, claims=_distinct(said), variant=brief.variant)
    return counted(channel, copy)


def _line(brief: Brief, most: int) -> tuple[str, list[Cited]]:
    """The leading fact in one line; what `headline` gives when it does not fit."""
    told = shortened(brief.facts[0], brief.product, most) if brief.facts else None
    if told is None:
        return headline(brief, most)
    return capital(told[0]), [Cited(key=brief.facts[0].key, source=brief.facts[0].source, quote=told[1])]


async def _blog(brief: Brief) -> Copy:
    """An article of the sources' own sentences between two lines of ours."""
    led = next(_led(brief))
    request = Request(
        topic=f"{brief.product} {brief.audience if brief.variant % 2 == 0 else led.facts[0].quote}",
        sources=brief.sources,
        tone="concise",
        max_words=_BLOG_WORDS[brief.variant % len(_BLOG_WORDS)],
    )
    names = {source.key: source.name for source in brief.sources}
    text, claims = "", list[Cited]()
    async with aclosing(Extractive().write("", request)) as pieces:
        async for piece in pieces:
            # Readers of a blog see no marks; the claims tell where each sentence is from.
            text += _MARK.sub("", piece.text) if piece.claims else piece.text
            claims += [Cited(key=claim.key, source=names[claim.key], quote=claim.quote) for claim in piece.claims]
    copy = _copy("blog", replace(led, facts=led.facts[:1]), article=text.strip(), claims=claims)
    if not fits("blog", copy):
        raise StagesFailed(too_long("blog", copy))
    return copy


def _distinct(claims: Sequence[Cited]) -> list[Cited]:
    return list({(one.key, one.quote): one for one in claims}.values())


def too_long(channel: Channel, copy: Copy) -> str:
    """Which parts do not keep the channel's lengths, in words."""
    over = [
        f"{part} {copy.characters.get(part, 0)} of {most}"
        for part, most in LIMITS[channel].items()
        if not 0 < copy.characters.get(part, 0) <= most
    ]
    return f"No copy fits {channel}: " + (", ".join(over) or "no fact is short enough") + "."


def _tag(product: str) -> str:
    """A hashtag of the product's words; empty when it would be too long to read."""
    tag = "".join(capital(word) for word in re.findall(r"\w+", product) if word.lower() not in {"the", "a", "an"})
    return f"#{tag}" if 2 < len(tag) <= 30 and not tag.isdigit() else ""
