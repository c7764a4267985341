import json
import logging
import shutil

import pytest
import torch
from datasets import ClassLabel, Features, List

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from modeling_ifaformer.checkpoints.trained import load_checkpoint, load_processor
from modeling_ifaformer.training import build_model, build_processor, start_options


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TOWERS = {"text_config": TOWER, "vision_config": {**TOWER, "image_size": 16, "patch_size": 8}}
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
CROPS = {"aux_crop_size": 8, "rcnn_crop_size": 8}


def test_fresh_towers_fit_the_tokenizer_that_is_learnt(data):
    processor = build_processor(data["train"], **TOWERS, **CROPS)
    assert processor.tags == data["train"].features["ner_tags"].feature.names
    assert processor.max_length is None and processor.pixel_shapes["pixel_values"] == (3, 16, 16)
    assert "jordan" in processor.tokenizer.get_vocab()
    model = build_model(processor, **TOWERS, text_attends_vision=False)
    processor.check_config(model.config)
    assert isinstance(model, IFAformerForTokenClassification) and not model.config.text_attends_vision
    assert model.config.text_config.vocab_size == len(processor.tokenizer)


@pytest.mark.parametrize("variant", ["corrected", "deepke", "mkgformer"])
def test_a_model_of_texts_alone_needs_no_vision_tower(data, caplog, variant):
    """Its checkpoint, which is nowhere, is not looked for."""
    options = {"text_config": TOWER, "vision_model": "no/where", "attention_variant": variant}
    options["text_attends_vision"] = False
    processor = build_processor(data["train"], **options, max_length=9)
    assert caplog.text.count("The model reads the text alone, so that vision_model is not used.") == 1
    model = build_model(processor, **options).eval()
    processor.check_config(model.config)
    assert model.base_model.vision_model.num_parameters() < 300_000
    batch = processor(text=["Jordan met Paris"], images=[data["train"][0]["image"]], return_tensors="pt")
    output = model(**batch, output_hidden_states=True)
    assert len(output.hidden_states) == 3 and output.image_hidden_states is None
    # A model with CLIP's usual tower can be used beside it.
    shapes = {"pixel_values": 224, "aux_pixel_values": 128, "rcnn_pixel_values": 64}
    assert processor.pixel_shapes == {name: (3, size, size) for name, size in shapes.items()}


def test_a_model_of_texts_alone_keeps_the_vision_tower_that_it_is_given(data, caplog):
    options = {**TOWERS, "text_attends_vision": False}
    processor = build_processor(data["train"], **options, **CROPS)
    assert "not used" not in caplog.text
    assert build_model(processor, **options).config.vision_config.hidden_size == TOWER["hidden_size"]


def test_a_model_of_texts_alone_cannot_begin_to_look(data, tmp_path):
    towers = {"text_config": TOWER, "text_attends_vision": False}
    processor = build_processor(data["train"], **towers)
    build_model(processor, **towers).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    options = {"model": str(tmp_path)}
    assert not build_model(build_processor(data["train"], **options), **options).config.text_attends_vision
    for refused in (
        lambda: build_processor(data["train"], **options, text_attends_vision=True),
        lambda: build_model(processor, **options, text_attends_vision=True),
    ):
        with pytest.raises(ValueError, match=r"was trained on texts alone.* Give it as text_model, beside a visio"):
            refused()
    towers = {"text_model": str(tmp_path), "vision_config": TOWERS["vision_config"], **CROPS}
    assert build_model(build_processor(data["train"], **towers), **towers).config.text_attends_vision


def test_the_longest_text(data, relations):
    """Texts with relations are cut to what the text tower takes, others are read in windows."""
    short = {**TOWERS, "text_config": {**TOWER, "max_position_embeddings": 20}}
    for rows, longest in ((data["train"], None), (relations, 20)):
        assert build_processor(rows, **short, **CROPS).max_length == longest
        assert build_processor(rows, **short, **CROPS, max_length=7).max_length == 7


