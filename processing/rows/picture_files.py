"""Pictures that a data set names: found below their folder, checked, and reported where they are absent."""

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from processing.columns import CROP_COLUMNS, as_list
from processing.images import (
    ADDRESS,
    MAX_MEGAPIXELS,
    NO_SUCH_FILE,
    ImageError,
    ImageSource,
    check_source,
    is_address,
    load_image,
)
from processing.problems import Problem, ProblemError

from .loading_report import AbsentPicture, SplitReport
from .local_paths import real_path_below


_IS_OUTSIDE = "the path leads out of the folder of the pictures"
NO_PICTURE = "there is no picture in this place of the list"
_COUNTS = {ADDRESS: "outside", _IS_OUTSIDE: "outside", NO_SUCH_FILE: "missing"}  # of the report, by kind of problem
_ARE = {ADDRESS: "an address", _IS_OUTSIDE: "outside the folder of the pictures", NO_SUCH_FILE: "missing"}

# Of the formats that `load_image` reads.
PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif")


def check_image(source: ImageSource, max_megapixels: float = MAX_MEGAPIXELS) -> Problem | None:
    """What keeps `load_image` from reading the source, None where nothing does. It is decoded in full and not kept."""
    try:
        load_image(source, max_megapixels)
    except ImageError as error:
        return error.problem
    return None


def holds_pictures(folder: str) -> bool:
    """Whether a file in the folder, or in one below it, ends as a picture does."""
    names = (name for _, _, of_folder in os.walk(folder) for name in of_folder)
    return any(name.lower().endswith(PICTURE_ENDINGS) for name in names)


def with_its_ending(path: str) -> str:
    """The path of a `.jpg`; where there is no such file, that of a picture of the same name with another ending."""
    stem, ending = os.path.splitext(path)
    if ending != ".jpg" or os.path.exists(path):
        return path
    return next((stem + other for other in PICTURE_ENDINGS if os.path.exists(stem + other)), path)


class PictureFolder(NamedTuple):
    """
    A folder of pictures, whose names are relative to `base` and have to stay below `folder`. Where `guesses_endings`,
    a name `17.jpg` is also `17.png` and the like: CoNLL names a picture by a number alone.
    """

    base: str
    folder: str
    guesses_endings: bool = False

    def find(self, name: str) -> str:
        """
        The path for a name, or a ProblemError where it leads out of the folder.

        By name only: a link inside the folder was put there by whoever keeps the data, and is followed in training.
        """
        if is_address(name):
            raise ProblemError(Problem(ADDRESS))
        places = [os.path.join(self.base, name)]
        if os.path.isabs(name):
            # It may be written by way of a link; the folder is known here by its real path.
            places.append(os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name)))
        for path in map(os.path.normpath, places):
            if path.startswith(os.path.join(self.folder, "")):  # also of the folder /
                return with_its_ending(path) if self.guesses_endings else path
        raise ProblemError(Problem(_IS_OUTSIDE, details=f"({os.path.basename(self.folder)})"))


def _given_picture(value: Any) -> dict[str, Any] | None:
    """A picture as a row gives it, as `{"path", "bytes"}` of which at most one is None; None where there is none."""
    if isinstance(value, dict) and set(value) <= {"bytes", "path"}:
        data, path = value.get("bytes"), value.get("path")
    else:
        data, path = (None, value) if isinstance(value, str) else (value, None)
    if data is None and path is None:  # So datasets stores an absent picture at times, too.
        return None
    if not isinstance(path, str | None) or not isinstance(data, bytes | None) or not (data or path):
        kind = "a picture must be a path, bytes or a dict of the two"
        raise ProblemError(Problem(kind, details=f"(got {value!r:.80})"))
    if data is None and path is not None and "\0" in path:  # No file has it in its name.
        raise ProblemError(Problem("a path must not have NUL (0x00) in it", details=f"(got {path!r:.80})"))
    return {"path": path, "bytes": data}


def renumbered(objects: list[dict[str, Any]], absent: set[int]) -> list[dict[str, Any]]:
    """
    Objects whose `image` is the number of a picture among those that are left where some are absent; None where it is
    one of these.
    """

    def number(image: int | None) -> int | None:
        return None if image is None or image in absent else image - sum(other < image for other in absent)

    return [{**found, "image": number(found.get("image"))} for found in objects]


