"""The campaign pipeline: its claims stand in the sources, its copy fits the channel, what fails is left out.

Over 300 lines, because one pipeline's cases and the two sinks that stop and hold a run belong together.
"""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline import BudgetExceeded, Context, PipelineError, Recorder, Rejected, StagesFailed, campaign
from pipeline.brief import Campaign, CampaignInput
from pipeline.copywriting import CHANNELS, LIMITS, Brief, Channel, Copy, Templates
from pipeline.facts import fact_of, shortened
from pipeline.models import Source
from pipeline.models.sentences import flat
from pipeline.registry import REGISTRY
from tests.pipeline.texts import WORKS, read

KETTLE = (
    "# Harbor Kettle\n\nThe Harbor Kettle boils a litre of water in two minutes. It holds 1.2 litres and weighs "
    "840 grams, so one hand can lift it. Its handle is made of ash wood that stays cool on the stove.\n\n"
    "The kettle keeps water hot for an hour, which helps people who work from home. It is not dishwasher safe. "
    "Travellers fold the handle flat and carry the kettle in a small bag. The base is guaranteed for five years."
)
JACKET = (
    "The Fjell Shell packs into its own pocket. Reflective piping runs along both arms and can be seen from 150 "
    "metres. Commuters asked us for a longer back; the Fjell Shell is 9 cm longer behind than in front. The cloth of "
    "the Fjell Shell is made from recycled fishing nets. The jacket costs €129 in all sizes from XS to XXL."
)
BRIEFS: dict[str, dict[str, Any]] = {
    "kettle": {"product": "Harbor Kettle", "audience": "People who work from home", "sources": [KETTLE]},
    "jacket": {"product": "Fjell Shell", "audience": "commuters and students", "sources": ["", JACKET]},
    "both": {"product": "Fjell Shell", "audience": "tea drinkers", "sources": [KETTLE, JACKET]},
    "whitewash": {"product": "Tom Sawyer", "audience": "parents", "sources": [read(WORKS[0])]},
    "carbuncle": {"product": "the blue carbuncle", "audience": "readers of mysteries", "sources": [read(WORKS[3])]},
    "prism": {"product": "the prism", "audience": "students of light", "sources": [read(WORKS[4])]},
}
SHORT: list[Channel] = ["email", "landing_page", "social", "ad", "sms"]
STAGES = ["research", "audience", "concept", "copy:email", "copy:ad", "review", "assemble"]


@pytest.fixture(autouse=True)
def _no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "PACE_S", 0)


class Stopping(Recorder):
    """A sink that cancels its run when a stage has begun and shown something, or only begun."""

    def __init__(self, stage: str, on: str) -> None:
        super().__init__()
        self.task: asyncio.Task[Any] | None = None
        self.after = 0
        self._stage, self._on = stage, on

    async def emit(self, type: str, fields: dict[str, Any]) -> None:
        if self.task is not None and self.task.cancelling():
            self.after += 1
        await super().emit(type, fields)
        if self.task is not None and type == self._on and fields.get("stage", self._stage) == self._stage:
            self.task.cancel()


