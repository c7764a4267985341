import json
import shutil

import pytest
import torch
from datasets import ClassLabel, Features, List
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel, VisualBertConfig, VisualBertModel

from ifaformer_commands.options.model_options import TowerArguments
from modeling_ifaformer.checkpoints.trained import load_checkpoint, load_whole_model
from modeling_ifaformer.configuration_baseline import SYSTEMS
from modeling_ifaformer.training import build_model, build_processor, plan_runs, start_options, train_runs
from modeling_ifaformer.training.building import baselines
from modeling_ifaformer.training.scoring import score_checkpoints
from modeling_ifaformer.training.trainer import parameter_groups


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
TOWERS = {"text_config": TOWER, "vision_config": {"model_type": "resnet", **RESNET}}
SIZES = {"co_attention_size": 10, "connection_layers": 1, "vision_stream_size": 12, "vision_stream_heads": 2}
SIZES |= {"connection_size": 16, "connection_heads": 4, "word_size": 10, "lstm_size": 8}
SYSTEM_CONFIG = {"image_size": 32, "freeze_vision": False, **SIZES}
MULTIMODAL = tuple(system for system in SYSTEMS if system != "cnn_bilstm")


def options_of(system):
    towers = {} if system == "cnn_bilstm" else TOWERS
    return {"system": system, "system_config": SYSTEM_CONFIG, **towers}


def build(data, system, labels=None, **options):
    """A processor and a new model."""
    rows = data["train"]
    if labels is not None:
        rows = rows.cast(Features({**rows.features, "ner_tags": List(ClassLabel(names=labels))}))
    options = {**options_of(system), **options}
    processor = build_processor(rows, **options)
    model = build_model(processor, **options)
    processor.check_config(model.config)
    return processor, model


@pytest.fixture
def run(data, cache_dir, make_arguments, tmp_path):
    """`run("umt", "folder", option=value)` -> the folder of a run of 12 steps with a checkpoint every third."""

    def train(system, folder, **arguments):
        processor, _ = build(data, system)
        runs = plan_runs(make_arguments(folder, save_total_limit=None, modality_dropout=0.3, **arguments))
        new_model = lambda: build_model(processor, **options_of(system))  # noqa: E731
        train_runs(runs, data, processor, new_model, cache_dir=cache_dir)
        return tmp_path / folder

    return train


def test_the_command_knows_every_system():
    assert TowerArguments.__dataclass_fields__["system"].metadata["choices"] == ["ifaformer", *SYSTEMS]


@pytest.mark.parametrize("system", SYSTEMS)
def test_trained_resumed_scored_and_gone_on_from(system, run, data, cache_dir, weights, tmp_path, caplog):
    whole = run(system, "whole")
    killed = shutil.copytree(whole, tmp_path / "killed")
    for left_over in ("checkpoint-9", "checkpoint-12"):
        shutil.rmtree(killed / left_over)
    (killed / "results.json").unlink()
    resumed = run(system, "killed", resume_from_checkpoint="true")
    expected, found = weights(whole), weights(resumed)
    assert expected.keys() == found.keys() and all(torch.equal(found[name], expected[name]) for name in expected)

    results = json.loads((whole / "results.json").read_text())
    trained, processor = load_checkpoint(str(whole))
    assert trained.config.calibration_temperature == results["calibration"]["temperature"] != 1
    assert type(load_whole_model(whole)) is type(trained)
    assert results["num_trainable_parameters"] == trained.num_parameters(only_trainable=True)
    scores = score_checkpoints({"model": (trained, processor)}, data["test"], shuffle_seed=0, cache_dir=cache_dir)
    assert scores["model"]["f1"] == results["test"]["f1"]
    assert len(scores) == (1 if system == "cnn_bilstm" else 2), "pictures are shuffled for what looks at them"

    model = build(data, None, model=str(whole), **dict.fromkeys((*TOWERS, "system_config")))[1]
    assert model.config.system == system and model.config.freeze_vision is False
    assert model.config.calibration_temperature == 1
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    others = ["O", "B-a", "I-a", "B-b", "I-b"]
    model = build(
        data, None, others, model=str(whole), system_config={"freeze_vision": True}, **dict.fromkeys(TOWERS)
    )[1]
    assert "The head begins fresh" in caplog.text and model.config.freeze_vision
    fresh = {
        name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, expected[name])
    }
    assert {"classifier", "crf"} <= fresh and not {"encoder", "vision_model"} & fresh
    with pytest.raises(ValueError, match=f"is of the system {system}, and cannot go on as ifaformer"):
        start_options(str(whole), "ifaformer")
    caplog.clear()
    build(data, system, model=str(whole))
    assert ("are not used" in caplog.text) == (system != "cnn_bilstm")


