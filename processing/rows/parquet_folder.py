"""
Rows as Parquet shards with their pictures inside, in a folder that `datasets.load_dataset` and the Hub read as it is.

A shard is there whole or not at all, whenever the process is killed or the disk is full.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets.table import embed_table_storage

from processing.columns import PICTURE_COLUMNS
from processing.jobs.atomic_files import replacing


# Of pictures, in a row group: one is written, and later read, as a whole.
ROW_GROUP_BYTES = 1 << 24

ROWS_AT_ONCE = 64

# As `datasets` cuts columns into pages, by their content: the Hub stores again only what a change touched.
CHUNKING = {"min_chunk_size": 1 << 18, "max_chunk_size": 1 << 20, "norm_level": 0}


def shard_path(folder: str | os.PathLike, split: str, index: int, number: int) -> Path:
    """Where shard `index` (from 0) of `number` shards of a split lies; `datasets` reads the split off the name."""
    return Path(folder) / "data" / f"{split}-{index:05d}-of-{number:05d}.parquet"


def write_shard(dataset: datasets.Dataset, path: str | os.PathLike) -> None:
    """
    Write rows to a Parquet file, with the bytes of pictures that they name as files, and with their features. Of these
    bytes no more are in memory than a row group has, whatever the size of the shard.

    Raises:
        OSError: for a picture that cannot be read, or a file that cannot be written; an earlier one stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = dataset.features.arrow_schema  # its metadata tell `datasets` the features
    texts = [leaf for leaf in _leaves(schema) if leaf.split(".")[-1] != "bytes"]
    with (
        replacing(path) as file,
        # A picture is compressed already, and no two rows have the same: neither is tried.
        pq.ParquetWriter(
            file,
            schema,
            compression=dict.fromkeys(texts, "snappy"),
            use_dictionary=texts,
            use_content_defined_chunking=CHUNKING,
            write_page_index=True,
        ) as writer,
    ):
        for group in _row_groups(dataset, schema):
            writer.write_table(group)
        writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})


def _leaves(schema: pa.Schema) -> list[str]:
    """The names that Parquet gives to the columns in which values of the schema lie."""

    def below(path: str, kind: pa.DataType) -> list[str]:
        if pa.types.is_struct(kind):
            return [leaf for field in kind for leaf in below(f"{path}.{field.name}", field.type)]
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            return below(f"{path}.list.element", kind.value_type)
        return [path]

    return [leaf for column in schema for leaf in below(column.name, column.type)]


def _row_groups(dataset: datasets.Dataset, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of rows with their pictures inside, each of `ROW_GROUP_BYTES` at least but for the last one."""
    rows = dataset.with_format("arrow")
    parts: list[pa.Table] = []
    size = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        several = rows[start : start + ROWS_AT_ONCE].cast(schema)
        is_large = several.nbytes + _bytes_in_files(several) > ROW_GROUP_BYTES
        step = 1 if is_large else len(several)
        for first in range(0, len(several), step):
            parts.append(embed_table_storage(several.slice(first, step)))
            size += parts[-1].nbytes
            if size >= ROW_GROUP_BYTES:
                yield pa.concat_tables(parts).combine_chunks()
                parts, size = [], 0
    if parts:
        yield pa.concat_tables(parts).combine_chunks()


def _bytes_in_files(table: pa.Table) -> int:
    """Size of the pictures that are named as files."""
    size = 0
    for name in set(PICTURE_COLUMNS) & set(table.column_names):
        pictures = table[name] if name == "image" else pc.list_flatten(table[name])
        named = pictures.filter(pc.is_null(pc.struct_field(pictures, "bytes")))
        paths = pc.drop_null(pc.struct_field(named, "path")).to_pylist()
        size += sum(os.path.getsize(path) for path in paths if os.path.isfile(path))
    return size
