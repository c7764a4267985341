"""The rows that bulk prediction tags: of files or of a data set, one by one, each with the place it comes from."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from datasets import Dataset
from transformers.utils import logging

from processing.columns import OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.context import CONTEXT
from processing.data.own.forms import in_our_columns
from processing.data.own.tables import BINARY_ENDINGS, CONLL_ENDINGS, TEXT_ENDINGS, ending_of, placed_rows, read_table
from processing.images import is_address
from processing.jobs.digests import digest, files_digest, picture_id
from processing.problems import Problem, ProblemError, check_at_least_one, shown
from processing.rows.local_paths import leads_elsewhere, real_path_below
from processing.rows.picture_files import holds_pictures, with_its_ending


logger = logging.get_logger(__name__)


ROWS_LOOKED_AT = 100  # before anything is tagged, to see whether any picture is there


def _as_given(picture: Any) -> Any:
    return picture


class InputRow(NamedTuple):
    """One row to be tagged, or the problem of one that cannot be read."""

    place: str  # where it comes from, as file:line, or as the file's or data set's name and the row's number
    columns: dict[str, Any]  # as the pipeline takes them; empty where the row cannot be read
    problem: Problem | None = None
    pictures: Mapping[str, Any] = MappingProxyType({})  # of the picture columns, the paths as the source has them
    # For one of its pictures: what a page may embed, a path with links followed; None outside of the input's folder.
    shown: Callable[[Any], Any] = _as_given


def row_digest(row: InputRow) -> str:
    """Tells a row from what it was before a change, by its values and by what its pictures hold."""
    pictures = {name: row.columns[name] for name in PICTURE_COLUMNS if name in row.columns}
    held = [[picture_id(picture) for picture in (of if isinstance(of, list) else [of])] for of in pictures.values()]
    rest = {name: value for name, value in row.columns.items() if name not in pictures}
    return digest(str(row.problem), rest, list(pictures), held)[:16]


@dataclass
class RowSource:
    """Rows to be tagged, which can be read several times."""

    read: Callable[[], Iterator[InputRow]]  # each time from the first row on
    content: str  # a digest that tells the rows from what they were before a change
    names: Sequence[str] = ()  # files, folders and patterns that the rows are read from, or the name of their data set

    def first(self, limit: int | None) -> "RowSource":
        """The first `limit` rows, all of them if that is None."""
        if limit is None:
            return self
        check_at_least_one(limit=limit)
        return RowSource(lambda: islice(self.read(), limit), digest(self.content, limit), self.names)


def single_row(columns: dict[str, Any], place: str = "text") -> RowSource:
    """One row, of columns as the pipeline takes them."""
    return RowSource(lambda: iter([InputRow(place, columns)]), digest(columns))


def dataset_rows(rows: Dataset, name: str, needed: Sequence[str] = ()) -> RowSource:
    """
    The rows of a split, as `load_data` gives it; `name` is for messages.

    Raises:
        ValueError: where one of the needed columns is missing: `head` and `tail` are needed for a relation model.
    """
    if not set(needed) <= set(rows.column_names):
        raise ValueError(
            f"{name} has no columns {' and '.join(needed)}, which the model needs. It has "
            f"{', '.join(rows.column_names)}."
        )
    wanted = ("id", "text", "tokens", "offsets", "head", "tail", CONTEXT, *PICTURE_COLUMNS, *OBJECT_COLUMNS)
    chosen = rows.select_columns([column for column in wanted if column in rows.column_names])

    def read() -> Iterator[InputRow]:
        for number, row in enumerate(chosen):
            yield InputRow(f"{name}, row {number}", row, pictures=_paths_of(row), shown=_shown_of_data)

    return RowSource(read, rows._fingerprint, [name])


def file_rows(inputs: Sequence[str], image_dir: str | None = None) -> RowSource:
    """
    The rows of files, of all files of folders, and of patterns such as `shards/*.parquet`. Rows as annotation tools
    export them are read as [`in_our_columns`] does it. Paths of pictures start from `image_dir`, by default from the
    folder of their file. That a `.txt` is read as CoNLL is logged, and that CoNLL names pictures (`IMGID`) where none
    lies in a folder of the files or below it: then the rows are texts alone.

    Raises:
        OSError: for a file that is not there or cannot be read, and a folder or a pattern without any file of rows;
            where every picture of a column is missing in the first rows.
        ValueError: for a folder with files of several endings, and for a file that is named twice or cannot be read.
    """
    paths = find_files(inputs)
    for path in paths:  # what is wrong with a file from its start on is said now, before a model is loaded
        _, first = next(iter(read_table(path)), (0, None))
        if ending_of(path) == ".txt" and isinstance(first, dict) and "tokens" in first:
            logger.warning(f"{path} is read as CoNLL: a word and its tag on each line, a blank line between tweets.")
    are_texts_alone = False

    def read() -> Iterator[InputRow]:
        for path in paths:
            folder = Path(image_dir) if image_dir else path.parent
            is_conll = ending_of(path) in CONLL_ENDINGS
            for place, row in placed_rows(path):
                try:
                    if isinstance(row, Problem):
                        raise ProblemError(row)
                    given = in_our_columns(row)
                    _check_id(given.get("id"))
                except ProblemError as error:
                    yield InputRow(place, {}, error.problem)
                    continue
                columns = {name: value for name, value in given.items() if value not in (None, [])}
                if are_texts_alone:
                    columns.pop("image", None)
                pictures = {name: _below(folder, columns[name]) for name in PICTURE_COLUMNS if name in columns}
                if is_conll and "image" in pictures:
                    pictures["image"] = Path(with_its_ending(str(pictures["image"])))
                    columns["image"] = str(Path(columns["image"]).with_suffix(pictures["image"].suffix))
                shown = partial(_shown_of_folder, folder=folder)
                yield InputRow(place, columns | pictures, pictures=_paths_of(columns), shown=shown)

    if image_dir is None and all(ending_of(path) in CONLL_ENDINGS for path in paths):
        names_pictures = any("image" in row.columns for row in islice(read(), ROWS_LOOKED_AT))
        folders = {str(path.parent) for path in paths}
        are_texts_alone = names_pictures and not any(map(holds_pictures, folders))
        if are_texts_alone:
            logger.warning(
                f"The files name pictures (IMGID), and none lies below {', '.join(sorted(folders))}: the texts alone "
                "are tagged. If you have the pictures, name their folder by --image_dir."
            )
    _check_found(islice(read(), ROWS_LOOKED_AT))
    return RowSource(read, files_digest([str(path) for path in paths], ()), inputs)


def _check_id(given: Any) -> None:
    """A ProblemError for an `id` that JSON cannot hold as a name, such as NaN; [`load_data`] refuses the same."""
    if given is not None and type(given) not in (str, int):
        raise ProblemError(Problem("must be a string or a whole number", "id", details=f"(got {shown(given)})"))


def _check_found(rows: Iterable[InputRow]) -> None:
    """A FileNotFoundError where rows name several pictures of a column by paths, and none of them is there."""
    named: dict[str, list[Path]] = {column: [] for column in PICTURE_COLUMNS}
    for row in rows:
        for column, paths in named.items():
            of_row = row.columns.get(column)
            paths += [path for path in (of_row if isinstance(of_row, list) else [of_row]) if isinstance(path, Path)]
    for column, paths in named.items():
        if len(paths) > 1 and not any(map(os.path.exists, paths)):
            raise FileNotFoundError(
                f"Every picture that the first rows name in {column} is missing ({len(paths)}), the first of them "
                f"{str(paths[0])[:200]}. Name the folder from which the paths start by --image_dir, or leave the "
                "column out."
            )


def find_files(inputs: Sequence[str]) -> list[Path]:
    """The files that are named: in the order given, those of a folder or a pattern by name."""
    endings = (*TEXT_ENDINGS, *BINARY_ENDINGS)
    paths: list[Path] = []
    for name in inputs:
        if is_address(name):
            raise FileNotFoundError(f"{name:.200}: this is an address, and nothing is downloaded here. Name a file.")
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in endings)
            first = {file.suffix.lower(): file.name for file in reversed(found)}
            if len(first) > 1:
                raise ValueError(
                    f"The folder {name} holds files of several endings: {', '.join(sorted(first.values()))}. Name "
                    f"those that hold rows, for example '{path / '*'}{found[-1].suffix}'."
                )
        elif path.exists() or not glob.has_magic(name):
            found = [path]  # a file that is not there is an error when it is opened
        else:
            found = [Path(file) for file in sorted(glob.glob(name, recursive=True)) if Path(file).is_file()]
        if not found:
            what = f"The folder {name} holds" if path.is_dir() else f"The pattern {name} fits"
            raise FileNotFoundError(f"{what} no file of rows. Their names end in {', '.join(endings)}.")
        paths += found
    twice = sorted(str(path) for path, times in Counter(paths).items() if times > 1)
    if twice:
        raise ValueError(f"These input files are named twice: {', '.join(twice[:5])}. Name each of them once.")
    return paths


def _shown_of_folder(picture: Any, folder: Path) -> Any:
    """What lies outside of the folder is tagged, but not copied into the page."""
    path = picture.get("path") if isinstance(picture, dict) and picture.get("bytes") is None else picture
    if not isinstance(path, str | os.PathLike) or is_address(path):
        return picture
    return real_path_below(path, folder)


def _shown_of_data(picture: Any) -> Any:
    path = _path_of(picture)
    return None if path and leads_elsewhere(path) else picture


def _paths_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of pictures of a row, as far as these are files of their own."""
    paths: dict[str, Any] = {}
    for name in PICTURE_COLUMNS:
        given = row.get(name)
        paths[name] = [path for path in map(_path_of, given) if path] if isinstance(given, list) else _path_of(given)
    return {name: path for name, path in paths.items() if path}


def _path_of(picture: Any) -> str | None:
    picture = picture.get("path") if isinstance(picture, dict) and not picture.get("bytes") else picture
    return picture if isinstance(picture, str) else None


def _below(folder: Path, pictures: Any) -> Any:
    """Paths as ones that start from the folder; bytes, and what `datasets` stores, stay."""
    if isinstance(pictures, list):
        return [_below(folder, picture) for picture in pictures]
    return folder / pictures if isinstance(pictures, str) and not is_address(pictures) else pictures
