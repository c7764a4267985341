import logging

import pytest

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from modeling_ifaformer.training import build_model, build_processor


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TOWERS = {"text_config": TOWER, "vision_config": {**TOWER, "image_size": 16, "patch_size": 8}}
CROPS = {"aux_crop_size": 8, "rcnn_crop_size": 8}


def test_fresh_towers_fit_the_tokenizer_that_is_learnt(data):
    processor = build_processor(data["train"], **TOWERS, **CROPS)
    assert processor.tags == data["train"].features["ner_tags"].feature.names
    assert processor.max_length == 512 and processor.pixel_shapes["pixel_values"] == (3, 16, 16)
    assert "jordan" in processor.tokenizer.get_vocab()
    model = build_model(processor, **TOWERS, text_attends_vision=False)
    processor.check_config(model.config)
    assert isinstance(model, IFAformerForTokenClassification) and not model.config.text_attends_vision
    assert model.config.text_config.vocab_size == len(processor.tokenizer)


def test_the_longest_text_is_that_of_the_text_tower(data):
    short = {**TOWERS, "text_config": {**TOWER, "max_position_embeddings": 20}}
    assert build_processor(data["train"], **short, **CROPS).max_length == 20
    assert build_processor(data["train"], **short, **CROPS, max_length=7).max_length == 7


def test_what_the_model_refuses_is_said_with_the_processor(data):
    with pytest.raises(ValueError, match=r"^IFAformerConfig: aux_crop_size \(9\) must be a multiple"):
        build_processor(data["train"], **TOWERS, aux_crop_size=9, rcnn_crop_size=8, max_length=7)


def test_checkpoints_of_towers(data, checkpoint):
    processor = build_processor(data["train"], text_model=checkpoint, vision_model=checkpoint, **CROPS)
    model = build_model(processor, text_model=checkpoint, vision_model=checkpoint)
    processor.check_config(model.config)
    assert not model.config.text_config._name_or_path, "a path is not published"


def test_relations(relations, caplog):
    with caplog.at_level(logging.WARNING):
        processor = build_processor(relations, **TOWERS, **CROPS)
    assert "None of the relations in, peer is known to say that there is none" in caplog.text
    model = build_model(processor, **TOWERS)
    processor.check_config(model.config)
    assert isinstance(model, IFAformerForRelationExtraction)
    assert model.config.head_marker_token_id == processor.marker_ids[0]


def test_the_published_variant_needs_a_length(data):
    with pytest.raises(ValueError, match="deepke pads all batches to one length"):
        build_processor(data["train"], **TOWERS, **CROPS, attention_variant="deepke")
    processor = build_processor(data["train"], **TOWERS, **CROPS, attention_variant="deepke", max_length=9)
    assert processor.pad_to_max_length and not processor.use_whole_image
    assert build_model(processor, **TOWERS, attention_variant="deepke").config.attention_variant == "deepke"
