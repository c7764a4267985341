"""
What a request may hold, for the page of a Space and for the server. It lies beside the page too, and imports nothing.
"""

import json
import math
from typing import Any


# Head and tail of a relation are texts, and so is the JSON of all boxes.
MAX_CHARACTERS = 2_000
MAX_BOX_CHARACTERS = 10_000
MAX_PICTURES = 8  # of a tweet, whatever a model takes
MAX_BOXES = 100
MAX_LABEL = 100  # characters of a box's label, and of a picture's name
MAX_MEGABYTES = 10  # of a picture; the model's processor limits its pixels
COLUMNS = {"aux_crops", "rcnn_crops"}


class Refused(ValueError):
    """The error of a request that is refused. Its message is a sentence for the page."""


def label_of(name: Any) -> str:
    """The name of a picture as its owner knows it, which may be anything, as a short line of text."""
    shown = "".join(character if character.isprintable() else "\ufffd" for character in str(name)[: MAX_LABEL + 1])
    return shown if len(shown) <= MAX_LABEL else f"{shown[:MAX_LABEL]}..."


def check_text(text: str, name: str) -> str:
    """A text that is longer than `MAX_CHARACTERS` is refused."""
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"The {name} has {len(text):,} characters, at most {MAX_CHARACTERS:,} are taken: shorten it.")
    return text


def read_boxes(text: str) -> Any:
    """
    The boxes of a JSON text, of the form that the pipelines take as `crops`: nothing but numbers and short labels,
    which come back in a report.

    Raises:
        Refused: for what is no JSON, no boxes, too long or too much.
    """
    if len(text) > MAX_BOX_CHARACTERS:
        raise Refused(f"The boxes have {len(text):,} characters, at most {MAX_BOX_CHARACTERS:,} are taken.")
    try:
        boxes = json.loads(text, parse_int=float)  # an integer may have any number of digits
    except (ValueError, RecursionError) as reason:
        raise Refused(f"The boxes are no JSON: {reason}. Expected are lists such as [[20, 20, 90, 90]].") from reason
    if isinstance(boxes, dict) and "box" not in boxes:
        if not boxes.keys() <= COLUMNS:
            raise Refused(f"Boxes are given as a list, or by {' and '.join(sorted(COLUMNS))}.")
        columns = [[] if of_column is None else of_column for of_column in boxes.values()]
    else:
        columns = [boxes]
    columns = [[of] if _is_box(of) else of for of in columns]
    if not all(isinstance(of_column, list) for of_column in columns):
        raise Refused("Boxes are lists such as [[20, 20, 90, 90]].")
    number = sum(map(len, columns))
    if number > MAX_BOXES:
        raise Refused(f"There are {number} boxes, at most {MAX_BOXES} are taken.")
    if not all(_is_box(box) for of_column in columns for box in of_column):
        raise Refused(
            "A box is [xmin, ymin, xmax, ymax], or has that as `box`, with a text as `label`, a `score`, and of "
            "several pictures the number of one as `image`."
        )
    for box in (box for of_column in columns for box in of_column if isinstance(box, dict) and "image" in box):
        box["image"] = int(box["image"])  # the number of a picture, not a float
    return boxes


def _is_box(value: Any) -> bool:
    if not isinstance(value, dict):
        return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
    label, score = value.get("label"), value.get("score")
    has_label = label is None or (isinstance(label, str) and len(label) <= MAX_LABEL)
    image = value.get("image", 0.0)  # of several pictures the number of one; JSON's numbers are read as floats
    has_image = _is_number(image) and image >= 0 and image == int(image)
    is_known = value.keys() <= {"box", "label", "score", "image"} and isinstance(value.get("box"), list)
    return is_known and has_image and has_label and (score is None or _is_number(score)) and _is_box(value["box"])


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
