"""Several blocks of one text, written side by side and streamed as they grow.

Rule 1: whatever happens, a block that has begun is ended with `done`, unless the run itself ends.
Rule 2: no quotation stands in a finished block that is not word for word in its source.
Rule 3: a block only grows: a section that has to be written again, `section-2`, goes on as the block `section-2-2`.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

from pydantic import BaseModel

from pipeline.calling import Writer
from pipeline.checking import check
from pipeline.context import Context, side_by_side
from pipeline.documents import plural
from pipeline.errors import BudgetExceeded, Interrupted, PipelineError, StagesFailed, none_left
from pipeline.models import Claim, Failure, Request, Source, TextModel
from pipeline.models.extractive import escape
from pipeline.outline import Section
from pipeline.prompting import prompt

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
        self._writer, self._pace_s = Writer(ctx, model), pace_s
        self._errors: list[PipelineError] = []
        self._sections = {f"section-{number}": one for number, one in enumerate(sections, 1)}
        self._parts = dict(zip(self._sections, parts, strict=True))
        self._claims: dict[str, list[Claim]] = {}
        self._current: dict[str, str] = {}  # each section's latest block
        self._ended = 0

    async def run(self) -> None:
        """Write all blocks. Raises ProviderError, ProviderRefused or StagesFailed when none could be written."""
        await side_by_side(self._one(section) for section in self._sections)
        if len(self.failed) == len(self._sections):
            reasons = " ".join(dict.fromkeys(one.reason for one in self.failed[:3]))
            raise none_left(f"No section could be written. {reasons}", self._errors)
        # Blocks end in any order; readers want that of the outline.
        order = {self._current[one]: one for one in self._sections if self._current.get(one) in self.blocks}
        self.blocks = {block: self.blocks[block] for block in order}
        for block, section in order.items():
            names = {source.key: source.name for source in self._parts[section]}
            for claim in self._claims[block]:
                self.citations.append(
                    BlockCitation(block=block, key=claim.key, source=names[claim.key], quote=claim.quote)
                )

    async def _one(self, section: str) -> None:
        try:
            await self._section(section)
        except BudgetExceeded:
            raise
        except PipelineError as error:
            self._errors.append(error)
            await self._without(section, str(error))
        except Exception:  # noqa: BLE001 - what a model stumbles over costs its block, not the text
            _log.exception("block %s failed", section)
            await self._without(section, "An unexpected error; the server's log has it.")
        self._ended += 1
        done = 15 + 80 * self._ended / len(self._sections)
        await self._ctx.progress(round(done), f"{self._ended} of {plural(len(self._sections), 'section')} ended")

    async def _section(self, section: str) -> None:
        """Write a section, in one block or, where that may help, in another after it."""
        failures: tuple[Failure, ...] = ()
        for again in range(self._writer.rewrites + 1):
            block = f"{section}-{again + 1}" if again else section
            last = again == self._writer.rewrites
            try:
                failures = tuple(await self._write(section, block, failures))
            except Interrupted as error:
                if last:
                    raise
                failures = (Failure("provider.interrupted", str(error)),)
            if not failures:
                return
            if last:
                raise StagesFailed(failures[0].message)
            await self._ctx.delta(block, "", done=True)
            heading = self._sections[section].heading
            await self._ctx.warning("block.again", f"“{heading}” is written again: {failures[0].message}")

    async def _write(self, section: str, block: str, failures: tuple[Failure, ...]) -> list[Failure]:
        """Stream one block; what makes it unusable comes back."""
        self._current[section] = block
        heading, sources = self._sections[section].heading, self._parts[section]
        request = Request(
            topic=self._topic,
            sources=sources,
            tone="concise",
            format="summary",
            max_words=self._words,
            failures=failures,
        )
        names = {source.key: source.name for source in sources}
        head, body, claims = f"## {escape(heading)}\n\n", "", list[Claim]()
        await self._ctx.delta(block, head)
        text = prompt("section.md.j2", heading=heading, **vars(request))
        async with aclosing(self._writer.write(text, request)) as pieces:
            async for piece in pieces:
                await self._ctx.checkpoint()
                body += piece.text
                claims += piece.claims
                cites = [{"key": claim.key, "source": names.get(claim.key, "")} for claim in piece.claims]
                await self._ctx.delta(block, piece.text, cites=cites or None)
                if self._writer.at_leisure:
                    await asyncio.sleep(self._pace_s)
        found = await self._ctx.in_thread(check, body, claims, _together(request))
        # A text of the wrong length is still one; a quotation that is none must not stand in a result.
        if unusable := [one for one in found if one.code.startswith("claim.") or one.code == "text.empty"]:
            return unusable
        for failure in found:
            if failure.code != "topic.missing":  # a section may be about a part of the topic only
                await self._ctx.warning(failure.code, f"{heading}: {failure.message}")
        await self._ctx.delta(block, "", done=True)
        self.blocks[block] = head + body.strip()
        self._claims[block] = claims
        return []

    async def _without(self, section: str, reason: str) -> None:
        heading, block = self._sections[section].heading, self._current.get(section, section)
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
