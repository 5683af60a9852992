"""Which sentences matter for a topic, and which of them together say most.

Rule 1: sentences in, numbers out; the same input always gives the same answer.

Methods: topic-sensitive LexRank (Otterbacher, Erkan and Radev, "Using Random Walks for Question-focused Sentence
Retrieval", HLT/EMNLP 2005) over tf-idf cosine; maximal marginal relevance (Carbonell and Goldstein, "The Use of
MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries", SIGIR 1998); words are folded by
the S stemmer (Harman, "How Effective Is Suffixing?", JASIS 42(1), 1991).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from pipeline.models.sentences import word_set, words

BIAS = 0.7  # the walk's share of topic against centrality
NOVELTY = 0.35  # what a repetition costs
ROUNDS = 60
ENGLISH = 0.2  # of a text's words
TOLERANCE = 1e-6

STOP = word_set("""
    a about above after again against all almost along already also although always am among an and another any
    anything are around as at away back be became because become been before began behind being below best
    better between beyond both brought but by call called came can cannot come could day did do does doing done
    down during each either else enough even ever every everything far few first for found from further gave get
    give given go goes going gone good got great had half hand hardly has have having he hence her here herself
    him himself his how however i if in indeed instead into is it its itself just keep kept knew know known last
    later least left less let like little long look looked made make makes making man many may me men might mine
    more moreover most mr mrs much must my myself near nearly neither never next no nor not nothing now of off
    often oh old on once one only onto or other others our ourselves out over own part perhaps place put quite
    rather said same saw say see seem seemed seems seen several shall she should show since so some something
    soon still such take taken tell than that the their them themselves then thence there therefore these they
    thing things think this those though thought three through throughout thus till time times to together told
    too took toward towards turn turned two under unless until up upon us use used using very want was way we
    well went were what whatever when where whether which while who whole whom whose why will with within
    without would year years yes yet you your yourself don't didn't doesn't won't can't couldn't isn't wasn't
    aren't weren't i'm i'll i've it's that's ain't you're he's she's there's let's they're we're four five six
    seven eight nine ten ye thou thee thy hath doth shew shewn
""")

Vector = Mapping[str, float]


def term(word: str) -> str:
    """A word as it is compared: lower case, no possessive, no plural."""
    low = word.lower().replace("’", "'")
    low = low.removesuffix("'s").removesuffix("'")
    if low.endswith("ies") and len(low) > 4 and low[-4] not in "ae":
        return low[:-3] + "y"
    if low.endswith("es") and len(low) > 3 and low[-3] not in "aeo":
        return low[:-1]
    if low.endswith("s") and len(low) > 3 and low[-2] not in "us":
        return low[:-1]
    return low


def terms(text: str) -> list[str]:
    """The comparable words of a text, those that say nothing (articles, pronouns, common verbs) left out."""
    return [term(word) for word in words(text) if word.lower().replace("’", "'") not in STOP and _telling(word)]


def english(texts: Iterable[str]) -> bool:
    """Whether the small words are those of English: of English prose they are nearly half, elsewhere a tenth."""
    found = [word.lower().replace("’", "'") for text in texts for word in words(text)]
    return sum(word in STOP for word in found) >= ENGLISH * len(found)


def topic_weights(topic: str, vocabulary: Iterable[str]) -> dict[str, float]:
    """The topic's terms that the vocabulary has, weight 1, and their close relatives in form, weight 0.5."""
    wanted = set(terms(topic)) or {term(word) for word in words(topic)}
    weights: dict[str, float] = {}
    for known in vocabulary:
        if known in wanted:
            weights[known] = 1.0
        elif any(_related(known, one) for one in wanted):
            weights[known] = 0.5
    return weights


