"""What a row of the pipeline may be, and the words in it."""

from collections.abc import Iterable, Mapping
from typing import Any

from transformers.utils import logging

from .collator import CROP_KINDS, PICTURE_COLUMNS
from .words import Words, join_words, split_words


logger = logging.get_logger(__name__)

# Columns a row may have: what is read, and what the data sets have besides.
KNOWN_COLUMNS = {"text", "tokens", *PICTURE_COLUMNS, "crops", "id", "image_id", "ner_tags", "head", "tail", "relation"}
KNOWN_COLUMNS |= {f"{kind}_objects" for kind in CROP_KINDS}
# What is meant for `image`, and would go unseen.
MISNAMED = {"images", "img", "picture", "pictures", "photo"}


def as_row(inputs: Any) -> Mapping[str, Any]:
    """
    A row as a mapping: a text or a list of words is one too. Columns that nobody looks at are logged.

    Raises:
        ValueError: for what is no row, and for a picture under another name.
    """
    if isinstance(inputs, str):
        return {"text": inputs}
    if isinstance(inputs, list | tuple):
        return {"tokens": inputs}
    if not isinstance(inputs, Mapping):
        raise ValueError(
            "expected a text, a list of words, or a mapping with text or tokens and pictures, got "
            f"{type(inputs).__name__}"
        )
    misnamed = sorted(inputs.keys() & MISNAMED)
    if misnamed and "image" not in inputs:
        raise ValueError(f"{', '.join(misnamed)}: the picture of a row is its image")
    unknown = sorted(map(str, inputs.keys() - KNOWN_COLUMNS))
    if unknown:
        logger.warning_once(f"Not looked at: {', '.join(unknown)}. Pictures are read from {PICTURE_COLUMNS}.")
    return inputs


def row_words(row: Mapping[str, Any]) -> Words:
    """
    The row's text, its words and their offsets.

    Raises:
        ValueError: for a row without a text, or one of another type.
    """
    name = "text" if row.get("tokens") is None else "tokens"
    value = row.get(name)
    if value is None:
        raise ValueError(f"neither text nor tokens among {sorted(map(str, row))}, or both are None")
    if isinstance(value, str):
        text, words, offsets = split_words(_encodable(name, value))
    elif isinstance(value, Iterable) and all(isinstance(word, str) for word in value):
        text, words, offsets = join_words([_encodable(name, str(word)) for word in value])
    else:
        raise ValueError(f"{name}: expected a string or a list of words, got {value!r:.80}")
    return text, words, offsets


def _encodable(name: str, text: str) -> str:
    """
    Raises:
        ValueError: for half a surrogate pair, which no tokenizer takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {text!r:.80} is no valid Unicode: {error.reason}") from error
    return text
