"""An offline model that keeps all it is given: its sources' sentences one after the other, each claimed.

Rule 1: what is to be said was chosen before; here it is only laid out as prose and kept within its length.
"""

from collections.abc import AsyncGenerator, Iterator

from pipeline.errors import Rejected
from pipeline.models import Claim, Piece, Request
from pipeline.models.extractive import PHRASE_WORDS, escape, quotable
from pipeline.models.sentences import split, words


class Passages:
    """A `TextModel` for the section of a text. Raises Rejected when the sources hold nothing that can be quoted."""

    async def write(self, prompt: str, request: Request) -> AsyncGenerator[Piece, None]:  # noqa: ARG002 - it cannot read
        left, said = request.max_words, False
        for number, source in enumerate(request.sources):
            paragraph = -1
            for sentence in split(source.text, number):
                count = max(len(sentence.text.split()), len(words(sentence.text)))
                if not quotable(sentence) or count > left:
                    continue
                left -= count
                gap = "" if not said else " " if sentence.paragraph == paragraph else "\n\n"
                paragraph, said = sentence.paragraph, True
                for piece in _phrases(f"{gap}{escape(sentence.text)} [{source.key}]", Claim(source.key, sentence.text)):
                    yield piece
        if not said:
            raise Rejected("No sentence of this section fits its length.")


def _phrases(text: str, claim: Claim) -> Iterator[Piece]:
    """The text a few words at a time; the last piece, which carries the mark, claims."""
    gap = text[: len(text) - len(text.lstrip())]
    tokens = text.split()
    for start in range(0, len(tokens), PHRASE_WORDS):
        last = start + PHRASE_WORDS >= len(tokens)
        phrase = (gap if start == 0 else " ") + " ".join(tokens[start : start + PHRASE_WORDS])
        yield Piece(phrase, (claim,) if last else ())
