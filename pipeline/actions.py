"""What an agent of a crew can do: actions by name, each from a `Job` to Markdown with its quotations.

Rule 1: an action says only what stands in the documents, or what was counted in them; it knows nothing of runs, but
has a `Writer` that tells and pays for what a model does.
Rule 2: an action is looked up in `ACTIONS` when its task runs, so adding one is adding a line to the table.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace

from pipeline.calling import Writer
from pipeline.checking import check
from pipeline.context import in_thread
from pipeline.documents import plural
from pipeline.errors import StagesFailed
from pipeline.models import Claim, Format, Request, Source, TextModel
from pipeline.models.extractive import Extractive, escape, quotable
from pipeline.models.rank import term, terms, topic_weights
from pipeline.models.sentences import Sentence, flat, joined, split, words
from pipeline.prompting import prompt

MODEL: TextModel = Extractive()
MOST_ROWS = 10
_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_SCALE = r"(?:hundred|thousand|million|billion|dozen)"
_SMALL = "(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty)"
_FIGURE = re.compile(
    rf"""(?P<date>\b\d{{1,2}}(?:st|nd|rd|th)?\s{_MONTH}(?:,?\s\d{{4}})?\b
        | \b{_MONTH}\s\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s\d{{4}})?
        | \b\d{{4}}-\d\d-\d\d\b | \b(?:1[0-9]|20)\d\d\b(?![.,]\d))
      | (?P<figure>[$£€]\s?\d[\d,]*(?:\.\d+)?(?:\s{_SCALE})? | \b\d[\d,]*(?:\.\d+)?(?:\s?(?:%|°|{_SCALE}\b))?
        | \b{_SMALL}(?:[\s-](?:one|two|three|four|five|six|seven|eight|nine))?\s{_SCALE}\b)""",
    re.VERBOSE,
)
_HEDGE = re.compile(r"\b(?:perhaps|probably|possibly|maybe|might|seems?|seemed|apparently|suppose)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Output:
    """Markdown for people, and the sentences it quotes, which later tasks build on."""

    markdown: str
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at one task. `topic` is the task's focus or else the goal; `inputs` are what it depends on, by id."""

    goal: str
    topic: str
    documents: tuple[Source, ...]
    inputs: Mapping[str, Output]
    titles: Mapping[str, str]
    max_words: int
    writer: Writer


Action = Callable[[Job], Awaitable[Output]]


async def extract(job: Job) -> Output:
    """The sentences that say most about the topic, as a list. Raises Rejected when nothing can be quoted."""
    return await _written(job, job.documents, "bullets")


async def summarise(job: Job) -> Output:
    """A few paragraphs from what the tasks before have quoted; from the documents when they quoted nothing."""
    return await _written(job, _quoted(job) or job.documents, "summary")


async def compare(job: Job) -> Output:
    """How often the telling words occur in each document, as a table; of a single document, in each third."""
    return await in_thread(_compare, job)


async def figures(job: Job) -> Output:
    """Dates and figures, each in its sentence, those about the topic first, then in the order of the documents."""
    return await in_thread(_figures, job)


async def criticise(job: Job) -> Output:
    """What the tasks before leave out: words of the goal, documents, figures; and what is only supposed."""
    if not job.writer.at_leisure:
        findings = [output.markdown for output in job.inputs.values()]
        return await _written(job, job.documents, "bullets", template="critique.md.j2", uncited=True, findings=findings)
    return await in_thread(_criticise, job)


async def report(job: Job) -> Output:
    """One document from all that it depends on: a lead, a section for each task, and the documents quoted."""
    claims = tuple(claim for output in job.inputs.values() for claim in output.claims)
    lead = await _written(job, _quoted(job), "summary", share=3) if claims else Output("")
    parts = [f"# {escape(flat(job.goal))}", lead.markdown]
    for key, output in job.inputs.items():
        parts += [f"## {escape(job.titles[key])}", output.markdown]
    cited = {claim.key for claim in claims}
    listed = [f"[{one.key}] {escape(one.name)}" for one in job.documents if one.key in cited]
    parts += ["---", "  \n".join(listed)] if listed else []
    return Output("\n\n".join(part for part in parts if part), tuple(dict.fromkeys((*lead.claims, *claims))))


