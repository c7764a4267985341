"""train.py as a user runs it: killed, stopped, in several processes. Its room has tests of its own."""

import json
import os
import random
import shutil
import signal
import sys

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from PIL import Image
from safetensors.torch import load_file

from ifaformer_commands import score, train


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WITHOUT_DROPOUT = {**TOWER, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

# train.py in which the main process kills itself: amid the writing of the checkpoint of step 6, or with the training
# done, before the scores.
KILLED = """
import os, signal, sys

from ifaformer_commands.train import main
from modeling_ifaformer.training import IFAformerTrainer

write, predict = IFAformerTrainer._save_optimizer_and_scheduler, IFAformerTrainer.predict


def kill(trainer):
    if trainer.is_world_process_zero():
        os.kill(os.getpid(), signal.SIGKILL)


def write_or_kill(self, output_dir):
    if self.state.global_step == 6 and "amid" in sys.argv[0]:
        kill(self)
    write(self, output_dir)


IFAformerTrainer._save_optimizer_and_scheduler = write_or_kill
IFAformerTrainer.predict = lambda self, *args, **kwargs: kill(self) or predict(self, *args, **kwargs)
main()
"""


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


@pytest.fixture(scope="module")
def options(tweets, tmp_path_factory):
    """`options("folder", "--flag", ...)` -> the options of a run of 12 steps with a checkpoint every third."""
    folder = tmp_path_factory.mktemp("recipe")
    recipe = folder / "tiny.yaml"
    recipe.write_text(
        f"text_config: {json.dumps(TOWER)}\n"
        f"vision_config: {json.dumps({**TOWER, 'image_size': 16, 'patch_size': 8})}\n"
        "aux_crop_size: 8\nrcnn_crop_size: 8\nlearning_rate: 1e-3\nhead_learning_rate: 1e-2\nmask_probability: 0.2\n"
        "per_device_train_batch_size: 4\nmax_steps: 12\nsave_strategy: steps\nsave_steps: 3\neval_strategy: 'no'\n"
        "load_best_model_at_end: false\nuse_cpu: true\ndisable_tqdm: true\nlogging_steps: 1\nreport_to: none\n"
    )

    def make(output_dir, *more):
        data = ["--dataset", tweets, "--cache_dir", folder / "cache"]
        return list(map(str, [recipe, *data, "--output_dir", output_dir, *more]))

    return make


@pytest.fixture
def run_here(monkeypatch, options, tmp_path):
    """Run train.py in this process; its exit status or last line, None where it ends well."""

    def run(*more):
        monkeypatch.setattr("sys.argv", ["train.py", *options(tmp_path / "out", *more)])
        try:
            return train.main()
        except SystemExit as end:
            return end.code

    return run


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same_weights(folder, other, **tolerance):
    expected, actual = weights(folder), weights(other)
    assert expected.keys() == actual.keys()
    # Last digits may differ with where the weights that were read lie in memory.
    tolerance = tolerance or {"rtol": 1e-4, "atol": 1e-6}
    assert all(torch.allclose(expected[name], actual[name], **tolerance) for name in expected)


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(options, run_script, finish, tmp_path):
    run_script("train.py", *options(tmp_path / "whole"))
    killed, script = tmp_path / "killed", tmp_path / "amid.py"
    script.write_text(KILLED)
    finish([sys.executable, script, *options(killed)], exit_code=-signal.SIGKILL)
    assert (killed / "checkpoint-6" / "model.safetensors").exists() and not (killed / "results.json").exists()

    refused = run_script("train.py", *options(killed), exit_code=1)
    assert "belongs to an earlier run. Go on from it (resume_from_checkpoint set to true)" in refused.stderr
    resumed = run_script("train.py", *options(killed, "--resume_from_checkpoint", "true"))
    assert f"{killed}: Going on from {killed / 'checkpoint-3'}." in resumed.stdout
    assert "checkpoint-6 was only half written and has been removed." in resumed.stderr
    assert_same_weights(tmp_path / "whole", killed)
    results = [json.loads((folder / "results.json").read_text()) for folder in (tmp_path / "whole", killed)]
    assert results[0]["test"] == results[1]["test"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_taken_away_saves_and_says_how_to_go_on(run_here, before_step, capsys, tmp_path, number):
    before_step(5, lambda trainer: os.kill(os.getpid(), number))
    assert run_here("--save_total_limit", "1") == 128 + number
    printed = capsys.readouterr().out
    assert f"{number.name} stopped the training after step 5" in printed
    assert "resume_from_checkpoint set to true" in printed
    assert json.loads((tmp_path / "out" / "checkpoint-5" / "trainer_state.json").read_text())["global_step"] == 5
    assert not (tmp_path / "out" / "results.json").exists()


def raising(error):
    def step(trainer):
        raise error

    return step


@pytest.mark.parametrize(
    ("happens", "message"),
    [
        (lambda trainer: shutil.rmtree(trainer.args.output_dir), "is gone, with the checkpoints of this run"),
        (raising(torch.OutOfMemoryError("CUDA out of memory.")), "Halve per_device_train_batch_size"),
        (raising(FloatingPointError("Training has diverged")), "Training has diverged"),
        (raising(OSError("The checkpoint was not written")), "The checkpoint was not written"),
    ],
)
def test_what_ends_a_training_is_the_last_line(run_here, before_step, happens, message):
    before_step(2, happens)
    assert message in run_here()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seeds", "1", "1"), "seeds must be seeds that differ, got [1, 1]"),
        (("--search_trials", "-1"), "must be 1 or more, got -1"),
        (("--search_space", '{"weight_decay": [0.1]}'), "must be 1 or more, got 0"),
        (("--attention_variant", "deepke"), "max_seq_length"),
        (("--text_config", '{"hidden_size": 24, "num_attention_heads": 5}'), "of the text tower must be a multiple"),
        (("--vision_config", '{"image_size": "wide"}', "--max_seq_length", "9"), "'image_size' expected"),
        (("--task", "re"), "These data are for the task ner"),
        (("--lora", "true"), "without text_model and vision_model these are random"),
        (
            ("--lora", "true", "--lora_rank", "0", "--text_attends_vision", "false"),
            "lora_rank) must be at least 1, got 0",
        ),
    ],
)
def test_runs_that_make_no_sense(run_here, more, message):
    assert message in run_here(*more)