class Ranking:
    """Scores of sentences for one topic.

    `bags` are the sentences' terms. `scores` are between 0 and 1, the best being 1; with no weight on any term
    that occurs, the walk is unbiased and the scores are plain centrality.
    """

    def __init__(self, bags: Sequence[Sequence[str]], weights: Mapping[str, float]) -> None:
        self._counts = [Counter(bag) for bag in bags]
        spread = Counter(one for counts in self._counts for one in counts)
        self.idf: dict[str, float] = {one: math.log((len(bags) + 1) / (found + 0.5)) for one, found in spread.items()}
        self.relevance = [
            sum(math.log(1 + count) * weights[one] * self.idf[one] for one, count in counts.items() if one in weights)
            for counts in self._counts
        ]
        self._vectors = [self._unit(counts) for counts in self._counts]
        self.scores = self._walk()

    def similarity(self, one: int, other: int) -> float:
        """Cosine of two sentences, 0 to 1."""
        left, right = self._vectors[one], self._vectors[other]
        if len(left) > len(right):
            left, right = right, left
        return sum(value * right[key] for key, value in left.items() if key in right)

    def _unit(self, counts: Mapping[str, int]) -> Vector:
        raw = {one: count * self.idf[one] for one, count in counts.items()}
        length = math.sqrt(sum(value * value for value in raw.values())) or 1.0
        return {one: value / length for one, value in raw.items()}

    def _walk(self) -> list[float]:
        count = len(self._vectors)
        if not count:
            return []
        links = self._links()
        near = self._context()
        total = sum(near)
        start = [value / total for value in near] if total else [1 / count] * count
        bias = BIAS if total else 0.15
        rank = start
        for _ in range(ROUNDS):
            following = [bias * value for value in start]
            for origin, targets in enumerate(links):
                share = (1 - bias) * rank[origin]
                for target, weight in targets:
                    following[target] += share * weight
            change = sum(abs(new - old) for new, old in zip(following, rank, strict=True))
            rank = following
            if change < TOLERANCE:
                break
        best = max(rank) or 1.0
        return [value / best for value in rank]

    def _context(self) -> list[float]:
        """Relevance spread a little over the neighbours: who names a subject goes on about it."""
        padded = [0.0, 0.0, *self.relevance, 0.0, 0.0]
        return [
            padded[at] + 0.12 * (padded[at - 1] + padded[at + 1]) + 0.05 * (padded[at - 2] + padded[at + 2])
            for at in range(2, len(padded) - 2)
        ]

    def _links(self) -> list[list[tuple[int, float]]]:
        """Each sentence's neighbours with the chance of stepping there; similar sentences alone are neighbours."""
        postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for index, vector in enumerate(self._vectors):
            for one, value in vector.items():
                postings[one].append((index, value))
        links = []
        for index, vector in enumerate(self._vectors):
            near: dict[int, float] = defaultdict(float)
            for one, value in vector.items():
                for other, weight in postings[one]:
                    near[other] += value * weight
            near.pop(index, None)
            total = sum(near.values())
            # A sentence like no other keeps its rank to itself.
            links.append([(other, weight / total) for other, weight in near.items()] if total else [(index, 1.0)])
        return links


def select(
    ranking: Ranking,
    scores: Sequence[float],
    cost: Callable[[int], int],
    budget: int,
    free: Callable[[int, set[int]], bool],
) -> list[int]:
    """Pick sentences by maximal marginal relevance while their summed cost stays within the budget.

    `free(i, chosen)` says whether sentence i may be taken now. Returns positions in the order of picking.
    """
    order: list[int] = []
    chosen: set[int] = set()
    nearest = [0.0] * len(scores)
    left = budget
    candidates = {index for index, score in enumerate(scores) if score > 0}
    while candidates:
        open_now = [index for index in candidates if cost(index) <= left and free(index, chosen)]
        if not open_now:
            break
        best = max(open_now, key=lambda index: ((1 - NOVELTY) * scores[index] - NOVELTY * nearest[index], -index))
        candidates.discard(best)
        if nearest[best] > 0.6:
            continue
        order.append(best)
        chosen.add(best)
        left -= cost(best)
        for index in candidates:
            nearest[index] = max(nearest[index], ranking.similarity(index, best))
    return order


def _telling(word: str) -> bool:
    return len(word) > 1 or not word.isascii()


def _related(one: str, other: str) -> bool:
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < 4 or len(longer) - len(shorter) > 5:
        return False
    shared = sum(1 for _ in _common(one, other))
    return shared == len(shorter) or (shared >= 6 and shared >= len(shorter) - 2)


def _common(one: str, other: str) -> Iterable[str]:
    for left, right in zip(one, other, strict=False):
        if left != right:
            return
        yield left
