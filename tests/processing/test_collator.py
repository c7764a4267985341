import numpy as np
import pytest
import torch

from processing.collator import IFAformerDataCollator


FEATURES = [
    {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "crf_mask": [False, True, True], "labels": [-100, 0, 2]},
    {"input_ids": [8], "attention_mask": [1], "crf_mask": [True], "labels": [1]},
]


def test_pads_to_the_longest():
    batch = IFAformerDataCollator(pad_token_id=9)(FEATURES)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["crf_mask"].tolist() == [[False, True, True], [True, False, False]]
    assert batch["crf_mask"].dtype == torch.bool
    assert batch["labels"].tolist() == [[-100, 0, 2], [1, -100, -100]]


def test_pads_to_max_length():
    batch = IFAformerDataCollator(max_length=5)(FEATURES)
    assert batch["input_ids"].shape == batch["labels"].shape == (2, 5)
    with pytest.raises(ValueError, match="3 tokens cannot be padded to max_length=2"):
        IFAformerDataCollator(max_length=2)(FEATURES)


def test_pads_on_the_left():
    batch = IFAformerDataCollator(padding_side="left")(FEATURES)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [0, 0, 8]]


def test_relation_labels():
    features = [{"input_ids": [1], "attention_mask": [1], "labels": label} for label in (3, np.int64(1))]
    assert IFAformerDataCollator()(features)["labels"].tolist() == [3, 1]


def test_stacks_crops_and_masks_absent_ones():
    crop = np.ones((1, 3, 2, 2), dtype=np.float32)
    features = [
        {**FEATURES[0], "aux_pixel_values": np.concatenate([crop, 2 * crop]), "pixel_values": None},
        {**FEATURES[1], "aux_pixel_values": crop[:0], "pixel_values": 3 * crop[0]},
    ]
    batch = IFAformerDataCollator()(features)
    assert batch["aux_pixel_values"].shape == (2, 2, 3, 2, 2)
    assert batch["aux_pixel_values"].mean(dim=(2, 3, 4)).tolist() == [[1, 2], [0, 0]]
    assert batch["aux_crop_mask"].tolist() == [[True, True], [False, False]]
    assert batch["pixel_values"].mean(dim=(1, 2, 3)).tolist() == [0, 3]
    assert batch["image_mask"].tolist() == [False, True]
    assert "rcnn_pixel_values" not in batch


def test_takes_what_a_stored_data_set_gives_back():
    """Nested lists of pictures, tensors of token ids."""
    crop = np.ones((1, 3, 2, 2), dtype=np.float32)
    stored = {
        "input_ids": torch.tensor([1, 2]),
        "attention_mask": torch.tensor([1, 1]),
        "labels": torch.tensor([0, 1]),
    }
    batch = IFAformerDataCollator()([{**stored, "aux_pixel_values": crop.tolist()}])
    assert batch["input_ids"].tolist() == [[1, 2]] and batch["labels"].tolist() == [[0, 1]]
    assert batch["aux_pixel_values"].dtype == torch.float32 and batch["aux_pixel_values"].shape == (1, 1, 3, 2, 2)


def test_features_without_tokens():
    with pytest.raises(ValueError, match=r"Features need input_ids.*got \['labels'\]"):
        IFAformerDataCollator()([{"labels": [1]}])
