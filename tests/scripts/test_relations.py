"""train.py and score.py on relations, each as a user runs it."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModelForSequenceClassification

import modeling_ifaformer  # noqa: F401  (registers the model)
from processing import IFAformerProcessor
from processing.rows.row_features import re_features


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TRAIN = Path(__file__).resolve().parents[2] / "scripts" / "train.py"
RELATIONS = ["None", "/per/per/peer", "/per/loc/place_of_residence"]


@pytest.fixture(scope="module")
def tweets(tmp_path_factory):
    """Rows whose relation the words settle; the last of each split has its entities too far apart."""
    folder = tmp_path_factory.mktemp("data") / "tweets"
    folder.mkdir()
    for split, number in (("train", 60), ("validation", 9), ("test", 9)):
        rows = []
        for index in range(number):
            relation = index % 3
            words = ["Jordan", ["and", "meets", "in"][relation], "Paris", *["so"] * (index % 4)]
            tail = 2
            if index == number - 1:
                words[2:2], tail = ["far"] * 20, 22
            entities = {
                name: {"name": words[at], "start": at, "end": at + 1} for name, at in (("head", 0), ("tail", tail))
            }
            picture = None if index % 2 else Image.new("RGB", (8, 8), (80 * relation, 0, 0))
            crops = {"image": picture, "aux_crops": [], "rcnn_crops": []}
            rows.append(
                {"id": f"{split}{index}", "image_id": "", "tokens": words, **entities, "relation": relation, **crops}
            )
        Dataset.from_list(rows, features=re_features(RELATIONS)).to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(tweets, finish, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        f"dataset: {tweets}\ntask: re\ntext_config: {json.dumps(TOWER)}\n"
        f"vision_config: {json.dumps({**TOWER, 'image_size': 8, 'patch_size': 8})}\nmax_seq_length: 16\n"
        "aux_crop_size: 8\nrcnn_crop_size: 8\nnum_train_epochs: 12\nlearning_rate: 5e-3\nhead_learning_rate: 1e-2\n"
        "per_device_train_batch_size: 8\nuse_cpu: true\nclassifier_dropout: 0.1\n"
        f"cache_dir: {folder / 'cache'}\noutput_dir: {folder / 'out'}\n"
    )
    result = finish([sys.executable, TRAIN, recipe])
    return folder / "out", result.stdout, result.stderr


def test_training_learns_relations_and_keeps_everything(trained):
    folder, printed, errors = trained
    results = json.loads((folder / "results.json").read_text())
    test = results["test"]
    assert test["unreadable_rows"] == 1 and test["support"] == 6 and set(test["per_type"]) == set(RELATIONS[1:])
    assert test["recall"] == pytest.approx(5 / 6), "all but the row that has no room"
    assert test["accuracy"] == pytest.approx(8 / 9)
    assert results["confusion"]["test"]["negative"] == "None"
    assert "test: 1 rows have no room for both entities and count as without relation." in printed
    assert "test: 1 rows have no room for both entities and are not given to the model." in errors
    card = (folder / "README.md").read_text()
    assert "Multimodal relation extraction" in card and "multimodal-relation-extraction" in card
    assert "Accuracy over all rows, 1 without room for both entities among them: 88.9." in card
    assert "type: text-classification" in card and (folder / "confusion_matrix.png").exists()
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    processor = IFAformerProcessor.from_pretrained(folder)
    pair = {"heads": [{"start": 0, "end": 1}], "tails": [{"start": 2, "end": 3}]}
    with torch.no_grad():
        logits = model(**processor(text=[["Jordan", "in", "Paris"]], **pair, return_tensors="pt")).logits
    (answer,) = processor.post_process_relations(logits)
    assert answer["relation"] == "/per/loc/place_of_residence" and answer["score"] > 0.5


def test_scoring_reproduces_training_s_figures(trained, tweets, run_script, tmp_path):
    folder, *_ = trained
    options = ("--checkpoints", folder, "--dataset", tweets, "--cache_dir", tmp_path)
    options += ("--output", tmp_path / "scores.json", "--errors", tmp_path / "errors.html")
    printed = run_script("score.py", *options).stdout
    assert (
        json.loads((tmp_path / "scores.json").read_text())[str(folder)]
        == json.loads((folder / "results.json").read_text())["test"]
    )
    # The row that has no room is missed.
    assert "missed: a gold relation where none is predicted (1 in 1 of 9 tweets)" in printed
    assert "words between: 0 to 2" in (tmp_path / "errors.html").read_text(encoding="utf-8")
    assert "accuracy" in printed and "1 rows have no room" in printed


def test_the_wrong_task_is_said(tweets, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["train.py", "--dataset", str(tweets), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"The task ner needs .* ner_tags, .* These data are for the task re\."):
        import_module("ifaformer_commands.train").main()


def test_scoring_for_another_task_is_refused(relation_checkpoint, tweets, monkeypatch, tmp_path):
    (tmp_path / "scoring.yaml").write_text("task: ner\n")
    flags = ("--checkpoints", relation_checkpoint, "--dataset", str(tweets))
    monkeypatch.setattr("sys.argv", ["score.py", str(tmp_path / "scoring.yaml"), *flags])
    with pytest.raises(SystemExit, match=r"is a relation model \(task re\), but an entity model "):
        import_module("ifaformer_commands.score").main()
