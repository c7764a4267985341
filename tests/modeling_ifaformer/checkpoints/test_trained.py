"""Checkpoints of both tasks, and those that cannot be used."""

import json
import shutil
from importlib import import_module
from pathlib import Path

import pytest


@pytest.fixture
def checkpoint_module():
    return import_module("modeling_ifaformer.checkpoints.trained")


def test_the_task_is_that_of_the_checkpoint(checkpoint_module, checkpoint, relation_checkpoint):
    for folder, task, other in ((checkpoint, "ner", "re"), (relation_checkpoint, "re", "ner")):
        for expected in (None, task):
            model, processor = checkpoint_module.load_checkpoint(folder, expected)
            assert checkpoint_module.task_of(processor) == task
            assert type(model).__name__.endswith({"ner": "TokenClassification", "re": "RelationExtraction"}[task])
            assert processor.max_length == model.config.text_config.max_position_embeddings and not model.training
        for load in (checkpoint_module.load_processor, checkpoint_module.load_checkpoint):
            with pytest.raises(SystemExit, match=f"is a checkpoint of task {task}, where one of task {other} is exp"):
                load(folder, other)


def test_what_does_not_load_is_told(checkpoint_module, relation_checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="nowhere: there is no such folder, and the Hub does not give it"):
        checkpoint_module.load_checkpoint("nowhere")
    with pytest.raises(SystemExit, match="the folder holds no trained model"):
        checkpoint_module.load_checkpoint(str(tmp_path))
    folder = Path(shutil.copytree(relation_checkpoint, tmp_path / "model"))
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(processor | {"num_aux_crops": 1}))
    with pytest.raises(
        SystemExit, match=r"model: the model does not load: Processor and model .* num_aux_crops: 1 here"
    ):
        checkpoint_module.load_checkpoint(str(folder))
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(SystemExit, match="model: the model does not load"):
        checkpoint_module.load_checkpoint(str(folder))
