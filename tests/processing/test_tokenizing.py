import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.data.own.labelled_rows import LabelNames, read_labelled_row
from processing.pipeline_rows import read_words
from processing.problems import ProblemError
from processing.tokenizing import WORD_SPLITTERS, join_words, row_words, split_words


# Of all scripts, with emoji, signs, addresses, what is invisible and what is white space, in any order.
PARTS = [
    *("Ana", "Oslo", "naïve", "2020", "Łódź", "Москва", "Αθήνα", "القاهرة", "ירושלים", "दिल्ली", "서울에서", "ქალაქი"),
    *("北京", "東京タワー", "ｶﾞ", "か\u3099", "ㄅㄆ", "กรุงเทพ", "ວຽງຈັນ", "ភ្នំពេញ", "ရန်ကုန်", "က\u200dမ"),
    *("🔥", "❤️", "❤️\u200d🔥", "👨\u200d👩\u200d👧", "👍🏽", "🇳🇴", "🇳", "1️⃣", "#️⃣", "\u2139\ufe0f", "‼️", "©"),
    *("🏴\U000e0067\U000e0062\U000e007f", "\ufe0f", "\ufe0e", "\u20e3", "\U000e0067", "\U000e007f", "\U0001fada"),
    *("http://t.co/ab", "HTTPS://x.org/a_(b)?c=d#e", "http://", "www.oslo.no", "t.co/ab", "ana@x.org", "km/h", "x.y"),
    *("@ana_1", "@", "#oslo", "#東京", "#", "_", "-", ".", ",", "…", "'", "\u2019", "(", ")", "[", "]", "&amp;", "$"),
    *("\u200b", "\u200c", "\u200d", "\u200e", "\u2067", "\xad", "\ufeff", "\u0600", "\x00", "\x07", "\uf8ff"),
    *(" ", "\n", "\t", "\xa0", "\u3000", "\u2028", "\x85", "\x1c", "\u0301", "\u0e31", "\u0378"),
]
ANY_TEXT = st.lists(st.sampled_from(PARTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)).map(
    "".join
)


def is_unseen(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) == "Cf"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("so, New  York\n@x!", "so , New York @x !"),
        ("don't snake_case 3.5% C++ :) <3", "don ' t snake _ case 3 . 5 % C + + : ) < 3"),
        ("Ana🔥 in Oslo❤️ Paris😀Rome 🇳🇴Norway", "Ana 🔥 in Oslo ❤️ Paris 😀 Rome 🇳🇴 Norway"),
        ("a👨\u200d👩\u200d👧b👍🏽c🇳🇴🇸🇪d", "a 👨\u200d👩\u200d👧 b 👍🏽 c 🇳🇴 🇸🇪 d"),
        ("Ana1️⃣#️⃣2️⃣0 \u2139\ufe0fx", "Ana 1️⃣ #️⃣ 2️⃣ 0 \u2139\ufe0f x"),
        ("🏴\U000e0067\U000e0062\U000e007fb ‼️ ©️x", "🏴\U000e0067\U000e0062\U000e007f b ‼️ ©️ x"),
        ("我在北京, NHK放送2020年", "我 在 北 京 , NHK 放 送 2020 年"),
        ("東京タワーに行った か\u3099ｶﾞ", "東 京 タ ワ ー に 行 っ た か\u3099 ｶﾞ"),
        ("서울에서 김치", "서울에서 김치"),
        ("กรุงเทพ ວຽງ កុំ ရန်", "ก รุ ง เ ท พ ວ ຽ ງ កុំ ရ န်"),
        ("दिल्ली القاهرة Łódź", "दिल्ली القاهرة Łódź"),
        ("http://t.co/ab. (HTTPS://x.org/a_(b)?c=d#e),", "http://t.co/ab . ( HTTPS://x.org/a_(b)?c=d#e ) ,"),
        ("www.oslo.no: pic.twitter.com/ab, t.co/ab…", "www.oslo.no : pic.twitter.com/ab , t.co/ab …"),
        ("Anahttp://t.co/ab 见http://t.co/ab我", "Ana http://t.co/ab 见 http://t.co/ab 我"),
        ("http:// km/h U.S./Canada x.org", "http : / / km / h U . S . / Canada x . org"),
        ("@ana, (@bo_1): RT@x ana@x.org 我@ana我", "@ana , ( @bo_1 ) : RT @ x ana @ x . org 我 @ana 我"),
        ("#oslo! (#a_b) x#y &#39; #東京タワー #नमस्ते", "#oslo ! ( #a_b ) x # y & # 39 ; #東京タワー #नमस्ते"),
        ("\ufeffAna\u200b \u2067Bo\u2069! An\xada 🔥\u200d", "Ana Bo ! An\xada 🔥"),
        ("\u200b \u200e\n", ""),
    ],
)  # fmt: skip
def test_split_words(text, words):
    same, found, offsets = split_words(text)
    assert same == text and found == words.split() == [text[start:end] for start, end in offsets]


