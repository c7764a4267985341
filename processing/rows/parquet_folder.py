"""
Rows as Parquet shards with their pictures inside, in a folder that `datasets.load_dataset` and the Hub read as it is.

A shard is there whole or not at all, whenever the process is killed or the disk is full.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import datasets
import pyarrow as pa
from datasets.arrow_writer import ParquetWriter
from datasets.table import embed_table_storage

from processing.jobs.atomic_files import replacing


# A row group is written, and later read, as a whole.
ROW_GROUP_BYTES = 1 << 24

# The pictures of so many rows are read together: fewer take longer, more take memory.
ROWS_AT_ONCE = 8

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
    rows = dataset.with_format("arrow")
    with replacing(path) as file, ParquetWriter(stream=file, features=dataset.features) as writer:
        group: list[pa.Table] = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            group.append(embed_table_storage(rows[start : start + ROWS_AT_ONCE].cast(dataset.features.arrow_schema)))
            if sum(part.nbytes for part in group) >= ROW_GROUP_BYTES or start + ROWS_AT_ONCE >= len(rows):
                writer.write_table(pa.concat_tables(group))
                group = []
        writer.finalize(close_stream=False)
