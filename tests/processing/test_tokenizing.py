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


def test_only_words_that_had_a_token_are_cut(make_processor):
    """A zero-width joiner has no token, so that no cut can lose it."""
    processor = make_processor()
    [whole] = processor.encode_text([["Jordan", "met"]], True)
    processor.max_length = len(whole.input_ids)
    fits, cut = processor.encode_text([["Jordan", "met", "\u200d"], ["Jordan", "met", "Paris"]], True)
    assert fits.input_ids == whole.input_ids and fits.num_cut_words == 0
    assert cut.input_ids == whole.input_ids and cut.num_cut_words == 1
