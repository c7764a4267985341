"""Processor and metrics against what the published implementation feeds its model and scores."""

import ast
import hashlib
import json

import numpy as np
import pytest
from safetensors import safe_open
from transformers import AutoTokenizer, CLIPImageProcessorPil

from processing import IFAformerProcessor
from processing.data.mnre import MNRE_RELATIONS
from processing.data.twitter_mner import TwitterMNER
from processing.features.prepare import prepare_features
from processing.scoring.entity_metrics import entity_metrics


@pytest.fixture
def deepke_processor(minilm):
    def make(max_length, relations=None):
        return IFAformerProcessor(
            CLIPImageProcessorPil(),
            AutoTokenizer.from_pretrained(minilm),
            label_scheme="deepke",
            relations=relations,
            max_length=max_length,
            pad_to_max_length=True,
            use_whole_image=False,
        )

    return make


def golden(shared, name):
    with safe_open(shared / "golden" / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def rows_of(data_dir, tmp_path, split, config_name="twitter2017"):
    builder = TwitterMNER(config_name=config_name, data_dir=str(data_dir), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    return builder.as_dataset(split=split)


def test_ids_labels_and_pixels_of_the_sample(shared, tmp_path, deepke_processor):
    expected = golden(shared, "ner_inputs")
    processor = deepke_processor(40)
    rows = rows_of(shared / "data" / "sample" / "twitter2017", tmp_path, "train")
    features = prepare_features(rows, processor, cache_dir=str(tmp_path))
    batch = processor.data_collator.normalized(processor.data_collator(list(features)))
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert batch[name].tolist() == expected[name].tolist(), name
    labels = batch["labels"].masked_fill(batch["labels"] == -100, 0)  # the published code pads with PAD, id 0
    assert labels.tolist() == expected["labels"].tolist()

    # 2/255 in normalised units: divided by CLIP's smallest channel deviation
    std = np.array(processor.image_processor.image_std)[:, None, None]
    compared = 0
    for kind in ("aux", "rcnn"):
        for row, values in zip(expected["crop_rows"].tolist(), expected[f"{kind}_values"], strict=True):
            number = int(batch[f"{kind}_crop_mask"][row].sum())
            ours = batch[f"{kind}_pixel_values"][row, :number].numpy()
            compared += number
            assert np.abs((ours - values[:number].float().numpy()) * std).max(initial=0) <= 2 / 255
            assert not values[number:].any()  # absent crops are zero images there

    assert compared > 0

    whole = IFAformerProcessor(CLIPImageProcessorPil(), processor.tokenizer)
    for row, values in zip(expected["pixel_rows"].tolist(), expected["pixel_values"], strict=True):
        ours = whole(
            text=rows[row]["tokens"], is_split_into_words=True, images=rows[row]["image"], return_tensors="pt"
        )
        assert np.abs((ours["pixel_values"][0].numpy() - values.float().numpy()) * std).max() <= 2 / 255


def test_all_validation_rows_hash_alike_and_the_protocol_gives_the_published_figures(
    shared, tmp_path, deepke_processor
):
    expected = json.loads((shared / "golden" / "ner_protocol_twitter2017_dev.json").read_text())
    processor = deepke_processor(40)
    rows = rows_of(shared / "data" / "twitter2017", tmp_path, "validation")
    names = rows.features["ner_tags"].feature.names
    digest = hashlib.sha256()
    for row in rows:
        batch = processor(
            text=row["tokens"], word_labels=row["ner_tags"], is_split_into_words=True, return_tensors="pt"
        )
        labels = batch["labels"].masked_fill(batch["labels"] == -100, 0)
        digest.update(
            json.dumps(
                [batch["input_ids"][0].tolist(), batch["attention_mask"][0].tolist(), labels[0].tolist()]
            ).encode()
        )
    assert digest.hexdigest() == expected["sha256_of_rows"]

    word_ids = [text.word_ids for text in processor.encode_text(rows["tokens"], is_split_into_words=True)]
    word_labels = [[names[tag] for tag in tags] for tags in rows["ner_tags"]]
    scores = entity_metrics(
        expected["predicted_ids"], word_ids, word_labels, dict(enumerate(processor.labels)), protocol="published"
    )
    for name in ("precision", "recall", "f1"):
        assert scores[name] == pytest.approx(expected[name], abs=1e-12)
    assert scores["support"] == expected["gold_entities"]


def test_relation_rows_with_entity_markers(shared, deepke_processor):
    expected = json.loads((shared / "golden" / "re_inputs_mnre_val.json").read_text())
    processor = deepke_processor(80, MNRE_RELATIONS)
    assert processor.add_entity_markers() == list(expected["marker_ids"].values())
    lines = (shared / "data" / "mnre" / "ours_val.txt").read_text(encoding="utf-8").split("\n")
    assert len(expected["rows"]) == 164
    for golden_row in expected["rows"]:
        row = ast.literal_eval(lines[golden_row["row"]])
        head, tail = ({"start": row[name]["pos"][0], "end": row[name]["pos"][1]} for name in "ht")
        encoded = processor(text=row["token"], heads=head, tails=tail, is_split_into_words=True)
        assert encoded["input_ids"][0] == golden_row["input_ids"], golden_row["row"]
