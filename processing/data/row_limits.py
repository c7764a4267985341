"""What a row of a file may hold, whoever wrote it."""

import re
from collections.abc import Mapping
from typing import Any

from processing.problems import NO_UNICODE, Problem


# What a row may hold. Words take some 200 times the memory of their characters; a larger number is no float.
MAX_ROW_SIZE = 1 << 20
MAX_DEPTH = 32
MAX_BITS = 1000

ROW_TOO_LARGE = f"the row must have at most {MAX_ROW_SIZE:,} characters and other values"
TOO_DEEP = f"there must be at most {MAX_DEPTH} lists or dicts inside each other"
TOO_MANY_BITS = f"whole numbers must have at most {MAX_BITS:,} bits"
NO_TEXT_AS_KEY = "the keys of a dict must be text"

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def find_problem(row: Mapping[Any, Any]) -> Problem | None:
    """
    The first problem in the values of a row that makes the row useless, whichever column it is in: too many or too
    long values, too large numbers, too many lists inside each other, or text that is no Unicode. None for a row
    without one. Values that are no plain ones, such as pictures, are not looked at.
    """
    size = 0
    for column, value in row.items():
        level, depth = [column, value], 0
        column_name = column if isinstance(column, str) and not _HALF_PAIR.search(column) else None
        while level:
            if depth > MAX_DEPTH:
                return Problem(TOO_DEEP, column_name)
            inner: list[Any] = []
            size += len(level)
            for item in level:
                if isinstance(item, str):
                    size += len(item)
                    if not item.isascii() and (half := _HALF_PAIR.search(item)):
                        return Problem(NO_UNICODE, column_name, details=f"(got {half[0]!r})")
                elif isinstance(item, list | tuple):
                    size += len(item)
                    try:
                        inner.append("".join(item))  # Words and tags are looked at together.
                    except TypeError:
                        inner += item
                elif isinstance(item, int):
                    if item.bit_length() > MAX_BITS:
                        return Problem(TOO_MANY_BITS, column_name, details=f"(one has {item.bit_length()})")
                elif isinstance(item, dict):
                    if not all(isinstance(key, str) for key in item):
                        return Problem(NO_TEXT_AS_KEY, column_name)
                    inner += [*item, *item.values()]
            if size + len(inner) > MAX_ROW_SIZE:
                return Problem(ROW_TOO_LARGE)
            level, depth = inner, depth + 1
    return None
