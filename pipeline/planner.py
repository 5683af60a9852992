"""The offline model of an agent: rules that read a task into tool calls, and results into an answer.

Rule 1: no network, no weights, no chance: the same task always gives the same plan.
Rule 2: an answer says only what tools returned, each statement with the mark of its call, `[t1]`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.calculator import FUNCTIONS, CannotCalculate, calculate
from pipeline.documents import plural
from pipeline.models.extractive import escape
from pipeline.models.rank import terms
from pipeline.models.sentences import flat, word_set, words

NAME = "offline-rules-1"

_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}:/{1,3}[^\s<>\"'“”]+", re.IGNORECASE)
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)")
_WORD_COUNT = re.compile(
    r"\bhow many words\b|\bcount (?:the |all )?words\b|\bword count\b|\bnumber of words\b", re.IGNORECASE
)
_OCCURS = re.compile(
    r"\bhow (?:often|many times) (?:does|do|is|are|did) (?:the (?:word|name|term) )?[\"'“]?(?P<word>[\w-]+)[\"'”]? "
    r"(?:\w+ ){0,2}?(?:occur|appear|come up|mentioned|used|named|found)\w*",
    re.IGNORECASE,
)
_SPOKEN: Final = (
    (r"(?<=\d)\s*(?:multiplied by|times|[×·])\s*(?=[\d(.-])", " * "),
    (r"(?<=[\d)])\s*(?:divided by|÷)\s*(?=[\d(.-])", " / "),
    (r"(?<=[\d)])\s+plus\s+(?=[\d(.-])", " + "),
    (r"(?<=[\d)])\s+minus\s+(?=[\d(.-])", " - "),
    (r"(?:the )?square root of\s+(\d+(?:\.\d+)?)", r"sqrt(\1)"),
    (r"(\d+(?:\.\d+)?)\s*(?:%|percent|per cent)\s+of\s+(\d+(?:\.\d+)?)", r"\1 / 100 * \2"),
    (r"(?<=[\d)])\s*to the power of\s*(?=\d)|(?<=[\d)])\s*\^\s*(?=[\d(-])", " ** "),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),
    (r"−", "-"),
)
_EXPRESSION = re.compile(
    rf"(?<![\w.])(?:[(+-]\s*)*(?:(?:{'|'.join(FUNCTIONS)})\s*\(|\d|\.\d|pi\b)"
    rf"(?:[\d\s().,+*/%-]|e[+-]?\d|(?:{'|'.join(FUNCTIONS)})(?=\s*\()|\bpi\b)*"
)
_OPERATES = re.compile(r"[\d).]\s*(?:\*\*|//|[+*/%-])\s*[-(\da-z.]|[a-z]\s*\(")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}|\d+(?:-\d+)+|\d{4}/\d{2}")
_CUE = re.compile(r"\b(?:calculate|compute|evaluate|work out|what is|what's|how much is)\W*$", re.IGNORECASE)
_ASKS = re.compile(r"\b(?:who|whom|whose|what|when|where|why|which|how)\b", re.IGNORECASE)
_ORDERS = word_set("""
    calculate compute evaluate work out please also then and tell me find show give fetch get read open download
    look page url site answer question documents document text texts what is result sum count summarise say
    says said about there according
