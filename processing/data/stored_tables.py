"""
Parquet and Arrow files that somebody else wrote, read within limits. A damaged or hostile one is a ValueError: nothing
of Arrow is looked at before it is validated, and nothing is unpacked that would fill the memory.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


BATCH_ROWS = 128
BATCH_BYTES = 1 << 29  # which a batch of Parquet has at most, whatever its values are

# A file unpacks to at most so many times its size; a small one may to so many bytes.
MAX_RATIO = 1000
MIN_UNPACKED = 1 << 26

# Below this size the whole file is unpacked once before any row of it is used.
MAX_CHECKED = 1 << 26

# Reads the columns of these names, in batches.
ReadColumns = Callable[[list[str]], Iterator[pa.RecordBatch]]


@contextmanager
def stored_table(path: str) -> Iterator[tuple[pa.Schema, ReadColumns]]:
    """
    The schema of a `.parquet` file, or of an Arrow stream as `datasets` writes it, and what reads its columns.

    Raises:
        OSError: for a file that is absent or may not be read.
        ValueError: for one that is damaged, holds something else, or unpacks to `MAX_RATIO` times its size; pyarrow's
            own errors do not name the file.
    """
    is_parquet = path.lower().endswith(".parquet")
    with open(path, "rb"):  # This raises the system's own error.
        limit = max(MIN_UNPACKED, MAX_RATIO * os.path.getsize(path))
    try:
        if is_parquet:
            with _parquet(path) as file:
                num_rows = _rows_at_once(path, file, limit)
                yield file.schema_arrow, lambda names: _parquet_batches(path, names, num_rows, limit)
        else:
            with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
                yield reader.schema, lambda names: _within(limit, _arrow_batches(reader, names))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        expected = "Parquet" if is_parquet else "Arrow as datasets writes it"
        raise ValueError(f"{path}: cannot be read as {expected}: {str(error).rstrip('.')}.") from error


def check_stored_table(path: str) -> None:
    """A ValueError for a file that [`stored_table`] refuses, whatever batch of it is wrong."""
    with stored_table(path) as (schema, read):
        for _ in read(schema.names):
            pass


def _parquet(path: str) -> pq.ParquetFile:
    # Without these two options a row group, with all its pictures, is in memory as a whole.
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


def _parquet_batches(path: str, names: list[str], num_rows: int, limit: int) -> Iterator[pa.RecordBatch]:
    passes = 2 if os.path.getsize(path) <= MAX_CHECKED else 1
    for is_check in (True, False)[-passes:]:
        with _parquet(path) as file:
            for batch in _within(limit, file.iter_batches(num_rows, columns=names)):
                if not is_check:
                    yield batch


def _arrow_batches(reader: Any, names: list[str]) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        batch = batch.select(names)
        batch.validate(full=True)  # Offsets that lead out of the file would end the process.
        yield from pa.Table.from_batches([batch]).to_batches(max_chunksize=BATCH_ROWS)


def _within(limit: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches as long as they have no more bytes than the limit."""
    size = 0
    for batch in batches:
        batch.validate()
        size += batch.nbytes + 8 * batch.num_rows * (1 + batch.num_columns)
        if size > limit:
            raise _too_much(limit)
        yield batch


def _too_much(limit: int) -> ValueError:
    return ValueError(f"it unpacks to more than {limit >> 20} MiB, which so small a file of rows does not hold")


def _rows_at_once(path: str, parquet: pq.ParquetFile, limit: int) -> int:
    """How many rows of a file are a batch of at most `BATCH_BYTES`; a ValueError where its columns say too much."""
    size, largest = 0, 1
    columns = list(range(len(parquet.schema)))
    with open(path, "rb") as file:
        for number in range(parquet.num_row_groups):
            # This reads no row, and raises an error where a column's description is damaged. What follows would end
            # the process there.
            next(parquet.reader.iter_batches(0, row_groups=[number], column_indices=columns), None)
            group = parquet.metadata.row_group(number)
            for column in map(group.column, columns):
                size += max(8 * column.num_values, column.total_uncompressed_size)
                largest = max(largest, _largest_value(file, column))
    if size > limit:
        raise _too_much(limit)
    return min(max(BATCH_BYTES // largest, 1), BATCH_ROWS)


def _largest_value(file: Any, column: pq.ColumnChunkMetaData) -> int:
    """
    At most so many bytes has a value that a column repeats at no cost: as long as its dictionary is, whose page says
    it, or as all of the column is where each value adds to the one before.
    """
    if "DELTA_BYTE_ARRAY" in column.encodings:
        return column.total_uncompressed_size
    file.seek(column.dictionary_page_offset or column.data_page_offset)
    header = file.read(8)
    # Thrift's compact protocol: fields 1 and 2 are whole numbers, the type of the page, here 2, and its size.
    if header[:3] != b"\x15\x04\x15":
        return 1
    size = 0
    for place, byte in enumerate(header[3:]):
        size |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    return size >> 1