class PictureReader:
    """
    The pictures of one split's rows: those that are there. What cannot be used goes into the report.

    Args:
        root: reported paths are relative to it. The rows have the real paths of what lies below it, see
            [`leads_elsewhere`].
        folders: the folder of each column of pictures.
        limits: for each column of crops, how many of those that a row lists are used, for each of its pictures.
        has_several_images: whether rows have a list of pictures as their `image`.
        report: counts and absent pictures are added to it.
        verify: whether each picture is decoded to see that it can be used. Without, no file is opened: what is damaged
            shows when features are prepared.
        max_megapixels: the largest picture that can be used, see [`load_image`]. Without `verify` it has no effect.
    """

    def __init__(
        self,
        root: str,
        folders: Mapping[str, PictureFolder],
        limits: Mapping[str, int],
        report: SplitReport,
        verify: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
        has_several_images: bool = False,
    ):
        self.has_several_images = has_several_images
        self.root, self.folders, self.limits, self.report = root, folders, limits, report
        self.missing: dict[str, list[AbsentPicture]] = {}  # by column, those that are not there
        check = functools.partial(check_image, max_megapixels=max_megapixels)
        self._check = check if verify else check_source
        self._check_file = functools.cache(self._check)  # Several rows may share a picture.

    def read(self, row_id: str, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, set[int]]]:
        """
        The columns of pictures of a row that the data set has, and for each column of lists, which of those that are
        listed (from 0 on) cannot be used. The row has paths, bytes or dicts of the two. Crops beyond the limit are
        counted and not looked for.
        """
        counts = self.report.counts
        columns: dict[str, Any] = {}
        absent: dict[str, set[int]] = {}
        if self.has_several_images:
            images = [
                self._usable(row_id, "image", item, value) for item, value in enumerate(as_list(row.get("image")))
            ]
            absent["image"] = {index for index, image in enumerate(images) if image is None}
            columns["image"] = [image for image in images if image is not None]
            counts["images"] += len(columns["image"])
        else:
            columns["image"] = self._usable(row_id, "image", None, row.get("image"))
            counts["images"] += columns["image"] is not None
        counts["rows_without_image"] += not columns["image"]
        for column in CROP_COLUMNS:
            listed, number = row.get(column) or [], self.limit(column, row)
            if not isinstance(listed, list):
                self._absent(row_id, column, None, str(listed), Problem("must be a list of pictures"))
                listed = []
            crops = [self._usable(row_id, column, item, value) for item, value in enumerate(listed[:number])]
            absent[column] = {index for index, crop in enumerate(crops) if crop is None}
            columns[column] = [crop for crop in crops if crop is not None]
            counts["crops_surplus"] += max(len(listed) - number, 0)
            counts[column] += len(columns[column])
            counts[f"rows_without_{column}"] += not columns[column]
        counts["rows"] += 1
        return columns, absent

    def limit(self, column: str, row: Mapping[str, Any]) -> int:
        """How many of the crops of a column that a row lists are used."""
        return self.limits[column] * (max(len(as_list(row.get("image"))), 1) if self.has_several_images else 1)

    def _usable(self, row_id: str, column: str, item: int | None, value: Any) -> dict[str, Any] | None:
        shown = str(value)
        try:
            picture = _given_picture(value)
            if picture is None:
                if item is not None:
                    self._absent(row_id, column, item, "", Problem(NO_PICTURE))
                return None
            if picture["bytes"] is not None:
                shown = picture["path"] or "bytes"
                problem = self._check(picture["bytes"])
            else:
                shown = picture["path"]
                path = self.folders[column].find(shown)
                picture["path"] = real_path_below(path, self.root) or path
                shown = os.path.relpath(path, self.root)
                problem = self._check_file(picture["path"])
        except ProblemError as error:
            problem = error.problem
        if problem is None:
            return picture
        self._absent(row_id, column, item, shown, problem)
        return None

    def _absent(self, row_id: str, column: str, item: int | None, path: str, problem: Problem) -> None:
        count = _COUNTS.get(problem.kind, "unreadable")
        self.report.counts[f"{'images' if column == 'image' else 'crops'}_{count}"] += 1
        problem = replace(problem, column=column, item=item)
        self.report.absent.append(AbsentPicture(row_id, path[:200], problem))
        if count != "unreadable":
            self.missing.setdefault(column, []).append(self.report.absent[-1])

    def check_found(self) -> None:
        """Where several rows name pictures of a column and none of them is there, a FileNotFoundError says it."""
        for column, missing in self.missing.items():
            is_list = len({picture.row_id for picture in missing}) > 1  # One row may be wrong by itself.
            if is_list and not self.report.counts["images" if column == "image" else column]:
                are = " or ".join(dict.fromkeys(_ARE[picture.problem.kind] for picture in missing))
                raise FileNotFoundError(
                    f"Every picture that the rows name in {column} is {are} ({len(missing)}); looked in "
                    f"{self.folders[column].folder}. The first one is {missing[0]}."
                )
