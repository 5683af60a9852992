"""What the pipeline `campaign` takes and gives.

Rule 1: what it gives can be given back to it: `Campaign` is the result of one run and an input of the next.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pipeline.copywriting import Channel, Cited, Copy
from pipeline.documents import Documents
from pipeline.reviewing import Review


class Segment(BaseModel):
    """A part of the audience, and what the sources have for it: the proof points that share its words."""

    name: str
    speaks_to: list[Cited]


class Audience(BaseModel):
    """The audience as the brief has it, and in its parts."""

    name: str
    segments: list[Segment] = []


class Concept(BaseModel):
    """What every channel says: a headline, a message, and the proof points, best first."""

    headline: str
    message: str
    proof_points: list[Cited]


class Failed(BaseModel):
    """A channel that is missing from the campaign, and why."""

    channel: Channel
    reason: str


class Campaign(BaseModel):
    """The whole campaign; give it back as `campaign` to have one channel written anew, or all of it reviewed."""

    product: str
    audience: Audience
    concept: Concept
    channels: dict[Channel, Copy]
    review: Review
    failed: list[Failed] = []
    call_to_action: str = ""
    markdown: str = ""


class CampaignInput(BaseModel):
    """A brief; or a campaign made before, and what to do with it."""

    model_config = ConfigDict(extra="forbid", title="Campaign")

    product: Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)] = Field(
        default="", title="Product", description="Its name, as the sources have it."
    )
    audience: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = Field(
        default="", title="Audience", description="Whom it is for, such as “cyclists, commuters and young parents”."
    )
    channels: list[Channel] = Field(
        default=["email", "landing_page", "social", "ad"],
        min_length=1,
        max_length=12,
        title="Channels",
        description="What to write copy for.",
    )
    sources: Documents = Field(
        default_factory=list,
        title="Sources",
        description="Texts about the product. Everything that the campaign claims is taken from them.",
        json_schema_extra={"x-widget": "textarea"},
    )
    call_to_action: Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)] = Field(
        default="", title="Call to action", description="What readers should do; a neutral line if empty."
    )
    operation: Literal["create", "regenerate", "review"] = Field(
        default="create", title="Operation", description="Make a campaign, write one channel anew, or only review."
    )
    campaign: Campaign | None = Field(
        default=None, title="Campaign", description="The result of the run before; for regenerate and review."
    )
    channel: Channel | None = Field(default=None, title="Channel", description="Which one to regenerate or review.")

    @model_validator(mode="after")
    def _complete(self) -> "CampaignInput":
        if self.operation == "create" and not (self.product and self.audience):
            raise ValueError("a campaign needs a product and an audience")
        if self.operation != "create" and self.campaign is None:
            raise ValueError(f"to {self.operation}, give the campaign")
        if self.operation == "regenerate" and self.channel is None:
            raise ValueError("to regenerate, say which channel")
        return self
