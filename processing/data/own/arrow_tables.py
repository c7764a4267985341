"""Rows of Parquet and Arrow files."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from processing.problems import Problem

from .text_tables import Row


BATCH_ROWS = 128


@contextmanager
def _arrow_errors(path: str) -> Iterator[None]:
    """
    Raises:
        OSError: for a file that is absent or may not be read.
        ValueError: for one that is damaged or holds something else; pyarrow's own errors do not name the file.
    """
    with open(path, "rb"):  # This raises the system's own error.
        pass
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        expected = "Parquet" if path.lower().endswith(".parquet") else "Arrow as datasets writes it"
        raise ValueError(f"{path}: cannot be read as {expected}: {str(error).rstrip('.')}.") from error


def arrow_features(path: str) -> dict[str, Any]:
    """
    The `datasets` feature of each column; None for a column of a type that has none there.

    Raises:
        OSError, ValueError: for a file that cannot be read.
    """
    with _arrow_errors(path):
        if path.lower().endswith(".parquet"):
            schema = pq.read_schema(path)
        else:
            with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
                schema = reader.schema
        return {column.name: _feature(pa.schema([column], schema.metadata)) for column in schema}


def _feature(schema: pa.Schema) -> Any:
    try:
        (feature,) = datasets.Features.from_arrow_schema(schema).values()
    except ValueError:  # datasets has no feature for a map, for example.
        return None
    return feature


def arrow_rows(path: str, columns: Collection[str] | None = None) -> Iterator[tuple[int, Row | Problem]]:
    """
    The rows as plain Python values, and their numbers from 0.

    Args:
        columns: all that is needed; others are not read from the disk.

    Raises:
        OSError, ValueError: for a file that cannot be read.
    """
    number = 0
    batches = _batches(path, columns)
    while True:
        with _arrow_errors(path):
            batch = next(batches, None)
        if batch is None:
            return
        for row in _batch_rows(batch):
            yield number, row
            number += 1


def _batches(path: str, columns: Collection[str] | None) -> Iterator[pa.RecordBatch]:
    if path.lower().endswith(".parquet"):
        # Without these two options a row group, with all its pictures, is in memory as a whole.
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            names = _names(file.schema_arrow, columns)
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names)
    else:
        with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
            names = _names(reader.schema, columns)
            for batch in reader:
                batch = batch.select(names)
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)


def _names(schema: pa.Schema, columns: Collection[str] | None) -> list[str]:
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise ValueError(f"columns {repeated} are there twice")
    return [name for name in schema.names if columns is None or name in columns]


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
