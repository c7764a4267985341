"""Texts as words and as tokens: the forms a caller may give, and what the tokenizer makes of them."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import AutoConfig
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from .problems import Problem, ProblemError


NO_WORDS = "the text is empty"
NO_TOKENS = "the text gives no token: the tokenizer drops all its characters, or max_length leaves no room"


def longest_text(text_model: str | os.PathLike) -> int:
    """Longest text in tokens that a text checkpoint takes; RoBERTa's positions start behind the padding index."""
    config = AutoConfig.from_pretrained(text_model)
    config = getattr(config, "text_config", config)  # of an IFAformer checkpoint, its text tower
    unused = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
    # A checkpoint of another type, which may have no positions, is refused by the model's configuration.
    return getattr(config, "max_position_embeddings", VERY_LARGE_INTEGER) - unused


@dataclass
class EncodedText:
    """
    A text as words and as tokens.

    Attributes:
        text: what the offsets point into; for words, the words joined by one space.
        words, offsets: the words, and `(start, end)` characters of each.
        input_ids: token ids with special tokens, cut at `max_length`.
        word_ids: of each token the index of its word, None for special tokens.
        problem: why a model cannot be given the text; it has no tokens then.
        num_cut_words: how many words `max_length` cut off.
    """

    text: str
    words: list[str]
    offsets: list[tuple[int, int]]
    input_ids: list[int]
    word_ids: list[int | None]
    problem: Problem | None = None
    num_cut_words: int = 0


def batched_text(text: Any, is_split_into_words: bool | None) -> tuple[list, bool, bool]:
    """
    Texts as a list, whether each is a list of words, and whether a single one was given. An empty list, a list of both
    kinds, or another kind than `is_split_into_words` says is a ValueError.
    """
    if isinstance(text, str):
        if is_split_into_words:
            raise ValueError("is_split_into_words=True needs a list of words, got a string.")
        return [text], False, True
    text = list(text)
    if not text:
        raise ValueError("text is empty: there is no text in the list.")
    nested = [not isinstance(item, str) for item in text]
    if any(nested) != all(nested):
        raise ValueError("text mixes strings and lists of words; give one kind.")
    if all(nested):
        if is_split_into_words is False:
            raise ValueError("is_split_into_words=False but text holds lists of words.")
        return [list(words) for words in text], True, False
    return ([text], True, True) if is_split_into_words else (text, False, False)


def tokenize_words(
    tokenizer: Any, words: Sequence[Sequence[str]], max_length: int | None = None
) -> tuple[list[list[int]], list[list[int | None]], list[set[int]]]:
    """
    Token ids of each list of words and special tokens, cut at `max_length` if given; the word of each token; and the
    words of which the cut left nothing.
    """
    words = [list(example) for example in words]
    if tokenizer.is_fast:
        encoding = tokenizer(words, is_split_into_words=True, truncation=max_length is not None, max_length=max_length)
        all_word_ids = [encoding.word_ids(row) for row in range(len(words))]
        left = [{word for part in of_row.overflowing for word in part.word_ids} for of_row in encoding.encodings or ()]
        cut_words = [beyond - {None, *kept} for beyond, kept in zip(left, all_word_ids, strict=True)]
        return encoding["input_ids"], all_word_ids, cut_words
    # BERTweet's tokenizer is Python only and knows no word ids: word by word, and the special tokens around.
    all_ids, all_word_ids, cut_words = [], [], []
    room = None if max_length is None else max(0, max_length - tokenizer.num_special_tokens_to_add())
    for example in words:
        ids: list[int] = []
        word_ids: list[int] = []
        for index, word in enumerate(example):
            pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word))
            ids += pieces
            word_ids += [index] * len(pieces)
        cut_words.append(set(word_ids) - set(word_ids[:room]))
        ids, word_ids = ids[:room], word_ids[:room]
        special = tokenizer.get_special_tokens_mask(ids)
        remaining = iter(word_ids)
        all_ids.append(tokenizer.build_inputs_with_special_tokens(ids))
        all_word_ids.append([None if is_special else next(remaining) for is_special in special])
    return all_ids, all_word_ids, cut_words


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


def to_words(texts: Sequence[Any], are_words: bool) -> list[Words]:
    """Texts, or where `are_words` lists of words, each with its words and their offsets."""
    return [join_words(text) if are_words else split_words(text) for text in texts]


def encode_words(tokenizer: Any, texts: Sequence[Words], max_length: int | None = None) -> list[EncodedText]:
    """Texts with their tokens, cut at `max_length` if given, or with the problem of those that give none."""
    tokenized = tokenize_words(tokenizer, [words for _, words, _ in texts], max_length)
    encoded = []
    for (text, words, offsets), ids, word_ids, cut_words in zip(texts, *tokenized, strict=True):
        if any(word is not None for word in word_ids):
            encoded.append(EncodedText(text, words, offsets, ids, word_ids, num_cut_words=len(cut_words)))
        else:
            problem = Problem(NO_TOKENS if words else NO_WORDS)
            encoded.append(EncodedText(text, words, offsets, [], [], problem))
    return encoded


def readable(encoded: list[EncodedText]) -> list[EncodedText]:
    """The texts as they are; the first that a model cannot be given is a ProblemError with its number."""
    for row, example in enumerate(encoded):
        if example.problem is not None:
            raise ProblemError(example.problem, f"Text {row} ({example.text!r:.80})")
    return encoded


def same_text(one: str, other: str) -> bool:
    """Whether two texts say the same: white space, letter case and how characters are composed do not count."""
    return one == other or _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