@pytest.mark.parametrize("system", MULTIMODAL)
def test_pretrained_towers(system, data, tmp_path, caplog):
    torch.manual_seed(0)
    processor, _ = build(data, system)
    BertModel(BertConfig(**TOWER, vocab_size=len(processor.tokenizer))).save_pretrained(tmp_path / "bert")
    processor.tokenizer.save_pretrained(tmp_path / "bert")
    ResNetModel(ResNetConfig(**RESNET)).save_pretrained(tmp_path / "resnet")
    checkpoints = {"text_model": str(tmp_path / "bert"), "vision_model": str(tmp_path / "resnet")}
    processor, model = build(data, system, **checkpoints, **dict.fromkeys(TOWERS))
    assert processor.pixel_shapes["pixel_values"] == (3, 32, 32)
    assert list(processor.image_processor.image_mean) == [0.485, 0.456, 0.406], "that of ImageNet"
    assert processor.max_length is None
    for tower, name in (("text", "bert"), ("vision", "resnet")):
        saved = load_file(tmp_path / name / "model.safetensors")
        weights = model.towers()[tower].state_dict()
        common = weights.keys() & saved.keys()
        visual = {
            name.replace("visual_", ""): value for name, value in weights.items() if "embeddings.visual_" in name
        }
        assert all(torch.equal(value, saved[name]) for name, value in visual.items() if name in saved)
        assert len(common) > 0.9 * len(saved) - 2 and all(torch.equal(weights[n], saved[n]) for n in common)
    assert not model.config.text_config._name_or_path, "a path is not published"


def test_a_published_visual_bert_has_no_tokenizer(data, tmp_path, monkeypatch, caplog):
    tokenizer = build(data, "visual_bert")[0].tokenizer
    tokenizer.save_pretrained(tmp_path / "bert")
    monkeypatch.setattr(baselines, "VISUAL_BERT_TOKENIZER", str(tmp_path / "bert"))
    torch.manual_seed(0)
    config = VisualBertConfig(**TOWER, vocab_size=len(tokenizer), visual_embedding_dim=40)
    VisualBertModel(config).save_pretrained(tmp_path / "visual_bert")
    checkpoint = str(tmp_path / "visual_bert")
    processor, model = build(data, "visual_bert", text_model=checkpoint, text_config=None)
    assert processor.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert f"{checkpoint} has no tokenizer; that of {tmp_path / 'bert'} is used" in caplog.text
    saved, found = load_file(tmp_path / "visual_bert" / "model.safetensors"), model.towers()["text"].state_dict()
    different = {name for name, value in found.items() if not torch.equal(value, saved[name])}
    assert different == {"embeddings.visual_projection.weight"}, "it is of other features"


def test_a_tower_of_an_ifaformer_and_of_a_baseline(data, checkpoint, run):
    towers = {"text_model": checkpoint, "vision_model": checkpoint, "system_config": {"freeze_vision": True}}
    processor, model = build(data, "umt", **towers, **dict.fromkeys(TOWERS))
    assert processor.pixel_shapes["pixel_values"] == (3, 24, 24) and model.config.vision_width == 24
    source = load_checkpoint(checkpoint)[0].towers()
    for tower, weights in ((name, of.state_dict()) for name, of in model.towers().items()):
        assert all(torch.equal(value, source[tower].state_dict()[name]) for name, value in weights.items())
    trained = run("umt", "umt")
    text = build(data, "co_attention", text_model=str(trained), text_config=None)[1].towers()["text"]
    expected = load_checkpoint(str(trained))[0].towers()["text"].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in text.state_dict().items())


@pytest.mark.parametrize("system", SYSTEMS)
def test_learning_rates(system, data, make_arguments):
    model = build(data, system)[1]
    rates = {"learning_rate": 1.0, "text_learning_rate": 2.0, "vision_learning_rate": 3.0, "head_learning_rate": 4.0}
    for fusion, expected in ((5.0, 5.0), (None, 2.0)):
        groups = parameter_groups(model, make_arguments(**rates, fusion_learning_rate=fusion))
        rate_of = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert sum(len(group["params"]) for group in groups) == len(rate_of) == len(trainable)
        for name, parameter in trainable.items():
            in_fusion = name.startswith("encoder.") and not name.startswith("encoder.text_model.")
            rate = expected if in_fusion and system != "cnn_bilstm" else 2.0
            rate = 3.0 if name.startswith("vision_model.") else rate
            assert rate_of[id(parameter)] == (rate if name.startswith(("encoder.", "vision_")) else 4.0), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system": "bert"}, "system must be one of ifaformer, cnn_bilstm, .*, got 'bert'"),
        ({"attention_variant": "deepke"}, "attention_variant is an option of IFAformer, and the system is umt"),
        ({"text_attends_vision": False}, "text_attends_vision is an option of IFAformer"),
        (
            {"system_config": {"span_weight": 1}},
            "system_config has span_weight; a baseline has image_size, text_window, freeze_",
        ),
        ({"system": None}, "system_config is for a baseline: name one with system"),
        ({"vision_config": RESNET}, "vision_config of umt needs its model_type: resnet or clip_vision_model"),
        ({"num_aux_crops": 1, "aux_crop_size": 16}, r"aux_crop_size must be image_size \(32\) in a baseline"),
    ],
)
def test_what_cannot_be(options, message, data):
    with pytest.raises(ValueError, match=message):
        build_processor(data["train"], **{**options_of("umt"), **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_map": [None, 0]}, r"layer_map is an option of IFAformer, and the system is umt\.$"),
        ({"text_window": 16}, r"system is umt\. Give it in system_config"),
        ({"vision_attends_text": False}, "vision_attends_text is an option of IFAformer"),
    ],
)
def test_options_of_a_model_that_a_baseline_does_not_have(options, message, data):
    processor = build_processor(data["train"], **options_of("umt"))
    with pytest.raises(ValueError, match=message):
        build_model(processor, **options_of("umt"), **options)


