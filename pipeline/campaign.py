"""The built-in pipeline `campaign`: from a brief and texts about a product to copy for several channels.

Rule 1: nothing is said of the product that a source does not say, and every such piece is claimed.
Rule 2: a channel that fails is left out with a warning; only when none is left does the run fail.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline import wording
from pipeline.brief import Audience, Campaign, CampaignInput, Concept, Failed, Segment
from pipeline.context import Context, Stage
from pipeline.copywriting import (
    Brief,
    Channel,
    Cited,
    Copy,
    Copywriter,
    Templates,
    counted,
    headline,
    leads,
    templates,
)
from pipeline.documents import as_sources, plural
from pipeline.errors import BudgetExceeded, PipelineError, Rejected, StagesFailed, none_left
from pipeline.facts import Fact, Found, capital, fact_of, find, speaking
from pipeline.models import Source
from pipeline.models.chat import chosen
from pipeline.models.extractive import escape
from pipeline.models.sentences import flat, word_set, words
from pipeline.registry import pipeline
from pipeline.reviewing import Review, review
from pipeline.wording import Metered, ModelCopywriter

PACE_S = 0.12  # between the lines of a copy, so that a reader sees it grow and can stop it
COPYWRITER: Copywriter = Templates()
MOST_FACTS = 14
MOST_PROOF_POINTS = 8
HEADLINE_CHARS = 60
VARIANTS = 6  # how many other wordings a regenerated channel is looked for in

_SEGMENT = re.compile(r"[,;/]\s*(?:and\s+)?|\s+and\s+(?=[^,;/]*$)")
_COMMON = word_set("""
    people those everyone anyone young older small busy new first working home parents families children
    women men students teachers owners teams readers writers commuters cyclists runners drivers travellers cooks
    gardeners developers engineers designers marketers managers professionals beginners
