"""The built-in pipelines `autopilot` and `generation`: from documents to an outline, from an outline to a text.

Rule 1: what the one gives the other takes: `doc_id` and `outline` go from a result into the next input as they are.
Rule 2: blocks are written side by side; one that fails is ended and left out with a warning, all failing fails the run.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final
from uuid import NAMESPACE_URL, uuid4, uuid5

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pipeline.blocks import BlockCitation, Blocks, FailedBlock
from pipeline.checking import count_words, mentions
from pipeline.context import Context
from pipeline.documents import Documents, as_sources, plural
from pipeline.errors import Rejected
from pipeline.models import Source, TextModel
from pipeline.models.extractive import escape
from pipeline.models.passages import Passages
from pipeline.models.sentences import flat
from pipeline.outline import Hits, Section, outline, passages, plan, search, supported
from pipeline.registry import pipeline

PACE_S = 0.05  # between phrases and points, so that a reader sees the text grow and can stop it
MODEL: TextModel = Passages()
AUTOPILOT: Final = ("search", "strategy", "outline", "done")
GENERATION: Final = ("prepare", "write", "done")

Topic = Annotated[str, StringConstraints(strip_whitespace=True, max_length=300)]
DocId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{0,128}$")]


class AutopilotInput(BaseModel):
    """What to look for, and where."""

    model_config = ConfigDict(extra="forbid", title="Autopilot")

    topic: Annotated[Topic, StringConstraints(min_length=1)] = Field(
        title="Topic", description="What the text will be about."
    )
    documents: Documents = Field(
        default_factory=list,
        title="Documents",
        description="Texts to search, at least one. Every point of the outline is a sentence of one of them.",
        json_schema_extra={"x-widget": "textarea"},
    )
    max_sections: int = Field(default=6, ge=1, le=12, title="Sections", description="The most that the outline has.")
    doc_id: DocId = Field(default="", title="Document id", description="Of the text to come; made if empty.")


class Outline(BaseModel):
    """`points` are sentences of `documents[source]`; `stats` {hits, verified, sections} is what the search came to."""

    doc_id: str
    topic: str
    outline: list[Section]
    documents: dict[str, str]
    stats: dict[str, int]


class GenerationInput(BaseModel):
    """An outline, or a topic and documents to make one from; with both, the outline's points are looked up."""

    model_config = ConfigDict(extra="forbid", title="Generation")

    topic: Topic = Field(default="", title="Topic", description="What the text is about.")
    documents: Documents = Field(
        default_factory=list,
        title="Documents",
        description="Texts to write from. With an outline they may be left out; then its points are all there is.",
        json_schema_extra={"x-widget": "textarea"},
    )
    outline: list[Section] = Field(
        default_factory=list, max_length=12, title="Outline", description="As autopilot gives it."
    )
    max_words: int = Field(default=900, ge=60, le=5000, title="Longest", description="The most words of the text.")
    doc_id: DocId = Field(default="", title="Document id", description="As autopilot gives it; made if empty.")

    @model_validator(mode="after")
    def _enough(self) -> "GenerationInput":
        if not self.outline and not self.topic:
            raise ValueError("give an outline, or a topic and documents")
        return self


class Generated(BaseModel):
    """The text by block, in the order of the outline, each beginning with its heading; `markdown` is all of it."""

    doc_id: str
    title: str
    blocks: dict[str, str]
    citations: list[BlockCitation]
    words: int
    failed: list[FailedBlock] = []
    markdown: str


