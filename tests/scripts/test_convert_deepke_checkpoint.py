"""The published implementation's outputs, met through the conversion script, in eager and in sdpa."""

import json

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertTokenizerFast,
    CLIPVisionConfig,
)

from modeling_ifaformer.checkpoints.deepke import rename_deepke_keys
from processing import IFAformerProcessor
from processing.labels import TWITTER_TAGS, scheme_labels


TASKS = {"ner": AutoModelForTokenClassification, "re": AutoModelForSequenceClassification}


class Golden:
    """Tensors of one golden file by group, and a converted checkpoint made of them."""

    def __init__(self, task, shared, folder, run_script):
        self.task = task
        with safe_open(shared / "golden" / f"{task}_forward.safetensors", "pt") as file:
            self.metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        self.groups = {
            group: {
                key.removeprefix(f"{group}."): value for key, value in tensors.items() if key.startswith(f"{group}.")
            }
            for group in ("state", "in", "out", "grad_norm")
        }
        self.folder = folder / "converted"
        self.output = self.convert(folder, run_script)

    def convert(self, folder, run_script):
        metadata = {key: int(value) for key, value in self.metadata.items() if value.isdigit()}
        size = {
            key: metadata[key]
            for key in ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
        }
        # Training of relations adds four markers to the vocabulary it starts from.
        vocab_size = metadata["vocab_size"] - (4 if self.task == "re" else 0)
        text_config = BertConfig(
            vocab_size=vocab_size, max_position_embeddings=metadata["max_position_embeddings"], **size
        )
        text_config.save_pretrained(folder / "text")
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        tokens = [*special, *(f"w{index}" for index in range(vocab_size - 5))]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        BertTokenizerFast(vocab=vocabulary).save_pretrained(folder / "text")
        vision_config = CLIPVisionConfig(image_size=metadata["image_size"], patch_size=metadata["patch_size"], **size)
        vision_config.save_pretrained(folder / "vision")
        torch.save(self.groups["state"], folder / "best_model.pth")
        extra = []
        if self.task == "re":
            relations = {f"relation {index}": index for index in range(metadata["num_relations"])}
            (folder / "rel2id.json").write_text(json.dumps(relations))
            extra = ["--relations", folder / "rel2id.json", "--max_seq_length", "60"]  # of 64 positions
        return run_script(
            "convert_deepke_checkpoint.py",
            *(folder / "best_model.pth", "--task", self.task, *extra),
            *("--text_model", folder / "text", "--vision_model", folder / "vision", "--output", self.folder),
        ).stdout

    def run(self, implementation):
        model = TASKS[self.task].from_pretrained(self.folder, attn_implementation=implementation)
        assert model.ifaformer.vision_model.config._attn_implementation == implementation
        inputs = self.groups["in"]
        arguments = {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids", "labels")}
        for kind in ("aux", "rcnn"):
            arguments[f"{kind}_pixel_values"] = inputs[f"{kind}_int8"].float() / 32
        if self.task == "ner":
            arguments["crf_mask"] = inputs["attention_mask"].bool()
        return model, model(**arguments, output_hidden_states=True)


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """Each task is converted once."""
    made = {}

    def make(task, shared, run_script):
        if task not in made:
            made[task] = Golden(task, shared, tmp_path_factory.mktemp(task), run_script)
        return made[task]

    return make


def relative(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("task", list(TASKS))
def test_outputs_and_gradients(golden, shared, run_script, task, implementation):
    files = golden(task, shared, run_script)
    model, outputs = files.run(implementation)
    expected = files.groups["out"]
    assert relative(outputs.loss, expected["loss"][0]) < 1e-5
    assert relative(outputs.logits, expected["emissions" if task == "ner" else "logits"]) < 1e-5
    if task == "ner":
        for layer, states in enumerate(outputs.hidden_states):
            assert relative(states, expected[f"text_hidden_states.{layer}"]) < 1e-5, layer
        pooled = model.ifaformer.text_model.pooler(outputs.hidden_states[-1])
        assert relative(pooled, expected["pooler_output"]) < 1e-5
        assert torch.equal(outputs.tag_ids.masked_fill(outputs.tag_ids == -100, -1), expected["tags"])

    outputs.loss.backward()
    norms = rename_deepke_keys(files.groups["grad_norm"])
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    nonzero = {name for name, gradient in ours.items() if gradient is not None and gradient.abs().max() > 0}
    assert nonzero == set(norms)
    for name, norm in norms.items():
        assert ours[name].norm().item() == pytest.approx(norm.item(), rel=1e-4), name


def test_the_folder_describes_itself(golden, shared, run_script):
    ner = golden("ner", shared, run_script)
    assert "tensors are converted. 4 index buffers are left out" in ner.output
    model, _ = ner.run("eager")
    assert list(model.config.id2label.values()) == scheme_labels(TWITTER_TAGS, "deepke")
    processor = IFAformerProcessor.from_pretrained(ner.folder)
    assert (processor.label_scheme, processor.max_length, processor.pad_to_max_length) == ("deepke", 40, True)
    inputs = processor(text="w1 w2", return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 40)
    assert model(**inputs).tag_ids.shape == (1, 40)

    relations = golden("re", shared, run_script)
    model, _ = relations.run("eager")
    processor = IFAformerProcessor.from_pretrained(relations.folder)
    assert processor.marker_ids[::2] == [105, 107]
    assert (model.config.head_marker_token_id, model.config.tail_marker_token_id) == (105, 107)
    inputs = processor(
        text="w1 w2 w3", heads={"start": 0, "end": 1}, tails={"start": 1, "end": 2}, return_tensors="pt"
    )
    assert model(**inputs).logits.shape == (1, 7)


def test_a_checkpoint_that_is_not_there(tmp_path, run_script):
    result = run_script("convert_deepke_checkpoint.py", tmp_path / "absent.pth", exit_code=1)
    assert result.stderr.startswith(f"There is no file {tmp_path / 'absent.pth'}.")


def test_relations_need_their_names(tmp_path, golden, shared, run_script):
    files = golden("re", shared, run_script)
    folder = files.folder.parent
    arguments = (
        *("--checkpoint", folder / "best_model.pth", "--task", "re", "--output", tmp_path / "out"),
        *("--text_model", folder / "text", "--vision_model", folder / "vision"),
    )
    result = run_script("convert_deepke_checkpoint.py", *arguments, exit_code=1)
    assert "--task re needs --relations" in result.stderr
    (tmp_path / "rel.json").write_text('["a", "b"]')
    result = run_script("convert_deepke_checkpoint.py", *arguments, "--relations", tmp_path / "rel.json", exit_code=1)
    assert "rel.json: expected a dict of each label to its number" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_wrong_task_is_refused(tmp_path, golden, shared, run_script):
    folder = golden("re", shared, run_script).folder.parent
    result = run_script(
        "convert_deepke_checkpoint.py",
        *("--checkpoint", folder / "best_model.pth", "--task", "ner", "--output", tmp_path / "out"),
        *("--text_model", folder / "text", "--vision_model", folder / "vision"),
        exit_code=1,
    )
    last_line = result.stderr.splitlines()[-1]
    assert "Missing key(s) in state_dict:" in last_line and '"crf.transitions"' in last_line
    assert not (tmp_path / "out").exists()
