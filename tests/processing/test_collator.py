from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import CLIPImageProcessorPil, Trainer, TrainingArguments

from modeling_ifaformer import IFAformerForTokenClassification
from processing.collator import IFAformerDataCollator
from processing.features import prepare_features
from processing.labels import TWITTER_TAGS
from processing.rows.row_features import ner_features


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


def test_a_stored_data_set_gives_integers_back():
    pixels = np.full((1, 3, 2, 2), 255, dtype=np.uint8)
    collate = IFAformerDataCollator(normalize_pixels=False)
    batch = collate([{**FEATURES[0], "aux_pixel_values": pixels.tolist()}])
    assert batch["aux_pixel_values"].dtype == torch.uint8 and (batch["aux_pixel_values"] == 255).all()


@pytest.mark.parametrize("settings", [{}, {"do_rescale": False}, {"do_normalize": False}, {"image_std": [0.5] * 3}])
def test_normalises_as_the_image_processor(make_processor, settings):
    """And with a list a picture, so does a call of the processor."""
    processor = make_processor()
    size = {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}}
    processor.image_processor = CLIPImageProcessorPil(**size, **settings)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8))
    expected = processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    example = {"text": ["Jordan", "Paris"], "images": [picture, None], "aux_crops": [[], [picture]]}
    data = processor(**example)
    features = [{name: values[row] for name, values in data.items()} for row in range(2)]
    collate = processor.data_collator
    raw = replace(collate, normalize_pixels=False)(features)
    assert features[0]["pixel_values"].dtype == np.uint8 and raw["pixel_values"].dtype == torch.uint8
    for batch in (collate(features), collate.normalized(raw), processor(**example, return_tensors="pt")):
        torch.testing.assert_close(batch["pixel_values"][:1], expected, rtol=1e-5, atol=1e-5)
        assert not batch["pixel_values"][1].any() and not batch["aux_pixel_values"][0].any()
        assert collate.normalized(batch)["pixel_values"] is batch["pixel_values"]


def test_a_plain_trainer_trains_on_prepared_features(make_processor, make_config, tmp_path):
    pictures = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    columns = {"id": list("abcd"), "image_id": list("abcd"), "tokens": [["Jordan", "met", "Paris"]] * 4}
    columns |= {"ner_tags": [["B-PER", "O", "B-LOC"]] * 4, "image": [*pictures, None, None]}
    columns |= {"aux_crops": [pictures, [], [], []], "rcnn_crops": [[]] * 4}
    rows = Dataset.from_dict(columns, ner_features(TWITTER_TAGS))
    processor = make_processor()
    features = prepare_features(rows, processor, cache_dir=str(tmp_path))
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(**processor.config_fields))
    seen = []
    model.register_forward_pre_hook(lambda _, args, inputs: seen.append(set(inputs)), with_kwargs=True)
    arguments = TrainingArguments(
        str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True
    )
    trainer = Trainer(
        model, arguments, train_dataset=features, eval_dataset=features, data_collator=processor.data_collator
    )
    assert np.isfinite(trainer.train().training_loss)
    scores, labels = trainer.predict(features).predictions, features["labels"]
    assert len(scores[1]) == len(labels) == 4  # logits and tag ids
    pixels = {"pixel_values", "image_mask", "aux_pixel_values", "aux_crop_mask"}
    assert all(pixels <= names for names in seen)


def test_features_without_tokens():
    with pytest.raises(ValueError, match=r"Features need input_ids.*got \['labels'\]"):
        IFAformerDataCollator()([{"labels": [1]}])
