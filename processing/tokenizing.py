"""Texts as words and as tokens: the forms a caller may give, and what the tokenizer makes of them."""

import operator
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex
from tokenizers import normalizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import BertPreTokenizer

from .problems import Problem, ProblemError, shown


NO_LIMIT = int(1e30)  # the `model_max_length` of a tokenizer that knows none

NO_WORDS = "the text is empty, or white space and invisible characters are all it has"
NO_TOKENS = "the text gives no token: the tokenizer drops all its characters, or max_length leaves no room"
CUT_OFF = "the text is longer than max_length, and words of it are cut off"
NOT_IN_TEXT = "must be the start and end of each of the tokens in the text, in order"


def tower_config(checkpoint: str | os.PathLike, name: str) -> Any:
    """
    The configuration of a checkpoint, or where the library does not know its type (IFAformer's own, as long as nobody
    has registered it) of its tower of that name: no code of the checkpoint is asked for.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig  # may be absent, see `warn_once`

    fields, _ = PreTrainedConfig.get_config_dict(checkpoint)
    if name in fields and fields.get("model_type") not in CONFIG_MAPPING:
        return AutoConfig.for_model(**fields[name])
    config = AutoConfig.from_pretrained(checkpoint)
    return getattr(config, name, config)


def longest_text(tokenizer: Any, config: Any = None) -> int | None:
    """
    Longest text in tokens that a tokenizer and, if its configuration is given, a text tower take; None if they know no
    limit.
    """
    limits = [tokenizer.model_max_length]
    if config is not None:
        # RoBERTa's positions start behind the padding index. A checkpoint of another type, which may have none, is
        # refused by the model's configuration.
        unused = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
        limits.append(getattr(config, "max_position_embeddings", NO_LIMIT) - unused)
    longest = min(limits)
    return longest if longest < NO_LIMIT else None


def check_tokenizer(tokenizer: Any) -> None:
    """
    A ValueError for a tokenizer without a vocabulary, which the library makes where a folder lacks the file; without a
    padding token; or which reads a word as the continuation of the one before.
    """
    if tokenizer is not None and len(tokenizer) <= len(tokenizer.added_tokens_decoder):
        raise ValueError("The tokenizer has no vocabulary. Is its file, such as tokenizer.json, in the folder?")
    if tokenizer is not None and tokenizer.pad_token_id is None:
        raise ValueError("The tokenizer has no padding token. Is the file tokenizer_config.json whole?")
    if tokenizer is not None and continues_words(tokenizer):
        raise ValueError(
            "The tokenizer would read a word as the continuation of the one before. Load it with "
            "add_prefix_space=True, or let from_vision_text_pretrained() load it."
        )


def continues_words(tokenizer: Any) -> bool:
    """Whether a tokenizer reads the second word of a list as if no space stood before it."""
    # Python tokenizers are given word by word, and of these models a word is an entry as a whole.
    if not tokenizer.is_fast or isinstance(tokenizer.backend_tokenizer.model, WordLevel):
        return False
    of_words = tokenizer(["a", "a"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
    return of_words != tokenizer("a a", add_special_tokens=False)["input_ids"]


def separate_words(tokenizer: Any) -> None:
    """Make a tokenizer read each word of a list as if a space stood before it, as it is in a text."""
    if continues_words(tokenizer):
        backend = tokenizer.backend_tokenizer
        own = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Prepend(" "), *own])


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
        num_context_tokens: how many of the tokens, the last ones, are those of a context, see [`add_contexts`].
        num_cut_context: how many tokens of the context are not read.
    """

    text: str
    words: list[str]
    offsets: list[tuple[int, int]]
    input_ids: list[int]
    word_ids: list[int | None]
    problem: Problem | None = None
    num_cut_words: int = 0
    num_context_tokens: int = 0
    num_cut_context: int = 0


