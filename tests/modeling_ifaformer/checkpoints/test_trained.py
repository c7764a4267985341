"""Models of both tasks, and those that cannot be used."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import pipeline

from modeling_ifaformer.checkpoints.trained import load_checkpoint, load_processor, load_whole_model, task_of


def test_the_task_is_that_of_the_checkpoint(checkpoint, relation_checkpoint):
    for folder, task, other in ((checkpoint, "ner", "re"), (relation_checkpoint, "re", "ner")):
        for expected in (None, task):
            model, processor = load_checkpoint(folder, expected)
            assert task_of(processor) == task
            assert type(model).__name__.endswith({"ner": "TokenClassification", "re": "RelationExtraction"}[task])
            # A model for entities reads longer texts in windows.
            longest = model.config.text_config.max_position_embeddings if task == "re" else None
            assert processor.max_length == longest and not model.training
        assert type(load_whole_model(folder)) is type(model)
        for load in (load_processor, load_checkpoint):
            with pytest.raises(ValueError, match=rf"model \(task {task}\), but an? .* \(task {other}\) is expected"):
                load(folder, other)


def test_what_does_not_load_is_told(relation_checkpoint, tmp_path):
    with pytest.raises(OSError, match="nowhere: there is no such folder, and the Hub does not give it"):
        load_checkpoint("nowhere")
    with pytest.raises(
        OSError, match=r"no trained model, since it has no config.json and no processor_config.json\.$"
    ):
        load_checkpoint(str(tmp_path))
    folder = Path(shutil.copytree(relation_checkpoint, tmp_path / "model"))
    processor = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps(processor | {"num_aux_crops": 1}))
    for load in (load_checkpoint, load_whole_model):
        with pytest.raises(ValueError, match=r"model: Processor and model .* num_aux_crops is 1 in"):
            load(str(folder))
    (folder / "model.safetensors").write_bytes(b"cut off")
    for load in (load_checkpoint, load_whole_model):
        with pytest.raises(ValueError, match=r"model: the weights in its \*\.safetensors files are damaged"):
            load(str(folder))


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"[1]", b"[" * 10**5])
def test_a_damaged_file_of_a_model(checkpoint, tmp_path, name, content):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    (folder / name).write_bytes(content)
    with pytest.raises((ValueError, OSError), match=r"model: the (model does not load|folder holds no trained model)"):
        load_checkpoint(str(folder))


def test_a_tokenizer_without_its_settings(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no padding token. Is the file tokenizer_config\.json whole"):
        load_processor(str(folder))


def test_a_tokenizer_without_its_vocabulary(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    message = r"The tokenizer has no vocabulary. Is its file, such as tokenizer\.json, in the folder"
    for load in (load_processor, load_checkpoint, load_whole_model):
        with pytest.raises(ValueError, match=f"model: the model does not load: .*{message}"):
            load(str(folder))
    with pytest.raises(ValueError, match=message):
        pipeline("multimodal-token-classification", model=str(folder))


def test_a_folder_of_several_runs_is_no_model(tmp_path):
    (tmp_path / "seed-1").mkdir()
    (tmp_path / "seed-1" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=f"several runs, one for each seed. Name one of them: {tmp_path}/seed-1"):
        load_processor(str(tmp_path))


def test_a_model_is_whole_with_exactly_its_weights(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "extra": torch.ones(1)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights are not those .*'unexpected_keys': \['extra'\]"):
        load_whole_model(folder)
    del tensors["crf.transitions"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights are not those .*'missing_keys': \['crf.transitions'\]"):
        load_whole_model(folder)


def test_a_tokenizer_that_is_too_large(checkpoint, make_processor, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    tokenizer = make_processor().tokenizer
    tokenizer.add_tokens([f"new{number}" for number in range(50)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"the tokenizer has \d+ entries and the model embeds 99"):
        load_whole_model(folder)


def test_a_configuration_that_is_not_valid_is_told(checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    for wrong, message in (
        ({"attention_variant": "new"}, "attention_variant"),
        ({"num_aux_crops": "x"}, "expected int"),
    ):
        (folder / "config.json").write_text(json.dumps(config | wrong))
        for load in (load_checkpoint, load_whole_model):
            with pytest.raises(ValueError, match=rf"model: the model does not load: [\s\S]*{message}"):
                load(str(folder))
