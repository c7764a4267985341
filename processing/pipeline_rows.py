"""What a row of the pipeline may be, and the words in it."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from PIL import Image
from transformers.utils import logging

from .columns import CROP_COLUMNS, CROP_KINDS, PICTURE_COLUMNS
from .detectors import DetectedObject, cut_crops
from .images import ImageError, load_image
from .object_proposals import encode_crop
from .tokenizing import Words, join_words, split_words


logger = logging.get_logger(__name__)

# Columns a row may have: what is read, and what the data sets have besides.
KNOWN_COLUMNS = {"text", "tokens", *PICTURE_COLUMNS, "crops", "id", "image_id", "ner_tags", "head", "tail", "relation"}
KNOWN_COLUMNS |= {f"{kind}_objects" for kind in CROP_KINDS}
# What is meant for `image`, and would go unseen.
MISNAMED = {"images", "img", "picture", "pictures", "photo"}


def as_row(inputs: Any) -> Mapping[str, Any]:
    """
    A row as a mapping: a text or a list of words is one too. Columns that nobody looks at are logged.

    Raises:
        ValueError: for what is no row, and for a picture under another name.
    """
    if isinstance(inputs, str):
        return {"text": inputs}
    if isinstance(inputs, list | tuple):
        return {"tokens": inputs}
    if not isinstance(inputs, Mapping):
        raise ValueError(
            "expected a text, a list of words, or a mapping with text or tokens and pictures, got "
            f"{type(inputs).__name__}"
        )
    misnamed = sorted(inputs.keys() & MISNAMED)
    if misnamed and "image" not in inputs:
        raise ValueError(f"{', '.join(misnamed)}: the picture of a row is its image")
    unknown = sorted(map(str, inputs.keys() - KNOWN_COLUMNS))
    if unknown:
        logger.warning_once(f"Not looked at: {', '.join(unknown)}. Pictures are read from {PICTURE_COLUMNS}.")
    return inputs


def row_words(row: Mapping[str, Any]) -> Words:
    """
    The row's text, its words and their offsets.

    Raises:
        ValueError: for a row without a text, or one of another type.
    """
    name = "text" if row.get("tokens") is None else "tokens"
    value = row.get(name)
    if value is None:
        raise ValueError(f"neither text nor tokens among {sorted(map(str, row))}, or both are None")
    if isinstance(value, str):
        text, words, offsets = split_words(_encodable(name, value))
    elif isinstance(value, Iterable) and all(isinstance(word, str) for word in value):
        text, words, offsets = join_words([_encodable(name, str(word)) for word in value])
    else:
        raise ValueError(f"{name}: expected a string or a list of words, got {value!r:.80}")
    return text, words, offsets


def _encodable(name: str, text: str) -> str:
    """
    Raises:
        ValueError: for half a surrogate pair, which no tokenizer takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {text!r:.80} is no valid Unicode: {error.reason}") from error
    return text


logger = logging.get_logger(__name__)


CROP_CHOICES = ("auto", "none")


# Called with what is wrong and the error that it is where bad input is an error.
Report = Callable[..., None]