def test_the_former_splitter_is_kept():
    assert split_words("so, Ana🔥\n@x!", "bert") == (
        "so, Ana🔥\n@x!",
        ["so", ",", "Ana🔥", "@", "x", "!"],
        [(0, 2), (2, 3), (4, 8), (9, 10), (10, 11), (11, 12)],
    )
    with pytest.raises(ValueError, match="word_splitter must be one of unicode, bert, got 'spacy'"):
        split_words("Ana", "spacy")


@given(st.text("aZ9é. ,;:!?'\"()-_%&*$+<=>^`|~\n"))
def test_what_is_nothing_special_is_split_as_it_was(text):
    assert split_words(text) == split_words(text, "bert")


@pytest.mark.parametrize("splitter", WORD_SPLITTERS)
@given(text=ANY_TEXT)
def test_words_are_in_order_and_only_what_is_unseen_is_between_them(splitter, text):
    same, words, offsets = split_words(text, splitter)
    assert same == text and words == [text[start:end] for start, end in offsets]
    assert all(start < end for start, end in offsets)
    assert all(before <= start for (_, before), (start, _) in itertools.pairwise(offsets))
    ends = [0, *(end for _, end in offsets)]
    starts = [*(start for start, _ in offsets), len(text)]
    between = "".join(text[end:start] for end, start in zip(ends, starts, strict=True))
    assert all(map(is_unseen, between) if splitter == "unicode" else map(str.isspace, between))


@given(ANY_TEXT)
def test_nothing_invisible_is_at_the_edge_of_a_word(text):
    for word in split_words(text)[1]:
        assert not is_unseen(word[0])
        assert not is_unseen(word[-1]) or (word[-1] == "\U000e007f" and unicodedata.category(word[0]) == "So")
        assert not any(map(str.isspace, word))


@pytest.mark.parametrize("splitter", WORD_SPLITTERS)
@given(text=ANY_TEXT)
def test_words_of_training_are_those_of_prediction(make_processor, splitter, text):
    processor = make_processor(word_splitter=splitter)
    learnt: tuple = text, [], []
    try:
        row = read_labelled_row({"text": text, "spans": []}, "train-0", LabelNames(), splitter)
        learnt = row.text, row.tokens, row.offsets
    except ProblemError as error:
        assert str(error).startswith("text: must have a word")
    assert learnt == read_words({"text": text}, processor.word_splitter) == split_words(text, splitter)
    assert row_words(dict(zip(("text", "tokens", "offsets"), learnt, strict=True))) == learnt
    try:
        [encoded] = processor.encode_text([text])
    except ProblemError:
        return  # no token
    assert (encoded.text, encoded.words, encoded.offsets) == learnt


@pytest.mark.parametrize(
    "offsets", [[[0, 3]], [[0, 3], [3, 6]], [[4, 6], [0, 3]], [[0, 3], [4.0, 6]], 5, [[0, 3], None]]
)
def test_words_that_are_not_in_their_text(offsets):
    row = {"text": "Ana Bo", "tokens": ["Ana", "Bo"], "offsets": [[0, 3], [4, 6]]}
    assert row_words(row) == ("Ana Bo", ["Ana", "Bo"], [(0, 3), (4, 6)])
    assert row_words({**row, "text": None, "offsets": []}) == join_words(["Ana", "Bo"])
    with pytest.raises(ProblemError, match=r"offsets: must be the start and end .* \(the text is 'Ana Bo'\)"):
        row_words({**row, "offsets": offsets})


def test_join_words():
    assert join_words(["New", "York", "!"]) == ("New York !", ["New", "York", "!"], [(0, 3), (4, 8), (9, 10)])
    assert join_words([]) == ("", [], [])


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
