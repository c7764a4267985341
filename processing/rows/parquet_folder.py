"""
Rows as Parquet shards with their pictures inside, in a folder that `datasets.load_dataset` and the Hub read as it is.

A shard is there whole or not at all, whenever the process is killed or the disk is full.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.arrow_writer import ParquetWriter
from datasets.table import embed_table_storage
from tqdm import tqdm

from processing.jobs.atomic_files import replacing
from processing.jobs.output_folder import ResumableOutput
from processing.jobs.processes import on_main, process_state


# A row group is written, and later read, as a whole.
ROW_GROUP_BYTES = 1 << 24

# The pictures of so many rows are read together: fewer take longer, more take memory.
ROWS_AT_ONCE = 8

Shards = Mapping[str, tuple[str, range]]  # by the name of a Parquet file, its split and its rows


def shard_path(folder: str | os.PathLike, split: str, index: int, number: int) -> Path:
    """Where shard `index` (from 0) of `number` shards of a split lies; `datasets` reads the split off the name."""
    return Path(folder) / "data" / f"{split}-{index:05d}-of-{number:05d}.parquet"


def first_rows(data: datasets.DatasetDict, limit: int | None) -> datasets.DatasetDict:
    """The first `limit` rows of each split, or all of them without a limit."""
    if limit is None:
        return data
    return datasets.DatasetDict({split: rows.select(range(min(limit, len(rows)))) for split, rows in data.items()})


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


def write_shards(
    output: ResumableOutput,
    data: datasets.DatasetDict,
    shards: Shards,
    begin: Callable[[], set[str] | None],
    make_change: Callable[[Any], Callable[..., tuple[datasets.Dataset, dict[str, Any]]]],
    finish: Callable[[], dict[str, Any]],
) -> dict[str, Any] | None:
    """
    Write those shards of changed rows that are not there yet; all processes share them.

    Args:
        begin: claims the output, in the main process, and gives the names of the shards that are there; None where it
            is finished already, and nothing more is called.
        make_change: called with the device, where a shard is left, for what gives the rows of a shard and their
            record; that is called with the rows, and with what is told how many have been dealt with.
        finish: gives the summary, in the main process.

    Returns:
        The summary, in every process; None where the output was finished already.
    """
    state = process_state()
    with output:
        done = on_main(state, begin)
        if done is None:
            return None
        left = [part for part in shards if part not in done][state.process_index :: state.num_processes]
        if left:
            change = make_change(state.device)
        with tqdm(
            total=sum(len(shards[part][1]) for part in left),
            unit=" rows",
            desc=f"process 1 of {state.num_processes}" if state.num_processes > 1 else None,
            disable=not state.is_main_process,
        ) as progress:
            for part in left:
                split, indices = shards[part]
                rows, record = change(data[split].select(indices), progress.update)
                output.write(part, partial(write_shard, rows), record)
        state.wait_for_everyone()
        return on_main(state, finish)
