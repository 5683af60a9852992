"""Several blocks of one text, written side by side and streamed as they grow.

Rule 1: whatever happens, a block that has begun is ended with `done`, unless the run itself ends.
Rule 2: no quotation stands in a finished block that is not word for word in its source.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel

from pipeline.checking import check
from pipeline.context import Context
from pipeline.documents import plural
from pipeline.errors import BudgetExceeded, PipelineError, StagesFailed
from pipeline.models import Claim, Request, Source, TextModel
from pipeline.models.extractive import escape
from pipeline.outline import Section

_log = logging.getLogger(__name__)


class BlockCitation(BaseModel):
    """`quote` stands in the document `key`, named `source`, and in the block."""

    block: str
    key: str
    source: str
    quote: str


class FailedBlock(BaseModel):
    """A section that is missing from the text, and why."""

    block: str
    heading: str
    reason: str


class Blocks:
    """The blocks of one run while they are written side by side, each by a task of its own.

    `parts` are what each section is written from, `words` the most that each may have.
    """

    def __init__(
        self,
        ctx: Context,
        *,
        topic: str,
        sections: Sequence[Section],
        parts: Sequence[tuple[Source, ...]],
        words: int,
        model: TextModel,
        pace_s: float,
    ) -> None:
        self.blocks: dict[str, str] = {}
        self.citations: list[BlockCitation] = []
        self.failed: list[FailedBlock] = []
        self._ctx, self._topic, self._words = ctx, topic, words
        self._model, self._pace_s = model, pace_s
        self._sections = {f"section-{number}": one for number, one in enumerate(sections, 1)}
        self._parts = dict(zip(self._sections, parts, strict=True))
        self._claims: dict[str, list[Claim]] = {}
        self._ended = 0

    async def run(self) -> None:
        """Write all blocks. Raises StagesFailed when none could be written."""
        try:
            async with asyncio.TaskGroup() as group:
                for block in self._sections:
                    group.create_task(self._one(block))
        except BaseExceptionGroup as several:
            # What ends a run must reach it as itself; the others were cancelled for its sake.
            raise several.exceptions[0] from None
        if len(self.failed) == len(self._sections):
            raise StagesFailed("No section could be written. " + " ".join(one.reason for one in self.failed[:3]))
        # Blocks end in any order; readers want that of the outline.
        self.blocks = {block: self.blocks[block] for block in self._sections if block in self.blocks}
        for block in self.blocks:
            names = {source.key: source.name for source in self._parts[block]}
            for claim in self._claims[block]:
                self.citations.append(
                    BlockCitation(block=block, key=claim.key, source=names[claim.key], quote=claim.quote)
                )

    async def _one(self, block: str) -> None:
        try:
            await self._write(block)
        except BudgetExceeded:
            raise
        except PipelineError as error:
            await self._without(block, str(error))
        except Exception:  # noqa: BLE001 - what a model stumbles over costs its block, not the text
            _log.exception("block %s failed", block)
            await self._without(block, "An unexpected error; the server's log has it.")
        self._ended += 1
        done = 15 + 80 * self._ended / len(self._sections)
        await self._ctx.progress(round(done), f"{self._ended} of {plural(len(self._sections), 'section')} ended")

    async def _write(self, block: str) -> None:
        section, sources = self._sections[block], self._parts[block]
        request = Request(topic=self._topic, sources=sources, tone="concise", format="summary", max_words=self._words)
        prompt = _prompts().get_template("section.md.j2").render(heading=section.heading, **vars(request))
        names = {source.key: source.name for source in sources}
        heading, body, claims = f"## {escape(section.heading)}\n\n", "", list[Claim]()
        await self._ctx.delta(block, heading)
        async with aclosing(self._model.write(prompt, request)) as pieces:
            async for piece in pieces:
                await self._ctx.checkpoint()
                body += piece.text
                claims += piece.claims
                cites = [{"key": claim.key, "source": names.get(claim.key, "")} for claim in piece.claims]
                await self._ctx.delta(block, piece.text, cites=cites or None)
                await asyncio.sleep(self._pace_s)
        for failure in await self._ctx.in_thread(check, body, claims, _together(request)):
            # A text of the wrong length is still one; a quotation that is none must not stand in a result.
            if failure.code.startswith("claim.") or failure.code == "text.empty":
                raise StagesFailed(failure.message)
            if failure.code != "topic.missing":  # a section may be about a part of the topic only
                await self._ctx.warning(failure.code, f"{section.heading}: {failure.message}")
        await self._ctx.delta(block, "", done=True)
        self.blocks[block] = heading + body.strip()
        self._claims[block] = claims

    async def _without(self, block: str, reason: str) -> None:
        heading = self._sections[block].heading
        self.failed.append(FailedBlock(block=block, heading=heading, reason=reason))
        await self._ctx.warning("block.failed", f"“{heading}” is left out: {reason}")
        await self._ctx.delta(block, "", done=True)


def _together(request: Request) -> Request:
    """The request with one source for each key, as checks look them up."""
    texts: dict[str, Source] = {}
    for one in request.sources:
        before = texts[one.key].text + "\n\n" if one.key in texts else ""
        texts[one.key] = replace(one, text=before + one.text)
    return replace(request, sources=tuple(texts.values()))


@lru_cache(maxsize=1)
def _prompts() -> Environment:
    # Markdown and plain prompts, not HTML.
    return Environment(loader=PackageLoader("pipeline", "prompts"), autoescape=False, undefined=StrictUndefined)  # nosec B701 # noqa: S701 - see above
