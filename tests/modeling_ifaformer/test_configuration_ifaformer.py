import json

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoConfig, BertConfig, CLIPConfig, CLIPVisionConfig, Dinov2Config, RobertaConfig, ViTConfig

from modeling_ifaformer import IFAformerConfig


def test_defaults_are_the_published_towers():
    config = IFAformerConfig()
    assert (config.text_config.model_type, config.text_config.hidden_size) == ("bert", 768)
    assert (config.vision_config.model_type, config.vision_config.patch_size) == ("clip_vision_model", 32)
    assert (config.num_crop_positions("aux"), config.num_crop_positions("rcnn")) == (48, 12)
    assert config.use_whole_image is True
    assert IFAformerConfig(attention_variant="deepke").use_whole_image is False


def test_number_of_positions_follows_from_crops_and_patch_size(make_config):
    assert make_config(num_aux_crops=5).num_crop_positions("aux") == 5 * 4
    assert make_config(rcnn_crop_size=24).num_crop_positions("rcnn") == 2 * 9
    assert make_config(num_rcnn_crops=0).num_crop_positions("rcnn") == 0


def test_longest_text():
    assert IFAformerConfig().max_text_length == 512
    roberta = RobertaConfig(max_position_embeddings=514, pad_token_id=1)
    assert IFAformerConfig(text_config=roberta).max_text_length == 512


def test_the_configuration_of_checkpoints_needs_no_weights(make_config, tmp_path):
    config = make_config(vocab_size=50, num_aux_crops=1)
    config.text_config.save_pretrained(tmp_path / "text")
    config.vision_config.save_pretrained(tmp_path / "vision")
    made = IFAformerConfig.from_vision_text_pretrained(tmp_path / "vision", tmp_path / "text", aux_crop_size=8)
    assert made.text_config.hidden_size == config.text_config.hidden_size and made.aux_crop_size == 8
    assert made.vision_config.patch_size == config.vision_config.patch_size
    with pytest.raises(ValueError, match="Got a checkpoint and a text_config for the text tower"):
        IFAformerConfig.from_vision_text_pretrained(text_model=tmp_path / "text", text_config={})


def test_the_vocabulary_has_room_for_the_tokenizer():
    assert IFAformerConfig(vocab_size=30526).text_config.vocab_size == 30526
    config = IFAformerConfig(vocab_size=100)
    assert config.text_config.vocab_size == 30522 and not hasattr(config, "vocab_size")


def test_round_trip(make_config, tmp_path):
    calibration = {"calibration_temperature": 1.5, "thresholds": {"PER": 0.4}}
    labels = {0: "O", 1: "B-PER", 2: "I-PER"}
    config = make_config(id2label=labels, attention_variant="deepke", num_aux_crops=1, **calibration)
    config.save_pretrained(tmp_path)
    for reloaded in (IFAformerConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert (reloaded.calibration_temperature, reloaded.thresholds) == (1.5, {"PER": 0.4})
        assert reloaded.id2label == {0: "O", 1: "B-PER", 2: "I-PER"}
        assert reloaded.label2id == {"O": 0, "B-PER": 1, "I-PER": 2}
        ours, theirs = config.to_dict(), reloaded.to_dict()
        for changed in ("transformers_version", "_name_or_path"):
            ours.pop(changed, None), theirs.pop(changed, None)
        assert json.dumps(theirs, default=str, sort_keys=True) == json.dumps(ours, default=str, sort_keys=True)


def test_roberta_is_a_text_tower(make_config, tmp_path):
    text_config = RobertaConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=3)
    config = make_config(text_config=text_config)
    config.save_pretrained(tmp_path)
    assert type(IFAformerConfig.from_pretrained(tmp_path).text_config) is RobertaConfig


