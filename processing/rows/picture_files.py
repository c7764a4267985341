"""Pictures that a data set names: found below their folder, checked, and reported where they are absent."""

import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from processing.columns import CROP_COLUMNS
from processing.images import NO_SUCH_FILE, check_image
from processing.problems import Problem

from .loading_report import AbsentPicture, SplitReport


class PictureFolder(NamedTuple):
    """A folder of pictures, whose names are relative to `base` and have to stay below `folder`."""

    base: str
    folder: str

    def find(self, name: str) -> str | None:
        """
        The path for a name, or None where it leads out of the folder.

        By name only: a link inside the folder was put there by whoever keeps the data, and is followed.
        """
        path = os.path.normpath(os.path.join(self.base, name))
        return path if path.startswith(self.folder + os.sep) else None


class PictureReader:
    """
    The pictures of one split's rows, each decoded once to see that it can be; what cannot goes into the report.

    A picture is given and returned as `{"path", "bytes"}`. Absent ones are counted as `"images"` or as `"crops"`.

    Args:
        root: reported paths are relative to it.
        report: counts and absent pictures are added to it.
    """

    def __init__(self, root: str, report: SplitReport):
        self.root = root
        self.report = report
        self._check_file = functools.cache(check_image)  # Several rows may share a picture.

    def file(self, row_id: str, kind: str, folder: PictureFolder, name: str) -> dict[str, Any] | None:
        """The picture of that name below a folder, None where it cannot be used."""
        path = folder.find(name)
        if path is None:
            problem = Problem("outside the folder of the pictures", details=f"({os.path.basename(folder.folder)})")
            self.absent(row_id, f"{kind}_outside", name, problem)
            return None
        unusable = self._check_file(path)
        if unusable is None:
            return {"path": path, "bytes": None}
        count = f"{kind}_{'missing' if unusable.kind == NO_SUCH_FILE else 'unreadable'}"
        self.absent(row_id, count, os.path.relpath(path, self.root), unusable)
        return None

    def crops(self, row_id: str, folder: PictureFolder, names: Sequence[str], number: int) -> list[dict[str, Any]]:
        """Of the first `number` crops named, those that can be used; more are counted and not looked for."""
        self.report.counts["crops_surplus"] += max(len(names) - number, 0)
        pictures = (self.file(row_id, "crops", folder, name) for name in names[:number])
        return [picture for picture in pictures if picture is not None]

    def stored(self, row_id: str, kind: str, picture: dict[str, Any]) -> dict[str, Any] | None:
        """A picture that is given by its bytes, None where it cannot be used."""
        unusable = check_image(picture["bytes"])
        if unusable is None:
            return picture
        self.absent(row_id, f"{kind}_unreadable", picture["path"] or "bytes", unusable)
        return None

    def absent(self, row_id: str, count: str, path: str, problem: Problem) -> None:
        """Report a picture that no row has."""
        self.report.counts[count] += 1
        self.report.absent.append(AbsentPicture(row_id, path[:200], problem))

    def count(self, row: dict[str, Any]) -> None:
        """Count a row that the data set has, and its pictures."""
        counts = self.report.counts
        counts["rows"] += 1
        counts["images"] += row["image"] is not None
        counts["rows_without_image"] += row["image"] is None
        for column in CROP_COLUMNS:
            counts[column] += len(row[column])
            counts[f"rows_without_{column}"] += not row[column]
