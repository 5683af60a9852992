"""Plain text, hard-wrapped or not, to sentences that know where they stand.

Rule 1: a sentence's text is the source's own, with white space collapsed: `flat(sentence.text) in flat(source)`.
Rule 2: nothing here knows what the text is about.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_CHARS = 420


def word_set(text: str) -> frozenset[str]:
    """The words of a list written as text."""
    return frozenset(text.split())


_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+(?:['’.-][^\W_{_CJK}]+)*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\ufeff]")
_BOOK = re.compile(r"\*\*\* ?START OF[^\n]*\n(.*?)(?=\n\*\*\* ?END OF|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^(```|~~~).*?(^\1[^\n]*$|\Z)", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"^[^\S\n]*\|.*\|[^\S\n]*$", re.MULTILINE)
_PICTURE = re.compile(r"^[^\S\n]*!\[[^\]\n]*\]\([^)\n]*\)[^\S\n]*$", re.MULTILINE)
_MARKDOWN = re.compile(r"^#{1,6}[^\S\n]+\S", re.MULTILINE)
_INDENTED = re.compile(r"(?: {4}|\t)")
_HEADING = re.compile(r"#{1,6}\s+(.+?)\s*#*$")
_RULE = re.compile(r"[-=*_~\s]{3,}")
_ITEM = re.compile(r"\s*(?:[-*+•‣◦–]|\(?\d{1,3}[.)])\s+(?=\S)")
_ASIDE = re.compile(r"\[(?:illustration|footnote|sidenote)[^\]]*\]", re.IGNORECASE)
_STOP = re.compile(r"(?:[.!?…]+[\"'”’»)\]_*]*(?=\s)|[。！？]+[」』”’）]*)")
_ENDED = re.compile(r"[.!?…。！？][\"'”’»)\]_*」』）]*$")
_NUMBERING = re.compile(
    r"(?:chapter|part|book|section|volume|act|scene|letter)?[\s.:]*[ivxlcdm\d]+[\s.:]*", re.IGNORECASE
)

# These never end a sentence; those of the second kind do unless a number follows; of the third, unless
# what follows could not begin one.
_BEFORE_NAME = word_set("""
    mr mrs ms messrs dr prof st mme mlle rev hon gov sen rep capt col gen lt sgt maj vs viz e.g i.e eg ie cf al
    ca approx
""")
_BEFORE_NUMBER = word_set("""
    no nos fig figs p pp vol vols ch sec sect eq prop theor prob exper obs qu ax def lib art par jan feb mar apr
    jun jul aug sep sept oct nov dec
""")
_BEFORE_ANY = word_set("etc inc ltd co corp jr sr bros a.m p.m u.s u.k b.c a.d ph.d dept est ave")
_BEGINS = word_set("""
    the a an he she it they we i you this that these those in on at when while if but and or so for as there
    here his her its their our my your what who why how after before since although however yet then no
""")


@dataclass(frozen=True)
class Sentence:
    """`index` and `paragraph` count from 0 within the source; `heading` is the nearest heading above, or empty.

    `spoken` says that it begins inside a quotation that an earlier sentence opened.
    """

    text: str
    source: int
    index: int
    paragraph: int
    heading: str = ""
    item: bool = False
    spoken: bool = False


def flat(text: str) -> str:
    """Text on one line: every run of white space and control characters is one space."""
    return " ".join(_CONTROL.sub(" ", text).split())


def joined(sentences: Iterable[str]) -> str:
    """Sentences as a text, a paragraph each, that `split` takes apart again; one without an end would be a title."""
    return "\n\n".join(one if ended(one) else f"- {one}" for one in sentences)


def words(text: str) -> list[str]:
    """The words of a text, punctuation dropped; in Chinese and Japanese every character is one."""
    return _WORD.findall(text)


def split(text: str, source: int = 0) -> list[Sentence]:
    """All sentences of a text in order. Code, tables, pictures, rules, and an e-book's licence are left out."""
    found: list[Sentence] = []
    heading = ""
    for number, (kind, paragraph) in enumerate(_paragraphs(text)):
        if kind == "heading":
            heading = "" if _NUMBERING.fullmatch(paragraph) else paragraph.strip(" .:_*")
            continue
        opened = 0
        for sentence in _sentences(paragraph):
            spoken = opened % 2 == 1
            found.append(Sentence(sentence, source, len(found), number, heading, kind == "item", spoken))
            opened += sum(sentence.count(mark) for mark in '"“”')
    return found


def ended(sentence: str) -> bool:
    """Whether the text closes as sentences do."""
    return _ENDED.search(sentence) is not None


