"""The offline model: where sentences end, which are chosen, and how long it takes."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import Rejected
from pipeline.models import Failure, Request, Source
from pipeline.models.extractive import Extractive
from pipeline.models.layout import heading
from pipeline.models.rank import Ranking, terms, topic_weights
from pipeline.models.sentences import Sentence, flat, split
from tests.pipeline.texts import WORKS, Work, read


async def written(request: Request) -> str:
    return "".join([piece.text async for piece in Extractive().write("", request)])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Mr. Hall met Dr. Lund. They spoke.", ["Mr. Hall met Dr. Lund.", "They spoke."]),
        ("See Fig. 3 for that. It is plain.", ["See Fig. 3 for that.", "It is plain."]),
        ("It costs 3.50 in all. Pay now.", ["It costs 3.50 in all.", "Pay now."]),
        ("J. R. Holm wrote it. He is old.", ["J. R. Holm wrote it.", "He is old."]),
        ('"Stop!" she cried. He did.', ['"Stop!" she cried.', "He did."]),
        ("They met in the U.S. in May. All went well.", ["They met in the U.S. in May.", "All went well."]),
        ("One line\nand the next. Then\nmore.", ["One line and the next.", "Then more."]),
        ("# Title\nText here. More.", ["Text here.", "More."]),
        ("- first thing\n- second thing", ["first thing", "second thing"]),
        ("蜂は飛ぶ。花が咲く。", ["蜂は飛ぶ。", "花が咲く。"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    """Abbreviations, numbers, quotations, wrapped lines, headings and lists are told apart."""
    assert [sentence.text for sentence in split(text)] == sentences


def test_a_sentence_knows_the_heading_above_it() -> None:
    """A heading belongs to the sentences below it, and a chapter's number is no heading."""
    found = split("# Honey\n\nIt is sweet.\n\nCHAPTER II\n\nIt went on.")
    assert [sentence.heading for sentence in found] == ["Honey", ""]


def test_the_licence_of_a_book_is_left_out() -> None:
    """Only what stands between the marks of an e-book is its text."""
    text = "Free of charge.\n*** START OF THIS BOOK ***\nThe tale began.\n*** END OF THIS BOOK ***\nPay here."
    assert [sentence.text for sentence in split(text)] == ["The tale began."]


@given(st.text())
def test_any_sentence_stands_in_its_text(text: str) -> None:
    """Whatever the text, each sentence occurs in it word for word, but for white space."""
    assert all(flat(sentence.text) in flat(text) for sentence in split(text))


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8), max_size=30), st.sampled_from("abcdefgh"))
def test_any_ranking_is_between_none_and_one(bags: list[list[str]], wanted: str) -> None:
    """Scores lie between 0 and 1 and the best is 1."""
    scores = Ranking(bags, {wanted: 1.0}).scores
    assert len(scores) == len(bags)
    assert all(0 <= score <= 1 + 1e-9 for score in scores)
    assert not scores or max(scores) == pytest.approx(1)


def test_the_topic_decides() -> None:
    """The same sentences are ranked differently for different topics."""
    bags = [terms(one) for one in ("Bees gather honey.", "Ships cross oceans.", "Honey keeps bees alive.")]
    assert Ranking(bags, topic_weights("ships", {"ship", "ocean"})).scores[1] == 1
    assert Ranking(bags, topic_weights("bee", {"bee", "honey"})).scores[1] < 1


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
async def test_several_thousand_words_are_quick(work: Work) -> None:
    """A real work costs about as much for each word as its first quarter does: nothing in it is quadratic."""
    text = read(work)

    async def cost(part: str) -> float:
        began = time.process_time()
        await written(Request(topic=work.topic, sources=(Source("1", "One", part),)))
        return time.process_time() - began

    quarter = text[: len(text) // 4]
    assert min([await cost(text) for _ in range(2)]) < 16 * min([await cost(quarter) for _ in range(3)])


async def test_the_same_request_gives_the_same_text() -> None:
    """There is no chance in it."""
    request = Request(topic=WORKS[0].topic, sources=(Source("1", "One", read(WORKS[0])),))
    assert await written(request) == await written(request)


async def test_the_tone_is_heard() -> None:
    """Neutral, formal, friendly and concise articles differ, and concise has no frame."""
    source = (Source("1", "One", read(WORKS[0])),)
    texts = {
        tone: await written(Request(topic="fence", sources=source, tone=tone))
        for tone in ("neutral", "formal", "friendly", "concise")
    }
    assert len(set(texts.values())) == 4
    assert texts["concise"].startswith("## ")


async def test_a_failure_changes_the_next_attempt() -> None:
    """Told that its text was too long, it writes a shorter one."""
    source = (Source("1", "One", read(WORKS[1])),)
    first = await written(Request(topic="cave", sources=source))
    again = await written(Request(topic="cave", sources=source, failures=(Failure("text.too_long", "too long"),)))
    assert len(again.split()) < len(first.split())


@pytest.mark.parametrize("text", ["12 34 56", "…", "#!/%&"])
async def test_nothing_to_quote_is_rejected(text: str) -> None:
    """A source without words is refused with a reason."""
    with pytest.raises(Rejected, match="no sentence"):
        await written(Request(topic="x", sources=(Source("1", "One", text),)))


def test_a_heading_is_found_for_a_sentence_that_was_cut_within_a_word():
    whole = [Sentence("They spoke of the electricity of the rooms.", 0, n, n) for n in range(2)]
    cut = [replace(whole[0], text="They spoke of the electric.")]
    assert heading(cut, whole, "rooms", set()) == "Electric"