@dataclass
class RowPictures:
    """
    Attributes:
        columns: what the model takes of the row, by column: decoded pictures, `image` at most one.
        objects: by column of crops, `box` and, where known, `label` and `score` of each crop; a column of crops that
            came as pictures alone has none.
        image: the picture, where crops are still to be proposed.
        pending: the kinds of those.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    image: Image.Image | None = None
    pending: tuple[str, ...] = ()

    @property
    def known(self) -> dict[str, list[dict[str, Any]]]:
        """`objects` without the columns of no crop."""
        return {column: objects for column, objects in self.objects.items() if objects}

    def object_of(self, source: str) -> dict[str, Any]:
        """What is known of a crop such as `aux_crops 0`; nothing of the picture or the text."""
        column, _, index = source.partition(" ")
        objects = self.objects.get(column, [])
        return objects[int(index)] if objects else {}


def read_row_pictures(
    row: Mapping[str, Any], limits: Mapping[str, int], crops: Any, proposed_kinds: Collection[str], report: Report
) -> RowPictures:
    """
    Args:
        row: columns as the pipeline takes them.
        limits: how many pictures the model takes of `image` (1 or 0) and of each column of crops.
        crops: `"auto"`, `"none"` or boxes, see [`given_boxes`]; the row's own `crops` win.
        proposed_kinds: of crops that a detector is there for.
        report: what cannot be used is reported and left out.
    """
    if row.get("crops") is not None:
        crops = row["crops"]
    pictures = RowPictures()
    boxes: dict[str, list[dict[str, Any]]] = {}
    is_auto = is_choice(crops) and crops == "auto"
    if not is_choice(crops):
        try:
            boxes = given_boxes(crops, limits)
        except ValueError as error:
            report(f"crops: {error}")
    elif is_auto:
        pictures.pending = tuple(kind for kind in proposed_kinds if not _as_list(row.get(f"{kind}_crops")))

    _read_image(row, limits, boxes, pictures, report)
    image = pictures.image
    if image is None:
        pictures.pending = ()
    for column in CROP_COLUMNS:
        if boxes:
            if column in boxes and image is not None:
                cut, objects = _cut(image, column, boxes[column], limits[column], report)
                pictures.columns[column], pictures.objects[column] = cut, objects
        elif is_auto:
            _read_crops(row, column, limits[column], pictures, report)
    if not pictures.pending:
        pictures.image = None
    if is_auto and not proposed_kinds and row.get("image") is not None:
        _say_what_is_done_without_crops(pictures, limits)
    return pictures


def is_choice(crops: Any) -> bool:
    """Whether `crops` is one of the words, and not boxes."""
    return isinstance(crops, str) and crops in CROP_CHOICES


def given_boxes(crops: Any, limits: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """
    Boxes as a user gives them, by column of crops.

    Args:
        crops: a list of boxes for the first column of crops that the model takes, or `{"aux_crops": [...],
            "rcnn_crops": [...]}`. A box is (xmin, ymin, xmax, ymax) in pixels of the picture, or a mapping with that
            as `box`, and `label` and `score` where they are known.
        limits: how many crops the model takes of each column.

    Raises:
        ValueError: for what is neither, and for a box that is no box.
    """
    if isinstance(crops, str):
        raise ValueError(f"expected {', '.join(map(repr, CROP_CHOICES))} or boxes, got {crops!r}")
    if hasattr(crops, "tolist"):  # an array or tensor
        crops = crops.tolist()
    if isinstance(crops, Mapping) and "box" not in crops:
        unknown = sorted(map(str, crops.keys() - set(CROP_COLUMNS)))
        if unknown:
            raise ValueError(f"expected boxes by column, {' and '.join(CROP_COLUMNS)}, got {unknown}")
        by_column = {column: _as_list(crops.get(column)) for column in CROP_COLUMNS}
    else:
        if isinstance(crops, Sequence) and len(crops) == 4 and all(isinstance(side, Real) for side in crops):
            crops = [crops]
        column = next((column for column in CROP_COLUMNS if limits[column]), CROP_COLUMNS[0])
        by_column = {column: _as_list(crops)}
    return {column: [_as_object(box) for box in boxes] for column, boxes in by_column.items() if boxes}


def _as_object(box: Any) -> dict[str, Any]:
    """
    Raises:
        ValueError: for what is no box.
    """
    given = box._asdict() if isinstance(box, DetectedObject) else box if isinstance(box, Mapping) else {"box": box}
    try:
        xmin, ymin, xmax, ymax = sides = [float(side) for side in given["box"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected a box (xmin, ymin, xmax, ymax) in pixels, got {box!r:.80}") from error
    if not all(map(math.isfinite, sides)) or xmin >= xmax or ymin >= ymax:
        raise ValueError(f"expected a box with xmin < xmax and ymin < ymax, got {sides}")
    return {name: given[name] for name in ("label", "score") if given.get(name) is not None} | {"box": sides}


def _as_list(value: Any) -> list[Any]:
    """Of an absent value, a single one, or several."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _load(name: str, source: Any, report: Report) -> Image.Image | None:
    try:
        return load_image(source)
    except (ImageError, TypeError) as error:
        report(f"{name}: {error}", ImageError if isinstance(error, ImageError) else TypeError)
        return None


