"""What a language model writes, with its evidence inline, to Markdown with marks and claims, as it streams.

Rule 1: `<cite key="1">a sentence of source 1</cite>` becomes the mark `[1]` and a claim; all else stays as it is.
Rule 2: a claim is in the source's own letters where they differ only as typesetting does (quotes, dashes, capitals).
"""

import re
from collections.abc import Iterator, Sequence

from pipeline.models import Claim, Piece, Source
from pipeline.models.sentences import flat

MOST_CITE_CHARS = 3_000  # what is longer and not closed was no citation
_OPEN = re.compile(r"<cite\s+key\s*=\s*[\"']?([^\"'>]{1,80})[\"']?\s*>", re.IGNORECASE)
_WHOLE = re.compile(_OPEN.pattern + r"(.*?)</cite\s*>", re.IGNORECASE | re.DOTALL)
_SAME = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "‑": "-"})


class Cited:
    """Feed it text as it comes; `end` gives what is left."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._texts: dict[str, str] = {}
        for source in sources:  # several passages may be of one source
            self._texts[source.key] = f"{self._texts.get(source.key, '')} {flat(source.text)}".strip()
        self._plain: dict[str, str] = {}
        self._held = ""
        self._last = "\n"

    def feed(self, text: str) -> Iterator[Piece]:
        """The pieces that are certain now."""
        self._held += text
        while self._held:
            at = self._held.find("<")
            if at:
                yield from self._said(self._held if at < 0 else self._held[:at])
                self._held = "" if at < 0 else self._held[at:]
                continue
            if found := _WHOLE.match(self._held):
                self._held = self._held[found.end() :]
                yield self._mark(found[1].strip(), found[2])
            elif self._may_become_one():
                return
            else:
                yield from self._said("<")
                self._held = self._held[1:]

    def end(self) -> Iterator[Piece]:
        """What was held back and is not to become a citation any more."""
        left, self._held = self._held, ""
        yield from self._said(left)

    def _may_become_one(self) -> bool:
        if len(self._held) > MOST_CITE_CHARS:
            return False
        return "<cite".startswith(self._held[:5].lower()) and (">" not in self._held or bool(_OPEN.match(self._held)))

    def _said(self, text: str) -> Iterator[Piece]:
        if text:
            self._last = text[-1]
            yield Piece(text)

    def _mark(self, key: str, quote: str) -> Piece:
        mark = f"[{key}]" if self._last.isspace() else f" [{key}]"
        self._last = "]"
        return Piece(mark, (Claim(key, self._own(key, flat(quote)), repeated=False),))

    def _own(self, key: str, quote: str) -> str:
        """The quotation as its source spells it; as it is when the source has nothing like it."""
        text = self._texts.get(key, "")
        for wanted in (quote, quote.strip("\"'“”‘’ ").removesuffix("…").removesuffix("...").strip()):
            if wanted in text:
                return wanted
            if key not in self._plain:
                self._plain[key] = _plain(text)
            at = self._plain[key].find(_plain(wanted))
            if at >= 0:
                return text[at : at + len(wanted)]
        return quote


def _plain(text: str) -> str:
    """The text without what typesetting changes, letter for letter as long as before."""
    same = text.translate(_SAME)
    lower = same.lower()
    return lower if len(lower) == len(same) else same  # a few letters have a longer small form