""")
_log = logging.getLogger(__name__)


@pipeline("campaign")
async def campaign(ctx: Context, input: CampaignInput) -> Campaign:
    """Plan and write a campaign from a brief and texts about the product: concept, copy for each channel, review."""
    return await _Work(ctx, input).run()


class _Work:
    """One run: the stages that its operation takes, in order, on what the stages before have found."""

    def __init__(self, ctx: Context, input: CampaignInput) -> None:
        self.ctx, self.input = ctx, input
        self.sources: Sequence[Source] = as_sources(input.sources)
        before = input.campaign if input.operation != "create" else None
        self.before = before
        self.product = flat(input.product or (before.product if before else ""))
        self.audience = before.audience if before else Audience(name=_inline(flat(input.audience), self.sources))
        self.call = flat(input.call_to_action or (before.call_to_action if before else ""))
        self.channels = {name: copy.model_copy() for name, copy in before.channels.items()} if before else {}
        self.message = ""
        self.failed: list[Failed] = []
        self.errors: list[Exception] = []
        self.chat = chosen()
        self.copywriter = Metered(ctx, COPYWRITER) if self.chat is None else ModelCopywriter(ctx, self.chat)
        wanted: list[Channel] = list(dict.fromkeys(input.channels))
        if before:
            wanted = [input.channel] if input.operation == "regenerate" and input.channel else []
        self.wanted = wanted
        planning = [] if before else ["audience", "concept"]
        self.stages = ["research", *planning, *(f"copy:{one}" for one in wanted), "review", "assemble"]

    async def run(self) -> Campaign:
        found = await self._research()
        if self.before is None:
            self.audience = await self._audience(found.facts)
        concept = self.before.concept if self.before else await self._concept(found.facts)
        self.message = concept.message
        await self._copy(found.facts)
        reviewed = await self._review(found)
        async with self._stage("assemble"):
            failed = [one for one in (self.before.failed if self.before else []) if one.channel not in self.channels]
            failed += [one for one in self.failed if one.channel not in {other.channel for other in failed}]
            whole = Campaign(
                product=self.product,
                audience=self.audience,
                concept=concept,
                channels=self.channels,
                review=reviewed,
                failed=failed,
                call_to_action=self.call,
            )
            template = templates().get_template("document.j2")
            whole.markdown = re.sub(r"\n{3,}", "\n\n", template.render(campaign=whole, escape=escape)).strip() + "\n"
            said = [plural(len(self.channels), "channel"), *(["passed"] if reviewed.passed else ["to be put right"])]
            await self.ctx.draft(whole.markdown, message=", ".join(said))
            await self.ctx.checkpoint()
            await self.ctx.progress(100, "Done", stats={"channels": len(self.channels), "failed": len(failed)})
        return whole

    async def _research(self) -> Found:
        async with self._stage("research"):
            before = self.before
            if before is None and not self.sources:
                raise Rejected(f"Give at least one text that says something about {self.product}.")
            await self.ctx.progress(5, f"Reading {plural(len(self.sources), 'source')}")
            if self.sources:
                found = await self.ctx.in_thread(
                    lambda: find(self.product, self.audience.name, self.sources, most=MOST_FACTS)
                )
            else:
                # Without its sources an old campaign still has what it quoted from them.
                found = Found(_remembered(before), (), mentioned=True, sentences=0)
            if not found.facts and self.wanted:
                raise Rejected(f"The sources hold no sentence that could stand in copy about {self.product}.")
            if not found.mentioned:
                await self.ctx.warning("product.not_in_sources", f"No source names {self.product}; check every claim.")
            await self._show([f"- {fact.quote} [{fact.key}]" for fact in found.facts])
            stats = {"sentences": found.sentences, "facts": len(found.facts), "reservations": len(found.reservations)}
            await self.ctx.progress(15, f"{plural(len(found.facts), 'fact')} found", stats=stats)
        return found

    async def _audience(self, facts: Sequence[Fact]) -> Audience:
        name = self.audience.name
        async with self._stage("audience"):
            parts = list(dict.fromkeys(filter(None, map(str.strip, _SEGMENT.split(name)))))[:6]
            if self.chat is not None and parts:
                theirs = await wording.segments(self.ctx, self.chat, self._brief(facts), parts)
            else:
                theirs = {part: [fact for fact in facts if set(fact.audience) & speaking(part)] for part in parts}
            segments = [
                Segment(name=part, speaks_to=[_cited(one) for one in held[:3]]) for part, held in theirs.items()
            ]
            if not any(segment.speaks_to for segment in segments):
                await self.ctx.warning("audience.not_in_sources", f"No fact speaks of {name}; the strongest are used.")
            lines = [f"{one.name}: " + (one.speaks_to[0].quote if one.speaks_to else "—") for one in segments]
            await self._show([f"- {line}" for line in lines])
            await self.ctx.progress(25, f"{plural(len(segments), 'segment')} looked at")
        return Audience(name=name, segments=segments)

    async def _concept(self, facts: Sequence[Fact]) -> Concept:
        async with self._stage("concept"):
            brief = self._brief(facts)
            if self.chat is not None:
                title, message, best = await wording.concept(self.ctx, self.chat, brief, most=HEADLINE_CHARS)
            else:
                ordered = [*leads(facts), *facts]
                title, _ = headline(replace(brief, facts=tuple(ordered)), HEADLINE_CHARS)
                lead = ordered[0]
                who = f"For {self.audience.name}" if lead.named else f"{capital(self.product)} for {self.audience.name}"
                message, best = f"{who}: {lead.quote}", list(dict.fromkeys([lead, *facts]))
            points = [_cited(fact) for fact in best][:MOST_PROOF_POINTS]
            concept = Concept(headline=title, message=message, proof_points=points)
            lines = [f"**{title}**", "", concept.message, "", *(f"- {one.quote} [{one.key}]" for one in points)]
            await self._show(lines)
            await self.ctx.progress(35, title)
        return concept

    async def _copy(self, facts: Sequence[Fact]) -> None:
        for number, channel in enumerate(self.wanted):
            async with self._stage(f"copy:{channel}"):
                try:
                    copy = await self._written(channel, facts)
                except BudgetExceeded:
                    raise
                except PipelineError as error:
                    self.errors.append(error)
                    await self._missing(channel, str(error))
                except Exception:  # noqa: BLE001 - what a copywriter stumbles over costs its channel, not the campaign
                    _log.exception("copy for %s failed", channel)
                    await self._missing(channel, "An unexpected error; the server's log has it.")
                else:
                    self.channels[channel] = copy
                    await self._show([f"**{part}** {text}" for part, text in copy.parts().items()])
                done = 35 + 45 * (number + 1) / len(self.wanted)
                await self.ctx.progress(round(done), f"{channel.replace('_', ' ').capitalize()} done")
        if self.wanted and len(self.failed) == len(self.wanted):
            reasons = " ".join(dict.fromkeys(one.reason for one in self.failed[:3]))
            raise none_left(f"No channel could be written. {reasons}", self.errors)

    async def _written(self, channel: Channel, facts: Sequence[Fact]) -> Copy:
        old = self.channels.get(channel)
        brief = self._brief(facts)
        if old is None:
            return counted(channel, await self.copywriter.write(channel, brief))
        for step in range(1, VARIANTS + 1):
            again = replace(brief, variant=old.variant + step)
            copy = counted(channel, await self.copywriter.write(channel, again))
            if copy.body != old.body:
                return copy
        raise StagesFailed(f"These sources give no other copy for {channel}.")

    async def _missing(self, channel: Channel, reason: str) -> None:
        self.failed.append(Failed(channel=channel, reason=reason))
        await self.ctx.warning(f"copy.{channel}", f"No copy for {channel.replace('_', ' ')}: {reason}")

    async def _review(self, found: Found) -> Review:
        async with self._stage("review"):
            only = self.input.channel if self.input.operation == "review" else None
            looked = {name: copy for name, copy in self.channels.items() if only in (None, name)}
            if not looked:
                raise Rejected(f"The campaign has no {only or 'channel'} to review.")
            findings = {}
            for channel, copy in looked.items():
                findings[channel] = await self.ctx.in_thread(
                    review, channel, copy, product=self.product, audience=self.audience.name, sources=self.sources
                )
                self.channels[channel] = counted(channel, copy)
                for one in findings[channel]:
                    if not one.ok:
                        await self.ctx.warning(f"review.{one.check}", f"{channel}: {one.message}")
            ok = all(one.ok for of_channel in findings.values() for one in of_channel)
            lines = [
                f"- {channel}, {one.check}: {'ok' if one.ok else 'NOT OK'}. {one.message}"
                for channel, ones in findings.items()
                for one in ones
            ]
            await self._show(lines)
            await self.ctx.progress(90, "Reviewed: " + ("good" if ok else "something is to be put right"))
        return Review(passed=ok, channels=findings, reservations=[fact.quote for fact in found.reservations])

    def _brief(self, facts: Sequence[Fact]) -> Brief:
        sources = tuple(self.sources) or tuple(
            Source(key, key, "\n\n".join(fact.quote for fact in facts if fact.key == key))
            for key in dict.fromkeys(fact.key for fact in facts)
        )
        return Brief(
            product=self.product,
            audience=self.audience.name,
            message=self.message,
            facts=tuple(facts),
            sources=sources,
            call=self.call,
        )

    def _stage(self, name: str) -> Stage:
        return self.ctx.stage(name, index=self.stages.index(name) + 1, of=len(self.stages))

    async def _show(self, lines: Sequence[str]) -> None:
        """Let the stage's draft grow line by line."""
        for count in range(1, len(lines) + 1):
            await self.ctx.checkpoint()
            await self.ctx.draft("\n".join(lines[:count]))
            await asyncio.sleep(PACE_S)


def _cited(fact: Fact) -> Cited:
    return Cited(key=fact.key, source=fact.source, quote=fact.quote)


def _remembered(campaign: Campaign | None) -> tuple[Fact, ...]:
    """The facts that a campaign's proof points are."""
    if campaign is None:
        return ()
    return tuple(
        fact_of(Source(one.key, one.source, ""), one.quote, campaign.product, campaign.audience.name)
        for one in campaign.concept.proof_points
    )


def _inline(audience: str, sources: Sequence[Source]) -> str:
    """The audience as it reads inside a sentence: a capital stays only where the word is no common one."""
    first = (words(audience) or [""])[0]
    common = first.istitle() and any(re.search(rf"\b{re.escape(first.lower())}\b", one.text) for one in sources)
    if common or first.lower() in _COMMON:
        return audience[:1].lower() + audience[1:]
    return audience