class Pausing(Recorder):
    """A sink that holds its run at the first checkpoint after a stage has begun."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.held, self.go_on = asyncio.Event(), asyncio.Event()
        self._stage = stage

    async def checkpoint(self) -> None:
        begun = any(type == "stage.started" and fields["stage"] == self._stage for type, fields in self.events)
        if begun and not self.go_on.is_set():
            self.held.set()
            await self.go_on.wait()
        await super().checkpoint()


class Failing:
    """A copywriter that fails for some channels and writes the others."""

    def __init__(self, **errors: Exception) -> None:
        self._errors = errors

    async def write(self, channel: Channel, brief: Brief) -> Copy:
        if error := self._errors.get(channel):
            raise error
        return await Templates().write(channel, brief)


async def run(**given: Any) -> tuple[Campaign, Recorder]:
    recorder = Recorder()
    return await campaign.campaign(Context(recorder), CampaignInput.model_validate(given)), recorder


def of(recorder: Recorder, type: str) -> list[dict[str, Any]]:
    return [fields for kind, fields in recorder.events if kind == type]


@pytest.mark.parametrize("name", BRIEFS)
async def test_everything_claimed_is_the_sources_and_fits_its_channel(name: str) -> None:
    """From any brief: proof points and claims are verbatim, each part is within its limit, and the review agrees."""
    brief = BRIEFS[name]
    result, _ = await run(**brief, channels=SHORT)
    texts = {str(number): flat(text) for number, text in enumerate(brief["sources"], 1)}
    assert len(result.concept.proof_points) >= 3
    for point in result.concept.proof_points:
        assert flat(point.quote) in texts[point.key]
    assert list(result.channels) == SHORT
    for channel, copy in result.channels.items():
        assert copy.claims
        for claim in copy.claims:
            assert flat(claim.quote) in texts[claim.key]
        assert all(0 < len(copy.parts()[part]) <= most for part, most in LIMITS[channel].items())
        assert copy.characters == {part: len(copy.parts()[part]) for part in LIMITS[channel]}
        assert any(result.product.casefold() in text.casefold() for text in copy.parts().values())
        assert channel == "ad" or copy.call_to_action in copy.body
    assert result.review.passed, result.review
    assert not result.failed


async def test_stages_and_progress_come_in_order() -> None:
    """Stages as documented, each with a draft, and progress that rises to 100."""
    _, recorder = await run(**BRIEFS["kettle"], channels=["email", "ad"])
    assert [fields["stage"] for fields in of(recorder, "stage.completed")] == STAGES
    assert {fields["stage"] for fields in of(recorder, "draft")} == set(STAGES)
    progress = [fields["progress"] for fields in of(recorder, "progress")]
    assert progress == sorted(progress)
    assert progress[-1] == 100
    assert [fields["index"] for fields in of(recorder, "stage.started")] == list(range(1, len(STAGES) + 1))


async def test_different_briefs_give_different_campaigns() -> None:
    """Campaigns for different products share no proof point and no copy."""
    results = [(await run(**BRIEFS[name]))[0] for name in ("kettle", "jacket", "whitewash", "carbuncle", "prism")]
    points = [{point.quote for point in result.concept.proof_points} for result in results]
    assert not any(one & other for one, other in pairwise(points))
    assert len({copy.body for result in results for copy in result.channels.values()}) == 4 * len(results)


async def test_the_audience_decides_what_leads() -> None:
    """The same sources give another message and another e-mail to people with other needs."""
    home, _ = await run(**BRIEFS["kettle"])
    away, _ = await run(**BRIEFS["kettle"] | {"audience": "travellers with a small bag"})
    assert "work from home" in home.concept.proof_points[0].quote
    assert "small bag" in away.concept.proof_points[0].quote
    assert home.concept.message != away.concept.message
    assert home.channels["email"].body != away.channels["email"].body
    assert away.audience.segments[0].speaks_to


async def test_the_product_decides_which_facts_are_told() -> None:
    """With texts about two products only the brief's own is advertised."""
    result, _ = await run(**BRIEFS["both"])
    assert {point.key for point in result.concept.proof_points} == {"2"}


async def test_reservations_are_shown_and_not_sold() -> None:
    """A sentence that says what the product cannot do is in no copy; the review shows it."""
    result, _ = await run(**BRIEFS["kettle"], channels=SHORT)
    assert result.review.reservations == ["It is not dishwasher safe."]
    assert not any("dishwasher" in copy.body for copy in result.channels.values())


async def test_a_blog_post_is_an_article_of_cited_sentences() -> None:
    """A blog post has sections, no marks, and many sentences of the source."""
    text = read(WORKS[3])
    result, _ = await run(**BRIEFS["carbuncle"], channels=["blog"])
    copy = result.channels["blog"]
    assert copy.body.count("\n## ") >= 2
    assert "[1]" not in copy.body
    assert len(copy.claims) > 8
    assert all(flat(claim.quote) in flat(text) for claim in copy.claims)


async def test_the_call_to_action_is_the_briefs_own() -> None:
    """What readers are to do stands in every copy as it was given."""
    result, _ = await run(**BRIEFS["jacket"], channels=SHORT, call_to_action="Try it on at fjell.example")
    assert {copy.call_to_action for copy in result.channels.values()} == {"Try it on at fjell.example"}
    assert result.review.passed