def test_a_tower_that_learns_nothing_is_told_of(data, caplog):
    build(data, "umt")
    assert "stays as it is" not in caplog.text
    build(data, "umt", system_config={"image_size": 32})
    assert "The vision tower begins with random numbers and stays as it is. Name a vision_model" in caplog.text


def test_baselines_find_no_relations(relations):
    with pytest.raises(ValueError, match="The system umt finds entities"):
        build_processor(relations, **options_of("umt"))


def test_crops_are_of_the_size_of_pictures(data):
    processor, model = build(data, "umt", num_aux_crops=2)
    assert processor.pixel_shapes["aux_pixel_values"] == (3, 32, 32) and model.config.num_aux_crops == 2


class TestWordVectors:
    @pytest.fixture
    def vectors(self, tmp_path):
        path = tmp_path / "vectors.txt"
        rows = {"jordan": 1, "so": 2, "oslo": 3, "unwanted": 4}
        path.write_text("\n".join(" ".join([word, *[str(number)] * 10]) for word, number in rows.items()))
        return str(path)

    def test_known_words_begin_with_theirs(self, data, vectors, caplog):
        train = data["train"]
        others = train.select([0]).map(lambda row: {"tokens": ["so", "Oslo", "Bergen"]})
        options = {**options_of("cnn_bilstm"), "word_vectors": vectors}
        processor = build_processor(train, **options, other_rows=[others])
        vocabulary = processor.tokenizer.get_vocab()
        assert {*vocabulary} == {"[PAD]", "[UNK]", "so", "again", "Jordan", "Paris", "Chelsea", "Austin", "Oslo"}
        weight = build_model(processor, **options).get_input_embeddings().weight
        for word, number in (("Jordan", 1), ("so", 2), ("Oslo", 3)):
            assert weight[vocabulary[word]].tolist() == [number] * 10
        assert weight[vocabulary["Paris"]].abs().max() < (3 / 10) ** 0.5 and not weight[0].any()
        assert "Without word_vectors" not in caplog.text

    @pytest.mark.parametrize(("words", "known"), [("so again Jordan", 3), ("so again", 2), ("oslo", 0)])
    def test_few_known_words_are_told_of(self, words, known, data, tmp_path, caplog):
        path = tmp_path / "vectors.txt"
        path.write_text("\n".join(f"{word} 1 2" for word in words.split()))
        options = {"system": "cnn_bilstm", "system_config": {"word_size": 2}, "word_vectors": str(path)}
        build_processor(data["train"], **options)
        message = f"has vectors of {known} of the 6 words of the training texts. The others begin with random"
        assert (message in caplog.text) == (known < 3)

    def test_without_a_file(self, data, caplog):
        processor, model = build(data, "cnn_bilstm")
        assert "Without word_vectors the words of cnn_bilstm begin with random numbers" in caplog.text
        assert len(processor.tokenizer) == model.config.vocab_size == 8
        assert processor.max_length is None and "byte_ids" in processor.model_input_names
        assert "pixel_values" not in processor.model_input_names
        features = processor(["Jordan so", "Zoë"], return_tensors="pt")
        assert features["byte_ids"].shape == (2, 2, 30)
        assert bytes(features["byte_ids"][1, 0, :4] - 1).decode() == "Zoë" and not features["byte_ids"][1, 1].any()
        assert features["input_ids"].tolist()[1] == [1, 0]
        with pytest.raises(ValueError, match="max_word_bytes is 30 in the processor, 12 in the configuration"):
            processor.check_config(build(data, "cnn_bilstm", system_config={"max_word_bytes": 12})[1].config)

    def test_towers_are_not_used(self, data, caplog):
        build(data, "cnn_bilstm", **TOWERS)
        assert "cnn_bilstm has no pretrained towers, so that text_config, vision_config are not used" in caplog.text

    def test_what_cannot_be(self, data, vectors):
        with pytest.raises(
            ValueError, match=r"have 10 numbers, the model's words 200\. Set word_size in system_config"
        ):
            build_processor(data["train"], system="cnn_bilstm", word_vectors=vectors)
        with pytest.raises(ValueError, match="word_vectors is for a new model of the system cnn_bilstm alone"):
            build_processor(data["train"], **options_of("umt"), word_vectors=vectors)
        with pytest.raises(ValueError, match="word_vectors is for a baseline: name one with system"):
            build_processor(data["train"], word_vectors=vectors)