@pytest.mark.parametrize("variant", ["deepke", "mkgformer"])
def test_towers_that_do_not_match_are_all_named(variant):
    with pytest.raises(StrictDataclassClassValidationError) as error:
        IFAformerConfig(
            attention_variant=variant,
            text_config=BertConfig(hidden_size=24, num_attention_heads=2, num_hidden_layers=5),
            vision_config=CLIPVisionConfig(hidden_size=48, num_attention_heads=4, num_hidden_layers=3),
        )
    message = str(error.value)
    assert "agree on hidden_size: the text tower has 24, the vision tower 48" in message
    assert "agree on num_attention_heads: the text tower has 2, the vision tower 4" in message
    assert "agree on num_hidden_layers: the text tower has 5, the vision tower 3" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_variant": "published"}, r"attention_variant must be one of .*'corrected', 'deepke'.*'published'"),
        ({"label_scheme": "bio"}, "label_scheme must be one of"),
        ({"attention_variant": "deepke", "use_whole_image": True}, "never embeds the whole image"),
        ({"aux_crop_size": 20}, r"aux_crop_size \(20\) must be a multiple of the patch size \(8\)"),
        ({"rcnn_crop_size": 0}, r"rcnn_crop_size \(0\) must be a multiple"),
        ({"num_aux_crops": -1}, "num_aux_crops must be 0 or more, got -1"),
        ({"text_config": ViTConfig()}, "text_config must be of a type in .*got 'vit'"),
        ({"vision_config": CLIPConfig()}, "vision_config must be of a type in .*, got 'clip'; of a whole CLIP"),
        ({"vision_config": ViTConfig(), "attention_variant": "deepke"}, "needs a text tower .* got 'bert' and 'vit'"),
        ({"attention_variant": "mkgformer", "layer_map": [0, 1, 2]}, r"has no layer_map, got \[0, 1, 2\]"),
        ({"layer_map": [0, 2]}, r"from 0 to 2, for each of the 3 text layers, none lower .* got \[0, 2\]"),
        ({"layer_map": [0, 2, 1]}, r"none lower than the one before; got \[0, 2, 1\]"),
        ({"layer_map": [0, 1, 3]}, r"from 0 to 2, .* got \[0, 1, 3\]"),
        ({"image_size": 32}, r"image_size must be that of the CLIP tower \(24\), got 32"),
        ({"kind": "electra and vit", "image_size": 30}, r"image_size \(30\) .* patch size \(8\), such as 24 or 32"),
        ({"vision_config": Dinov2Config(drop_path_rate=0.1)}, "drop_path_rate of the vision tower must be 0, got 0.1"),
        (
            {"id2label": {0: "O", 1: "B-PER"}, "label2id": {"O": 0, "B-LOC": 1}},
            "id2label and label2id disagree on .*B-LOC",
        ),
        (
            {"num_aux_crops": 10**9},
            r"num_aux_crops \(1000000000\) of aux_crop_size \(\d+\) have \d+ patches, and at most",
        ),
        ({"calibration_temperature": 0}, "calibration_temperature must be a number above 0, got 0"),
        ({"calibration_temperature": float("inf")}, "calibration_temperature must be a number above 0, got inf"),
        ({"calibration_temperature": float("nan")}, "calibration_temperature must be a number above 0, got nan"),
        ({"id2label": {0: "O", 1: "O"}}, "must name each label once"),
        ({"id2label": {0: "O", 2: "B-PER"}}, r"id2label must number its labels 0\.\.1"),
    ],
)
def test_what_is_refused(make_config, arguments, message):
    with pytest.raises((ValueError, StrictDataclassClassValidationError), match=message):
        make_config(**arguments)


def test_wrong_types_are_refused(make_config):
    with pytest.raises(Exception, match="num_aux_crops"):
        make_config(num_aux_crops="three")


def test_a_change_that_breaks_the_towers_is_refused_when_saving(make_config, tmp_path):
    config = make_config()
    config.vision_config.num_attention_heads = 5
    with pytest.raises(StrictDataclassClassValidationError, match="of the vision tower must be a multiple"):
        config.save_pretrained(tmp_path)


def test_what_a_new_model_is_made_of_is_refused_in_one_sentence(tmp_path):
    for text_config, message in (
        ({"hidden_size": 24, "num_attention_heads": 5}, r"IFAformerConfig: hidden_size \(24\) of the text tower must"),
        ({"hidden_size": "wide"}, "Field 'hidden_size' expected int"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            IFAformerConfig.from_vision_text_pretrained(text_config=text_config)
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": "wide"}')
    with pytest.raises(ValueError, match=r"^Field 'hidden_size' expected int"):
        IFAformerConfig.from_vision_text_pretrained(text_model=tmp_path)


@pytest.mark.parametrize(
    ("text_depth", "vision_depth", "expected"),
    [
        (3, 3, [0, 1, 2]),
        (6, 12, [1, 3, 5, 7, 9, 11]),
        (4, 6, [1, 2, 4, 5]),
        (22, 12, [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11]),
    ],
)
def test_the_layers_that_lend_are_spread_evenly(make_config, text_depth, vision_depth, expected):
    config = make_config()
    config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers = text_depth, vision_depth
    assert config.lending_layers == expected
    config.layer_map = [0] * text_depth
    config.validate()
    assert config.lending_layers == [0] * text_depth


@pytest.mark.parametrize(("patch_size", "sizes"), [(16, (128, 64)), (32, (128, 64)), (14, (126, 70)), (8, (128, 64))])
def test_crops_are_whole_patches(patch_size, sizes):
    config = IFAformerConfig(vision_config={"patch_size": patch_size, "image_size": 224})
    assert (config.aux_crop_size, config.rcnn_crop_size) == sizes
