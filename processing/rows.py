"""Columns of a data set's rows, the same for every builder."""

from collections.abc import Sequence

import datasets


CROP_KINDS = ("aux", "rcnn")
PICTURE_COLUMNS = ("image", "aux_crops", "rcnn_crops")
OBJECT_COLUMNS = ("aux_objects", "rcnn_objects")


def ner_features(tags: Sequence[str]) -> datasets.Features:
    """
    A text as words with a tag each, its picture and crops. What is absent is None, or an empty list of crops.

    Args:
        tags: the tag set, in id order.
    """
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "image_id": datasets.Value("string"),
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=list(tags))),
            "image": datasets.Image(),
            "aux_crops": datasets.List(datasets.Image()),
            "rcnn_crops": datasets.List(datasets.Image()),
        }
    )


def with_objects(features: datasets.Features) -> datasets.Features:
    """
    The columns and `aux_objects`, `rcnn_objects`: what a detector found, in the order of the crops cut from it. A box
    is (xmin, ymin, xmax, ymax) in pixels of the picture as it is stored.
    """
    detected = {
        "label": datasets.Value("string"),
        "score": datasets.Value("float32"),
        "box": datasets.List(datasets.Value("float32"), length=4),
    }
    return datasets.Features({**features, **{column: datasets.List(detected) for column in OBJECT_COLUMNS}})
