"""Options that have to do with the models, refused before a row is read or a model loaded."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture
def check(checkpoint, relation_checkpoint, tmp_path):
    """`check(model="re", text="Jordan met", ...)` -> checked arguments. A model is named by its task."""
    other = Path(shutil.copytree(relation_checkpoint, tmp_path / "other"))
    config = json.loads((other / "processor_config.json").read_text())
    relations = ["None", "peer", "in"]
    (other / "processor_config.json").write_text(json.dumps(config | {"num_aux_crops": 1, "relations": relations}))
    folders = {"ner": checkpoint, "re": relation_checkpoint, "other": str(other)}

    def run(**options):
        options |= {name: folders[options[name]] for name in ("model", "relation_model") if name in options}
        arguments = import_module("modeling_ifaformer.prediction.options").PredictionArguments(**options)
        arguments.check()
        arguments.check_models()
        return arguments

    return run


PAIR = {"text": "Jordan met Paris", "head": "Jordan", "tail": "Paris"}


@pytest.mark.parametrize(
    ("options", "found", "column"),
    [
        ({"model": "ner", "text": "x"}, ("entities",), "entities"),
        ({"model": "ner", "text": "x", "task": "ner", "relation_model": "re"}, ("entities", "relations"), "relations"),
        ({"model": "re", **PAIR}, ("relations",), "relation"),
        ({"model": "re", "task": "re", "input": ["a.jsonl"]}, ("relations",), "relation"),
        ({"model": "re", "input": ["a.jsonl"], "aux_detector": "a/detector"}, ("relations",), "relation"),
    ],
)
def test_what_is_found_is_what_the_models_are_for(check, options, found, column):
    arguments = check(**options)
    assert arguments.found == found and arguments.task == ("re" if options["model"] == "re" else "ner")
    assert column in arguments.schema.names and ("entities" in arguments.schema.names) is ("entities" in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "re", **PAIR, "explain": "attention", "top_entities": 3}, "--explain, --top_entities: of entities"),
        ({"model": "re", **PAIR, "relation_model": "re"}, "--relation_model: of entities, and "),
        ({"model": "re", "text": "Jordan met Paris"}, "name them by --head and --tail"),
        ({"model": "re", "text": "Jordan met Paris", "head": "Jordan"}, "name them by --head and --tail"),
        ({"model": "re", "input": ["a.jsonl"], "head": "Jordan"}, "--head: of the --text whose relation"),
        (
            {"model": "ner", **PAIR},
            "--head, --tail: of the --text whose relation is asked for, by a model of relations",
        ),
        (
            {"model": "re", **PAIR, "task": "ner"},
            "is a relation model .* but an entity model ",
        ),
        (
            {"model": "ner", "text": "x", "relation_model": "ner"},
            "is an entity model .* but a relation model ",
        ),
        ({"model": "ner", "text": "x", "relation_model": "other"}, "num_aux_crops: 3 there, 1 here"),
        ({"model": "other", **PAIR, "aux_detector": "a/detector"}, "say what --aux_detector looks for by --phrases"),
    ],
)
def test_options_of_another_task(check, options, message):
    with pytest.raises((ValueError, SystemExit), match=message):
        check(**options)
