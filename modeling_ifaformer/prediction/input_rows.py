"""What predict.py tags: rows of files or of a data set, one by one, each with the place it comes from."""

import glob
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset

from processing.columns import CROP_COLUMNS, CROP_KINDS, OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.data.own.tables import BINARY_ENDINGS, TEXT_ENDINGS, place_of, read_table
from processing.jobs.digests import digest, picture_id
from processing.problems import Problem


class InputRow(NamedTuple):
    """
    `place` is file:line, or file and row number; `columns` are as the pipeline takes them; `problem` is why the row
    cannot be used.
    """

    place: str
    columns: dict[str, Any]
    problem: str | None = None


@dataclass
class RowSource:
    """`read` gives the rows anew, from the first on; `content` tells them from what they were before a change."""

    read: Callable[[], Iterator[InputRow]]
    content: str


def text_source(columns: dict[str, Any]) -> RowSource:
    """The one row of the command line."""
    return RowSource(lambda: iter([InputRow("--text", columns)]), digest(columns))


PAIR_COLUMNS = ("head", "tail")


def dataset_source(rows: Dataset, name: str, with_pair: bool = False) -> RowSource:
    """
    The rows of a split that `name` names; with their head and tail, for relations.

    Raises:
        ValueError: where they have none.
    """
    if with_pair and not set(PAIR_COLUMNS) <= set(rows.column_names):
        raise ValueError(
            f"{name} has no head and tail, but {', '.join(rows.column_names)}: the model is for relations."
        )
    wanted = ("id", "tokens", *(PAIR_COLUMNS if with_pair else ()), *PICTURE_COLUMNS, *OBJECT_COLUMNS)
    columns = [name for name in wanted if name in rows.column_names]

    def read() -> Iterator[InputRow]:
        for number, row in enumerate(rows.select_columns(columns)):
            yield InputRow(f"{name}, row {number}", row)

    return RowSource(read, rows._fingerprint)


def file_source(inputs: Sequence[str], image_dir: str | None) -> RowSource:
    """
    The rows of files, one file after the other.

    Args:
        inputs: files, folders of files, and patterns such as `shards/*.parquet`, see [`find_files`].
        image_dir: below which pictures are; that of their file if None.

    Raises:
        OSError, ValueError: for no such file, or one that cannot be read.
    """
    paths = find_files(inputs)
    for path in paths:  # what is wrong with a file from the start on is said before a model is loaded
        next(iter(read_table(path)), None)

    def read() -> Iterator[InputRow]:
        for path in paths:
            yield from file_rows(path, Path(image_dir) if image_dir else path.parent)

    return RowSource(read, digest([picture_id({"path": str(path)}) for path in paths]))


def find_files(inputs: Sequence[str]) -> list[Path]:
    """
    The files that are named: in the order given, those of a folder or a pattern by name.

    Raises:
        FileNotFoundError: for a folder or a pattern without any.
        ValueError: for a folder with files of several endings, and for a file that is named twice.
    """
    paths: list[Path] = []
    for name in inputs:
        if Path(name).is_dir():
            paths += _files_of(Path(name))
        elif Path(name).exists() or not glob.has_magic(name):
            paths.append(Path(name))  # one that is not there is an error when it is opened
        else:
            found = [Path(path) for path in sorted(glob.glob(name, recursive=True)) if Path(path).is_file()]
            if not found:
                raise FileNotFoundError(f"--input {name}: no file fits this pattern.")
            paths += found
    twice = sorted({str(path) for path in paths if paths.count(path) > 1}) if len(set(paths)) < len(paths) else []
    if twice:
        raise ValueError(f"--input names files twice: {', '.join(twice[:5])}. Name each once.")
    return paths