async def test_a_channel_that_cannot_be_written_is_left_out() -> None:
    """A name that is too long for an ad costs the ad: a warning, an entry in `failed`, and the rest as it was."""
    long = "Harbor Kettle with an Ash Handle"
    result, recorder = await run(**BRIEFS["kettle"] | {"product": long})
    assert [fields["code"] for fields in of(recorder, "warning")] == ["copy.ad"]
    assert [one.channel for one in result.failed] == ["ad"]
    assert "headline 32 of 30" in result.failed[0].reason
    assert set(result.channels) == {"email", "landing_page", "social"}


@pytest.mark.parametrize("error", [StagesFailed("no such luck"), RuntimeError("secret path /etc")], ids=repr)
async def test_a_failing_copywriter_costs_its_channel_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Refusals are told in their own words, bugs are not; the campaign goes on."""
    monkeypatch.setattr(campaign, "COPYWRITER", Failing(email=error))
    result, recorder = await run(**BRIEFS["jacket"], channels=["email", "social"])
    (warning,) = of(recorder, "warning")
    assert warning["code"] == "copy.email"
    assert ("no such luck" in warning["message"]) == isinstance(error, StagesFailed)
    assert "secret" not in warning["message"]
    assert list(result.channels) == ["social"]


async def test_no_channel_at_all_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """When every channel fails there is no campaign, and the reasons are said."""
    errors = {"email": StagesFailed("first"), "ad": StagesFailed("second")}
    monkeypatch.setattr(campaign, "COPYWRITER", Failing(**errors))
    with pytest.raises(StagesFailed, match="first second"):
        await run(**BRIEFS["jacket"], channels=["email", "ad"])


async def test_a_spent_budget_is_not_a_failed_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that is spent ends the run."""
    monkeypatch.setattr(campaign, "COPYWRITER", Failing(email=BudgetExceeded("spent")))
    with pytest.raises(BudgetExceeded):
        await run(**BRIEFS["jacket"])


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("with_sources", [True, False])
async def test_regenerating_writes_one_channel_anew(channel: Channel, with_sources: bool) -> None:
    """Only the channel changes, from the sources or from the proof points, and the concept stays."""
    made, _ = await run(**BRIEFS["kettle"], channels=[*CHANNELS])
    before = Campaign.model_validate_json(made.model_dump_json())
    sources = [KETTLE] if with_sources else []
    after, recorder = await run(operation="regenerate", campaign=before, channel=channel, sources=sources)
    assert after.concept == made.concept
    assert after.channels[channel].body != made.channels[channel].body
    assert {name: copy for name, copy in after.channels.items() if name != channel} == {
        name: copy for name, copy in made.channels.items() if name != channel
    }
    assert after.review.passed == with_sources
    stages = [fields["stage"] for fields in of(recorder, "stage.completed")]
    assert stages == ["research", f"copy:{channel}", "review", "assemble"]


async def test_a_review_finds_what_a_person_broke() -> None:
    """Copy that was edited by hand is found too long, without product and call, and saying what no source says."""
    made, _ = await run(**BRIEFS["kettle"], channels=["email", "sms"])
    made.channels["sms"].body = "Cures headaches in 5 seconds. " * 10
    result, recorder = await run(operation="review", campaign=made, sources=[KETTLE])
    findings = {one.check: one for one in result.review.channels["sms"]}
    assert not any(one.ok for one in (findings["length"], findings["claims"], findings["call_to_action"]))
    assert "headache" in findings["claims"].message
    assert "5" in findings["claims"].message
    assert all(one.ok for one in result.review.channels["email"])
    assert not result.review.passed
    assert {fields["code"] for fields in of(recorder, "warning")} == {
        "review.length",
        "review.claims",
        "review.call_to_action",
    }


async def test_a_product_that_no_source_names_is_said() -> None:
    """The run warns instead of passing other texts off as being about the product."""
    _, recorder = await run(**BRIEFS["jacket"] | {"product": "Submarine"})
    assert "product.not_in_sources" in [fields["code"] for fields in of(recorder, "warning")]


@pytest.mark.parametrize("sources", [[], [" \n"], ["12 34 …"], ["Why? But then it went."]])
async def test_nothing_to_say_is_rejected(sources: list[str]) -> None:
    """Without a usable sentence there is no campaign."""
    with pytest.raises(Rejected):
        await run(product="Kettle", audience="cooks", sources=sources)


