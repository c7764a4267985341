"""Paths of this machine: which picture lies in a folder, and what others may get to see of a path."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import PureWindowsPath

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from processing.columns import PICTURE_COLUMNS


# How whole paths begin, on any system. Freebase's /m/0abc and the like are names.
_PATH = re.compile(r"(?!/[a-z]/\w+$)[/\\]|~[^/\\]*[/\\]|[a-z]:[/\\]|file:", re.IGNORECASE)


def is_path(name: str) -> bool:
    """Whether a name is a whole path, of this machine or of another one; no disk is looked at for it."""
    return _PATH.match(name) is not None


def without_folders(name: str) -> str:
    """A name as it may be published: of a path the last part, of a name on the Hub and any other all of it."""
    return PureWindowsPath(os.path.abspath(name)).name if is_path(name) or name.startswith(".") else name


def real_path_below(path: str | os.PathLike, folder: str | os.PathLike) -> str | None:
    """The path with its links followed, None where it then lies outside the folder, whose own links count as well."""
    if "\0" in os.fspath(path):  # No file has it in its name.
        return None
    real = os.path.realpath(path)
    return real if real.startswith(os.path.join(os.path.realpath(folder), "")) else None


def leads_elsewhere(path: str) -> bool:
    """
    Whether a picture of `load_data` lies outside the folder of its data. The paths of all others are real ones, which
    have no link in them.
    """
    return os.path.realpath(path) != path


def named_paths(rows: Dataset) -> Iterator[tuple[int, str, str]]:
    """Row number, column and path of each picture of rows of `load_data` that is a file of its own."""
    start = 0
    for table in rows.select_columns(list(PICTURE_COLUMNS)).with_format("arrow").iter(batch_size=100):
        for column in table.column_names:
            pictures, numbers = table[column].combine_chunks(), pa.array(range(len(table)))
            if pa.types.is_list(pictures.type) or pa.types.is_large_list(pictures.type):
                pictures, numbers = pc.list_flatten(pictures), pc.list_parent_indices(pictures)
            data, paths = (pc.struct_field(pictures, name) for name in ("bytes", "path"))
            is_named = pc.and_(pc.is_null(data), pc.is_valid(paths))
            for number, path in zip(
                numbers.filter(is_named).to_pylist(), paths.filter(is_named).to_pylist(), strict=True
            ):
                yield start + number, column, path
        start += len(table)


def check_shareable(data: Mapping[str, Dataset]) -> None:
    """
    Refuse to write rows of `load_data` for others with what lies outside of the folder of the data.

    Raises:
        ValueError: for a picture that a link leads to out of that folder, and for an `id` or `image_id` that is
            a whole path. It names the first row, and counts the others.
    """
    for split, rows in data.items():
        linked = [found for found in named_paths(rows) if leads_elsewhere(found[2])]
        if linked:
            number, column, path = linked[0]
            raise ValueError(
                f"{split}: links that lead out of the folder of the data are not shared, and there are {len(linked)} "
                f"among its pictures. The first is {path}, {column} of the row with the id {rows['id'][number]}. Copy "
                "the files into the folder, or name the folder where they are as that of the pictures (image_dir)."
            )
        for column in ("id", "image_id"):
            paths = [name for name in rows[column] if is_path(name or "")]
            if paths:
                raise ValueError(
                    f"{split}: paths of a machine are not shared, and there are {len(paths)} in the column {column}. "
                    f"The first is {paths[0]!r:.200}. Give the rows other names."
                )