def check_not_read(output: Path, names: Sequence[str]) -> None:
    """
    Nothing that is read is replaced by the output, nor will the output be read by the same command later.

    Args:
        output: the file to be made.
        names: files, folders and patterns, as for [`find_files`].

    Raises:
        ValueError: where the output is one of the files, lies in one of the folders, or fits one of the patterns.
    """
    place = output.resolve()
    for name in names:
        path = Path(name).resolve()
        is_in_folder = path.is_dir() and place.parent == path
        # For `match`, ** is one folder; for `fnmatch`, * is of any depth.
        is_at_any_depth = "**" in name and fnmatch(str(place), str(path).replace("**/", "*"))
        if place == path or is_in_folder or is_at_any_depth or place.match(str(path)):
            raise ValueError(
                f"--output {output} would be one of the files that are read ({name}): name one in another folder, or "
                "of another name."
            )


def _files_of(folder: Path) -> list[Path]:
    endings = (*TEXT_ENDINGS, *BINARY_ENDINGS)
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in endings)
    if not paths:
        raise FileNotFoundError(f"--input {folder}: expected files ending in {', '.join(endings)} in this folder.")
    if len({path.suffix.lower() for path in paths}) > 1:
        first = {path.suffix.lower(): path.name for path in reversed(paths)}
        raise ValueError(
            f"--input {folder}: expected files of one ending in this folder, got {', '.join(sorted(first.values()))}. "
            f"Name those that hold rows, for example '{folder}/*{paths[-1].suffix}'."
        )
    return paths


def file_rows(path: Path, folder: Path) -> Iterator[InputRow]:
    """
    The rows of a file, read as they are asked for, with pictures below `folder`.

    Raises:
        OSError, ValueError: as `read_table`.
    """
    for place, row in read_table(path):
        where = place_of(str(path), place)
        if isinstance(row, Problem):
            yield InputRow(where, {}, str(row))
            continue
        try:
            yield InputRow(where, _checked(row, folder))
        except ValueError as error:
            yield InputRow(where, {}, str(error))


def _checked(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """
    The row with empty columns gone and its pictures below `folder`.

    Raises:
        ValueError: for columns that hold something else.
    """
    row = {name: value for name, value in row.items() if value not in (None, [])}
    if "text" in row and not isinstance(row["text"], str):
        raise ValueError(f"expected text to be a string, got {row['text']!r}")
    if "tokens" in row and not _is_strings(row["tokens"]):
        raise ValueError(f"expected tokens to be a list of words, got {row['tokens']!r}")
    if "text" not in row and "tokens" not in row:
        raise ValueError(f"expected a column text (a string) or tokens (a list of words), got {sorted(row)}")
    if "image" in row:
        row["image"] = _below(folder, row["image"], "image")
    for name in CROP_COLUMNS:
        if name in row:
            crops = row[name] if isinstance(row[name], list) else [row[name]]
            row[name] = [_below(folder, crop, name) for crop in crops]
    return row


def _below(folder: Path, picture: Any, column: str) -> Any:
    """A path as one below the folder; bytes and what datasets stores stay."""
    if isinstance(picture, str):
        return folder / picture
    if isinstance(picture, bytes | dict):
        return picture
    raise ValueError(f"expected paths or bytes of pictures in {column}, got {picture!r:.80}")


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def number_of_crops(columns: dict[str, Any]) -> int:
    """Of a row, those that it brings along."""
    return sum(len(columns.get(f"{kind}_crops") or ()) for kind in CROP_KINDS)


def size_in_memory(columns: dict[str, Any]) -> int:
    """Bytes of a row's text and of the pictures in it, those of files left out."""
    text = columns.get("text") or columns.get("tokens") or ()
    size = len(text) if isinstance(text, str) else sum(map(len, text))
    for name in PICTURE_COLUMNS:
        pictures = columns.get(name)
        for picture in pictures if isinstance(pictures, list) else [pictures]:
            stored = picture.get("bytes") if isinstance(picture, dict) else picture
            size += len(stored) if isinstance(stored, bytes) else 0
    return size
