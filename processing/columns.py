"""Names of the columns that hold pictures, and of what belongs to them."""

import re
from typing import Any


CROP_KINDS = ("aux", "rcnn")
CROP_COLUMNS = tuple(f"{kind}_crops" for kind in CROP_KINDS)
PICTURE_COLUMNS = ("image", *CROP_COLUMNS)  # of a row
OBJECT_COLUMNS = tuple(f"{kind}_objects" for kind in CROP_KINDS)  # what a detector said of each crop
PIXEL_MASKS = {"pixel_values": "image_mask"} | {f"{kind}_pixel_values": f"{kind}_crop_mask" for kind in CROP_KINDS}


def as_list(value: Any) -> list[Any]:
    """The pictures, or other values, of a column in which a row has none, one, or a list of them."""
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


_MISNAMED = re.compile(r"(?:image|img|picture|photo|pic)s?[_ -]?(?:path|file|file_?name|name)?s?", re.IGNORECASE)


def is_misnamed_image(column: str) -> bool:
    """Whether a column has another name that people give to the `image` of a row, such as `img` or `image_path`."""
    return column != "image" and _MISNAMED.fullmatch(column) is not None
