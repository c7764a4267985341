"""Pipelines for bulk prediction: what they find, what decides it, and the time of their stages."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_ifaformer.prediction.taggers import found_by, load_tagger, stage_seconds, tagger_settings


@pytest.fixture(scope="module")
def tagger(checkpoint):
    return load_tagger(checkpoint, device="cpu")


def test_what_is_found_is_what_the_models_are_for(tagger, checkpoint, relation_checkpoint):
    assert found_by(tagger) == ("entities",)
    assert found_by(load_tagger(relation_checkpoint, "re")) == ("relations",)
    assert found_by(load_tagger(checkpoint, "ner", relation_checkpoint)) == ("entities", "relations")


@pytest.mark.parametrize(
    ("model", "task", "relation_model", "error", "message"),
    [
        ("re", "ner", None, ValueError, r"is a relation model \(task re\), but an entity model"),
        (
            "re",
            None,
            "re",
            TypeError,
            "relation_extractor must be a pipeline for relations, given to one for entities",
        ),
        ("ner", None, "ner", ValueError, "is an entity model .*, but a relation model"),
    ],
)
def test_models_of_another_task(checkpoint, relation_checkpoint, model, task, relation_model, error, message):
    folders = {"ner": checkpoint, "re": relation_checkpoint, None: None}
    with pytest.raises(error, match=message):
        load_tagger(folders[model], task, folders[relation_model])


def test_settings_are_those_that_decide_the_results(tagger, checkpoint, relation_checkpoint):
    plain = tagger_settings(tagger)
    assert plain == tagger_settings(load_tagger(checkpoint, device="cpu", explain=None, aux_threshold=0.3))
    assert (plain["task"], plain["model"], plain["relation_model"]) == ("ner", checkpoint, None)
    tagger("Paris " * 99)  # leaves its traces in the tokenizer
    assert tagger_settings(tagger) == plain
    triples = tagger_settings(load_tagger(checkpoint, relation_model=relation_checkpoint, explain="attention"))
    changed = {name for name in plain if plain[name] != triples[name]}
    assert changed == {"relation_model", "relation_model_content", "explain"}
    json.dumps(triples)
    threshold = tagger_settings(load_tagger(checkpoint, device="cpu", threshold={"PER": 0.5}))
    assert threshold == plain | {"thresholds": {"PER": 0.5}}
    lists = [["PER", "LOC"], ["LOC", "PER"]], [["LOC", "PER"], ["PER", "LOC"]]
    limited = [
        load_tagger(checkpoint, relation_model=relation_checkpoint, relation_types={"/per/loc/in": types})
        for types in lists
    ]
    assert (
        tagger_settings(limited[0])
        == tagger_settings(limited[1])
        == triples
        | {
            "explain": None,
            "relation_types": {"/per/loc/in": [["LOC", "PER"], ["PER", "LOC"]]},
        }
    )


def test_settings_show_a_model_that_was_trained_after_it_was_loaded(checkpoint):
    tagger = load_tagger(checkpoint)
    before = tagger_settings(tagger)
    with torch.no_grad():
        tagger.model.classifier.bias[0] += 1
    after = tagger_settings(tagger)
    assert {name for name in before if before[name] != after[name]} == {"model_content"}


def test_settings_show_other_detectors(checkpoint, tiny_detector, tmp_path):
    of = [
        tagger_settings(load_tagger(checkpoint, rcnn_detector=tiny_detector("detr"), **more))
        for more in ({}, {"rcnn_threshold": 0.1})
    ]
    assert of[0]["detectors"] == of[1]["detectors"] and set(of[0]["detectors"]) == {"rcnn"}
    assert {name for name in of[0] if of[0][name] != of[1][name]} == {"rcnn_threshold"}


def test_each_stage_has_its_seconds_while_the_pipeline_is_watched(checkpoint, tiny_detector):
    tagger = load_tagger(checkpoint, rcnn_detector=tiny_detector("detr"))
    row = {"text": "Jordan met Paris", "image": Image.fromarray(np.zeros((90, 90, 3), dtype=np.uint8))}
    before = set(vars(tagger))
    with stage_seconds(tagger) as seconds:
        tagger([row] * 3, batch_size=2)
    assert set(seconds) == {"detect", "tag"} and min(seconds.values()) > 0
    assert set(vars(tagger)) == before
    seconds.clear()
    tagger([row] * 3, batch_size=2)
    assert seconds == {}


def test_an_error_ends_the_watch(tagger):
    with pytest.raises(ValueError, match="Row 0"), stage_seconds(tagger):
        tagger([{"text": ""}])
    assert "forward" not in vars(tagger)


def test_exported_models(exported, exported_relations, checkpoint, relation_checkpoint):
    tagger = load_tagger(exported, "ner", exported_relations, threshold=0.5)
    assert found_by(tagger) == ("entities", "relations")
    settings = tagger_settings(tagger)
    assert settings["model"] == exported and settings["thresholds"]
    assert settings["model_content"] != settings["relation_model_content"]
    with pytest.raises(ValueError, match=r"is a relation model \(task re\), but an entity model \(task ner\)"):
        load_tagger(exported_relations, "ner")
    with pytest.raises(ValueError, match="runs on the CPU alone"):
        load_tagger(exported, device="cuda")
    for model, relation_model in ((exported, relation_checkpoint), (checkpoint, exported_relations)):
        with pytest.raises(ValueError, match=r"is an exported model, so that .* must be exported too"):
            load_tagger(model, relation_model=relation_model)