def _read_image(
    row: Mapping[str, Any], limits: Mapping[str, int], boxes: Mapping[str, Any], pictures: RowPictures, report: Report
) -> None:
    """The picture into `columns` where the model looks at it, and into `image` where crops are cut from it."""
    sources = _as_list(row.get("image"))
    if boxes and not sources:
        report("crops: boxes are cut from the row's image, and there is none")
    if sources and not (limits["image"] or boxes or pictures.pending):
        logger.warning_once("The column image is not looked at: the model was made without.")
        return
    if len(sources) > 1:
        report(f"image: {len(sources)} pictures, the model takes the first 1")
    loaded = [image for source in sources[:1] if (image := _load("image", source, report)) is not None]
    if limits["image"]:
        pictures.columns["image"] = loaded
    if loaded and (boxes or pictures.pending):
        pictures.image = loaded[0]


def _read_crops(row: Mapping[str, Any], column: str, limit: int, pictures: RowPictures, report: Report) -> None:
    """The row's own crops, with the objects beside them where there is one for each."""
    sources = _as_list(row.get(column))
    if sources and limit == 0:
        logger.warning_once(f"The column {column} is not looked at: the model was made without.")
        return
    if len(sources) > limit:
        report(f"{column}: {len(sources)} crops, the model takes the first {limit}")
    objects = row.get(column.replace("_crops", "_objects")) or []
    loaded = [(index, _load(f"{column} {index}", source, report)) for index, source in enumerate(sources[:limit])]
    pictures.columns[column] = [crop for _, crop in loaded if crop is not None]
    if len(objects) == len(sources):  # else they are not those of the crops
        pictures.objects[column] = [_as_object(objects[index]) for index, crop in loaded if crop is not None]


def _cut(
    image: Image.Image, column: str, boxes: list[dict[str, Any]], limit: int, report: Report
) -> tuple[list[bytes], list[dict[str, Any]]]:
    """The crops of boxes, and the boxes as far as they lie in the picture; one that lies outside is reported."""
    if len(boxes) > limit:
        report(f"{column}: {len(boxes)} crops, the model takes the first {limit}")
    kept = []
    for index, described in enumerate(boxes[:limit]):
        xmin, ymin, xmax, ymax = described["box"]
        width, height = map(float, image.size)
        clipped = [max(xmin, 0.0), max(ymin, 0.0), min(xmax, width), min(ymax, height)]
        if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
            report(
                f"{column} {index}: the box {described['box']} lies outside the picture of {image.width} x "
                f"{image.height} pixels"
            )
        else:
            kept.append({**described, "box": clipped})
    return encode_crops(image, [DetectedObject("", 0.0, tuple(described["box"])) for described in kept]), kept


def encode_crops(image: Image.Image, objects: Sequence[DetectedObject]) -> list[bytes]:
    """The picture's crops as a data set stores them."""
    return [encode_crop(crop) for crop in cut_crops(image, objects)]


def _say_what_is_done_without_crops(pictures: RowPictures, limits: Mapping[str, int]) -> None:
    """In one line, once."""
    if any(limits[column] for column in CROP_COLUMNS) and not any(pictures.columns.get(c) for c in CROP_COLUMNS):
        done = "whole pictures alone" if limits["image"] else "the text alone"
        logger.warning_once(
            f"No crops and no detector to find any: tagging by {done}. The model takes crops: name an aux_detector, "
            "an rcnn_detector or both, or set crops='none'."
        )
