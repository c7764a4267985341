"""Pictures and objects of the rows of your own files."""

import os
import re
from collections.abc import Mapping
from typing import Any

from processing.columns import CROP_KINDS
from processing.problems import Problem, ProblemError
from processing.rows.loading_report import SplitReport
from processing.rows.picture_files import PictureFolder, PictureReader

from .labelled_rows import read_objects
from .text_tables import Row


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")


def _given_picture(value: Any) -> dict[str, Any] | None:
    """
    A picture of a row as `{"path", "bytes"}`, at most one of them None; None where it is absent.

    Raises:
        ProblemError: for what is no picture.
    """
    if value is None:
        return None
    data, path = value, None
    if isinstance(value, str):
        data, path = None, value
    elif isinstance(value, dict) and set(value) <= {"bytes", "path"}:
        data, path = value.get("bytes"), value.get("path")
        if data is None and path is None:  # So datasets stores an absent picture at times.
            return None
    if not isinstance(path, str | None) or not isinstance(data, bytes | None) or not (data or path):
        kind = "a picture must be a path, bytes or a dict of the two"
        raise ProblemError(Problem(kind, details=f"(got {value!r:.80})"))
    if data is None and path is not None and "\0" in path:  # No file has it in its name.
        raise ProblemError(Problem("a path must not have NUL (0x00) in it", details=f"(got {path!r:.80})"))
    return {"path": path, "bytes": data}


class OwnPictures:
    """
    Pictures and objects of one split's rows, below one folder.

    Args:
        image_dir: the folder.
        report: absent pictures are added to it.
        limits: number of crops that are used, by kind.
    """

    def __init__(self, image_dir: str, report: SplitReport, limits: Mapping[str, int]):
        self.folder = PictureFolder(image_dir, image_dir)
        self.reader = PictureReader(image_dir, report)
        self.limits = limits

    def of(self, row_id: str, row: Row, keep_objects: bool) -> dict[str, Any]:
        """
        The picture columns of a row, and with `keep_objects` its objects; those of a crop that cannot be used or is
        beyond the number asked for go with it, since both are in the same order.
        """
        columns: dict[str, Any] = {"image": self._usable(row_id, "images", row.get("image"))}
        for kind in CROP_KINDS:
            listed, number = row.get(f"{kind}_crops") or [], self.limits[kind]
            if not isinstance(listed, list):
                problem = Problem("must be a list of pictures", f"{kind}_crops")
                self.reader.absent(row_id, "crops_unreadable", str(listed), problem)
                listed = []
            self.reader.report.counts["crops_surplus"] += max(len(listed) - number, 0)
            crops = [self._usable(row_id, "crops", value) for value in listed[:number]]
            columns[f"{kind}_crops"] = [crop for crop in crops if crop is not None]
            if keep_objects:
                absent = {index for index, crop in enumerate(crops) if crop is None}
                objects = read_objects(row, f"{kind}_objects")[:number]
                columns[f"{kind}_objects"] = [item for index, item in enumerate(objects) if index not in absent]
        return columns

    def _usable(self, row_id: str, kind: str, value: Any) -> dict[str, Any] | None:
        try:
            picture = _given_picture(value)
        except ProblemError as error:
            self.reader.absent(row_id, f"{kind}_unreadable", str(value), error.problem)
            return None
        if picture is None:
            return None
        if picture["bytes"] is not None:
            return self.reader.stored(row_id, kind, picture)
        path = picture["path"]
        if _URL.match(path):
            problem = Problem("a URL, and nothing is downloaded: name a file below the image folder")
            self.reader.absent(row_id, f"{kind}_outside", path, problem)
            return None
        if os.path.isabs(path) and self.folder.find(path) is None:
            # It may be written by way of a link; the folder is known here by its real path.
            path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        return self.reader.file(row_id, kind, self.folder, path)