@pipeline("autopilot")
async def autopilot(ctx: Context, input: AutopilotInput) -> Outline:
    """Search documents for a topic and plan a text: an outline whose every point is a sentence of a document."""
    sources = _documents(input.documents)
    stats = {"hits": 0, "verified": 0, "sections": 0}
    async with ctx.stage("search", index=1, of=len(AUTOPILOT)):
        found: list[Hits] = []
        for number, source in enumerate(sources):
            await ctx.checkpoint()
            found.append(await ctx.in_thread(search, input.topic, source))
            stats["hits"] += found[-1].hits
            stats["verified"] += len(found[-1].verified)
            await ctx.progress(
                round(5 + 35 * (number + 1) / len(sources)), f"Searched “{source.name}”", stats={**stats}
            )
            await asyncio.sleep(PACE_S)
        if not stats["verified"] and not mentions(input.topic, [source.text for source in sources]):
            await ctx.warning(
                "topic.not_in_documents", f"No document mentions “{flat(input.topic)}”; this is their gist."
            )
    async with ctx.stage("strategy", index=2, of=len(AUTOPILOT)):
        strategy = await ctx.in_thread(plan, input.topic, found, most=input.max_sections)
        lines = [f"At most {plural(strategy.sections, 'section')} from {plural(len(strategy.sources), 'document')}"]
        lines += [f"Goes with the topic: {', '.join(strategy.subjects)}"] if strategy.subjects else []
        lines += [f"- {one.source.name}: {plural(len(one.verified), 'passage')}" for one in found]
        await ctx.draft("\n".join(lines), message="Strategy")
        await ctx.progress(50, lines[0], stats={**stats})
    async with ctx.stage("outline", index=3, of=len(AUTOPILOT)):
        sections = await outline(ctx, input.topic, strategy, found)
        shown = f"# {flat(input.topic)}\n"
        for number, section in enumerate(sections):
            shown += f"\n## {section.heading}\n\n"
            for point in section.points:
                await ctx.checkpoint()
                shown += f"- {point.text} [{point.source}]\n"
                await ctx.draft(shown)
                await asyncio.sleep(PACE_S)
            stats["sections"] = number + 1
            await ctx.progress(round(50 + 45 * (number + 1) / len(sections)), section.heading, stats={**stats})
    async with ctx.stage("done", index=4, of=len(AUTOPILOT)):
        await ctx.checkpoint()
        await ctx.progress(100, "Outline ready", stats={**stats})
    return Outline(
        doc_id=_doc_id(ctx, input.doc_id),
        topic=flat(input.topic),
        outline=sections,
        documents={source.key: source.name for source in sources},
        stats=stats,
    )


@pipeline("generation")
async def generation(ctx: Context, input: GenerationInput) -> Generated:
    """Write a text from an outline, or from a topic and documents: several blocks at once, every sentence cited."""
    async with ctx.stage("prepare", index=1, of=len(GENERATION)):
        await ctx.progress(5, "Preparing the sections")
        sources, sections = await _prepared(ctx, input)
        title = flat(input.topic) or sections[0].heading
        per_block = input.max_words // len(sections) - 8  # a heading and what the marks cost
        parts = await ctx.in_thread(passages, sections, sources, most=per_block)
        await ctx.progress(15, plural(len(sections), "section"), stats={"sections": len(sections)})
    work = Blocks(
        ctx,
        topic=title,
        sections=sections,
        parts=parts,
        words=max(per_block, 20),
        model=MODEL,
        pace_s=PACE_S,
    )
    async with ctx.stage("write", index=2, of=len(GENERATION)):
        await work.run()
    async with ctx.stage("done", index=3, of=len(GENERATION)):
        markdown = f"# {escape(title)}\n\n" + "\n\n".join(work.blocks.values()) + "\n"
        stats = {"blocks": len(work.blocks), "words": count_words(markdown), "citations": len(work.citations)}
        await ctx.checkpoint()
        await ctx.progress(100, "Done", stats=stats)
    return Generated(
        doc_id=_doc_id(ctx, input.doc_id),
        title=title,
        blocks=work.blocks,
        citations=work.citations,
        words=count_words(markdown),
        failed=work.failed,
        markdown=markdown,
    )


async def _prepared(ctx: Context, input: GenerationInput) -> tuple[Sequence[Source], list[Section]]:
    """The documents and the sections to write. Raises Rejected when nothing is left to write from."""
    sources = as_sources(input.documents)
    if not input.outline:
        found = [await ctx.in_thread(search, input.topic, source) for source in _documents(input.documents)]
        strategy = await ctx.in_thread(plan, input.topic, found, most=max(1, min(6, input.max_words // 120)))
        return sources, await outline(ctx, input.topic, strategy, found)
    if not sources:
        points = [point for section in input.outline for point in section.points]
        return [
            Source(key, key, "\n\n".join(point.text for point in points if point.source == key))
            for key in dict.fromkeys(point.source for point in points)
        ], input.outline
    kept, lost = await ctx.in_thread(supported, input.outline, sources)
    for point in lost:
        await ctx.warning("point.not_in_documents", f"Left out, no document says: {flat(point.text)[:120]}")
    if not kept:
        raise Rejected("No point of the outline stands in the documents.")
    return sources, kept


def _documents(texts: Sequence[str]) -> tuple[Source, ...]:
    if sources := as_sources(texts):
        return sources
    raise Rejected("Give at least one document that says something about the topic.")


def _doc_id(ctx: Context, given: str) -> str:
    """The one given; otherwise one that the same run always gets."""
    if given or not ctx.run:
        return given or str(uuid4())
    return str(uuid5(NAMESPACE_URL, f"runcast:document:{ctx.run}"))