@pytest.mark.parametrize("on", ["stage.started", "draft"])
@pytest.mark.parametrize("stage", STAGES)
async def test_cancelling_stops_in_any_stage(stage: str, on: str) -> None:
    """Cancelled at the beginning or in the middle of a stage, the run says nothing more."""
    sink = Stopping(stage, on)
    given = CampaignInput(**BRIEFS["jacket"], channels=["email", "ad"])
    sink.task = asyncio.create_task(campaign.campaign(Context(sink), given))
    with pytest.raises(asyncio.CancelledError):
        await sink.task
    assert sink.events[-1][0] != "stage.completed"
    assert sink.after <= 1


@pytest.mark.parametrize("stage", STAGES)
async def test_a_paused_run_waits_and_goes_on(stage: str) -> None:
    """Held in any stage the run says nothing until it may, then ends as if nothing had been."""
    sink = Pausing(stage)
    given = CampaignInput(**BRIEFS["jacket"], channels=["email", "ad"])
    task = asyncio.create_task(campaign.campaign(Context(sink), given))
    await sink.held.wait()
    said = len(sink.events)
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(sink.events) == said
    sink.go_on.set()
    assert (await task).channels == (await run(**BRIEFS["jacket"], channels=["email", "ad"]))[0].channels


@pytest.mark.parametrize(
    ("quote", "most", "line"),
    [
        ("It holds 1.2 litres.", 60, "Harbor Kettle holds 1.2 litres"),
        ("Its lid is blue.", 60, "Harbor Kettle: Its lid is blue"),
        ("The Harbor Kettle boils water fast, and it stays hot for an hour.", 40, "The Harbor Kettle boils water fast"),
        ("The Harbor Kettle boils water in two minutes, but only with a full battery.", 50, None),
        ("The Harbor Kettle never leaks, which is true unless it is dropped.", 40, None),
    ],
)
def test_a_shortened_fact_promises_no_more(quote: str, most: int, line: str | None) -> None:
    """A pronoun becomes the product, a clause may go, but never a condition or reservation."""
    told = shortened(fact_of(Source("1", "One", quote), quote, "Harbor Kettle", ""), "Harbor Kettle", most)
    assert (told and told[0]) == line
    assert told is None or told[1] in quote


@pytest.mark.parametrize(
    "wrong",
    [
        {"product": "Kettle"},
        {"audience": "cooks"},
        {"product": "x" * 81, "audience": "cooks"},
        {"product": "Kettle", "audience": "cooks", "channels": []},
        {"product": "Kettle", "audience": "cooks", "channels": ["fax"]},
        {"product": "Kettle", "audience": "cooks", "other": 1},
        {"operation": "review"},
        {"operation": "regenerate", "channel": "ad"},
    ],
    ids=str,
)
def test_input_out_of_bounds_is_refused(wrong: dict[str, object]) -> None:
    """Nothing beyond the documented bounds is taken."""
    with pytest.raises(ValidationError):
        CampaignInput.model_validate(wrong)


def test_the_form_knows_what_to_show() -> None:
    """Every field has a title and a description."""
    declared = REGISTRY.get("campaign")
    assert declared is not None
    assert all(field["title"] and field["description"] for field in declared.input_schema()["properties"].values())
    assert declared.result_schema()["properties"]["channels"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    product=st.text(min_size=1, max_size=80).filter(str.strip),
    audience=st.text(min_size=1, max_size=120).filter(str.strip),
    prose=st.text(
        alphabet=st.one_of(st.sampled_from("  \n.,;?!\"'ab[]*_#-(1{%}"), st.characters(exclude_categories=["Cs"]))
    ),
)
async def test_any_brief_gives_copy_within_its_limits_or_a_reason(product: str, audience: str, prose: str) -> None:
    """Whatever names and texts: copy of the right length with verbatim claims, or a refusal; never a crash."""
    try:
        result, _ = await run(product=product, audience=audience, sources=[prose, KETTLE], channels=[*CHANNELS])
    except PipelineError:
        return
    texts = {"1": flat(prose), "2": flat(KETTLE)}
    for channel, copy in result.channels.items():
        assert all(0 < len(copy.parts()[part]) <= most for part, most in LIMITS[channel].items())
        assert all(flat(claim.quote) in texts[claim.key] for claim in copy.claims)
    assert not [one for one in result.failed if "unexpected" in one.reason]