def shouted(text: str) -> bool:
    """Whether a text is in capitals throughout, as titles are; scripts without capitals never are."""
    return text.upper() == text and text.lower() != text


def balanced(text: str) -> bool:
    """Whether every quotation mark and bracket that opens also closes, in that order for those that differ."""
    if text.count('"') % 2 or text.count("_") % 2 or text.count("*") % 2 or text.count("''") != text.count("``"):
        return False
    depth = dict.fromkeys("“(«[「", 0)
    pairs = dict(zip("”)»]」", depth, strict=True))
    for mark in text:
        if mark in depth:
            depth[mark] += 1
        elif mark in pairs:
            depth[pairs[mark]] -= 1
            if depth[pairs[mark]] < 0:
                return False
    return not any(depth.values())


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if book := _BOOK.search(text):
        text = book[1]
    text = _FENCE.sub("\n\n", text)
    markdown = _MARKDOWN.search(text) is not None
    for block in re.split(r"\n[^\S\n]*\n", _PICTURE.sub("\n\n", _TABLE.sub("\n\n", text))):
        lines = [line for line in block.split("\n") if flat(line)]
        if lines and not _ASIDE.fullmatch(flat(block)) and not (markdown and _is_code(lines)):
            yield from _block(lines)


def _is_code(lines: list[str]) -> bool:
    """Whether a block of a Markdown text is code by its indent; an indented list is none."""
    return all(map(_INDENTED.match, lines)) and not _ITEM.match(lines[0])


def _is_wrapped(lines: list[str]) -> bool:
    """Whether a line may go on in the next: all are short, or a long one stops in mid-sentence."""
    return max(map(len, lines)) <= 100 or any(len(line) > 100 and not ended(line.rstrip()) for line in lines[:-1])


def _block(lines: list[str]) -> Iterator[tuple[str, str]]:
    wrapped = _is_wrapped(lines)
    kind, held = "prose", list[str]()
    for position, line in enumerate(lines):
        heading = _HEADING.fullmatch(line.strip())
        item = _ITEM.match(line)
        rule = _RULE.fullmatch(line) is not None
        # In hard-wrapped prose a line may begin with a number or a dash by chance.
        item_starts = item is not None and (
            position == 0 or kind == "item" or not wrapped or line.lstrip()[0] in "-*•‣◦"
        )
        if heading or rule or item_starts or not wrapped:
            yield from _close("heading" if rule and len(held) == 1 else kind, held)
            kind, held = "prose", []
        if heading:
            yield "heading", flat(heading[1])
        elif item_starts and item is not None:
            kind, held = "item", [line[item.end() :]]
        elif not rule:
            held.append(line)
    yield from _close(kind, held)


def _close(kind: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    text = flat(" ".join(lines))
    if text:
        yield "heading" if kind == "prose" and len(lines) <= 2 and _is_title(text) else kind, text


def _is_title(text: str) -> bool:
    count = len(words(text))
    if count > 14 or any(mark in text for mark in '"“”;'):
        return False
    if shouted(text):
        return True
    if text[-1] == ":":
        return count <= 4
    return count <= 10 and text[-1] not in ".!?,;…—-。！？" and bool(words(text))


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for stop in _STOP.finditer(paragraph):
        after = paragraph[stop.end() :].lstrip()
        if after and _divides(paragraph[start : stop.start()], stop[0], after):
            yield paragraph[start : stop.end()].strip()
            start = stop.end()
    if rest := paragraph[start:].strip():
        yield rest


def _divides(before: str, stop: str, after: str) -> bool:  # noqa: PLR0911 - one return for each rule
    first = after.lstrip("\"'“‘«([_*")[:1]
    if first.islower():
        return False
    if not stop.startswith(".") or len(stop.rstrip("\"'”’»)]_*")) > 1:
        return True
    last = before.rsplit(None, 1)[-1].lstrip("\"'“‘«([_*—-") if before.split() else ""
    follows = words(after)[0] if words(after) else ""
    starts = follows.lower() in _BEGINS
    low = last.lower()
    if low in _BEFORE_NAME:
        return False
    if low in _BEFORE_NUMBER:
        return not (first.isdigit() or re.fullmatch(r"[IVXLC]+|[A-Z]", follows)) and (last != last.title() or starts)
    if low in _BEFORE_ANY or re.fullmatch(r"(?:[a-z]\.)+[a-z]", low):
        return starts
    if len(last) == 1 and last.isupper():
        return starts and (last == "I" or len(follows) > 1)
    return not (last.isdigit() and not before.strip(last).strip())
