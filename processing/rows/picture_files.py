"""Pictures that a data set names: found below their folder, checked, and counted where they are absent."""

import functools
import os
import pickle
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from processing.images import NO_SUCH_FILE, check_image

from .loading_report import AbsentPicture, SplitReport


class PictureFolder(NamedTuple):
    """Names are relative to `base` and have to stay below `folder`."""

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

    Args:
        root: reported paths are relative to it.
        report: counts and absent pictures are added to it.
    """

    def __init__(self, root: str, report: SplitReport):
        self.root = root
        self.report = report
        self._check_file = functools.cache(check_image)  # Several rows may share a picture.

    def named(self, row_id: str, kind: str, folder: PictureFolder, names: Sequence[str]) -> list[dict[str, Any]]:
        """
        Of pictures named below a folder those that can be used, as `{"path", "bytes"}`.

        Args:
            kind: `"images"` or `"crops"`, under which absent ones are counted.
        """
        pictures = []
        for name in names:
            path = folder.find(name)
            reason = self._check_file(path) if path else f"outside {os.path.basename(folder.folder)}, not followed"
            if reason is None:
                pictures.append({"path": path, "bytes": None})
            else:
                problem = "outside" if path is None else "missing" if reason == NO_SUCH_FILE else "unreadable"
                self._absent(row_id, f"{kind}_{problem}", os.path.relpath(path, self.root) if path else name, reason)
        return pictures

    def crops(self, row_id: str, folder: PictureFolder, names: Sequence[str], number: int) -> list[dict[str, Any]]:
        """Of the first `number` crops named, those that can be used; more are counted and not looked for."""
        self.report.counts["crops_surplus"] += max(len(names) - number, 0)
        return self.named(row_id, "crops", folder, names[:number])

    def embedded(self, row_id: str, kind: str, pictures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Of pictures given as `{"path", "bytes"}` with their bytes, those that can be used."""
        usable = []
        for picture in pictures:
            reason = check_image(picture["bytes"])
            if reason is None:
                usable.append(picture)
            else:
                self._absent(row_id, f"{kind}_unreadable", picture["path"] or "bytes", reason)
        return usable

    def _absent(self, row_id: str, count: str, path: str, reason: str) -> None:
        self.report.counts[count] += 1
        self.report.absent.append(AbsentPicture(row_id, path, reason))

    def count(self, row: dict[str, Any]) -> None:
        """Count a row that the data set has, and its pictures."""
        counts = self.report.counts
        counts["rows"] += 1
        counts["images"] += row["image"] is not None
        counts["rows_without_image"] += row["image"] is None
        for kind in ("aux_crops", "rcnn_crops"):
            counts[kind] += len(row[kind])
            counts[f"rows_without_{kind}"] += not row[kind]


def read_crop_names(path: str) -> dict[str | int, list[str]]:
    """
    A `.pth` file of the published archives: a pickled dict from an image (MNRE's: a row number) to the names of its
    crops. No code in it is run.

    Raises:
        ValueError: for a file that holds anything else.
    """
    import torch  # Reading text, or prepared data, need not wait for it.

    expected = "expected a dict of str (or row numbers) to list of str, as torch.save writes it"
    try:
        crop_names = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own message advises to load the file all the same, hence `from None`.
        code = re.search(r"GLOBAL (\S+)", str(error))
        problem = f"loading it would run code ({code[1]})" if code else "it is no pickle of plain data, or damaged"
        raise ValueError(f"{path} was not loaded, because {problem}; {expected}.") from None
    except OSError:
        raise
    except Exception as error:  # Torch checks little before it unpacks: damage comes as nearly every kind of error.
        raise ValueError(f"{path} was not loaded, because it is damaged or cut off; {expected}.") from error
    if not isinstance(crop_names, dict):
        raise ValueError(f"{path}: {expected}, got {type(crop_names).__name__}.")
    for key, names in crop_names.items():
        is_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (isinstance(key, str | int) and is_names):
            raise ValueError(f"{path}: {expected}, got {key!r}: {names!r:.200}.")
    return crop_names


def crop_names_if_any(path: str) -> dict[str | int, list[str]]:
    return read_crop_names(path) if os.path.isfile(path) else {}
