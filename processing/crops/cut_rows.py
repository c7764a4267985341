"""Rows of a data set with the crops that detected objects give, pictures as the bytes that are stored."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
from PIL import Image

from processing.detectors import DetectedObject, cut_crops
from processing.images import ImageError, load_image
from processing.object_proposals import encode_crop
from processing.rows.row_features import CROP_KINDS, with_objects


ROWS_AT_ONCE = 64

# For each kind that has a detector: a row's objects, or why its picture could not be read.
Found = dict[str, tuple[list[DetectedObject], str | None]]


def picture_or_reason(source: dict[str, Any]) -> Image.Image | str:
    """The picture of an encoded source, or why it cannot be read."""
    try:
        return load_image(source)
    except ImageError as error:
        return _reason(error, source)


def shard_with_crops(dataset: datasets.Dataset, found: Sequence[Found]) -> tuple[datasets.Dataset, list[list[str]]]:
    """
    Args:
        dataset: at least one row, pictures encoded.
        found: what was found for each row.

    Returns:
        The rows of [`row_with_crops`], and what could not be read: (id of the row, column, reason).
    """
    features = with_objects(dataset.features)
    features["image"] = datasets.Image()
    for kind in CROP_KINDS:
        features[f"{kind}_crops"] = datasets.List(datasets.Image())
    parts, unreadable = [], []
    for first in range(0, len(dataset), ROWS_AT_ONCE):
        rows = []
        for index in range(first, min(first + ROWS_AT_ONCE, len(dataset))):
            row, problems = row_with_crops(dataset[index], found[index])
            rows.append(row)
            unreadable += [[row["id"], column, reason] for column, reason in problems]
        parts.append(datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features))
    return datasets.concatenate_datasets(parts), unreadable


def row_with_crops(row: dict[str, Any], found: Found) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """
    A row with its pictures as bytes, crops cut and objects beside them. Where a kind has no detector, the row's own
    crops stay. A picture that cannot be read, or is not the one that was looked at, is left out with its crops.

    Args:
        row: pictures encoded.
        found: what was found.

    Returns:
        The row, and what could not be read: (column, reason).
    """
    row, problems = dict(row), []
    picture = None
    if row["image"] is not None:
        try:
            reasons = [reason for _, reason in found.values() if reason is not None]
            if reasons:
                raise ImageError(reasons[0])
            picture, stored = _encoded(row["image"])
            if not _boxes_fit(picture, found):
                picture = None
                name = row["image"].get("path") or "bytes"
                raise ImageError(f"{name}: changed since it was looked at: run again with --overwrite")
            row["image"] = stored
        except ImageError as error:
            problems.append(("image", _reason(error, row["image"])))
            row["image"] = None
    for kind in CROP_KINDS:
        crops_column, objects_column = f"{kind}_crops", f"{kind}_objects"
        if kind in found:
            objects = [] if picture is None else found[kind][0]
            crops = [] if picture is None else cut_crops(picture, objects)
            row[objects_column] = [detected._asdict() for detected in objects]
            row[crops_column] = [
                {"bytes": encode_crop(crop), "path": f"{row['id']}_{kind}_{index}.jpg"}
                for index, crop in enumerate(crops)
            ]
            continue
        sources, own_objects = row[crops_column] or [], row.get(objects_column) or []
        kept = []
        for index, source in enumerate(sources):
            try:
                kept.append((index, _encoded(source)[1]))
            except ImageError as error:
                problems.append((crops_column, _reason(error, source)))
        row[crops_column] = [source for _, source in kept]
        beside = len(own_objects) == len(sources)  # else the objects are not those of the crops
        row[objects_column] = [own_objects[index] for index, _ in kept] if beside else []
    return row, problems


def _encoded(source: dict[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
    """
    A picture, and its bytes as they are stored.

    Raises:
        ImageError: for one that cannot be read.
    """
    data, path = source.get("bytes"), source.get("path")
    if data is None:
        try:
            data = Path(path).read_bytes()  # type: ignore[arg-type]  # there is one where there are no bytes
        except OSError as error:
            raise ImageError(f"{path}: {error.strerror or error}") from error
    picture = load_image({"bytes": data, "path": path})
    return picture, {"bytes": data, "path": path and os.path.basename(path)}


def _boxes_fit(picture: Image.Image, found: Found) -> bool:
    """Detectors' boxes lie within the picture, so one that does not is of another picture."""
    boxes = [detected.box for objects, _ in found.values() for detected in objects]
    return all(xmax <= picture.width and ymax <= picture.height for _, _, xmax, ymax in boxes)


def _reason(error: ImageError, source: dict[str, Any]) -> str:
    """The message with the file's name and not its folder: `crops.json` may be published."""
    path = source.get("path")
    return str(error).replace(path, os.path.basename(path)) if path else str(error)