def test_a_start_that_is_refused_leaves_no_folder(options, run_script, tmp_path):
    of_relations = options(tmp_path / "new" / "out", "--seeds", "1", "2", "--task", "re")
    refused = run_script("train.py", *of_relations, exit_code=1)
    assert "These data are for the task ner" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_texts_alone_need_no_vision_tower(run_here, tmp_path):
    """That of a recipe, which is nowhere, is not looked for, and sizes for it do no harm."""
    tower = ("--vision_config", "none", "--vision_model", "no/where")
    assert run_here("--text_attends_vision", "false", *tower, "--layer_map", "3", "7", "--aux_crop_size", "56") is None
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["vision_config"]["hidden_size"] == 8
    assert json.loads((tmp_path / "out" / "results.json").read_text())["arguments"]["model"]["vision_model"] is None


def test_logs_that_nothing_can_take_are_refused_before_the_work(run_here, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    for name, message in (("wandb", "report_to names wandb, which is not installed"), ("x", "x is not supported")):
        assert run_here("--report_to", name) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_seeds_and_a_search(run_here, capsys, monkeypatch, tmp_path):
    folder = tmp_path / "out"
    evaluated = ("--eval_strategy", "steps", "--eval_steps", "2", "--max_steps", "2", "--save_strategy", "no")
    space = '{"learning_rate": {"low": 1e-3, "high": 2e-3}}'
    assert run_here("--seeds", "3", "5", *evaluated, "--search_trials", "1", "--search_space", space) is None
    best = json.loads((folder / "results.json").read_text())["best_seed"]
    printed = capsys.readouterr().out
    assert f"The best run by validation F1 is in {folder / f'seed-{best}'}." in printed
    assert f"Written: {folder / 'results.json'}" in printed
    (trial,) = json.loads((folder / "search.json").read_text())["trials"]
    results = json.loads((folder / "seed-3" / "results.json").read_text())
    assert results["arguments"]["training"]["learning_rate"] == trial["values"]["learning_rate"]

    run_here("--seeds", "3", "5", "--resume_from_checkpoint", "true")
    assert "seed-3: This run has ended." in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["score.py", "--checkpoints", str(folder)])
    with pytest.raises(SystemExit, match="holds several runs, one for each seed"):
        score.main()


@pytest.fixture(scope="module")
def alone(options, tmp_path_factory):
    """The folder of a run in one process without anything random, which others are held against."""
    folder = tmp_path_factory.mktemp("alone")

    def run(run_script):
        if not (folder / "results.json").exists():
            run_script("train.py", *options(folder, *steady(8)))
        return folder

    return run


def steady(batch_size, save_strategy="no"):
    batch = ("--per_device_train_batch_size", batch_size, "--text_config", json.dumps(WITHOUT_DROPOUT))
    return ("--mask_probability", 0, "--classifier_dropout", 0, "--save_strategy", save_strategy, *batch)


