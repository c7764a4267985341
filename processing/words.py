"""Texts to words and words to texts, with character offsets; what a model's tags are about."""

from collections.abc import Sequence

from tokenizers.pre_tokenizers import BertPreTokenizer


Words = tuple[str, list[str], list[tuple[int, int]]]  # a text, its words, and (start, end) characters of each


def split_words(text: str) -> Words:
    """A text, its words and their offsets. Twitter's data sets have punctuation and symbols as words of their own."""
    pieces = BertPreTokenizer().pre_tokenize_str(text)
    offsets = [offset for _, offset in pieces]
    return text, [text[start:end] for start, end in offsets], offsets


def join_words(words: Sequence[str]) -> Words:
    """Words joined by one space, the words and their offsets in it."""
    words, offsets, start = list(words), [], 0
    for word in words:
        offsets.append((start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), words, offsets
