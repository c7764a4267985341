"""
Rows as Parquet shards with their pictures inside, in a folder that `datasets.load_dataset` and the Hub read as it is.

A shard is there whole or not at all, whenever the process is killed or the disk is full.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.table import embed_table_storage

from processing.jobs.atomic_files import replacing


# A row group is written, and later read, as a whole.
ROW_GROUP_BYTES = 1 << 24

# The pictures of so many rows are read together: fewer take longer, more take memory.
ROWS_AT_ONCE = 8

# As `datasets` cuts columns into pages, by their content: the Hub stores again only what a change touched.
CHUNKING = {"min_chunk_size": 1 << 18, "max_chunk_size": 1 << 20, "norm_level": 0}

Shards = Mapping[str, tuple[str, range]]  # by the name of a Parquet file, its split and its rows


def shard_path(folder: str | os.PathLike, split: str, index: int, number: int) -> Path:
    """Where shard `index` (from 0) of `number` shards of a split lies; `datasets` reads the split off the name."""
    return Path(folder) / "data" / f"{split}-{index:05d}-of-{number:05d}.parquet"


def cut_shards(data: datasets.DatasetDict, rows_per_shard: int) -> Shards:
    """The shards of all splits. A split without rows gets none, for `datasets` cannot load such a file."""
    shards = {}
    for split, rows in data.items():
        starts = range(0, len(rows), rows_per_shard)
        for index, start in enumerate(starts):
            indices = range(len(rows))[start : start + rows_per_shard]
            shards[shard_path("", split, index, len(starts)).stem] = (split, indices)
    return shards


def write_shard(dataset: datasets.Dataset, path: str | os.PathLike) -> None:
    """
    Write rows to a Parquet file, with the bytes of pictures that they name as files, and with their features. Of these
    bytes no more are in memory than a row group and a few rows have, whatever the size of the shard.

    Raises:
        OSError: for a picture that cannot be read, or a file that cannot be written; an earlier one stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = dataset.features.arrow_schema  # Its metadata tell `datasets` the features.
    leaves = [leaf for column in schema for leaf in _leaves(column.name, column.type)]
    texts = [leaf for leaf in leaves if not leaf.endswith(".bytes")]
    with (
        replacing(path) as file,
        # Pictures are compressed already, and few rows have the same one.
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


def _leaves(path: str, kind: pa.DataType) -> list[str]:
    """The names that Parquet gives to the columns in which the values of a column lie."""
    if pa.types.is_struct(kind):
        return [leaf for field in kind for leaf in _leaves(f"{path}.{field.name}", field.type)]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    return [path]


def _row_groups(dataset: datasets.Dataset, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of rows with their pictures inside, each of `ROW_GROUP_BYTES` at least but for the last one."""
    rows = dataset.with_format("arrow")
    parts: list[pa.Table] = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        parts.append(embed_table_storage(rows[start : start + ROWS_AT_ONCE].cast(schema)))
        if sum(part.nbytes for part in parts) >= ROW_GROUP_BYTES or start + ROWS_AT_ONCE >= len(rows):
            yield pa.concat_tables(parts).combine_chunks()
            parts = []