""")


@dataclass(frozen=True)
class Step:
    """A tool to call; `why` says so to people."""

    tool: str
    args: dict[str, Any]
    why: str


@dataclass
class Done:
    """A step that was taken: with its result, or with the error that came instead."""

    call: str
    step: Step
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    declined: bool = False  # by a person


def plan(task: str) -> list[Step]:
    """The calls that a task asks for: pages first, for the rest may be about them. Empty when it asks for nothing."""
    steps = [
        Step("http_get", {"url": url.rstrip(".,;:!?)")}, f"read {url.rstrip('.,;:!?)')}") for url in _URL.findall(task)
    ]
    rest = _URL.sub("\n", task)
    counts: list[Step] = []
    for sentence in re.split(
        r"(?<=[?!])\s+|(?<=\.)\s+(?=[A-Z])|;\s+|\n+|,?\s+and\s+(?=how many |how often |what is )", rest
    ):
        counted, left = _counting(sentence)
        counts += counted
        calculated, left = _arithmetic(left)
        counts += calculated
        if calculated and not _ASKS.search(_CUE.sub("", left.strip(" .,:;!?-="))):
            continue  # what is left only led up to the sum
        if query := _question(left):
            counts.append(Step("search", {"query": query}, f"search for “{query}”"))
    return _unique(steps + counts)


def again(done: Done) -> Step | None:
    """What to try after a search that found nothing: its most telling word alone, the longest."""
    if done.step.tool != "search" or done.result.get("passages") or done.error or "instead" in done.step.args:
        return None
    found = [one for one in words(done.step.args["query"]) if len(one) > 5]
    if not found:
        return None
    stem = max(found, key=len)[:-2]
    return Step("search", {"query": stem, "instead": True}, f"search again, for words like “{stem}”")


def answer(done: Sequence[Done]) -> str:
    """Markdown, a paragraph for each call; a second try that found nothing either is left out."""
    kept = [one for one in done if "instead" not in one.step.args or one.result.get("passages")]
    return "\n\n".join(f"{_told(one)} [{one.call}]" for one in kept) + "\n"


def _unique(steps: Sequence[Step]) -> list[Step]:
    kept: list[Step] = []
    for step in steps:
        if all((step.tool, step.args) != (one.tool, one.args) for one in kept):
            kept.append(step)
    return kept


def _counting(sentence: str) -> tuple[list[Step], str]:
    if found := _OCCURS.search(sentence):
        word = found["word"]
        return [Step("word_count", {"word": word}, f"count “{word}”")], ""
    if not _WORD_COUNT.search(sentence):
        return [], sentence
    if quoted := _QUOTED.search(sentence):
        text = next(group for group in quoted.groups() if group)
        return [Step("word_count", {"text": text}, "count the words of the quotation")], ""
    return [Step("word_count", {}, "count the words of the documents")], ""


def _arithmetic(sentence: str) -> tuple[list[Step], str]:
    """What can be calculated, and the sentence without it."""
    text = sentence
    for spoken, written in _SPOKEN:
        text = re.sub(spoken, written, text, flags=re.IGNORECASE)
    steps, left, at = list[Step](), "", 0
    for found in _EXPRESSION.finditer(text):
        expression = _closed(found[0])
        plain = _DATE.fullmatch(expression.replace(" ", "")) and "*" not in expression and " " not in expression
        if not _OPERATES.search(expression) or (plain and not _CUE.search(text[: found.start()])):
            continue
        steps.append(Step("calculator", {"expression": expression}, f"calculate {expression}"))
        left += text[at : found.start()]
        at = found.start() + len(expression)
    return (steps, left + text[at:]) if steps else ([], sentence)


def _closed(text: str) -> str:
    """The longest beginning that is an expression, or that would be one if its numbers were smaller."""
    whole = text.strip(" ,").rstrip(".,+*/- ")
    for end in range(len(whole), 0, -1):
        if whole[end - 1] in "0123456789)%" or whole[:end].endswith("pi"):
            try:
                calculate(whole[:end])
            except CannotCalculate as error:
                if "not an arithmetic" not in str(error):
                    return whole[:end]
            else:
                return whole[:end]
    return whole


def _question(sentence: str) -> str:
    """A sentence as a query; empty when nothing is left to look for but orders and small words."""
    text = re.sub(r"^(?:(?:and|then|also|please|tell me|what about)\W+)+", "", flat(sentence), flags=re.IGNORECASE)
    text = text.strip(" .,:;!?-=")
    telling = [one for one in terms(text) if one not in _ORDERS and not one.isdigit()]
    return text[:300] if telling else ""


def _told(one: Done) -> str:  # noqa: PLR0911 - one return for each tool
    args, result = one.step.args, one.result
    if one.error is not None:
        return f"I could not {escape(one.step.why)}: {escape(one.error)}"
    if one.step.tool == "calculator":
        return f"{escape(args['expression'])} = {result['value']}"
    if one.step.tool == "word_count":
        parts = [f"{escape(part['source'])}: {part['count']:,}" for part in result.get("parts", [])]
        where = f" ({'; '.join(parts)})" if len(parts) > 1 else ""
        if word := args.get("word"):
            return f"“{escape(word)}” occurs {plural(result['count'], 'time')} in the documents{where}."
        what = "The quotation has" if "text" in args else "The documents have"
        return f"{what} {plural(result['count'], 'word')}{where}."
    if one.step.tool == "http_get":
        begin = f" It begins: “{escape(' '.join(result['excerpt'].split()[:40]))} …”" if result["excerpt"] else ""
        size = plural(result["bytes"], "byte")
        return f"{escape(result['url'])} answered {result['status']} with {size} of {result['type']}.{begin}"
    query = ("words like " if "instead" in args else "") + f"“{escape(args['query'])}”"
    if not result.get("passages"):
        return f"The documents have nothing on {query}."
    missing = f" (No document has: {', '.join(map(escape, result['missing']))}.)" if result["missing"] else ""
    said = "\n".join(f"- “{escape(each['quote'])}” — {escape(each['source'])}" for each in result["passages"])
    return f"On {query} the documents say:{missing}\n\n{said}"
