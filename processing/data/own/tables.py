"""
Rows of a file, one by one: JSON lines, JSON, CSV, CoNLL, plain text, Parquet or Arrow.

A row that cannot be read is a problem, and reading goes on. Memory does not grow with the file, but for a JSON array.
"""

import os
from collections.abc import Collection, Iterator
from typing import Any

from processing.problems import Problem

from .arrow_tables import arrow_features, arrow_rows
from .conll_tables import conll_rows, is_conll
from .csv_tables import csv_rows
from .text_tables import Row, json_rows, line_rows


def _conll_or_line_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    yield from (conll_rows if is_conll(path) else line_rows)(path)


# What reads a file of text, by its ending. A format that is to be added has its place here.
_READERS = {
    ".jsonl": json_rows,
    ".json": json_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".conll": conll_rows,
    ".txt": _conll_or_line_rows,
}

TEXT_ENDINGS = tuple(_READERS)
CONLL_ENDINGS = (".conll", ".txt")
BINARY_ENDINGS = (".parquet", ".arrow")


def ending_of(path: str | os.PathLike) -> str:
    """The ending that says what a file holds, such as `.csv`, in small letters."""
    return os.path.splitext(path)[1].lower()


def read_table(path: str | os.PathLike, columns: Collection[str] | None = None) -> Iterator[tuple[int, Row | Problem]]:
    """
    The rows of a file and the place of each: the line on which it starts, or in Parquet and Arrow its number from 0.

    | ending | a row is |
    |---|---|
    | `.jsonl`, `.json` | a JSON object on a line, or of an array that is the whole file; blank lines are skipped |
    | `.csv`, `.tsv` | the cells below a header of names; an empty cell is None; blank lines are skipped |
    | `.conll` | `{"tokens", "ner_tags"}` of the lines between two blank ones, see [`conll_rows`] |
    | `.txt` | the same where [`is_conll`] says so; else `{"text": line}`, blank lines too |
    | `.parquet`, `.arrow` | what it holds, as plain Python values |

    Text is UTF-8, with or without a byte order mark. For lists in CSV, and for its rows of several lines, see
    [`csv_rows`].

    Args:
        columns: all that is needed; Parquet and Arrow give no others, and do not read them from the disk.

    Raises:
        OSError: for a file that cannot be opened.
        ValueError: with the file's name, for an unknown ending, Parquet or Arrow that is none or damaged, UTF-16, a
            broken JSON array, a CSV header that is no list of distinct names.
    """
    path, ending = os.fspath(path), ending_of(path)
    if ending in BINARY_ENDINGS:
        yield from arrow_rows(path, columns)
    elif ending in TEXT_ENDINGS:
        yield from _READERS[ending](path)
    else:
        raise ValueError(f"{path}: expected a file ending in {', '.join(TEXT_ENDINGS + BINARY_ENDINGS)}.")


def place_of(path: str, place: int) -> str:
    """How a place given by `read_table` is written: `file:line`, or `file, row 7`."""
    return f"{path}:{place}" if ending_of(path) in TEXT_ENDINGS else f"{path}, row {place}"


def table_features(path: str | os.PathLike) -> dict[str, Any]:
    """
    Columns of a Parquet or Arrow file and the `datasets` feature of each, with the names of class labels where
    `datasets` wrote it; None for a column of a type that has none there. Empty for a file of text.
    """
    return arrow_features(os.fspath(path)) if ending_of(path) in BINARY_ENDINGS else {}
