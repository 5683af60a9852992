"""What a run looks like on a terminal: pictures of its state, and lines of its events.

Rule 1: pure; a state goes in, something that rich can draw comes out. What a run says is text, never markup nor an
escape sequence.
"""

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runcast.events import Delta, Draft, Event, Gap, Progress, RunFailed, StageCompleted, StageStarted, Warned
from runcast.follow import Connection
from runcast.state import RunState

MOST_WARNINGS = 3
_STYLE = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
    "paused": "cyan",
}
_BAR_WIDTH = 40
_HEAD_LINES = 9  # what stands around the text at most
_CONTROLS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "\ufffd") | {9: " ", 10: "\n", 13: " "}
_OF_FRAME = frozenset(("type", "run", "id", "ts"))


class Picture:
    """A run's state and what is known beside it, grown event by event."""

    def __init__(self, run: str) -> None:
        self.state = RunState(id=run)
        self.connection: Connection | None = None
        self._writing: str | None = None  # the block that was written to last
        self._warnings: list[str] = []

    def take(self, event: Event) -> None:
        self.state.apply(event)
        if isinstance(event, Delta):
            self._writing = event.block
        elif isinstance(event, Draft):
            self._writing = None
        elif isinstance(event, Warned):
            self._warnings = [*self._warnings, event.message][-MOST_WARNINGS:]

    def drawn(self, *, height: int, width: int) -> RenderableType:
        """As much as fits; a finished run without its text, which is printed as the result."""
        state = self.state
        parts: list[RenderableType] = [self._head(), self._bar(), *self._stages()]
        parts += [Text(plain(f"! {warning}"), style="yellow") for warning in self._warnings]
        for asked in state.inputs:
            answer = f"runcast input {state.id} {asked.input_id} VALUE"
            parts += [Text(plain(f"? {asked.prompt}"), style="bold cyan"), Text(f"  {answer}", style="dim")]
        if not state.finished:
            parts.append(self._text(height - _HEAD_LINES - len(parts), width))
        return Group(*parts)

    def _head(self) -> Text:
        state, connection = self.state, self.connection
        head = Text.assemble((state.pipeline, "bold"), " ", (state.id, "dim"), " ")
        head.append(state.status, style=_STYLE.get(state.status, "bold"))
        if connection is not None and not state.finished and connection.status in ("connecting", "retrying"):
            wait = f" in {connection.retry_in_ms / 1000:.0f} s" if connection.retry_in_ms else ""
            head.append(f"  connecting{wait}…", style="red")
        return head

    def _bar(self) -> Table:
        state = self.state
        row = Table.grid(padding=(0, 1))
        row.add_row(
            ProgressBar(total=100, completed=float(state.progress), width=_BAR_WIDTH),
            Text(f"{state.progress:3.0f} %"),
            Text(plain(state.message or ""), style="dim", overflow="ellipsis", no_wrap=True),
        )
        return row

    def _stages(self) -> list[Text]:
        stages = self.state.stages
        if not stages:
            return []
        line = Text()
        for stage in stages:
            line.append("✔ " if stage.done else "▸ ", style="green" if stage.done else "cyan")
            line.append(plain(f"{stage.stage}  "), style="" if stage.done else "bold")
        left = stages[-1].of - len(stages)
        if left > 0 and not self.state.finished:
            line.append(f"+{left}", style="dim")
        return [line]

    def _text(self, lines: int, width: int) -> Text:
        """The end of the text that is growing."""
        state = self.state
        if self._writing is not None:
            whole = state.blocks.get(self._writing, "")
        else:
            whole = state.drafts.get(state.stage or "") or next(reversed(state.drafts.values()), "")
        rows: list[str] = []
        for line in whole[-max(lines, 1) * width :].split("\n"):
            rows += [line[at : at + width] for at in range(0, len(line), width)] or [""]
        return Text(plain("\n".join(rows[-max(lines, 1) :])), overflow="crop")


def plain(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return text.translate(_CONTROLS)


def line_of(event: Event) -> str:
    """An event on one line."""
    when = datetime.fromtimestamp(event.ts / 1000, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{when}  {event.type:<16}  {plain(' '.join(_said(event).split()))}".rstrip()


def _said(event: Event) -> str:  # noqa: PLR0911 - one case for each type
    match event:
        case Progress():
            return f"{event.progress:.0f} % {event.stage}: {event.message}"
        case Draft():
            return f"{event.stage}: {len(event.draft)} characters"
        case Delta():
            return f"{event.block}: {event.delta}"
        case StageStarted() | StageCompleted():
            return f"{event.stage} ({event.index} of {event.of})"
        case RunFailed():
            return f"{event.error.message} ({event.error.code})"
        case Gap():
            return f"the events after {event.after} and before {event.from_} are gone"
    fields = {name: value for name, value in event.fields().items() if name not in _OF_FRAME}
    return " ".join(f"{name}={value}" for name, value in fields.items())
