"""Runs of train.py that are killed, stopped, starved and resumed."""

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
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


def start_and_wait_for(command, path, **options):
    """The running process, once the path is there."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert path.exists(), process.communicate()[1][-3000:]
    return process


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(command, finish, tmp_path):
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


def test_the_loss_curve_does_not_depend_on_the_number_of_processes(command, run_script, tmp_path):
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

    (alone, test), (shared, shared_test) = losses(1), losses(4)
    assert len(alone) == 12 and shared == pytest.approx(alone, rel=1e-4)
    assert shared_test == test and test["support"] == 6  # every row scored once


def test_weights_shared_between_processes(command, repository, run_script, tmp_path):
    """FSDP by the shipped configuration, two processes on the CPU in the place of eight GPUs."""
    shipped = yaml.safe_load((repository / "scripts" / "accelerate" / "fsdp_8_gpus.yaml").read_text())
    config = tmp_path / "fsdp.yaml"
    config.write_text(yaml.safe_dump({**shipped, "num_processes": 2, "use_cpu": True, "mixed_precision": "no"}))
    options = ("--mask_probability", "0", "--classifier_dropout", "0", "--save_steps", "6")
    text_config = {**TOWER, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    options += ("--text_config", json.dumps(text_config))

    def run(folder, number, **launch):
        batch = ("--per_device_train_batch_size", 8 // number)
        batch += ("--use_cpu", "false") if number > 1 and not torch.accelerator.is_available() else ()
        run_script("train.py", *command(folder, *options, *batch)[2:], processes=number, **launch)
        history = json.loads((folder / "results.json").read_text())["log_history"]
        return [entry["loss"] for entry in history if "loss" in entry], weights(folder)

    alone, alone_weights = run(tmp_path / "alone", 1)
    shared, shared_weights = run(tmp_path / "shared", 2, config=config)
    assert len(alone) == 12 and shared == pytest.approx(alone, rel=1e-4)
    assert shared_weights.keys() == alone_weights.keys()
    assert all(torch.allclose(shared_weights[name], alone_weights[name], atol=1e-3) for name in alone_weights)


# As the recipes have it, of the Trainer's strategies: the best checkpoint is kept, and one more at most.
BY_EPOCH = ("--save_strategy", "epoch", "--eval_strategy", "epoch", "--load_best_model_at_end", "true")


@pytest.mark.parametrize(("strategies", "number"), [((), signal.SIGINT), (BY_EPOCH, signal.SIGTERM)])
def test_a_run_that_is_taken_away_saves_and_says_how_to_go_on(command, tmp_path, strategies, number):
    folder = tmp_path / "out"
    options = ("--max_steps", "100000", "--save_steps", "20", "--save_total_limit", "1", *strategies)
    process = start_and_wait_for(
        command(folder, *options), folder / ("checkpoint-12" if strategies else "checkpoint-20")
    )
    process.send_signal(number)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors[-3000:]
    step = int(printed.split(f"Stopped by {number.name} after step ")[1].split(",")[0])
    assert "--resume_from_checkpoint true" in printed
    assert json.loads((folder / f"checkpoint-{step}" / "trainer_state.json").read_text())["global_step"] == step
    assert not (folder / "results.json").exists()


def test_a_run_that_was_stopped_between_epochs_evaluates_all_of_them(run_here, monkeypatch, command, finish, tmp_path):
    """SIGTERM at the last step of an epoch, and amid one: the run that goes on ends as if there had been none."""
    finish(command(tmp_path / "whole", *BY_EPOCH))
    trainer = import_module("modeling_ifaformer.training.trainer").IFAformerTrainer
    training_step = trainer.training_step
    for stopped_after in (3, 6, 10):  # six steps an epoch

        def step(self, *args, at=stopped_after, **kwargs):
            if self.state.global_step == at - 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return training_step(self, *args, **kwargs)

        monkeypatch.setattr(trainer, "training_step", step)
        assert run_here(*BY_EPOCH, "--resume_from_checkpoint", "true") == "143"
        assert (tmp_path / "out" / f"checkpoint-{stopped_after}").is_dir()
    finish(command(tmp_path / "out", *BY_EPOCH, "--resume_from_checkpoint", "true"))
    expected, resumed = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "out")]
    assert results[0]["validation_f1_by_epoch"] == results[1]["validation_f1_by_epoch"]
    assert len(results[0]["validation_f1_by_epoch"]) == 2
    assert results[1]["train_seconds"] > results[1]["log_history"][-1]["train_runtime"] + 0.01, "all parts together"


def test_two_processes_that_are_killed_go_on(command, finish, repository, tmp_path):
    def launch(folder, *options):
        config = repository / "scripts" / "accelerate" / "cpu.yaml"
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(config), "--num_processes", "2"]
        use_cpu = () if torch.accelerator.is_available() else ("--use_cpu", "false")  # found out
        return [sys.executable, *launcher, *command(folder, *use_cpu, *options)[1:]]

    finish(launch(tmp_path / "whole"))
    killed = tmp_path / "killed"
    process = start_and_wait_for(launch(killed), killed / "checkpoint-6", start_new_session=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    printed = finish(launch(killed, "--resume_from_checkpoint", "true")).stdout
    assert f"going on from {killed}" in printed
    expected, resumed = weights(tmp_path / "whole"), weights(killed)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


@pytest.fixture
def run_here(monkeypatch, command, tmp_path):
    """Run train.py in this process, to break something in it; its exit."""

    def run(*options):
        monkeypatch.setattr("sys.argv", command(tmp_path / "out", *options)[1:])
        with pytest.raises(SystemExit) as stopped:
            import_module("ifaformer_commands.train").main()
        return str(stopped.value)

    return run


def test_a_loss_that_is_no_number(run_here, monkeypatch, tmp_path):
    trainer = import_module("modeling_ifaformer.training.trainer").IFAformerTrainer
    compute_loss = trainer.compute_loss

    def diverge(self, *args, **kwargs):
        return compute_loss(self, *args, **kwargs) * (float("nan") if self.state.global_step >= 7 else 1)

    monkeypatch.setattr(trainer, "compute_loss", diverge)
    message = run_here()
    assert "Training has diverged at step 8: the loss is nan" in message
    assert "The last good checkpoint is" in message and "checkpoint-6. Start again with lower learning" in message
    assert all(torch.isfinite(values).all() for values in weights(tmp_path / "out" / "checkpoint-6").values())


def test_weights_that_are_no_numbers_are_not_saved(run_here, monkeypatch, tmp_path):
    trainer = import_module("modeling_ifaformer.training.trainer").IFAformerTrainer
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


@pytest.mark.parametrize("part", ["optimizer", "weights"])
def test_a_full_disk(run_here, monkeypatch, tmp_path, part):
    trainer = import_module("modeling_ifaformer.training.trainer").IFAformerTrainer
    save, limits = trainer._save_optimizer_and_scheduler, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, output_dir):
        if self.state.global_step == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(self, output_dir)
        if part == "weights":  # of the next checkpoint
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    monkeypatch.setattr(trainer, "_save_optimizer_and_scheduler", fill)
    try:
        message = run_here("--report_to", "none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "The checkpoint of step 6 was not written: " in message
    assert ("No space left on device" if part == "optimizer" else "too large") in message
    assert "The last good checkpoint is" in message and "--resume_from_checkpoint true" in message
    run_folder = import_module("modeling_ifaformer.training.run_folder")
    assert run_folder.last_complete_checkpoint(tmp_path / "out").name == "checkpoint-3"


def test_weights_that_are_no_numbers_are_no_result(run_here, monkeypatch, tmp_path):
    trainer = import_module("modeling_ifaformer.training.trainer").IFAformerTrainer
    create_optimizer = trainer.create_optimizer

    def break_weights(self, *args, **kwargs):
        next(self.model.parameters()).data.fill_(float("nan"))
        return create_optimizer(self, *args, **kwargs)

    monkeypatch.setattr(trainer, "create_optimizer", break_weights)
    options = ("--save_strategy", "no", "--logging_steps", "1000", "--logging_nan_inf_filter", "true")
    assert "weights hold values that are no numbers" in run_here(*options)
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's writer
def test_an_output_folder_that_is_gone(run_here, monkeypatch, tmp_path):
    trainer = import_module("modeling_ifaformer.training.trainer").IFAformerTrainer
    training_step = trainer.training_step

    def remove_folder(self, *args, **kwargs):
        if self.state.global_step == 4:
            shutil.rmtree(self.args.output_dir)
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(trainer, "training_step", remove_folder)
    message = run_here()
    assert f"{tmp_path / 'out'} is gone, with the checkpoints of this run" in message
    assert "step 5 is saved in a new folder" in message and "--resume_from_checkpoint true" in message
    run_folder = import_module("modeling_ifaformer.training.run_folder")
    assert run_folder.checkpoints(tmp_path / "out") == [run_folder.last_complete_checkpoint(tmp_path / "out")]


def test_out_of_memory(run_here, monkeypatch):
    def exhaust(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(import_module("modeling_ifaformer.training.trainer").IFAformerTrainer, "compute_loss", exhaust)
    message = run_here()
    assert "Halve --per_device_train_batch_size and double --gradient_accumulation_steps" in message


def test_several_seeds_give_mean_and_deviation(command, finish, tmp_path):
    folder = tmp_path / "out"
    options = ("--max_steps", 4, "--seeds", 3, 5)
    printed = finish(command(folder, *options)).stdout
    summary = json.loads((folder / "results.json").read_text())
    runs = [json.loads((folder / f"seed-{seed}" / "results.json").read_text()) for seed in (3, 5)]
    assert summary["seeds"] == [3, 5] and summary["runs"] == {"3": "seed-3", "5": "seed-5"}
    losses = [run["log_history"][0]["loss"] for run in runs]
    assert losses[0] != losses[1], "the seed changes the weights"
    for split in ("validation", "test"):
        f1 = summary["spread"][split]["f1"]
        assert f1["values"] == [run[split]["f1"] for run in runs]
        assert f1["mean"] == pytest.approx(np.mean(f1["values"])) and f1["std"] == np.std(f1["values"], ddof=1)
    best = summary["best_seed"]
    assert f"The best by validation F1 is in {folder / f'seed-{best}'}" in printed
    assert "of 2 such runs, with the seeds 3, 5" in (folder / "seed-3" / "README.md").read_text()

    # a run with one seed is the same as that of several
    finish(command(tmp_path / "alone", *options[:2], "--seed", 5))
    expected, alone = weights(folder / "seed-5"), weights(tmp_path / "alone")
    assert all(torch.equal(expected[name], alone[name]) for name in expected)

    # what has ended is not done again, what is missing is
    assert "is of an earlier run" in finish(command(folder, *options), exit_code=1).stderr
    shutil.rmtree(folder / "seed-5")
    (folder / "results.json").unlink()
    before = (folder / "seed-3" / "model.safetensors").stat().st_mtime_ns
    printed = finish(command(folder, *options, "--resume_from_checkpoint", "true")).stdout
    assert "seed-3: it has ended." in printed and "seed-5: there is no whole checkpoint" in printed
    assert json.loads((folder / "results.json").read_text()) == summary

    score = [sys.executable, str(Path(command(folder)[1]).with_name("score.py")), "--checkpoints", str(folder)]
    assert f"holds several runs, one for each seed. Name one of them: {folder / 'seed-3'}, " in finish(score, 1).stderr
    assert (folder / "seed-3" / "model.safetensors").stat().st_mtime_ns == before


def test_search_for_training_options(command, finish, tmp_path):
    folder = tmp_path / "out"
    # the first rate learns nothing
    space = {"head_learning_rate": [1e-9, 0.05], "text_learning_rate": {"low": 1e-3, "high": 2e-3, "log": True}}
    search = ("--search_space", json.dumps(space), "--eval_strategy", "steps", "--eval_steps", 6, "--seed", 1)
    finish(command(folder, "--search_trials", 3, *search))
    found = json.loads((folder / "search.json").read_text())
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2]
    values = [trial["objective"] for trial in found["trials"]]
    assert found["best"]["objective"] == max(values) > min(values)
    assert all(0.001 <= trial["values"]["text_learning_rate"] <= 0.002 for trial in found["trials"])
    training = json.loads((folder / "results.json").read_text())["arguments"]["training"]
    assert {name: training[name] for name in space} == found["best"]["values"]
    assert found["best"]["values"]["head_learning_rate"] == 0.05

    # gone on with, the trials are kept
    more = ("--resume_from_checkpoint", "true", "--search_trials", 4)
    finish(command(folder, *search, *more))
    assert json.loads((folder / "search.json").read_text())["trials"][:3] == found["trials"]
    assert len(json.loads((folder / "search.json").read_text())["trials"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "1", "1"), "--seeds needs several seeds that differ, got [1, 1]; for one run use --seed."),
        (("--seeds", "1", "2", "--resume_from_checkpoint", "x"), "--resume_from_checkpoint is true or false, got x"),
        (("--search_trials", "-1"), "--search_trials must be 0 or more, got -1."),
        (("--search_space", "{}"), "--search_space is of no use without --search_trials"),
        (
            ("--search_trials", "1", "--search_space", '{"text_model": ["a"]}'),
            "text_model is no training option",
        ),
        (
            ("--search_trials", "1", "--search_space", '{"weight_decay": {"low": 2, "high": 1}}'),
            "weight_decay needs low < high",
        ),
        (("--search_trials", "1", "--search_space", '{"weight_decay": 1}'), "weight_decay needs a list of choices"),
    ],
)
def test_runs_that_make_no_sense(run_here, options, message):
    assert message in run_here(*options)
