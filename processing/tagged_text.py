"""What the pipeline returns for a row: plain lists and dicts, which a notebook shows as text, picture and boxes."""

from collections.abc import Mapping
from typing import Any

from .images import ImageError, load_image
from .rendering import tweet_html


class Entities(list):
    """
    The entities of a text, a list of dicts.

    Attributes:
        text: what the offsets point into.
        crops: what is known of where crops were cut, by column.
        image: the row's picture as it was given, for showing it. None where the row is not held by the caller.
    """

    def __init__(self, entities=(), text: str | None = None, crops: Mapping[str, Any] | None = None):
        super().__init__(entities)
        self.text, self.crops, self.image = text, crops or {}, None

    def _repr_html_(self) -> str:
        return _html(self.text, self, self.image, self.crops, [])


class TaggedText(dict):
    """
    A report: `text`, `entities`, and where there are any `crops`, `relations` and `problems`.

    Attributes:
        image: the row's picture as it was given, for showing it. None where the row is not held by the caller.
        is_tagged: False where there was nothing to tag, for a reason that is the last of the problems.
    """

    image: Any = None
    is_tagged: bool = True

    def _repr_html_(self) -> str:
        return _html(
            self["text"],
            self["entities"],
            self.image,
            self.get("crops", {}),
            self.get("problems", []),
            self.get("relations", []),
        )


def _html(text, entities, image, crops, problems, relations=()) -> str:
    if image is not None:
        try:
            image = load_image(image[0] if isinstance(image, list | tuple) else image)
        except (ImageError, TypeError, IndexError):  # told when the row was tagged
            image = None
    return tweet_html(text or "", entities, image, crops, problems, relations=relations)
