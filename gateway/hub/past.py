"""What has been folded of the runs' pasts, kept for whoever joins next.

Rule 1: a page says all that was said after one offset up to another: it is for those alone who stand where it begins.
Rule 2: kept pages follow one another from a run's floor on. A full one never changes; the last one grows at its end.
Rule 3: all that is kept weighs at most MAX_BYTES. The run that nobody has joined for the longest time goes first.
Rule 4: a run's first page grows while the run speaks, before anybody asks, so that the first to join need not wait.
When the run ends that page goes into the log, beside the events that it spares others the reading of.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

from gateway.wire.events import Event
from gateway.wire.fold import fold

MAX_BYTES = 8 << 20
RUN_SHARE = 8  # so a run as long as you like cannot drive out all others
PAGE_BYTES = 256 * 1024
MIN_PAGE_BYTES = 16 * 1024
FEW = 10  # events that are not worth a thought
GROWN_BYTES = 16 * 1024  # of a joined event: what grows a little at a time is taken apart each time
_BESIDE_JSON = 300  # what an event's objects take, about
_EMPTY = 1000  # and a page's own


class Page:
    """`events` fold everything after `after` up to `upto`; `first` is the offset of the first that was there (0: none).

    `growing` is held by whoever reads on for all who wait.
    """

    __slots__ = ("after", "bytes", "events", "first", "growing", "upto")

    def __init__(self, after: int) -> None:
        self.after = self.upto = after
        self.events: list[Event] = []
        self.bytes = 0
        self.first = 0
        self.growing = asyncio.Lock()

    def add(self, events: Sequence[Event], *, first: int, max_bytes: int) -> None:
        """What comes right behind `upto`, folded or not: all from `first` on. See `fold` for `max_bytes`."""
        last = self.events[-1:]
        folded = fold([*last, *events], max_bytes=max_bytes)
        self.events[-1:] = folded
        self.bytes += sum(len(event.json) for event in folded) - sum(len(event.json) for event in last)
        self.first = self.first or first
        self.upto = events[-1].offset

    def dump(self) -> bytes:
        """For `load`. A line for the page and one for each event, whose JSON has no line breaks."""
        lines = [b"%d %d %d" % (self.after, self.upto, self.first)]
        lines += [b"%d %b %b" % (event.offset, event.type.encode(), event.json) for event in self.events]
        return b"\n".join(lines)

    def load(self, dumped: bytes, *, run: str, epoch: str) -> None:
        """Become what was dumped, if that began at the same place."""
        head, *lines = dumped.split(b"\n")
        after, upto, first = map(int, head.split())
        if after == self.after:
            self.upto, self.first = upto, first
            self.events = [_loaded(line, run, epoch) for line in lines]
            self.bytes = sum(len(event.json) for event in self.events)

    @property
    def weight(self) -> int:
        return _EMPTY + self.bytes + _BESIDE_JSON * len(self.events)


def _loaded(line: bytes, run: str, epoch: str) -> Event:
    offset, type, json = line.split(b" ", 2)
    return Event(int(offset), type.decode(), f"{epoch}-{int(offset)}", json, run)


class _Past:
    """The kept pages of one run, by where they begin."""

    __slots__ = ("floor", "last", "pages", "weight")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.pages: dict[int, Page] = {}
        self.last: Page | None = None
        self.weight = 0


class Pasts:
    """The kept pages of all runs. `page_bytes`: a page is full when it has half of that, so no read need be small."""

    @classmethod
    def fitting(cls, max_buffer_bytes: int) -> Self:
        """With pages that clients take who have so much room."""
        return cls(page_bytes=max(MIN_PAGE_BYTES, min(PAGE_BYTES, max_buffer_bytes)))

    def __init__(self, *, page_bytes: int = PAGE_BYTES, max_bytes: int = MAX_BYTES) -> None:
        self.page_bytes = page_bytes
        self.weight = 0
        self._max_bytes = max_bytes
        self._pasts: OrderedDict[str, _Past] = OrderedDict()

    def __contains__(self, run: str) -> bool:
        return run in self._pasts

    def full(self, page: Page) -> bool:
        return 2 * page.bytes >= self.page_bytes

    def page(self, run: str, after: int, *, floor: int) -> Page:
        """The page that begins after this offset: as far as it is kept, or empty."""
        past = self._pasts.get(run)
        if past is not None and past.floor != floor:  # its beginning is gone
            self.forget(run)
            past = None
        if past is None:
            if after != floor:
                return Page(after)
            past = self._pasts[run] = _Past(floor)
        self._pasts.move_to_end(run)
        return past.pages.get(after) or self._begun(past, after)

    def _begun(self, past: _Past, after: int) -> Page:
        """A new page, kept if it follows the last one and the run has not had its share."""
        page, last = Page(after), past.last
        follows = after == past.floor if last is None else after == last.upto and self.full(last)
        if follows and past.weight < self._max_bytes // RUN_SHARE:
            past.pages[after] = past.last = page
            self._weigh(past, page.weight)
        return page

    def grow(self, run: str, events: Sequence[Event], *, first: int, max_bytes: int) -> None:
        """What a run has said just now, folded: kept if it follows what is kept, or begins the run.

        Nobody has asked for it, so it gets no further page, and what folding makes no shorter gets none at all.
        """
        said = events[-1].offset - first + 1
        if len(events) > FEW + said // 2:
            return
        past = self._pasts.get(run)
        page = past.last if past is not None else self.page(run, 0, floor=0) if first == 1 else None
        if page is not None and page.upto == first - 1 and not (self.full(page) or page.growing.locked()):
            self.add(run, page, events, first=first, max_bytes=min(max_bytes, GROWN_BYTES))

    def add(self, run: str, page: Page, events: Sequence[Event], *, first: int, max_bytes: int) -> None:
        """Let a page of this run grow, whether it is still kept or not."""
        before = page.weight
        page.add(events, first=first, max_bytes=max_bytes)
        self._grew(run, page, page.weight - before)

    def dump(self, run: str) -> bytes:
        """A run's first page, for `load` in another process or later; empty when it would spare nobody much."""
        past = self._pasts.get(run)
        page = past.pages.get(past.floor) if past is not None else None
        if page is None or FEW + 2 * len(page.events) > page.upto - page.after:
            return b""
        return page.dump()

    def load(self, run: str, page: Page, dumped: bytes, *, epoch: str) -> None:
        """Fill an empty page, if this is what was dumped of it and no larger than pages are now."""
        if 0 < len(dumped) <= self.page_bytes:
            before = page.weight
            page.load(dumped, run=run, epoch=epoch)
            self._grew(run, page, page.weight - before)

    def forget(self, run: str) -> None:
        past = self._pasts.pop(run, None)
        if past is not None:
            self.weight -= past.weight

    def _grew(self, run: str, page: Page, more: int) -> None:
        past = self._pasts.get(run)
        if past is not None and past.pages.get(page.after) is page:
            self._weigh(past, more)

    def _weigh(self, past: _Past, more: int) -> None:
        past.weight += more
        self.weight += more
        while self.weight > self._max_bytes:
            self.forget(next(iter(self._pasts)))
