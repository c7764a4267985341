from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertweetTokenizer, RobertaTokenizer

from processing.entity_markers import (
    NO_ENTITY_TOKENS,
    NO_ROOM,
    NO_SPAN,
    NOT_ONCE,
    context_window,
    encode_marked,
    mark_entities,
)
from processing.features.tokenizer_training import train_wordpiece
from processing.problems import Problem, ProblemError


MARKERS = ("<head>", "</head>", "<tail>", "</tail>")
WORDS = ("Jordan", "in", "unaffable", "\u200d", "New", "York", "zzz")


def entity(span):
    return dict(zip(("start", "end"), span, strict=True))


def mark(words, head, tail, label_scheme="word"):
    return mark_entities(words, entity(head), entity(tail), MARKERS, label_scheme)


def short(words):
    """`<s> </s> <o> </o>` as in MNRE."""
    names = dict(zip(MARKERS, ("<s>", "</s>", "<o>", "</o>"), strict=True))
    return " ".join(names.get(word, word) for word in words)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """WordPiece, byte-level BPE, and BERTweet's, which is Python only; with the markers."""
    folder = tmp_path_factory.mktemp("bertweet")
    (folder / "vocab.txt").write_text(
        "".join(f"{piece} 1\n" for piece in ("Jor@@", "dan", "in", "New", "York", "un@@", "aff@@", "able"))
    )
    (folder / "bpe.codes").write_text("J o 1\nJo r 1\nd a 1\nda n</w> 1\ni n</w> 1\nN e 1\nNe w</w> 1\n")
    letters = sorted(set("".join(WORDS)) - {"\u200d"})
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *letters, "\u0120", "or", "\u0120Y", "\u0120Yor"]
    tokenizers = {
        "wordpiece": train_wordpiece(["Jordan", "in", "unaffable", "New", "York"], vocab_size=60),
        "bytes": RobertaTokenizer(
            vocab={token: index for index, token in enumerate(vocabulary)},
            merges=[("o", "r"), ("\u0120", "Y"), ("\u0120Y", "or")],
            add_prefix_space=True,
        ),
        "python": BertweetTokenizer(
            vocab_file=str(folder / "vocab.txt"), merges_file=str(folder / "bpe.codes"), normalization=False
        ),
    }
    for tokenizer in tokenizers.values():
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
    assert not tokenizers["python"].is_fast
    return tokenizers


@st.composite
def texts(draw):
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=14))
    ends = st.lists(st.integers(0, len(words)), min_size=2, max_size=2, unique=True).map(sorted)
    return words, tuple(draw(ends)), tuple(draw(ends))


