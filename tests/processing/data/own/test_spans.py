import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.data.own.forms import rejection
from processing.data.own.spans import OWN_TEXT, in_characters, own_text, read_spans, words_of_spans
from processing.problems import ProblemError
from processing.tokenizing import split_words


TEXT = "🔥🔥🔥 Al met José in LA today"


def spans_of(words, size):
    """Spans of words of the text, in units of which a character has `size(character)`."""
    starts = [sum(map(size, TEXT[: TEXT.index(word)])) for word in words]
    return [(start, start + sum(map(size, word)), word) for start, word in zip(starts, words, strict=True)]


UNITS = {
    "": lambda character: 1,
    "UTF-16 units": lambda character: len(character.encode("utf-16-le")) // 2,
    "bytes of UTF-8": lambda character: len(character.encode()),
}


@pytest.mark.parametrize("unit", UNITS)
@given(words=st.lists(st.sampled_from(["Al", "met", "José", "in", "LA", "🔥 Al"]), min_size=1, max_size=3))
def test_the_own_text_tells_the_unit(unit, words):
    offsets, found = in_characters(TEXT, spans_of(words, UNITS[unit]), "spans")
    assert ([TEXT[start:end] for start, end in offsets], found) == (words, unit)


def test_spans_without_an_own_text_follow_the_others():
    (first, second) = spans_of(["Al", "LA"], UNITS["UTF-16 units"])
    offsets, _ = in_characters(TEXT, [first, (*second[:2], None)], "spans")
    assert [TEXT[start:end] for start, end in offsets] == ["Al", "LA"]


@pytest.mark.parametrize("spans", [[(7, 9, "Al"), (17, 20, "Lee")], [(7, 99, "Al")], [(1, 2, "Al")]])
def test_no_unit_fits(spans):
    with pytest.raises(ProblemError) as error:
        in_characters(TEXT, spans, "entities")
    assert (error.value.problem.kind, error.value.problem.column) == (OWN_TEXT, "entities")
    assert "is given, " in error.value.problem.details


def test_small_differences_are_none():
    assert in_characters("New  York", [(0, 9, "new york")], "spans") == ([(0, 9)], "")


@pytest.mark.parametrize(
    ("span", "own"),
    [
        ({"label": "PER"}, None),
        ({"label": "PER", "text": "Lee"}, "Lee"),
        ({"label": "PER", "surface": "Lee"}, "Lee"),
        ({"label": "PER", "mention_text": "Lee"}, "Lee"),
        ({"label": "PER", "value": "met"}, "met"),
        ({"label": "PER", "value": "Lee Smith (actor)"}, None),
        ({"label": "LA", "id": "in"}, None),
        ({"label": "PER", "sentiment": "met", "annotator": "a", "label_text": "met", "note": "in"}, None),
        ({"label": "LA", "entity": "LA", "name": "Al"}, "Al"),
        ({"label": "PER", "tokens": ["José", "in"]}, "José in"),
        ({"label": "PER", "words": ["Jo", "##sé"]}, None),
        ({"label": "PER", "text": " ", "score": 1}, None),
    ],
)
def test_own_text(span, own):
    assert own_text({"start": 0, "end": 1, **span}, TEXT) == own


@pytest.mark.parametrize(
    ("column", "value", "is_rejected"),
    [
        ("answer", "accept", False),
        ("answer", "ignore", True),
        ("was_cancelled", True, True),
        ("was_cancelled", "false", False),
        ("is_confirmed", False, True),
        ("is_confirmed", "True", False),
        ("Status", "Rejected", True),
        ("status", "submitted", False),
        ("verified", False, False),  # Twitter says it of people.
        ("approved", None, False),
    ],
)
def test_rejection(column, value, is_rejected):
    problem = rejection({"text": "reject", column: value})
    assert (problem is not None) == is_rejected
    assert problem is None or problem.column == column


@pytest.mark.parametrize(
    ("text", "start", "end", "words"),
    [
        ("🔥🔥 Ana met Bob today", 5, 8, None),  # UTF-16 units
        ("ABCD efgh", 1, 3, None),
        ("Ana met Bob", 0, 5, None),
        ("the #GoLakers now", 7, 13, None),
        ("Oslofjord saw it", 0, 4, None),
        ("Osloer saw it", 0, 4, "Osloer"),
        ("in 서울에서는", 3, 5, "서울에서는"),
        ("so @oslo won", 4, 8, "@oslo"),
        ("so  Ana won", 2, 7, "Ana"),
    ],
)
def test_words_of_spans(text, start, end, words):
    spans = read_spans([{"start": start, "end": end, "label": "PER"}], "spans", text)
    if words is None:
        with pytest.raises(
            ProblemError, match="spans: each must be whole words, but for signs in front and an ending"
        ):
            list(words_of_spans(spans, split_words(text), "spans"))
    else:
        ((first, last, _, whole),) = words_of_spans(spans, split_words(text), "spans")
        assert whole == words and split_words(text)[1][first:last] == [words]


def test_the_message_names_other_units():
    text = "🔥🔥 Ana met Bob today"
    spans = read_spans([{"start": 5, "end": 8, "label": "PER"}], "spans", text)
    with pytest.raises(ProblemError, match=r"\(got 'a m' of 'Ana met'; counted in UTF-16 units all of them are whole"):
        list(words_of_spans(spans, split_words(text), "spans"))