def found_out():
    """On a machine without an accelerator, several processes find out by themselves that they compute on the CPU."""
    return () if torch.accelerator.is_available() else ("--use_cpu", "false")


def results_of(folder):
    results = json.loads((folder / "results.json").read_text())
    return results, [entry["loss"] for entry in results["log_history"] if "loss" in entry]


def test_the_loss_curve_does_not_depend_on_the_number_of_processes(
    alone, options, repository, run_script, finish, tmp_path
):
    scripts = repository / "scripts"
    launcher = ("-m", "accelerate.commands.launch", "--config_file", scripts / "accelerate" / "cpu.yaml")
    run = finish([sys.executable, *launcher, scripts / "train.py", *options(tmp_path, *steady(4), *found_out())])
    assert "were not passed to `accelerate launch`" not in run.stderr
    results, losses = results_of(tmp_path)
    expected, expected_losses = results_of(alone(run_script))
    assert [of["hardware"]["num_processes"] for of in (expected, results)] == [1, 2]
    assert len(losses) == 12 and losses == pytest.approx(expected_losses, rel=1e-4)
    assert results["test"] == expected["test"] and results["test"]["support"] == 6, "every row is scored once"


def variables_of(config):
    """Those that `accelerate launch` sets for a configuration, without a start of it."""
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", str(config), "x"]))
    variables = prepare_multi_gpu_env(arguments)
    return {name: variables[name] for name in variables if name.startswith(("ACCELERATE_", "FSDP_"))}


def test_weights_shared_between_processes(alone, options, repository, run_script, tmp_path):
    """FSDP by the shipped configuration, two processes on the CPU in the place of eight GPUs."""
    shipped = yaml.safe_load((repository / "scripts" / "accelerate" / "fsdp_8_gpus.yaml").read_text())
    config = tmp_path / "fsdp.yaml"
    config.write_text(yaml.safe_dump({**shipped, "num_processes": 2, "use_cpu": True, "mixed_precision": "no"}))
    more = (*steady(4, "steps"), *found_out(), "--save_steps", "12")
    run_script("train.py", *options(tmp_path / "out", *more), processes=2, variables=variables_of(config))
    (results, losses), (expected, expected_losses) = (results_of(of) for of in (tmp_path / "out", alone(run_script)))
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert_same_weights(alone(run_script), tmp_path / "out", atol=1e-3)
    temperatures = [of["calibration"]["temperature"] for of in (results, expected)]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-2) and temperatures[0] != 1


def test_two_processes_that_are_killed_go_on(options, run_script, tmp_path):
    folder, script = tmp_path / "out", tmp_path / "killed.py"
    script.write_text(KILLED)
    more = (*found_out(), "--save_total_limit", "2")
    run_script(script, *options(folder, *more), processes=2, exit_code=-signal.SIGKILL)
    assert not (folder / "results.json").exists()
    # As if it had been killed amid the writing of the last checkpoint.
    (folder / "checkpoint-12" / "trainer_state.json").unlink()
    shutil.move(folder / "checkpoint-12" / "model.safetensors", tmp_path)
    resumed = run_script("train.py", *options(folder, *more, "--resume_from_checkpoint", "true"), processes=2)
    assert f"Going on from {folder / 'checkpoint-9'}." in resumed.stdout
    assert_same_weights(tmp_path, folder)


def test_adapters_in_two_processes(alone, options, run_script, tmp_path):
    """Each waits for a gradient of every weight that is trained, and each merges the same adapter."""
    adapters = ("--model", alone(run_script), "--lora", "true", "--lora_rank", "2", "--adapter_learning_rate", "1e-2")
    for folder, batch_size, processes in (("one", 8, ()), ("two", 4, found_out())):
        started = {"processes": 2} if processes else {}
        run_script("train.py", *options(tmp_path / folder, *steady(batch_size), *adapters, *processes), **started)
    (expected, expected_losses), (results, losses) = (results_of(tmp_path / folder) for folder in ("one", "two"))
    assert len(losses) == 12 and losses == pytest.approx(expected_losses, rel=1e-4)
    assert_same_weights(tmp_path / "one", tmp_path / "two", atol=1e-3)
    assert results["test"] == expected["test"]
    assert results["num_trainable_parameters"] == expected["num_trainable_parameters"] < 6000
    one, two = (load_file(tmp_path / folder / "adapter" / "adapter_model.safetensors") for folder in ("one", "two"))
    assert one.keys() == two.keys() and all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)
