"""What a client may say on a WebSocket, and how it is answered (PROTOCOL section 6)."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.errors import FrameInvalid, Invalid, Problem
from gateway.wire import json
from gateway.wire.events import known, problems

Replay = Literal["folded", "full", "none"]
Types = list[Annotated[str, Field(max_length=80)]]
OnDisconnect = Literal["continue", "cancel"]


class Options(BaseModel):
    """How a run is to be run, beside its input."""

    model_config = ConfigDict(extra="forbid", strict=True)

    on_disconnect: OnDisconnect = "continue"
    disconnect_grace_s: float = Field(default=30, ge=0, le=86_400)
    budget_usd: float | None = Field(default=None, gt=0)
    timeout_s: float | None = Field(default=None, gt=0, le=31_536_000)


class Start(BaseModel):
    """The body of `POST /runs`; also `start` on a WebSocket."""

    model_config = ConfigDict(extra="forbid", strict=True)

    pipeline: str = Field(max_length=64)
    input: Any = Field(default_factory=dict)
    options: Options = Options()
    owner: str | None = Field(default=None, min_length=1, max_length=255)


class Command(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    ref: str | None = Field(default=None, max_length=64)


class Authenticate(Command):
    type: Literal["authenticate"]
    token: str


class Subscribe(Command):
    type: Literal["subscribe"]
    run: str = Field(max_length=64)
    after: str | None = None
    replay: Replay = "folded"
    types: Types | None = None


class Unsubscribe(Command):
    type: Literal["unsubscribe"]
    run: str = Field(max_length=64)


class StartRun(Command):
    type: Literal["start"]
    pipeline: str = Field(max_length=64)
    input: Any = Field(default_factory=dict)
    options: Options = Options()
    key: str | None = Field(default=None, min_length=1, max_length=255)


class CancelRun(Command):
    type: Literal["cancel"]
    run: str = Field(max_length=64)
    reason: str | None = Field(default=None, max_length=500)


class PauseRun(Command):
    type: Literal["pause"]
    run: str = Field(max_length=64)


class ResumeRun(Command):
    type: Literal["resume"]
    run: str = Field(max_length=64)


class AnswerRun(Command):
    type: Literal["input"]
    run: str = Field(max_length=64)
    input_id: str = Field(max_length=64)
    value: Any


class Ping(Command):
    type: Literal["ping"]


AnyCommand = Authenticate | Subscribe | Unsubscribe | StartRun | CancelRun | PauseRun | ResumeRun | AnswerRun | Ping
_COMMANDS: TypeAdapter[AnyCommand] = TypeAdapter(Annotated[AnyCommand, Field(discriminator="type")])
TYPES = frozenset({"authenticate", "subscribe", "unsubscribe", "start", "cancel", "pause", "resume", "input", "ping"})


def decode(frame: str | bytes | None) -> dict[str, Any]:
    """The frame as an object with a known type. Raises FrameInvalid, as ten times in a row closes the socket."""
    if not isinstance(frame, str):
        raise FrameInvalid(detail="frames are text")
    try:
        command = json.loads(frame)
    except ValueError:
        raise FrameInvalid(detail="the frame is not JSON") from None
    if not isinstance(command, dict):
        raise FrameInvalid(detail="the frame is not an object")
    type = command.get("type")
    if not isinstance(type, str) or type not in TYPES:
        raise FrameInvalid(detail="the frame has no known type")
    return command


def ref_of(command: dict[str, Any]) -> str | None:
    """The client's own mark for the reply; None when it is missing or not one that would be echoed."""
    ref = command.get("ref")
    return ref if isinstance(ref, str) and len(ref) <= 64 else None


def parse(command: dict[str, Any]) -> AnyCommand:
    """Raises Invalid (`input.invalid`) with a path for each error."""
    try:
        parsed = _COMMANDS.validate_python(command)
    except ValidationError as error:
        found = problems(error)
        for problem in found:
            problem["path"] = problem["path"][1:]  # the discriminator's value, which is no part of the frame
        raise Invalid(detail=f"{command['type']}: {found[0]['message']}", errors=found) from None
    if isinstance(parsed, Subscribe) and parsed.types is not None:
        filter_of(parsed.types)
    return parsed


def filter_of(types: list[str]) -> frozenset[str]:
    """A `types` filter. Raises Invalid for a type that no event can have."""
    for type in types:
        if not known(type):
            raise Invalid(
                detail=f"{type[:80]!r} is not a type of event", errors=[{"path": ["types"], "message": type[:80]}]
            )
    return frozenset(types)


def reply(ref: str | None, outcome: dict[str, Any] | Problem) -> bytes:
    """The one answer to a command."""
    head: dict[str, Any] = {"type": "reply"} if ref is None else {"type": "reply", "ref": ref}
    if isinstance(outcome, Problem):
        return json.dumps({**head, "ok": False, "error": outcome.error()})
    return json.dumps({**head, "ok": True, **outcome})
