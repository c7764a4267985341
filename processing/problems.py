"""What is wrong with a row or a picture, as a value. Sentences are made where they are printed."""

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


# Control characters, ends of lines and paragraphs, what turns the writing direction of the rest, halves of pairs.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


NO_UNICODE = "a text must be valid Unicode, without half of a surrogate pair"


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong with a picture, or with a row of a data set or of an input file.

    Attributes:
        kind: what is wrong, a sentence that is the same for every row with this problem, so that problems can be
            counted by it. It holds no name, value or number of the row.
        column: the column that it is in, None for the row as a whole.
        item: which of the column's items, from 0 on; None for the column as a whole.
        details: what came, for people; empty where the kind says all. It may hold what stands in the row, and is not
            published.
    """

    kind: str
    column: str | None = None
    item: int | None = None
    details: str = ""

    @property
    def place(self) -> str:
        """The column and the item as a row names them, `aux_crops 1`; empty for the row as a whole."""
        return " ".join(str(part) for part in (self.column, self.item) if part is not None)

    @property
    def published(self) -> str:
        """The problem as cards and pages tell it: its place and its kind, without the details."""
        return f"{self.place}: {self.kind}" if self.place else self.kind

    def __str__(self) -> str:
        return f"{self.published} {self.details}".rstrip()


def shown(value: Any) -> str:
    """What a message shows of a value that came: at most 80 characters of its `repr`."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # an integer of more than 4300 digits, or something nested too deep
        return f"a value of type {type(value).__name__} that cannot be shown"


def distinct_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` of a reader of JSON that refuses a dict with a key twice, by a ValueError."""
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"a dict has the key {repeated!r:.80} twice")
    return values


def visible(name: str) -> str:
    """A name on one line, where characters that could hide or turn what stands beside it are escapes (`\\u202e`)."""
    return _INVISIBLE.sub(lambda character: character[0].encode("unicode_escape").decode(), name)


@lru_cache(None)
def warn_once(logger: logging.Logger, message: str) -> None:
    """
    Log a warning the first time that it comes. The library's own `warning_once` would need the library, which is not
    there where a tagger runs without torch.
    """
    logger.warning(message)


def check_at_least_one(**numbers: int | None) -> None:
    """Refuse options that are given but are no whole number of at least 1, by a ValueError that names the option."""
    for name, number in numbers.items():
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ValueError(f"{name} must be at least 1, got {number!r}.")


class ProblemError(ValueError):
    """
    A problem that ends the work.

    Args:
        problem: what is wrong.
        where: in front of the message: the row's number, or its file and line.
    """

    def __init__(self, problem: Problem, where: str = ""):
        super().__init__(f"{where}: {problem}" if where else str(problem))
        self.problem, self.where = problem, where
