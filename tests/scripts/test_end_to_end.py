"""train.py and score.py on a small archive with pictures, each as a user runs it."""

import json
from importlib import import_module

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoModelForTokenClassification

from ifaformer_commands import train
from ifaformer_commands.options.command_line import parse_arguments
from modeling_ifaformer.training import IFAformerTrainingArguments
from processing import IFAformerProcessor


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SENTENCES = (
    [("Jordan", "B-PER"), ("met", "O"), ("New", "B-LOC"), ("York", "I-LOC")],
    [("\u200d", "O"), ("#", "O"), ("Chelsea", "B-ORG"), ("wins", "O"), ("!", "O")],
    [("Paris", "B-MISC"), ("is", "O"), ("a", "O"), ("film", "O"), ("with", "O"), ("Paris", "B-PER")],
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "twitter2017"
    (folder / "twitter2017_images").mkdir(parents=True)
    for name, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        crops = folder / "twitter2017_aux_images" / split / "crops"
        crops.mkdir(parents=True)
        blocks, listed = [], {}
        for index, sentence in enumerate(SENTENCES):
            image_id = f"{split}_{index}"
            blocks.append("\n".join([f"IMGID:{image_id}", *("\t".join(pair) for pair in sentence)]))
            if index < 2:
                Image.new("RGB", (40, 30), (90 * index, 20, 20)).save(
                    folder / "twitter2017_images" / f"{image_id}.jpg"
                )
            Image.new("RGB", (20, 20), (20, 90 * index, 20)).save(crops / f"{image_id}_crop.png")
            listed[f"{image_id}.jpg"] = [f"{image_id}_crop.png"]
        (folder / f"{name}.txt").write_text("\n\n".join(blocks), encoding="utf-8")
        torch.save(listed, folder / f"twitter2017_{split}_dict.pth")
    return folder


@pytest.fixture(scope="module")
def trained(archive, tmp_path_factory):
    """The folder train.py writes, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        "dataset: twitter2017\n"
        f"text_config: {json.dumps(TOWER)}\n"
        f"vision_config: {json.dumps({**TOWER, 'image_size': 32, 'patch_size': 8})}\n"
        "aux_crop_size: 16\nrcnn_crop_size: 8\nnum_train_epochs: 5\nlearning_rate: 1e-3\nhead_learning_rate: 1e-2\n"
        "per_device_train_batch_size: 2\nuse_cpu: true\n"
    )

    def run(run_script):
        if not (folder / "out").exists():
            result = run_script(
                "train.py",
                recipe,
                *("--data_dir", archive, "--cache_dir", folder / "cache", "--output_dir", folder / "out"),
                *("--num_train_epochs", "2"),
            )
            (folder / "printed").write_text(result.stdout, encoding="utf-8")
        return folder / "out", (folder / "printed").read_text(encoding="utf-8")

    return run


def test_training_keeps_everything(trained, run_script):
    folder, printed = trained(run_script)
    results = json.loads((folder / "results.json").read_text())
    (log,) = (folder / "runs").glob("*/events.out.tfevents.*")
    assert b"eval/f1" in log.read_bytes()
    for split in ("validation", "test"):
        assert results[split]["support"] == 5
        assert set(results[split]["per_type"]) >= {"PER", "LOC", "ORG", "MISC"}
        assert results[split]["unreachable_words"] == 1
    assert len(results["validation_f1_by_epoch"]) == 2  # the flag wins over the recipe's five
    assert max(results["validation_f1_by_epoch"]) == pytest.approx(results["validation"]["f1"])
    assert results["arguments"]["training"]["learning_rate"] == 1e-3
    assert results["recipe"].endswith("tiny.yaml")
    assert set(results["versions"]) == {"torch", "transformers", "datasets", "accelerate"}
    assert results["seed"] == 42
    assert "twitter2017" in printed and "1 rows without image" in printed  # the loading report
    assert sum(map(sum, results["confusion"]["test"]["counts"])) >= 5 and results["num_parameters"] > 1000
    card = ModelCard.load(folder / "README.md")
    recorded = {metric.metric_type: metric.metric_value for metric in card.data.eval_results}
    assert recorded["f1"] == pytest.approx(results["test"]["f1"], abs=5e-5)
    assert {path.name for path in folder.glob("*.png")} == {"training_curve.png", "confusion_matrix.png"}
    processor = IFAformerProcessor.from_pretrained(folder)
    assert processor.max_length is None
    model = AutoModelForTokenClassification.from_pretrained(folder)
    assert model.config.label2id["B-MISC"] == 1


def test_scoring_reproduces_training_s_figures(trained, archive, run_script, tmp_path):
    folder, _ = trained(run_script)
    cache = folder.parent / "cache"
    prepared = set((cache / "ifaformer_features").glob("*/"))
    assert len(prepared) == 6  # texts and pictures of three splits
    result = run_script(
        "score.py",
        *("--checkpoints", folder, "--dataset", "twitter2017", "--data_dir", archive, "--cache_dir", cache),
        *("--protocol", "both", "--shuffle_pictures", "--output", tmp_path / "scores.json"),
        cwd=tmp_path,
    )
    # texts without labels, and texts and pictures of the shuffled rows: the test pictures are not decoded again
    assert len(set((cache / "ifaformer_features").glob("*/")) - prepared) == 3
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {
        f"{folder}{variant} [{protocol}]"
        for variant in ("", " (pictures shuffled)")
        for protocol in ("word", "published")
    }
    trained_test = json.loads((folder / "results.json").read_text())["test"]
    assert scores[f"{folder} [word]"] == trained_test
    assert "0 of 5 entities are out of the model's reach" in result.stdout


def test_several_pictures_from_training_to_prediction(run_script, tmp_path):
    folder = tmp_path / "tweets"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 20, 20)).save(folder / f"{number}.png")
    row = {"tokens": ["Jordan", "met", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"]}
    rows = [{**row, "image": images} for images in (["0.png", "1.png"], ["1.png", "2.png", "3.png"], [])]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = tmp_path / "model"
    towers = (
        "--text_config",
        json.dumps(TOWER),
        "--vision_config",
        json.dumps({**TOWER, "image_size": 32, "patch_size": 8}),
    )
    result = run_script(
        "train.py",
        *("--dataset", folder, *towers, "--aux_crop_size", "16", "--rcnn_crop_size", "8", "--max_images", "2"),
        *("--modality_dropout", "0.3", "--num_train_epochs", "1", "--use_cpu", "true", "--output_dir", model),
    )
    assert "1 rows have more than 2 pictures" in result.stderr and "5 images" in result.stdout
    assert IFAformerProcessor.from_pretrained(model).max_images == 2
    assert AutoModelForTokenClassification.from_pretrained(model).config.max_images == 2
    run_script("score.py", "--checkpoints", model, "--dataset", folder, "--shuffle_pictures")
    run_script(
        "predict.py", "--model", model, "--input", folder / "test.jsonl", "--output", tmp_path / "found.parquet"
    )
    found = pq.read_table(tmp_path / "found.parquet").to_pylist()
    assert [of["image"] for of in found] == [row["image"] for row in rows]
    assert [bool(of["problems"]) for of in found] == [False, True, False]
    text = ("--text", "Jordan met Paris", "--image", folder / "0.png", folder / "1.png")
    assert json.loads(run_script("predict.py", "--model", model, *text).stdout)["text"] == "Jordan met Paris"


def test_a_baseline_is_trained_scored_and_used_by_the_same_commands(archive, run_script, tmp_path):
    resnet = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    folder = tmp_path / "umt"
    run_script(
        "train.py",
        *("--system", "umt", "--system_config", json.dumps({"image_size": 32, "freeze_vision": False})),
        *("--text_config", json.dumps(TOWER), "--vision_config", json.dumps({**resnet, "layer_type": "basic"})),
        *("--dataset", "twitter2017", "--data_dir", archive, "--output_dir", folder, "--num_train_epochs", "1"),
        *("--fusion_learning_rate", "1e-3", "--use_cpu", "true", "--report_to", "none"),
        cwd=tmp_path,
    )
    results = json.loads((folder / "results.json").read_text())
    assert results["arguments"]["model"]["system"] == "umt"
    assert results["arguments"]["training"]["fusion_learning_rate"] == 1e-3
    card = (folder / "README.md").read_text()
    assert "# UMT on Twitter-2017" in card and "It is UMT, re-built as a baseline" in card
    assert "vision tower: `resnet`, 2 blocks in 2 stages, 16 wide, freshly initialised" in card
    assert "learning rate of the layers between the towers: 0.001" in card
    run_script(
        *("score.py", "--checkpoints", folder, "--dataset", "twitter2017", "--data_dir", archive),
        *("--output", tmp_path / "scores.json"),
        cwd=tmp_path,
    )
    assert json.loads((tmp_path / "scores.json").read_text())[str(folder)] == results["test"]
    rows = ("--dataset", "twitter2017", "--data_dir", archive, "--limit", "2", "--output", tmp_path / "found.jsonl")
    run_script("predict.py", "--model", folder, *rows, cwd=tmp_path)
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == 2


def test_a_recipe_with_an_unknown_option_is_refused(run_script, tmp_path):
    (tmp_path / "recipe.yaml").write_text("learning_rat: 1\n")
    result = run_script("train.py", tmp_path / "recipe.yaml", exit_code=2)
    assert "There is no option --learning_rat. Did you mean --learning_rate" in result.stderr


def test_the_recipe_of_an_ablation_differs_in_the_ablation_alone(repository):
    recipes = repository / "scripts" / "recipes"
    full, ablation = (yaml.safe_load((recipes / f"{name}.yaml").read_text()) for name in ("mnre", "mnre_whole_image"))
    expected = {"num_aux_crops": 0, "num_rcnn_crops": 0, "output_dir": "runs/mnre_whole_image"}
    assert ablation == {**full, **expected}


@pytest.mark.parametrize(
    "name",
    [
        *("demo", "demo_pictures", "demo_context", "demo_re", "mnre", "mnre_deepke"),
        *("twitter2015", "twitter2017", "twitter2017_deepke"),
    ],
)
def test_recipes_hold_known_options(repository, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", str(repository / "scripts" / "recipes" / f"{name}.yaml")])
    data, towers, reading, *_, arguments, path = parse_arguments(*train.GROUPS, IFAformerTrainingArguments)
    assert data.dataset == name.removesuffix("_deepke")
    assert path.endswith(f"{name}.yaml")
    if name == "twitter2017_deepke":  # the published recipe
        published = (30, 32, 5e-5, 3e-5, 5e-2, 0.01, 0.06, 0, 1234)
        assert (
            arguments.num_train_epochs,
            arguments.per_device_train_batch_size,
            arguments.text_learning_rate,
            arguments.vision_learning_rate,
            arguments.head_learning_rate,
            arguments.weight_decay,
            arguments.warmup_steps,
            arguments.max_grad_norm,
            arguments.seed,
        ) == published
        assert (data.max_seq_length, towers.attention_variant, reading.label_scheme) == (40, "deepke", "deepke")
        assert arguments.decay_all
    if name == "mnre_deepke":
        assert (arguments.num_train_epochs, arguments.learning_rate, data.max_seq_length) == (12, 1e-5, 80)
    assert data.task == ("re" if name in ("demo_re", "mnre", "mnre_deepke") else "ner")


def test_fewer_crops_than_the_data_have(archive, run_script, trained, tmp_path):
    folder, _ = trained(run_script)
    recipe = folder.parent / "tiny.yaml"
    result = run_script(
        "train.py",
        recipe,
        *("--data_dir", archive, "--cache_dir", tmp_path, "--output_dir", tmp_path / "out"),
        *("--num_train_epochs", "1", "--num_aux_crops", "0", "--use_whole_image", "false"),
    )
    assert "3 crops surplus" in result.stdout and (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        (
            "inspect_data.py",
            ["--dataset", "nosuch"],
            "dataset must be one of demo, demo_pictures, demo_context, demo_re, twitter2015",
        ),
        (
            "score.py",
            ["--checkpoints", "x", "--output", "nodir/x.json"],
            "nodir/x.json cannot be written",
        ),
        (
            "inspect_data.py",
            ["--dataset", "one.jsonl", "--num_samples", "-1"],
            "num_samples must be 0 or more, got -1",
        ),
        (
            "predict.py",
            ["--model", "x", "--text", "x", "--output", "nodir/x.jsonl"],
            "nodir/x.jsonl cannot be written",
        ),
        (
            "predict.py",
            ["--model", "runs/gone", "--text", "x"],
            "runs/gone: there is no such folder, and the Hub",
        ),
        (
            "inspect_data.py",
            ["--dataset", "bad.jsonl", "--strict", "true"],
            "bad.jsonl:1: the line is not a JSON object",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_message(tmp_path, monkeypatch, script, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text("[1]\n")
    (tmp_path / "one.jsonl").write_text('{"tokens": ["Paris"], "ner_tags": ["B-LOC"]}\n')
    monkeypatch.setattr("sys.argv", [script, *arguments, "--cache_dir", str(tmp_path / "cache")])
    with pytest.raises(SystemExit) as stopped:
        import_module("ifaformer_commands." + script.removesuffix(".py")).main()
    assert message in str(stopped.value)