class TestMarkEntities:
    @pytest.mark.parametrize(
        ("head", "tail", "expected"),
        [
            ((0, 1), (3, 5), "<s> a </s> b c <o> d e </o>"),
            ((3, 5), (0, 1), "<o> a </o> b c <s> d e </s>"),
            ((0, 3), (1, 2), "<s> a <o> b </o> c </s> d e"),
            ((0, 3), (0, 1), "<s> <o> a </o> b c </s> d e"),
            ((1, 3), (0, 3), "<o> a <s> b c </s> </o> d e"),
            ((0, 2), (2, 5), "<s> a b </s> <o> c d e </o>"),
            ((1, 3), (1, 3), "a <s> <o> b c </o> </s> d e"),
            ((0, 3), (2, 5), "<s> a b <o> c </s> d e </o>"),
        ],
    )
    def test_markers_nest_in_the_word_scheme(self, head, tail, expected):
        assert short(mark("abcde", head, tail).words) == expected

    def test_the_published_order(self):
        # no marker at the end
        assert short(mark("abc", (0, 1), (1, 3), "deepke").words) == "<s> a </s> <o> b c"
        assert short(mark("abc", (0, 2), (0, 1), "deepke").words) == "<s> <o> a </o> b </s> c"

    @given(texts())
    def test_each_marker_once_around_its_entity(self, text):
        words, head, tail = text
        marked = mark(words, head, tail)
        assert [word for word in marked.words if word not in MARKERS] == words
        assert {word for word in marked.words if word in MARKERS} == set(MARKERS)
        assert Counter(word for word in marked.words if word in MARKERS).total() == 4
        for (start, end), (opening, closing) in zip((head, tail), (MARKERS[:2], MARKERS[2:]), strict=True):
            inside = marked.words[marked.words.index(opening) : marked.words.index(closing)]
            assert [word for word in inside if word not in MARKERS] == words[start:end]
        markers = [index for index, word in enumerate(marked.words) if word in MARKERS]
        assert (marked.first, marked.last) == (markers[0], markers[-1])
        if not (head[0] < tail[0] < head[1] < tail[1] or tail[0] < head[0] < tail[1] < head[1]):
            order = "".join("(" if marked.words[index] in MARKERS[::2] else ")" for index in markers)
            kinds = [MARKERS.index(marked.words[index]) // 2 for index in markers]
            assert order in ("()()", "(())")
            inner = 0 if order == "()()" else 1  # a pair of markers with none between
            assert kinds[inner] == kinds[inner + 1], short(marked.words)

    @pytest.mark.parametrize("span", [(1, 1), (-1, 2), (1, 4)])
    def test_spans_that_are_none(self, span):
        with pytest.raises(ProblemError) as error:
            mark_entities(list("abc"), {"start": 0, "end": 1}, entity(span), MARKERS, "word")
        details = f"(got {entity(span)}, the text has 3 words)"
        assert error.value.problem == Problem(NO_SPAN, "tail", details=details)

    @pytest.mark.parametrize("value", [None, (0, 1), {"start": 0}, {"start": "0", "end": 1}, {"start": 0.5, "end": 1}])
    def test_entities_that_are_none(self, value):
        with pytest.raises(ProblemError, match=f"head: {NO_SPAN}"):
            mark_entities(list("abc"), value, {"start": 0, "end": 1}, MARKERS, "word")


def slow_window(lengths, first, last, room):
    """The rule of `context_window`, word by word: left, right, left, ... of what is still allowed to grow."""
    window, sides = list(range(first, last + 1)), ["left", "right"]
    while sides:
        for side in list(sides):
            other = window[0] - 1 if side == "left" else window[-1] + 1
            wider = sorted([*window, other])
            if 0 <= other < len(lengths) and sum(lengths[index] for index in wider) <= room:
                window = wider
            else:
                sides.remove(side)
    return window[0], window[-1] + 1


class TestContextWindow:
    @given(st.data())
    def test_the_rule(self, data):
        lengths = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=12))
        first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(lengths) - 1)] * 2)))
        room = data.draw(st.integers(0, sum(lengths) + 2))
        if sum(lengths[first : last + 1]) > room:
            with pytest.raises(
                ProblemError, match=f"take {sum(lengths[first : last + 1])} tokens, .* room for {room}"
            ):
                context_window(lengths, first, last, room)
            return
        start, end = context_window(lengths, first, last, room)
        assert (start, end) == slow_window(lengths, first, last, room)
        assert start <= first and last < end and sum(lengths[start:end]) <= room

    def test_left_comes_first_and_the_other_side_gets_the_rest(self):
        ones = [1] * 11
        assert context_window(ones, 5, 5, 2) == (4, 6)
        assert context_window(ones, 5, 5, 5) == (3, 8)
        assert context_window(ones, 1, 1, 7) == (0, 7)
        assert context_window(ones, 9, 9, 7) == (4, 11)
        assert context_window([1, 9, 1, 1, 1], 2, 2, 4) == (2, 5)


