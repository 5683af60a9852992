"""The built-in pipeline `content`: from source texts to an article, a summary or bullets, every sentence cited.

Rule 1: which model writes is decided elsewhere (`MODEL` offline, `pipeline.models.choosing`); this holds for any.
Rule 2: a text that fails its checks is never a result: it is written again, at most twice, then the run fails.
"""

import asyncio
import json
import re
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from jinja2 import Environment
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from pipeline.calling import Writer
from pipeline.checking import check, count_words, mentions
from pipeline.context import Context, Stage
from pipeline.errors import Interrupted, Rejected, StagesFailed
from pipeline.models import Claim, Failure, Format, Request, Source, TextModel, Tone
from pipeline.models.extractive import Extractive, escape
from pipeline.models.sentences import flat
from pipeline.prompting import prompts as load_prompts
from pipeline.registry import pipeline

PACE_S = 0.04  # between phrases, so that a reader sees the draft grow and can stop it
RETRIES = 2
STAGES: Final = ("load_prompts", "generator", "formatter", "validator", "retry", "done")
MODEL: TextModel = Extractive()

MOST_SOURCES_CHARS = 500_000
MOST_DRAFT_BYTES = 60_000  # an event carries 64 KiB with its other fields
_TITLE_WORDS = 12
_NAME_WORDS = 8


class ContentInput(BaseModel):
    """What to write, and from what."""

    model_config = ConfigDict(extra="forbid", title="Content")

    topic: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)] = Field(
        title="Topic", description="What the text is about; the sources should mention it."
    )
    sources: list[Annotated[str, StringConstraints(max_length=200_000)]] = Field(
        default_factory=list,
        max_length=20,
        title="Sources",
        description="Texts to draw on, at least one. Plain text or Markdown; every sentence written comes from them.",
        json_schema_extra={"x-widget": "textarea"},
    )
    tone: Tone = Field(
        default="neutral", title="Tone", description="How the text introduces itself; concise leaves the frame out."
    )
    format: Format = Field(
        default="article", title="Format", description="Sections with headings, a few paragraphs, or a list."
    )
    max_words: int = Field(
        default=400, ge=30, le=5000, title="Longest", description="The most words that the whole text may have."
    )

    @field_validator("sources")
    @classmethod
    def _together(cls, sources: list[str]) -> list[str]:
        if sum(map(len, sources)) > MOST_SOURCES_CHARS:
            raise ValueError(f"the sources together may have at most {MOST_SOURCES_CHARS:,} characters")
        return sources


class Citation(BaseModel):
    """`quote` stands in the source that the text cites as `[key]`, but for white space."""

    key: str
    source: str
    quote: str


class Content(BaseModel):
    """A finished text. `words` counts the Markdown without marks; citations are in the order of the text."""

    title: str
    markdown: str
    words: int
    citations: list[Citation]


@dataclass
class Draft:
    """A body as it grows; `broken` when its provider failed before the end."""

    body: str = ""
    claims: list[Claim] = field(default_factory=list)
    broken: Interrupted | None = None


@pipeline("content")
async def content(ctx: Context, input: ContentInput) -> Content:
    """Write an article, a summary or bullets about a topic from source texts, with a citation for every sentence."""
    sources = tuple(
        Source(str(number), _name(number, text), text)
        for number, text in enumerate((text for text in input.sources if text.strip()), 1)
    )
    if not sources:
        raise Rejected("Content is written from sources: give at least one text that says something about the topic.")
    async with _stage(ctx, "load_prompts"):
        prompts = await ctx.in_thread(load_prompts)
        await ctx.progress(10, "Prompts loaded")
    if not await ctx.in_thread(mentions, input.topic, [source.text for source in sources]):
        await ctx.warning("topic.not_in_sources", f"No source mentions “{flat(input.topic)}”; this is their gist.")
    title = _title(input)
    request = Request(
        topic=input.topic,
        sources=sources,
        tone=input.tone,
        format=input.format,
        max_words=input.max_words - count_words(title) - _listing_words(sources, input.max_words),
    )
    async with _stage(ctx, "generator"):
        await ctx.progress(30, f"Reading {len(sources)} source" + "s"[: len(sources) > 1])
        draft = await _write(ctx, prompts, request, block="body", low=30, high=50)
        await ctx.draft(_clip(draft.body), message="First draft", progress=50)
    async with _stage(ctx, "formatter"):
        markdown = _document(prompts, title, draft, request, input.max_words)
        await ctx.progress(60, "Formatted")
    async with _stage(ctx, "validator"):
        request = await _judged(ctx, draft, request)
        await ctx.progress(80, "Checked: " + (f"{len(request.failures)} to put right" if request.failures else "good"))
    if request.failures:
        async with _stage(ctx, "retry"):
            draft = await _again(ctx, prompts, request)
            markdown = _document(prompts, title, draft, request, input.max_words)
    async with _stage(ctx, "done"):
        await ctx.checkpoint()
        await ctx.progress(100, "Done", stats={"words": count_words(markdown), "citations": len(draft.claims)})
    names = {source.key: source.name for source in sources}
    citations = [Citation(key=claim.key, source=names[claim.key], quote=claim.quote) for claim in draft.claims]
    return Content(title=flat(input.topic), markdown=markdown, words=count_words(markdown), citations=citations)


