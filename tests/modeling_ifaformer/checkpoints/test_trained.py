"""Models of both tasks, and those that cannot be used."""

import json
import shutil
from pathlib import Path

import pytest

from modeling_ifaformer.checkpoints.trained import load_checkpoint, load_processor, load_whole_model, task_of


def test_the_task_is_that_of_the_checkpoint(checkpoint, relation_checkpoint):
    for folder, task, other in ((checkpoint, "ner", "re"), (relation_checkpoint, "re", "ner")):
        for expected in (None, task):
            model, processor = load_checkpoint(folder, expected)
            assert task_of(processor) == task
            assert type(model).__name__.endswith({"ner": "TokenClassification", "re": "RelationExtraction"}[task])
            assert processor.max_length == model.config.text_config.max_position_embeddings and not model.training
        assert type(load_whole_model(folder)) is type(model)
        for load in (load_processor, load_checkpoint):
            with pytest.raises(ValueError, match=rf"model \(task {task}\), but an? .* \(task {other}\) is expected"):
                load(folder, other)


def test_what_does_not_load_is_told(relation_checkpoint, tmp_path):
    with pytest.raises(OSError, match="nowhere: there is no such folder, and the Hub does not give it"):
        load_checkpoint("nowhere")
    with pytest.raises(OSError, match="the folder holds no trained model"):
        load_checkpoint(str(tmp_path))
    folder = Path(shutil.copytree(relation_checkpoint, tmp_path / "model"))
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(processor | {"num_aux_crops": 1}))
    for load in (load_checkpoint, load_whole_model):
        with pytest.raises(
            ValueError, match=r"model: the model does not load: Processor and model .* num_aux_crops is 1 in"
        ):
            load(str(folder))
    (folder / "model.safetensors").write_bytes(b"cut off")
    for load in (load_checkpoint, load_whole_model):
        with pytest.raises(ValueError, match="model: the model does not load"):
            load(str(folder))


def test_a_folder_of_several_runs_is_no_model(tmp_path):
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"holds one for each seed. Name one of them: {tmp_path}/seed-1"):
        load_processor(str(tmp_path))