def test_families_that_are_fresh(data):
    """Of a configuration with a model_type, with the special tokens of the tokenizer that is learnt."""
    towers = {
        "text_config": {**TOWER, "model_type": "modernbert"},
        "vision_config": {**TOWER, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
    }
    processor = build_processor(data["train"], **towers, word_shapes=True)
    model = build_model(processor, **towers, layer_map=[0, 1], text_window=9)
    processor.check_config(model.config)
    text, vision = model.config.text_config, model.config.vision_config
    assert (text.model_type, vision.model_type) == ("modernbert", "siglip_vision_model")
    assert (processor.aux_crop_size, processor.rcnn_crop_size, model.config.picture_size) == (126, 70, 28)
    assert text.pad_token_id == processor.tokenizer.pad_token_id and text.vocab_size == len(processor.tokenizer)
    assert text.cls_token_id == processor.tokenizer.cls_token_id and model.config.layer_map == [0, 1]
    assert model.config.text_window == 9 and model.config.word_shapes
    batch = processor(text=["Jordan met Paris " * 9], return_tensors="pt")
    assert model.eval()(**batch).tag_ids.shape == batch["input_ids"].shape


def test_what_the_model_refuses_is_said_with_the_processor(data):
    with pytest.raises(ValueError, match=r"^IFAformerConfig: aux_crop_size \(9\) must be a multiple"):
        build_processor(data["train"], **TOWERS, aux_crop_size=9, rcnn_crop_size=8, max_length=7)


def test_checkpoints_of_towers(data, checkpoint):
    processor = build_processor(data["train"], text_model=checkpoint, vision_model=checkpoint, **CROPS)
    model = build_model(processor, text_model=checkpoint, vision_model=checkpoint)
    processor.check_config(model.config)
    assert not model.config.text_config._name_or_path, "a path is not published"
    source = load_checkpoint(checkpoint)[0].base_model.state_dict()
    other = {name for name, value in model.base_model.state_dict().items() if not torch.equal(value, source[name])}
    assert other == {f"vision_model.embeddings.{kind}_position_embedding.weight" for kind in ("aux", "rcnn")}


def with_tags(rows, tags):
    return rows.cast(Features({**rows.features, "ner_tags": List(ClassLabel(names=tags))}))


def test_going_on_from_a_trained_model(data, checkpoint, tmp_path, caplog):
    trained, its_processor = load_checkpoint(checkpoint)
    trained.config.calibration_temperature, trained.config.thresholds = 2.0, {"PER": 0.4}
    checkpoint = str(tmp_path / "calibrated")
    trained.save_pretrained(checkpoint), its_processor.save_pretrained(checkpoint)
    rows = with_tags(data["train"], its_processor.tags)
    processor = build_processor(rows, model=checkpoint)
    assert (
        processor.pixel_settings == its_processor.pixel_settings and processor.max_length == its_processor.max_length
    )
    model = build_model(processor, model=checkpoint)
    assert not caplog.text
    assert (model.config.calibration_temperature, model.config.thresholds) == (1.0, None), "as at the start of any run"
    expected = trained.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items()), "the head too"

    # Towers that are named besides are not used.
    assert build_processor(rows, model=checkpoint, **TOWERS).pixel_settings == its_processor.pixel_settings
    assert f"starts from {checkpoint}, so that text_config, vision_config are not used" in caplog.text

    # Of other labels, or fewer crops, what fits is kept.
    processor = build_processor(with_tags(rows, TAGS), model=checkpoint, num_aux_crops=1)
    model = build_model(processor, model=checkpoint, text_attends_vision=False)
    processor.check_config(model.config)
    assert "The head begins fresh" in caplog.text and f"this model is for {', '.join(TAGS)}" in caplog.text
    different = {
        name
        for name, value in model.base_model.state_dict().items()
        if value.shape != expected[f"ifaformer.{name}"].shape
    }
    assert different == {"vision_model.embeddings.aux_position_embedding.weight"}
    assert not model.config.text_attends_vision

    with pytest.raises(ValueError, match="trained with the attention variant corrected, and cannot go on with deepke"):
        build_processor(rows, model=checkpoint, attention_variant="deepke", max_length=9, use_whole_image=False)


def test_the_negative_relation_is_that_of_the_trained_model(relations, relation_checkpoint):
    negative = load_processor(relation_checkpoint).negative_relation
    assert negative is not None
    names = ["peer", negative]
    rows = relations.cast_column("relation", ClassLabel(names=names))
    assert build_processor(rows, model=relation_checkpoint).negative_relation == negative
    assert build_processor(relations, model=relation_checkpoint).negative_relation is None
    with pytest.raises(ValueError, match="negative_relation must be one of the relations in, peer, got 'on'"):
        build_processor(relations, model=relation_checkpoint, negative_relation="on")


def test_going_on_keeps_the_words_of_the_model(data, checkpoint, tmp_path):
    assert start_options()["word_splitter"] == "unicode"
    former = shutil.copytree(checkpoint, tmp_path / "former")
    settings = json.loads((former / "processor_config.json").read_text())
    del settings["word_splitter"]
    (former / "processor_config.json").write_text(json.dumps(settings))
    assert start_options(str(former))["word_splitter"] == "bert"
    assert build_processor(data["train"], model=str(former)).word_splitter == "bert"


def test_going_on_with_the_other_task(relations, checkpoint, caplog):
    processor = build_processor(relations, model=checkpoint, negative_relation="in")
    model = build_model(processor, model=checkpoint)
    assert isinstance(model, IFAformerForRelationExtraction) and "The head begins fresh" in caplog.text
    trained = load_checkpoint(checkpoint)[0].base_model.vision_model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in model.base_model.vision_model.state_dict().items())


def test_relations(relations, caplog):
    with caplog.at_level(logging.WARNING):
        processor = build_processor(relations, **TOWERS, **CROPS)
    assert "None of the relations in, peer is known to say that there is none" in caplog.text
    model = build_model(processor, **TOWERS)
    processor.check_config(model.config)
    assert isinstance(model, IFAformerForRelationExtraction)
    assert model.config.head_marker_token_id == processor.marker_ids[0]


