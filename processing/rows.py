"""Columns of a data set's rows, the same for every builder."""

from collections.abc import Sequence

import datasets


PICTURE_COLUMNS = ("image", "aux_crops", "rcnn_crops")


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
