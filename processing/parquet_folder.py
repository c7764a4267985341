"""
Rows as Parquet shards with their pictures inside, in a folder that `datasets.load_dataset` and the Hub read as it is.

A shard is there whole or not at all, whenever the process is killed or the disk is full.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import datasets
from datasets.table import embed_table_storage


# Hidden, so that no reader of the folder takes it for data.
TEMPORARY = ".{name}.{process}.tmp"


def shard_path(folder: str | os.PathLike, split: str, index: int, number: int) -> Path:
    """Where shard `index` (from 0) of `number` shards of a split lies; `datasets` reads the split off the name."""
    return Path(folder) / "data" / f"{split}-{index:05d}-of-{number:05d}.parquet"


def write_shard(dataset: datasets.Dataset, path: str | os.PathLike) -> None:
    """
    Write rows to a Parquet file, with the bytes of pictures that they name as files, and with their features.

    Raises:
        OSError: for a picture that cannot be read, or a file that cannot be written; an earlier one stays as it was.
    """
    path = Path(path)
    embedded = dataset.with_format("arrow").map(embed_table_storage, batched=True, batch_size=64, keep_in_memory=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        embedded.to_parquet(file)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` once it is complete and on the disk; else nothing changes."""
    path = Path(path)
    temporary = path.with_name(TEMPORARY.format(name=path.name, process=os.getpid()))
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # The new name is on the disk only when its folder is. (Windows opens no folders.)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_unfinished(folder: str | os.PathLike) -> list[Path]:
    """Remove what a killed process left behind in a folder. Only while no other process writes there."""
    left = sorted(Path(folder).glob(TEMPORARY.format(name="*", process="*")))
    for path in left:
        path.unlink(missing_ok=True)
    return left