ACTIONS: dict[str, Action] = {
    "extract": extract,
    "compare": compare,
    "figures": figures,
    "criticise": criticise,
    "summarise": summarise,
    "report": report,
}


async def _written(
    job: Job,
    sources: tuple[Source, ...],
    format: Format,
    *,
    share: int = 1,
    template: str = "generator.md.j2",
    uncited: bool = False,
    **more: object,
) -> Output:
    """A text by the model. One whose evidence does not hold is written again; then raises StagesFailed.

    `uncited`: it may do without evidence, as what is missing has none.
    """
    request = Request(
        topic=job.topic, sources=sources, tone="concise", format=format, max_words=max(job.max_words // share, 30)
    )
    for _ in range(job.writer.rewrites + 1):
        text, claims = "", list[Claim]()
        async with aclosing(job.writer.write(prompt(template, **vars(request), **more), request)) as pieces:
            async for piece in pieces:
                text += piece.text
                claims += piece.claims
        found = [] if job.writer.at_leisure else await in_thread(check, text, claims, request)
        unusable = tuple(
            one
            for one in found
            if (one.code.startswith("claim.") or one.code == "text.empty")
            and not (uncited and one.code == "claim.none")
        )
        if not unusable:
            return Output(text.strip(), tuple(claims))
        request = replace(request, failures=unusable)
    raise StagesFailed(request.failures[0].message)


def _quoted(job: Job) -> tuple[Source, ...]:
    """The documents cut down to what the tasks before have quoted from them."""
    claims = dict.fromkeys(claim for output in job.inputs.values() for claim in output.claims)
    quotes = {one.key: [claim.quote for claim in claims if claim.key == one.key] for one in job.documents}
    return tuple(Source(one.key, one.name, joined(quotes[one.key])) for one in job.documents if quotes[one.key])


def _columns(documents: tuple[Source, ...]) -> dict[str, str]:
    if len(documents) > 1:
        return {f"[{one.key}]": one.text for one in documents}
    sentences = [sentence.text for sentence in split(documents[0].text)]
    third = -(-len(sentences) // 3)
    names = ("beginning", "middle", "end")
    return {name: " ".join(sentences[third * at : third * (at + 1)]) for at, name in enumerate(names)}


def _compare(job: Job) -> Output:
    counts = {
        name: Counter(one for one in terms(text) if one[0].isalpha()) for name, text in _columns(job.documents).items()
    }
    total = sum(counts.values(), Counter[str]())
    named = sorted(topic_weights(job.topic, total), key=lambda one: -total[one])[: MOST_ROWS // 2]
    often = [
        one
        for one, _ in total.most_common(MOST_ROWS * 3)
        if one not in named and total[one] > 1 and _apart(one, counts)
    ]
    rows = [*named, *often][:MOST_ROWS]
    if not rows:
        return Output("The documents repeat no telling word, and have none of the goal.")
    form = _forms(job.documents)
    lines = [f"| word | {' | '.join(counts)} | all |", "|---|" + "---:|" * (len(counts) + 1)]
    lines += [
        f"| {form[one]} | {' | '.join(str(each[one]) for each in counts.values())} | {total[one]} |" for one in rows
    ]
    said = []
    for name, each in counts.items():
        alone = [form[one] for one, count in each.most_common() if len(one) > 3 and 1 < count == total[one]][:5]
        if alone:
            said.append(f"- Only in {_place(name)}: {', '.join(alone)}.")
    missing = [one for one in dict.fromkeys(terms(job.topic)) if not topic_weights(one, total)]
    if missing:
        said.append(f"- Not in the documents at all: {', '.join(map(escape, missing))}.")
    return Output("\n".join([*lines, "", *said]).strip())


def _forms(documents: tuple[Source, ...]) -> dict[str, str]:
    """Each term as it is written most often."""
    seen = Counter(word.lower() for one in documents for word in words(one.text))
    return {term(word): word for word, _ in reversed(seen.most_common())}


def _apart(one: str, counts: Mapping[str, Counter[str]]) -> bool:
    """Whether a word tells the columns apart: somewhere at least twice as frequent as elsewhere."""
    shares = [each[one] / max(each.total(), 1) for each in counts.values()]
    return len(one) > 3 and max(shares) >= 2 * min(shares)


def _place(column: str) -> str:
    return column if column.startswith("[") else f"the {column}"


def _figures(job: Job) -> Output:
    found = [(one, *each) for one in job.documents for each in _with_figures(one)]
    if not found:
        return Output("The documents give no dates and no figures.")
    vocabulary = {one for _, sentence, _ in found for one in terms(sentence.text)}
    weights = topic_weights(job.topic, vocabulary)
    about = [sum(weights.get(one, 0) for one in set(terms(sentence.text))) for _, sentence, _ in found]
    kept, left = list[int](), job.max_words
    for at in sorted(range(len(found)), key=lambda at: (-about[at], -len(set(found[at][2])), at)):
        cost = len(found[at][1].text.split())
        if cost <= left and cost <= 45:
            kept.append(at)
            left -= cost
    lines, claims = list[str](), list[Claim]()
    for at in sorted(kept[:MOST_ROWS]):
        source, sentence, numbers = found[at]
        lines.append(f"- **{escape(', '.join(dict.fromkeys(numbers)))}**: {escape(sentence.text)} [{source.key}]")
        claims.append(Claim(source.key, sentence.text))
    rest = len(found) - len(lines)
    if rest:
        lines.append(f"\n{plural(rest, 'more sentence')} with figures {'is' if rest == 1 else 'are'} left out.")
    return Output("\n".join(lines), tuple(claims))


def _with_figures(source: Source) -> Iterator[tuple[Sentence, list[str]]]:
    for sentence in split(source.text):
        numbers = [match[0].strip(" ,") for match in _FIGURE.finditer(sentence.text)]
        if numbers and quotable(sentence):
            yield sentence, numbers


def _criticise(job: Job) -> Output:
    said = " ".join(output.markdown for output in job.inputs.values())
    claims = list(dict.fromkeys(claim for output in job.inputs.values() for claim in output.claims))
    known = set(terms(" ".join(one.text for one in job.documents)))
    goal = list(dict.fromkeys(terms(job.topic)))
    unheard = [one for one in goal if not topic_weights(one, known)]
    missed = [one for one in goal if one not in unheard and not topic_weights(one, set(terms(said)))]
    cited = Counter(claim.key for claim in claims)
    points = []
    if unheard:
        points.append(f"No document speaks of: {', '.join(map(escape, unheard))}.")
    if missed:
        points.append(f"The findings leave out, though the documents have it: {', '.join(map(escape, missed))}.")
    if unused := [one for one in job.documents if not cited[one.key]]:
        points.append("Nothing is quoted from " + ", ".join(f"{escape(one.name)} [{one.key}]" for one in unused) + ".")
    top, most = cited.most_common(1)[0] if cited else ("", 0)
    if len(job.documents) > 1 and most > 0.7 * len(claims) and len(claims) > 2:
        points.append(f"{most} of {len(claims)} quotations come from one document [{top}].")
    everywhere = sum(1 for one in job.documents for _ in _with_figures(one))
    used = sum(1 for claim in claims if _FIGURE.search(claim.quote))
    if everywhere and used * 5 < everywhere:
        quoted = f"the findings quote {used or 'none'} of them"
        points.append(f"{plural(everywhere, 'sentence')} of the documents with dates or figures: {quoted}.")
    unsure = [claim for claim in claims if _HEDGE.search(claim.quote)]
    points += [
        f"Only supposed, by “{match[0]}”: {escape(claim.quote)} [{claim.key}]"
        for claim in unsure[:3]
        if (match := _HEDGE.search(claim.quote))
    ]
    if not points:
        points = [f"Nothing: every word of the goal and every document is in the {plural(len(claims), 'quotation')}."]
    return Output("\n".join(f"- {point}" for point in points), tuple(unsure[:3]))
