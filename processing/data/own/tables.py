"""
Rows of a file, one by one: JSON lines, JSON, CSV, CoNLL, plain text, Parquet or Arrow.

A row that cannot be read is a problem, and reading goes on. Memory does not grow with the file, but for a JSON array.
"""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

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
        yield from _arrow_rows(path, columns)
    elif ending in TEXT_ENDINGS:
        yield from _READERS[ending](path)
    else:
        raise ValueError(f"{path}: expected a file ending in {', '.join(TEXT_ENDINGS + BINARY_ENDINGS)}.")


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
    with _opened(os.fspath(path)) as (schema, _):
        for column in schema:
            try:
                features |= datasets.Features.from_arrow_schema(pa.schema([column], schema.metadata))
            except ValueError:
                features[column.name] = None
    return features


BATCH_ROWS = 128

# Reads the columns of these names, in batches.
ReadColumns = Callable[[list[str]], Iterator[pa.RecordBatch]]


@contextmanager
def _opened(path: str) -> Iterator[tuple[pa.Schema, ReadColumns]]:
    """
    Raises:
        OSError: for a file that is absent or may not be read.
        ValueError: for one that is damaged or holds something else; pyarrow's own errors do not name the file.
    """
    is_parquet = path.lower().endswith(".parquet")
    with open(path, "rb"):  # This raises the system's own error.
        pass
    try:
        if is_parquet:
            # Without these two options a row group, with all its pictures, is in memory as a whole.
            with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
                yield file.schema_arrow, lambda names: file.iter_batches(BATCH_ROWS, columns=names)
        else:
            with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
                yield (
                    reader.schema,
                    lambda names: (
                        part
                        for batch in reader
                        for part in pa.Table.from_batches([batch.select(names)]).to_batches(max_chunksize=BATCH_ROWS)
                    ),
                )
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        expected = "Parquet" if is_parquet else "Arrow as datasets writes it"
        raise ValueError(f"{path}: cannot be read as {expected}: {str(error).rstrip('.')}.") from error


def _arrow_rows(path: str, columns: Collection[str] | None) -> Iterator[tuple[int, Row | Problem]]:
    """The rows as plain Python values, and their numbers from 0; columns that are not named are not read."""
    with _opened(path) as (schema, read):
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            raise ValueError(f"columns {repeated} are there twice")
        batches = read([name for name in schema.names if columns is None or name in columns])
        yield from enumerate(row for batch in batches for row in _batch_rows(batch))


def _batch_rows(batch: pa.RecordBatch) -> Iterator[Row | Problem]:
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError, pa.ArrowException):
        pass  # One of the rows; pyarrow checks no value before it is asked for.
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield Problem("a value of the row cannot be read", details=f"({error})")