def batched_text(text: Any, is_split_into_words: bool | None) -> tuple[list, bool, bool]:
    """
    Texts as a list, whether each is a list of words, and whether a single one was given. An empty list, a list of both
    kinds, or another kind than `is_split_into_words` says is a ValueError.
    """
    if isinstance(text, str):
        if is_split_into_words:
            raise ValueError("is_split_into_words=True needs a list of words, got a string.")
        return [text], False, True
    if not isinstance(text, Iterable):
        raise ValueError(
            f"text must be a string or a list, got {type(text).__name__}. It comes first; give pictures by name, as "
            "in processor(text, images=image)."
        )
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


def per_text(texts: Sequence[Any], is_single: bool, arguments: Mapping[str, Any]) -> dict[str, list]:
    """The arguments that are given, as lists with an entry for each text; another number is a ValueError."""
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, value in given.items():
        if not is_single and (isinstance(value, str) or not isinstance(value, Iterable)):
            raise ValueError(f"{len(texts)} texts but a single entry in {name}; give a list, with one for each text.")
    lists = {name: [value] if is_single else list(value) for name, value in given.items()}
    for name, values in lists.items():
        if len(values) != len(texts):
            raise ValueError(f"{len(texts)} texts but {len(values)} entries in {name}; give one for each text.")
    return lists


def tokenize_words(
    tokenizer: Any, words: Sequence[Sequence[str]], max_length: int | None = None
) -> tuple[list[list[int]], list[list[int | None]], list[set[int]]]:
    """
    Token ids of each list of words and special tokens, cut at `max_length` if given; the word of each token; and the
    words of which the cut left nothing.
    """
    all_ids, all_word_ids, cut_words = [], [], []
    for ids, word_ids in whole_texts(tokenizer, [list(example) for example in words]):
        # It is cut here: truncation is a setting of the tokenizer, which other threads may be using.
        of_words = [position for position, word in enumerate(word_ids) if word is not None]
        room = None if max_length is None else max(0, max_length - (len(ids) - len(of_words)))
        cut = set() if room is None else set(of_words[room:])
        kept = [position for position in range(len(ids)) if position not in cut]
        all_ids.append([ids[position] for position in kept])
        all_word_ids.append([word_ids[position] for position in kept])
        words_beyond = {word for position in cut if (word := word_ids[position]) is not None}
        cut_words.append(words_beyond - {*all_word_ids[-1]})
    return all_ids, all_word_ids, cut_words


def whole_texts(tokenizer: Any, words: list[list[str]]) -> Iterator[tuple[list[int], list[int | None]]]:
    """Of each list of words the token ids with special tokens, and the word of each token."""
    if tokenizer.is_fast:
        encoding = tokenizer(words, is_split_into_words=True, verbose=False)
        yield from ((ids, encoding.word_ids(row)) for row, ids in enumerate(encoding["input_ids"]))
        return
    for example in words:  # BERTweet's tokenizer is Python only and knows no word ids: word by word
        pieces = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(word)) for word in example]
        ids = [token for piece in pieces for token in piece]
        word_of = iter([index for index, piece in enumerate(pieces) for _ in piece])
        special = tokenizer.get_special_tokens_mask(ids)
        yield (
            tokenizer.build_inputs_with_special_tokens(ids),
            [None if is_special else next(word_of) for is_special in special],
        )


Words = tuple[str, list[str], list[tuple[int, int]]]  # a text, its words, and (start, end) characters of each

WORD_SPLITTERS = ("unicode", "bert")

# Classes of characters, by properties of Unicode. Those of `_ALONE` never continue a word of letters.
_SPACE = r"\s\x1c-\x1f"
_ALONE = r"\p{P}\p{S}\p{Extended_Pictographic}\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{Bopomofo}\p{lb=SA}"
_LETTER = rf"[^{_SPACE}\p{{Cf}}{_ALONE}]"
_LABEL = r"[a-z0-9\-]{1,63}+"  # a part of a host's name, which has no more than 63 characters
_KEYCAP = r"[0-9\#*]\uFE0F?\u20E3"
_SCHEME = r"(?i:https?|ftp)://(?=\w)"
# Stands in front of what goes on with a word: invisible characters may, an address or a keycap may not.
_MORE = rf"\p{{Cf}}*+(?!{_KEYCAP}|{_SCHEME})"

