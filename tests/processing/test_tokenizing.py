import itertools

from hypothesis import given
from hypothesis import strategies as st

from processing.tokenizing import join_words, split_words


def test_split_words():
    assert split_words("so, New  York\n@x!") == (
        "so, New  York\n@x!",
        ["so", ",", "New", "York", "@", "x", "!"],
        [(0, 2), (2, 3), (4, 7), (9, 13), (14, 15), (15, 16), (16, 17)],
    )


def test_join_words():
    assert join_words(["New", "York", "!"]) == ("New York !", ["New", "York", "!"], [(0, 3), (4, 8), (9, 10)])
    assert join_words([]) == ("", [], [])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_offsets_are_code_points_and_only_spaces_are_between_words(text):
    same, words, offsets = split_words(text)
    assert same == text and words == [text[start:end] for start, end in offsets]
    assert all(words) and all(a[1] <= b[0] for a, b in itertools.pairwise(offsets))
    ends = [0, *(end for _, end in offsets)]
    starts = [*(start for start, _ in offsets), len(text)]
    assert not "".join(text[end:start] for end, start in zip(ends, starts, strict=True)).strip()


@given(st.lists(st.text()))
def test_joined_words_are_found_at_their_offsets(words):
    text, same, offsets = join_words(words)
    assert same == words == [text[start:end] for start, end in offsets]
    assert len(text) == sum(map(len, words)) + max(len(words) - 1, 0)
