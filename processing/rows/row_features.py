"""Columns of a data set's rows, the same for every builder."""

from collections.abc import Sequence
from typing import Any

import datasets

from processing.columns import CROP_COLUMNS, OBJECT_COLUMNS
from processing.context import CONTEXT


def _features(answer: dict[str, Any]) -> datasets.Features:
    """The words of a text, what is to be found in them, and its pictures; what is absent is None, or an empty list."""
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "image_id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            **answer,
            "image": datasets.Image(),
            **{column: datasets.List(datasets.Image()) for column in CROP_COLUMNS},
        }
    )


def ner_features(tags: Sequence[str]) -> datasets.Features:
    """Columns for entity recognition: each word has one of `tags`, which are in id order."""
    return _features({"ner_tags": datasets.List(datasets.ClassLabel(names=list(tags)))})


def re_features(relations: Sequence[str]) -> datasets.Features:
    """
    Columns for relation extraction: a head and a tail entity (`start` and `end` are word indices, `end` exclusive),
    and the relation between them, which is one of `relations`, in id order.
    """
    entity = {"name": datasets.Value("string"), "start": datasets.Value("int32"), "end": datasets.Value("int32")}
    return _features({"head": entity, "tail": entity, "relation": datasets.ClassLabel(names=list(relations))})


def label_names(dataset: datasets.Dataset, column: str) -> list[str]:
    """Names of the class labels in a column, in id order. A row of the column holds a label or a list of labels."""
    feature = dataset.features[column]
    return list(getattr(feature, "feature", feature).names)


def is_list_column(rows: datasets.Dataset, column: str) -> bool:
    """Whether rows have a list in the column: of crops always, of `image` where a text may have several pictures."""
    return isinstance(rows.features.get(column), datasets.List)


def with_texts(features: datasets.Features) -> datasets.Features:
    """
    The columns, and `text`, which rows of words alone have not, and `offsets`: `(start, end)` characters of each of
    the `tokens` in it, `end` exclusive.
    """
    offsets = datasets.List(datasets.List(datasets.Value("int32"), length=2))
    return datasets.Features({**features, "text": datasets.Value("string"), "offsets": offsets})


def with_several_images(features: datasets.Features) -> datasets.Features:
    """The columns, with a list of pictures as the `image` of a row."""
    return datasets.Features({**features, "image": datasets.List(datasets.Image())})


def with_context(features: datasets.Features) -> datasets.Features:
    """The columns, and `context`: texts that are read behind the row's own, and the kind of each, or None."""
    part = {"kind": datasets.Value("string"), "text": datasets.Value("string")}
    return datasets.Features({**features, CONTEXT: datasets.List(part)})


def with_objects(features: datasets.Features) -> datasets.Features:
    """
    The columns, and `aux_objects` and `rcnn_objects`: what a detector found, in the order of the crops. A box is
    (xmin, ymin, xmax, ymax) in pixels of the picture as it is stored, and `image` is the number of the picture where
    a text may have several.
    """
    detected: dict[str, Any] = {
        "label": datasets.Value("string"),
        "score": datasets.Value("float32"),
        "box": datasets.List(datasets.Value("float32"), length=4),
    }
    if isinstance(features["image"], datasets.List):
        detected["image"] = datasets.Value("int32")
    return datasets.Features({**features, **{column: datasets.List(detected) for column in OBJECT_COLUMNS}})