_WORD = regex.compile(
    rf"""(?V1)
    # An address: with a scheme, with www, or a host in small letters with a path. Brackets belong to it in pairs.
    (?: {_SCHEME} | (?i:www)\.(?=\w) | (?<!@) {_LABEL} (?:\.{_LABEL}){{1,9}}+ (?<=\.[a-z]{{2,63}}) / )
    (?: {_LETTER} | [\-./_~:?\#@!$&'*+,;=%|] | \([^()\[\]{_SPACE}]*\) | \[[^()\[\]{_SPACE}]*\] )+
    (?<![.,:;!?'*|])
    | (?<!{_LETTER}|_) [@\uFF20] (?:{_LETTER}|_) (?: {_MORE} (?:{_LETTER}|[_\p{{M}}]) )*+  # a name
    | {_KEYCAP}
    | (?<![\w&]) [\#\uFF03] [\w--\p{{Cf}}] (?: {_MORE} [\w--\p{{Cf}}] )*+  # a tag
    | {_LETTER} (?: {_MORE} (?:{_LETTER}|\p{{M}}) )*+
    | \p{{Extended_Pictographic}} \p{{Emoji_Modifier}}? [\U000E0020-\U000E007E]+ \U000E007F  # a flag of a region
    | \p{{Regional_Indicator}}{{2}} \p{{M}}*+  # a flag of a country, for which `\X` would look back over all before it
    | (?=[{_ALONE}]) (?P<cluster>\X)  # a sign, an emoji or a character, and what belongs to it or is invisible
    """,
    regex.VERBOSE,
)


def check_word_splitter(name: str) -> None:
    """An unknown splitter is a ValueError that names those that are known."""
    if name not in WORD_SPLITTERS:
        raise ValueError(f"word_splitter must be one of {', '.join(WORD_SPLITTERS)}, got {name!r}.")


def split_words(text: str, splitter: str = "unicode") -> Words:
    """
    A text, its words and their offsets. `text[start:end]` is the word; all that is in no word is white space or, for
    `unicode`, a format character.

    Args:
        splitter: `unicode` for every new model:

            - an address (`http://t.co/ab`, `www.oslo.no`, `t.co/ab`), a @name and a #tag are one word each, without
              the punctuation that follows them;
            - punctuation marks and symbols are words of their own, and so is an emoji with all that belongs to it: a
              flag, a keycap, a family that joiners hold together, a skin tone, a variation selector;
            - each Chinese character, kana and letter of a South East Asian script that has no spaces (Thai, Lao,
              Khmer, Myanmar; with its marks) is a word of its own;
            - format characters (Unicode's category Cf, all of them invisible) at the edge of a word belong to none;
            - all else is words between white space.

            `bert` is what models before that have, the splitting of tokenizers' `BertPreTokenizer`: white space and
            punctuation alone.

    Raises:
        ValueError: for another splitter.
    """
    check_word_splitter(splitter)
    if splitter == "bert":
        offsets = [offset for _, offset in BertPreTokenizer().pre_tokenize_str(text)]
    else:
        offsets = []
        for match in _WORD.finditer(text):
            start, end = match.span()
            while match["cluster"] and unicodedata.category(text[end - 1]) == "Cf":
                end -= 1
            offsets.append((start, end))
    return text, [text[start:end] for start, end in offsets], offsets


def join_words(words: Sequence[str]) -> Words:
    """Words joined by one space, the words and their offsets in it."""
    words, offsets, start = list(words), [], 0
    for word in words:
        offsets.append((start, start + len(word)))
        start += len(word) + 1
    return " ".join(words), words, offsets


def keeps_text(row: Mapping[str, Any]) -> bool:
    """Whether a row of a data set has the text that its `tokens` are words of, and not the words alone."""
    return isinstance(row.get("text"), str) and row.get("offsets") is not None


