import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, BertConfig, CLIPVisionConfig, VisualBertConfig

from modeling_ifaformer import BaselineConfig, BaselineForTokenClassification
from modeling_ifaformer.configuration_baseline import SYSTEMS


@pytest.mark.parametrize("system", SYSTEMS)
def test_defaults_and_a_round_trip(system, tmp_path):
    config = BaselineConfig(system=system, vocab_size=40_000, id2label={0: "O", 1: "B-PER"})
    assert config.image_size == config.aux_crop_size == 224 and config.num_aux_crops == config.num_rcnn_crops == 0
    if system == "cnn_bilstm":
        assert config.text_config is config.vision_config is config.max_text_length is None
        assert config.vocab_size == 40_000 and not config.text_attends_vision and not config.use_whole_image
    else:
        assert config.text_config.vocab_size == 40_000 and config.vocab_size is None and config.max_text_length == 512
        depths, width = ([3, 4, 6, 3], 4 * 3840) if system == "hvpnet" else ([3, 8, 36, 3], 2048)
        assert config.vision_config.depths == depths and config.vision_width == width
        assert config.text_attends_vision and config.use_whole_image
    config.save_pretrained(tmp_path)
    names = ("_name_or_path", "transformers_version")
    loaded, saved = AutoConfig.from_pretrained(tmp_path).to_dict(), config.to_dict()
    assert {**loaded, **dict.fromkeys(names)} == {**saved, **dict.fromkeys(names)}


def test_a_bert_becomes_a_visual_bert_of_the_width_of_the_vision_tower():
    text = BertConfig(hidden_size=24, num_attention_heads=3, hidden_dropout_prob=0.3)
    vision = CLIPVisionConfig(image_size=96, hidden_size=36)
    config = BaselineConfig(system="visual_bert", text_config=text, vision_config=vision)
    text = config.text_config
    assert (text.model_type, text.hidden_size, text.hidden_dropout_prob) == ("visual_bert", 24, 0.3)
    assert (text.visual_embedding_dim, text.pad_token_id, config.image_size) == (36, 0, 96)


@pytest.mark.parametrize(
    ("text_config", "expected"),
    [
        ({"model_type": "bert"}, 0),
        (BertConfig(pad_token_id=3), 3),
        (BertConfig(pad_token_id=1), 1),
        # The library's default, which no published checkpoint names and none has
        ({"model_type": "visual_bert"}, 0),
        (VisualBertConfig(), 0),
        (VisualBertConfig(pad_token_id=3), 3),
    ],
)
def test_the_padding_index_of_a_visual_bert_is_the_one_given(text_config, expected, tmp_path):
    config = BaselineConfig(system="visual_bert", text_config=text_config)
    config.save_pretrained(tmp_path)
    assert config.text_config.pad_token_id == expected
    assert AutoConfig.from_pretrained(tmp_path).text_config.pad_token_id == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"system": "bert"}, r"system must be one of \('cnn_bilstm', .*, got 'bert'"),
        ({"co_attention_variant": "new"}, "co_attention_variant must be one of"),
        ({"label_scheme": "new"}, "label_scheme must be one of"),
        ({"span_share": 1.5}, "span_share must be between 0 and 1, got 1.5"),
        ({"connection_heads": 3}, r"connection_size \(1024\) must be a multiple of connection_heads \(3\)"),
        ({"image_size": 0, "max_word_bytes": 0}, "image_size must be 1 or more, got 0. max_word_bytes must be 1 or"),
        (
            {"connection_heads": 0, "vision_stream_heads": -1},
            "_heads must be 1 or more, got -1. connection_heads must",
        ),
        ({"system": "cnn_bilstm", "vocab_size": 0}, "vocab_size must be 1 or more, got 0"),
        ({"span_loss_weight": -1}, "span_loss_weight must be 0 or more, got -1"),
        ({"num_rcnn_crops": -1}, "num_rcnn_crops must be 0 or more"),
        ({"num_rcnn_crops": 1, "rcnn_crop_size": 64}, r"rcnn_crop_size must be image_size \(224\) in a baseline"),
        ({"vision_config": {"model_type": "vit"}}, "vision_config of umt must be of a type in .*got 'vit'"),
        (
            {"system": "hvpnet", "vision_config": {"model_type": "clip_vision_model"}},
            r"vision_config of hvpnet must be of a type in \('resnet',\), got 'clip_vision_model'",
        ),
        ({"text_config": {"model_type": "gpt2"}}, "text_config of umt must be of a type in .*got 'gpt2'"),
        (
            {"vision_config": {"model_type": "clip_vision_model"}, "image_size": 64},
            r"image_size must be that of the CLIP tower \(224\), got 64",
        ),
        ({"system": "visual_bert", "text_config": {"model_type": "roberta"}}, "must be of a type in .'bert', 'visual"),
        (
            {"system": "visual_bert", "vision_config": {"model_type": "clip"}},
            "BaselineConfig: vision_config of visual_bert must be of a type in .*got 'clip'; of a whole CLIP model",
        ),
        ({"system": "vilbert", "text_config": {"model_type": "clip"}}, "text_config of vilbert must be .* got 'clip'"),
        ({"system": "vilbert", "connection_layers": 13}, r"between 0 and the number of text layers \(12\), got 13"),
        ({"system": "cnn_bilstm", "text_config": {"model_type": "bert"}}, "cnn_bilstm has no towers"),
    ],
)
def test_what_cannot_be(fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        BaselineConfig(**{"system": "umt", **fields})


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_implementation_of_attention_is_that_of_both_towers(system, baseline_config):
    config = baseline_config(system, attn_implementation="eager")
    configs = [config, *(tower for tower in (config.text_config, config.vision_config) if tower is not None)]
    assert {of._attn_implementation for of in configs} == {"eager"}


def test_words_need_their_number():
    with pytest.raises(ValueError, match="vocab_size of cnn_bilstm must be the number of its tokenizer's entries"):
        BaselineForTokenClassification(BaselineConfig(system="cnn_bilstm"))