async def _again(ctx: Context, prompts: Environment, request: Request) -> Draft:
    """Write until nothing fails. Raises StagesFailed after RETRIES attempts."""
    for attempt in range(RETRIES):
        low = 85 + attempt * 10 / RETRIES
        await ctx.progress(low, f"Writing again ({attempt + 1} of {RETRIES}): {request.failures[0].message}")
        # A block only grows: every attempt has its own.
        draft = await _write(ctx, prompts, request, block=f"body-{attempt + 2}", low=low, high=low + 10 / RETRIES)
        await ctx.draft(_clip(draft.body), message=f"Attempt {attempt + 2}")
        request = await _judged(ctx, draft, request)
        if not request.failures:
            return draft
    if draft.broken:
        raise draft.broken
    reasons = " ".join(failure.message for failure in request.failures[:3])
    raise StagesFailed(f"No text passed its checks after {RETRIES + 1} attempts. {reasons}")


async def _judged(ctx: Context, draft: Draft, request: Request) -> Request:
    """The request with what is wrong with its draft, which is warned of."""
    if draft.broken:
        failures = [Failure("provider.interrupted", str(draft.broken))]
    else:
        failures = await ctx.in_thread(check, draft.body, draft.claims, request)
    for failure in failures:
        await ctx.warning(failure.code, failure.message)
    return replace(request, failures=tuple(failures))


async def _write(ctx: Context, prompts: Environment, request: Request, *, block: str, low: float, high: float) -> Draft:
    """Stream a body into a block, with progress from low to high as it nears its length."""
    prompt = prompts.get_template("generator.md.j2").render(**vars(request))
    names = {source.key: source.name for source in request.sources}
    draft, shown, count = Draft(), low, 0
    writer = Writer(ctx, MODEL)
    try:
        async with aclosing(writer.write(prompt, request)) as pieces:
            async for piece in pieces:
                await ctx.checkpoint()
                draft.body += piece.text
                draft.claims += piece.claims
                count += len(piece.text.split())
                cites = [{"key": claim.key, "source": names.get(claim.key, "")} for claim in piece.claims]
                await ctx.delta(block, piece.text, cites=cites or None)
                reached = round(low + (high - low) * min(count / request.max_words, 1))
                if reached > shown:
                    shown = reached
                    await ctx.progress(reached, "Writing", stats={"words": count})
                if writer.at_leisure:
                    await asyncio.sleep(PACE_S)
    except Interrupted as error:
        draft.broken = error
    await ctx.delta(block, "", done=True)
    return draft


def _stage(ctx: Context, name: str) -> Stage:
    return ctx.stage(name, index=STAGES.index(name) + 1, of=len(STAGES))


def _document(prompts: Environment, title: str, draft: Draft, request: Request, max_words: int) -> str:
    """The whole Markdown: title, body, and the sources cited when there is room for their names."""
    body = re.sub(r"\n{3,}", "\n\n", draft.body).strip()
    cited = {claim.key for claim in draft.claims}
    listed = [replace(one, name=escape(one.name)) for one in request.sources if one.key in cited]
    template = prompts.get_template("document.md.j2")
    whole = template.render(title=title, body=body, sources=listed).strip() + "\n"
    if count_words(whole) <= max_words:
        return whole
    return template.render(title=title, body=body, sources=[]).strip() + "\n"


def _title(input: ContentInput) -> str:
    return escape(_first(flat(input.topic), min(_TITLE_WORDS, input.max_words // 4)))


def _listing_words(sources: tuple[Source, ...], max_words: int) -> int:
    """What the list of sources takes; none when that were more than a fifth of the text."""
    needed = 1 + sum(count_words(source.name) for source in sources)
    return needed if needed * 5 <= max_words else 0


def _name(number: int, text: str) -> str:
    """A source by its first line, which most often is its title."""
    line = next((flat(line) for line in text.lstrip("\ufeff").splitlines() if count_words(line)), "")
    line = line.strip("#*_= ")
    return f"Source {number}: {_first(line, _NAME_WORDS)}"


def _first(text: str, most: int) -> str:
    kept = " ".join(text.split()[:most])[:120]
    return kept if kept == text else kept.rstrip(" .,;:") + "…"


def _clip(text: str) -> str:
    while len(json.dumps(text, ensure_ascii=False).encode()) > MOST_DRAFT_BYTES:
        text = text[: len(text) * 9 // 10].rstrip() + "…"
    return text