def test_a_checkpoint_that_is_not_there_is_named(data, checkpoint, tmp_path):
    for missing in (str(tmp_path / "gone"), "somebody/nothing"):
        with pytest.raises(OSError, match=f"vision_model '{missing}' is no folder of a model, and the Hub does not"):
            build_processor(data["train"], text_model=checkpoint, vision_model=missing, **CROPS)
    with pytest.raises(OSError, match=r"^text_model '.*' is a folder without a config\.json, and so no model\.$"):
        build_processor(data["train"], text_model=str(tmp_path), vision_model=checkpoint, **CROPS)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(OSError, match=r"^text_model '.*' is a folder whose config\.json is that of no known model: "):
        build_processor(data["train"], text_model=str(tmp_path), vision_model=checkpoint, **CROPS)
    texts = data["train"].map(lambda row: {"image": None, "aux_crops": [], "rcnn_crops": []})
    with pytest.raises(OSError, match=r"No training row has a picture: .* set text_attends_vision to false\.$"):
        build_processor(texts, text_model=checkpoint, vision_model="somebody/nothing", **CROPS)


def test_the_published_variant_needs_a_length(data):
    with pytest.raises(ValueError, match="deepke pads all batches to one length"):
        build_processor(data["train"], **TOWERS, **CROPS, attention_variant="deepke")
    processor = build_processor(data["train"], **TOWERS, **CROPS, attention_variant="deepke", max_length=9)
    assert processor.pad_to_max_length and not processor.use_whole_image
    assert build_model(processor, **TOWERS, attention_variant="deepke").config.attention_variant == "deepke"


def test_contexts(data, tmp_path):
    """The length goes on with the model, and a tokenizer that is learnt knows the words of the contexts."""
    rows = data["train"].add_column("context", [[{"kind": "caption", "text": "skyline"}]] * len(data["train"]))
    short = {**TOWERS, "text_config": {**TOWER, "max_position_embeddings": 20}}
    processor = build_processor(rows, **short, **CROPS, max_context_length=30)
    assert (processor.max_context_length, processor.max_pair_length, processor.max_length) == (30, 20, None)
    assert "skyline" in processor.tokenizer.get_vocab()
    assert "skyline" not in build_processor(rows, **short, **CROPS).tokenizer.get_vocab()
    build_model(processor, **short).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert start_options(str(tmp_path))["max_context_length"] == 30
    further = build_processor(rows, model=str(tmp_path))
    assert (further.max_context_length, further.max_pair_length) == (30, 20)
    assert build_processor(rows, model=str(tmp_path), max_context_length=0).max_context_length is None
    with pytest.raises(ValueError, match=r"variant deepke pads all texts to one length, .* and reads no context"):
        build_processor(rows, **TOWERS, **CROPS, attention_variant="deepke", max_length=40, max_context_length=9)


def test_baselines_read_contexts_where_their_tokenizer_tells_them_apart(data):
    rows = data["train"].add_column("context", [[{"kind": "caption", "text": "skyline"}]] * len(data["train"]))
    resnet = {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [8, 16], "embedding_size": 8}
    towers = {"text_config": TOWER, "vision_config": resnet, "system_config": {"freeze_vision": False}}
    processor = build_processor(rows, system="umt", **towers, max_context_length=9)
    model = build_model(processor, system="umt", **towers).eval()
    texts = [" ".join(tokens) for tokens in rows["tokens"][:2]]
    plain, read = (model(**processor(texts, context=of, return_tensors="pt")) for of in (None, ["skyline"] * 2))
    length = plain.logits.shape[1]
    assert read.logits.shape[1] > length and not torch.allclose(read.logits[:, :length], plain.logits)
    with pytest.raises(ValueError, match="puts no token between a text and its context"):
        build_processor(rows, system="cnn_bilstm", max_context_length=9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"text_config": {"hidden_sise": 32}},
            r"text_config has hidden_sise, and BertConfig has no such field\. Did you",
        ),
        ({"vision_config": {"patch_sise": 8}}, r"CLIPVisionConfig has no such field\. Did you mean patch_size\?"),
        ({"text_config": {"model_type": "distilbert", "n_head": 2}}, r"DistilBertConfig .* Did you mean n_heads\?"),
        ({"system": "umt", "text_config": {"xyz": 1}}, r"xyz, and BertConfig has no such field\. Leave it out\.$"),
        ({"text_config": {"model_type": "distilbert", "hidden_sise": 32}}, r"Did you mean hidden_size\?"),
    ],
)
def test_a_field_that_no_tower_has(options, message, data):
    with pytest.raises(ValueError, match=message):
        build_processor(data["train"], **options)


@pytest.mark.parametrize(
    "text",
    [
        {"model_type": "distilbert", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1},
        {**TOWER, "model_type": "modernbert", "global_attn_every_n_layers": 2, "local_rope_theta": 5e3},
    ],
)
def test_fields_that_a_family_takes_by_another_name(text, data):
    assert build_processor(data["train"], text_config=text, text_attends_vision=False).tokenizer is not None


def test_a_model_for_relations_reads_no_windows(relations):
    towers = {"text_config": TOWER, "text_attends_vision": False}
    processor = build_processor(relations, **towers)
    with pytest.raises(ValueError, match="text_window is for models for entities"):
        build_model(processor, **towers, text_window=16)