class TestEncodeMarked:
    @pytest.mark.parametrize("kind", ["wordpiece", "bytes", "python"])
    @given(text=texts(), max_length=st.integers(3, 40))
    @example(text=(["zzz"] * 12 + ["in", "New"], (13, 14), (12, 13)), max_length=12)
    def test_markers_are_never_cut(self, tokenizers, kind, text, max_length):
        tokenizer = tokenizers[kind]
        words, head, tail = text
        marked = mark(words, head, tail)
        [whole] = encode_marked(tokenizer, [marked], MARKERS, "word", None)
        [cut] = encode_marked(tokenizer, [marked], MARKERS, "word", max_length)
        if any(not tokenizer.tokenize(" ".join(words[start:end])) for start, end in (head, tail)):
            assert whole.problem.kind == NO_ENTITY_TOKENS and cut.problem is not None
            assert whole.input_ids == cut.input_ids == []
            return
        needed = sum(word is not None and marked.first <= word <= marked.last for word in whole.word_ids)
        needed += whole.word_ids.count(None)
        if needed > max_length:
            assert cut.problem.kind == NO_ROOM and cut.input_ids == []
            return
        assert cut.problem is None
        assert len(cut.input_ids) == len(cut.word_ids) <= max_length
        assert cut.num_cut_words == len(set(whole.word_ids) - set(cut.word_ids))
        assert [cut.input_ids.count(marker) for marker in tokenizer.convert_tokens_to_ids(list(MARKERS))] == [1] * 4
        # Special tokens stay, the rest is one stretch of whole words with all from marker to marker.
        pairs = list(zip(whole.input_ids, whole.word_ids, strict=True))
        kept = {word for word in cut.word_ids if word is not None}
        expected = [(token, word) for token, word in pairs if word is None or word in kept]
        assert list(zip(cut.input_ids, cut.word_ids, strict=True)) == expected
        reached = sorted({word for _, word in pairs if word is not None})
        assert all(word in kept for word in reached if marked.first <= word <= marked.last)
        assert [word in kept for word in reached].count(True) == len(kept)
        positions = [reached.index(word) for word in sorted(kept)]
        assert all(after == before + 1 for before, after in pairwise(positions))
        if len(whole.input_ids) <= max_length:
            assert cut == whole
        else:  # as much as fits: no word beside the window has room
            sizes = Counter(word for _, word in pairs)
            beside = reached[: positions[0]][-1:] + reached[positions[-1] + 1 :][:1]
            assert all(len(cut.input_ids) + sizes[word] > max_length for word in beside)

    @pytest.mark.parametrize("kind", ["wordpiece", "bytes", "python"])
    def test_the_published_cut(self, tokenizers, kind):
        words = ["in"] * 12
        marked = mark(words, (0, 2), (9, 12), "deepke")
        whole, cut, short = (
            encode_marked(tokenizers[kind], [marked], MARKERS, "deepke", length)[0] for length in (None, 60, 9)
        )
        assert cut == whole
        opening = whole.input_ids.index(tokenizers[kind].convert_tokens_to_ids("<tail>"))
        [shortest] = encode_marked(tokenizers[kind], [marked], MARKERS, "deepke", opening + 2)
        assert shortest.input_ids[:-1] == whole.input_ids[: opening + 1]
        assert short.problem.kind == NOT_ONCE and "<tail> 0 times" in short.problem.details

    def test_a_text_that_holds_a_marker_itself(self, tokenizers):
        fine, other = mark(["Jordan", "in"], (0, 1), (1, 2)), mark(["<tail>", "in", "New"], (1, 2), (2, 3))
        encoded, error = encode_marked(tokenizers["wordpiece"], [fine, other], MARKERS, "word", None)
        assert encoded.words == fine.words
        assert error.problem.kind == NOT_ONCE and "<tail> 2 times" in error.problem.details

    def test_markers_that_are_no_tokens(self):
        tokenizer = train_wordpiece(["Jordan"], vocab_size=60)
        with pytest.raises(ValueError, match=r"</head>, </tail>, <head>, <tail> are no tokens") as error:
            encode_marked(tokenizer, [mark(["Jordan", "in"], (0, 1), (1, 2))], MARKERS, "word", None)
        assert not isinstance(error.value, ProblemError)

    def test_a_real_tokenizer(self, minilm):
        tokenizer = AutoTokenizer.from_pretrained(minilm)
        tokenizer.add_tokens(list(MARKERS), special_tokens=True)
        words = [*["unaffable"] * 30, "Jordan", "met", "Paris", *["unaffable"] * 30]
        [encoded] = encode_marked(tokenizer, [mark(words, (30, 31), (32, 33))], MARKERS, "word", 20)
        tokens = tokenizer.convert_ids_to_tokens(encoded.input_ids)
        middle = ["<head>", "jordan", "</head>", "met", "<tail>", "paris", "</tail>"]
        pieces = tokenizer.tokenize("unaffable")
        sides = (20 - 2 - len(middle)) // len(pieces)
        left = (sides + 1) // 2
        assert tokens == ["[CLS]", *pieces * left, *middle, *pieces * (sides - left), "[SEP]"]
