"""
Rows of a file, one by one: JSON lines, JSON, CSV, CoNLL, plain text, Parquet or Arrow.

A row that cannot be read is a problem, and reading goes on. Memory does not grow with the file.
"""

import os
from collections.abc import Collection, Iterator
from typing import Any

import datasets
import pyarrow as pa

from processing.data.row_limits import find_problem
from processing.data.stored_tables import stored_batches, stored_schema
from processing.problems import Problem

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

MAX_STORED_ROW_BYTES = 1 << 26  # of Parquet and Arrow, with the pictures


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
    if ending not in TEXT_ENDINGS + BINARY_ENDINGS:
        raise ValueError(f"{path}: expected a file ending in {', '.join(TEXT_ENDINGS + BINARY_ENDINGS)}.")
    for place, row in _arrow_rows(path, columns) if ending in BINARY_ENDINGS else _READERS[ending](path):
        yield place, row if isinstance(row, Problem) else find_problem(row) or row


def place_of(path: str, place: int) -> str:
    """How a place given by `read_table` is written: `file:line`, or `file, row 7`."""
    return f"{path}:{place}" if ending_of(path) in TEXT_ENDINGS else f"{path}, row {place}"


def placed_rows(
    path: str | os.PathLike, shown: str | None = None, columns: Collection[str] | None = None
) -> Iterator[tuple[str, Row | Problem]]:
    """
    The rows of [`read_table`], and for messages where each is: in the file as it is `shown`, the path if that is None.
    Of several items of a JSON array on one line the later ones have their number in the array.
    """
    before = None
    for number, (place, row) in enumerate(read_table(path, columns), start=1):
        where = place_of(shown or os.fspath(path), place)
        yield (f"{where}, item {number}" if place == before else where), row
        before = place


def table_features(path: str | os.PathLike) -> dict[str, Any]:
    """
    Columns of a Parquet or Arrow file and the `datasets` feature of each, with the names of class labels where
    `datasets` wrote it; None for a column of a type that has none there, such as a map. Empty for a file of text.
    """
    features: dict[str, Any] = {}
    if ending_of(path) not in BINARY_ENDINGS:
        return features
    schema = stored_schema(os.fspath(path))
    for column in schema:
        try:
            features |= datasets.Features.from_arrow_schema(pa.schema([column], schema.metadata))
        except ValueError:
            features[column.name] = None
    return features


def _arrow_rows(path: str, columns: Collection[str] | None) -> Iterator[tuple[int, Row | Problem]]:
    """The rows as plain Python values, and their numbers from 0; columns that are not named are not read."""
    names = stored_schema(path).names
    batches = stored_batches(path, [name for name in names if columns is None or name in columns])
    yield from enumerate(row for batch in batches for row in _batch_rows(batch))


def _batch_rows(batch: pa.RecordBatch) -> Iterator[Row | Problem]:
    """Half by half where a value cannot be read, or the rows are too large to be in memory at once."""
    try:
        if batch.nbytes > MAX_STORED_ROW_BYTES:
            raise ValueError(f"the row has more than {MAX_STORED_ROW_BYTES >> 20} MiB")
        yield from batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:
        if batch.num_rows == 1:
            yield Problem("a value of the row cannot be read", details=f"({error})")
            return
        middle = batch.num_rows // 2
        yield from _batch_rows(batch.slice(0, middle))
        yield from _batch_rows(batch.slice(middle))
