"""
Parquet and Arrow files that somebody else wrote, read within limits. A damaged or hostile one is a ValueError: nothing
of Arrow is looked at before it is validated, and nothing is unpacked that would fill the memory.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


BATCH_ROWS = 128
BATCH_BYTES = 1 << 29  # which a batch of Parquet has at most, whatever its values are

# A file may unpack to MAX_RATIO times its size. A small file may always unpack to MIN_UNPACKED bytes.
MAX_RATIO = 1000
MIN_UNPACKED = 1 << 26


def stored_schema(path: str) -> pa.Schema:
    """
    The columns of a `.parquet` file, or of an Arrow stream as `datasets` writes it.

    Raises:
        OSError: for a file that is absent or may not be read.
        ValueError: for one that is damaged or holds something else, since pyarrow's own errors do not name the file;
            and for two columns of one name.
    """
    with open(path, "rb"):  # This raises the system's own error.
        pass
    with _readable(path):
        schema = _schema(path)
        names = schema.names  # An error here is a name that is no UTF-8.
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: the columns {repeated} are there twice. Give each column a name of its own.")
    return schema


def _schema(path: str) -> pa.Schema:
    if _is_parquet(path):
        with _parquet(path) as file:
            return file.schema_arrow
    with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
        return reader.schema


def stored_batches(path: str, names: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """
    The rows of such a file, at most `BATCH_ROWS` at a time, with the columns of these names. None stands for all.

    Raises:
        OSError, ValueError: as [`stored_schema`], and a ValueError for a file that unpacks to more than `MAX_RATIO`
            times its size.
    """
    with open(path, "rb") as file:  # This raises the system's own error.
        limit = max(MIN_UNPACKED, MAX_RATIO * os.fstat(file.fileno()).st_size)
    read = _parquet_batches if _is_parquet(path) else _arrow_batches
    batches = _within(limit, read(path, names, limit))
    while True:
        with _readable(path):  # The code that uses the batches stays outside.
            batch = next(batches, None)
        if batch is None:
            return
        yield batch


def check_stored_table(path: str) -> None:
    """A ValueError for a file that [`stored_batches`] refuses, whatever batch of it is wrong."""
    for _ in stored_batches(path):
        pass


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        expected = "a Parquet file" if _is_parquet(path) else "an Arrow stream, as `datasets` writes it"
        reason = str(error).strip().rstrip(".")
        raise ValueError(
            f"{path}: cannot be read as {expected} ({reason}). It may be damaged: write or download it again."
        ) from error


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _parquet(path: str) -> pq.ParquetFile:
    # Without these two options a row group, with all its pictures, is in memory as a whole.
    return pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)


def _parquet_batches(path: str, names: Sequence[str] | None, limit: int) -> Iterator[pa.RecordBatch]:
    with _parquet(path) as file:
        yield from file.iter_batches(_rows_at_once(path, file, limit), columns=names)


def _arrow_batches(path: str, names: Sequence[str] | None, limit: int) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            batch = batch if names is None else batch.select(names)
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
    return ValueError(f"it unpacks to more than the {limit >> 20} MiB that a file of its size may have")


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
    An upper bound of the bytes of one value that a column repeats at no cost. In a dictionary column a value is no
    longer than the dictionary, whose page tells its size. With DELTA_BYTE_ARRAY a value is no longer than the column.
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
