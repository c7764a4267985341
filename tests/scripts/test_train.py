"""Runs of train.py that are killed, stopped, starved and resumed."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def tweets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tweets"
    folder.mkdir()
    draw = random.Random(0)
    names = {"PER": ["Jordan", "Paris"], "LOC": ["Chelsea", "Austin"]}
    for split, number in (("train", 24), ("validation", 6), ("test", 6)):
        rows = []
        for index in range(number):
            entity_type = draw.choice(list(names))
            image = f"{split}{index}.png"
            Image.new("RGB", (16, 16), (200 * (entity_type == "PER"), 9 * index, 30)).save(folder / image)
            tokens = ["so", draw.choice(names[entity_type]), "again"]
            rows.append({"tokens": tokens, "ner_tags": ["O", f"B-{entity_type}", "O"], "image": image})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def command(tweets, repository, tmp_path):
    """The command line of a run of 12 steps with a checkpoint every third."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(
        f"text_config: {json.dumps(TOWER)}\n"
        f"vision_config: {json.dumps({**TOWER, 'image_size': 16, 'patch_size': 8})}\n"
        "aux_crop_size: 8\nrcnn_crop_size: 8\nlearning_rate: 1e-3\nhead_learning_rate: 1e-2\nmask_probability: 0.2\n"
        "per_device_train_batch_size: 4\nmax_steps: 12\nsave_strategy: steps\nsave_steps: 3\neval_strategy: 'no'\n"
        "load_best_model_at_end: false\nuse_cpu: true\ndisable_tqdm: true\nlogging_steps: 1\n"
    )

    def make(output_dir, *options):
        script = [sys.executable, str(repository / "scripts" / "train.py"), str(recipe)]
        data = ["--dataset", str(tweets), "--cache_dir", str(tmp_path / "cache")]
        return [*script, *data, "--output_dir", str(output_dir), *map(str, options)]

    return make


def finish(command, exit_code=0):
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == exit_code, result.stderr[-3000:]
    return result


def start_and_wait_for(command, path):
    """The running process, once the path is there."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert path.exists(), process.communicate()[1][-3000:]
    return process


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(command, tmp_path):
    finish(command(tmp_path / "whole"))
    killed = tmp_path / "killed"
    # amid the writing of the second checkpoint, or soon after
    process = start_and_wait_for(command(killed), killed / "checkpoint-6")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "results.json").exists()

    refused = finish(command(killed), exit_code=1)
    assert "of an earlier run: go on from it (--resume_from_checkpoint true)" in refused.stderr
    finish(command(killed, "--resume_from_checkpoint", "true"))
    expected, resumed = weights(tmp_path / "whole"), weights(killed)
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    results = [json.loads((folder / "results.json").read_text()) for folder in (tmp_path / "whole", killed)]
    assert results[0]["test"] == results[1]["test"]


@pytest.mark.parametrize("processes", [2, 4])
def test_the_loss_curve_does_not_depend_on_the_number_of_processes(command, run_script, tmp_path, processes):
    def losses(number):
        folder = tmp_path / str(number)
        options = command(folder, "--mask_probability", "0", "--classifier_dropout", "0", "--save_steps", "12")[2:]
        text_config = {**TOWER, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        batch = ("--per_device_train_batch_size", 8 // number, "--text_config", json.dumps(text_config))
        if number > 1 and not torch.accelerator.is_available():
            batch += ("--use_cpu", "false")  # found out
        run_script("train.py", *options, *batch, processes=number)
        state = json.loads((folder / "checkpoint-12" / "trainer_state.json").read_text())
        results = json.loads((folder / "results.json").read_text())
        assert results["hardware"]["num_processes"] == number
        return [entry["loss"] for entry in state["log_history"] if "loss" in entry], results["test"]

    (alone, test), (shared, shared_test) = losses(1), losses(processes)
    assert len(alone) == 12 and shared == pytest.approx(alone, rel=1e-4)
    assert shared_test == test and test["support"] == 6  # every row scored once


def test_a_run_that_is_taken_away_saves_and_says_how_to_go_on(command, tmp_path):
    folder = tmp_path / "out"
    options = ("--max_steps", "100000", "--save_steps", "20", "--save_total_limit", "1")
    process = start_and_wait_for(command(folder, *options), folder / "checkpoint-20")
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors[-3000:]
    step = int(printed.split("Stopped by SIGTERM after step ")[1].split(",")[0])
    assert "--resume_from_checkpoint true" in printed
    assert json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text())["global_step"] == step
    assert not (folder / "results.json").exists()


@pytest.fixture
def run_here(script_module, monkeypatch, command, tmp_path):
    """Run train.py in this process, to break something in it; its exit."""

    def run(*options):
        monkeypatch.setattr("sys.argv", command(tmp_path / "out", *options)[1:])
        with pytest.raises(SystemExit) as stopped:
            script_module("train").main()
        return str(stopped.value)

    return run


def test_a_loss_that_is_no_number(run_here, script_module, monkeypatch, tmp_path):
    trainer = script_module("trainer").IFAformerTrainer
    compute_loss = trainer.compute_loss

    def diverge(self, *args, **kwargs):
        return compute_loss(self, *args, **kwargs) * (float("nan") if self.state.global_step >= 7 else 1)

    monkeypatch.setattr(trainer, "compute_loss", diverge)
    message = run_here("--logging_nan_inf_filter", "false")
    assert "Training has diverged at step 8: the loss is nan" in message
    assert "The last good checkpoint is" in message and "checkpoint-6. Start again with lower learning" in message
    assert all(torch.isfinite(values).all() for values in weights(tmp_path / "out" / "checkpoint-6").values())


def test_weights_that_are_no_numbers_are_not_saved(run_here, script_module, monkeypatch, tmp_path):
    trainer = script_module("trainer").IFAformerTrainer
    training_step = trainer.training_step

    def break_weights(self, model, *args, **kwargs):
        loss = training_step(self, model, *args, **kwargs)
        if self.state.global_step == 5:
            next(model.parameters()).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(trainer, "training_step", break_weights)
    message = run_here("--logging_steps", "1000", "--max_grad_norm", "0")
    assert "at step 6" in message and "weights hold values that are no numbers" in message
    assert "checkpoint-3" in message and not (tmp_path / "out" / "checkpoint-6").exists()


def test_a_full_disk(run_here, script_module, monkeypatch, tmp_path):
    trainer = script_module("trainer").IFAformerTrainer
    save = trainer._save_optimizer_and_scheduler

    def fill(self, output_dir):
        if self.state.global_step == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, output_dir)

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", fill)
    message = run_here()
    assert "The checkpoint of step 6 was not written: [Errno 28] No space left on device" in message
    assert "The last good checkpoint is" in message and "--resume_from_checkpoint true" in message
    run_folder = script_module("run_folder")
    assert run_folder.last_complete_checkpoint(tmp_path / "out").name == "checkpoint-3"


def test_out_of_memory(run_here, script_module, monkeypatch):
    def exhaust(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(script_module("trainer").IFAformerTrainer, "compute_loss", exhaust)
    message = run_here()
    assert "Halve --per_device_train_batch_size and double --gradient_accumulation_steps" in message
