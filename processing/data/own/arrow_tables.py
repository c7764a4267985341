"""Rows of Parquet and Arrow files."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from processing.problems import Problem

from .text_tables import Row


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


def arrow_features(path: str) -> dict[str, Any]:
    """The `datasets` feature of each column; None for a column of a type that has none there, such as a map."""
    features: dict[str, Any] = {}
    with _opened(path) as (schema, _):
        for column in schema:
            try:
                features |= datasets.Features.from_arrow_schema(pa.schema([column], schema.metadata))
            except ValueError:
                features[column.name] = None
    return features


def arrow_rows(path: str, columns: Collection[str] | None) -> Iterator[tuple[int, Row | Problem]]:
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