def row_words(row: Mapping[str, Any]) -> Words:
    """
    The words of a row of a data set, its `tokens`, in its `text` where it keeps one, with their `offsets` in it; else
    joined by one space. Words that do not stand in the text at their offsets, in order, are a ProblemError.
    """
    words = list(row["tokens"])
    if not keeps_text(row):
        return join_words(words)
    text: str = row["text"]
    try:
        offsets = [(operator.index(start), operator.index(end)) for start, end in row["offsets"]]
    except (TypeError, ValueError):
        offsets = []
    ends = [0, *(end for _, end in offsets)]
    in_order = all(end <= start for end, (start, _) in zip(ends, offsets, strict=False))
    if not in_order or [text[start:end] for start, end in offsets] != words:
        raise ProblemError(Problem(NOT_IN_TEXT, "offsets", details=f"(the text is {shown(text)})"))
    return text, words, offsets


def rows_words(rows: Mapping[str, Sequence[Any]]) -> list[Words]:
    """[`row_words`] of each row of a data set, whose columns these are."""
    given = {name: rows[name] for name in ("tokens", "text", "offsets") if name in rows}
    return [row_words(dict(zip(given, values, strict=True))) for values in zip(*given.values(), strict=True)]


def to_words(texts: Sequence[Any], are_words: bool, splitter: str) -> list[Words]:
    """Texts, or where `are_words` lists of words, each with its words and their offsets."""
    return [join_words(text) if are_words else split_words(text, splitter) for text in texts]


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


def token_features(
    tokenizer: Any,
    encoded: Sequence[EncodedText],
    max_word_bytes: int | None,
    word_shapes: bool,
    markers: Sequence[str],
) -> dict[str, list]:
    """
    Of each text the ids and masks of its tokens, as the tokenizer's model takes them. With `max_word_bytes`, also
    `byte_ids`: of each token so many bytes (in UTF-8) of its word, plus 1; 0 is padding. With `word_shapes`, also
    `word_shape_ids`: of each token the [`word_shape`] of its word, 0 for `markers` and special tokens.
    """
    data: dict[str, list] = {
        "input_ids": [example.input_ids for example in encoded],
        "attention_mask": [[1] * len(example.input_ids) for example in encoded],
    }
    if "token_type_ids" in tokenizer.model_input_names:
        data["token_type_ids"] = [[0] * len(example.input_ids) for example in encoded]
    if max_word_bytes is not None:
        data["byte_ids"] = [
            [_byte_ids("" if word is None else example.words[word], max_word_bytes) for word in example.word_ids]
            for example in encoded
        ]
    if word_shapes:
        data["word_shape_ids"] = []
        for example in encoded:
            shapes = [0 if word in markers else word_shape(word) for word in example.words]
            data["word_shape_ids"].append([0 if word is None else shapes[word] for word in example.word_ids])
    return data


def word_shape(word: str) -> int:
    """
    What characters a word is made of, as a number that is part of trained models, the first that holds of these: 1 it
    begins with `http`; 2 it has neither letters nor digits; 3 it has no letters; and, of the word without `#` and `@`
    in front, 4 all its letters are lower case; 5 it is a single capital letter; 6 all its letters are capitals; 7 it
    is a capital letter and then in lower case; 8 it has a capital letter elsewhere; else 9, such as Chinese.
    """
    name = word.lstrip("#@")
    has_letters = any(map(str.isalpha, word))
    checks = (
        word.startswith("http"),
        not any(map(str.isalnum, word)),
        not has_letters,
        name.islower(),
        len(name) == 1 and name.isupper(),
        name.isupper(),
        name[:1].isupper() and name[1:].islower(),
        any(map(str.isupper, name)),
    )
    return next((number for number, holds in enumerate(checks, start=1) if holds), len(checks) + 1)


def _byte_ids(word: str, number: int) -> list[int]:
    ids = [byte + 1 for byte in word.encode("utf-8", "surrogatepass")[:number]]
    return ids + [0] * (number - len(ids))


def readable(encoded: list[EncodedText]) -> list[EncodedText]:
    """The texts as they are; the first that a model cannot be given is a ProblemError with its number."""
    for row, example in enumerate(encoded):
        if example.problem is not None:
            raise ProblemError(example.problem, f"Text {row} ({shown(example.text)})")
    return encoded


def same_text(one: str, other: str) -> bool:
    """Whether two texts say the same: white space, letter case and how characters are composed do not count."""
    return one == other or _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
