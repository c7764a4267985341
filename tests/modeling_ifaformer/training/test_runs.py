"""Runs that are stopped, starved, gone on with, and made with several seeds."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, DatasetDict
from peft import PeftModel
from safetensors.torch import load_file

from modeling_ifaformer.checkpoints.adapters import adapter_base
from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.training import (
    IFAformerTrainer,
    Search,
    TrainingStopped,
    build_model,
    build_processor,
    check_splits,
    plan_runs,
    runs_summary,
    train_runs,
)
from modeling_ifaformer.training.run_folder import checkpoints, last_complete_checkpoint
from modeling_ifaformer.training.scoring import score_checkpoints
from processing import IFAformerPipeline
from processing.jobs.checksums import CHECKSUMS
from processing.scoring.calibration import calibration_error


# As the recipes have it: the best checkpoint is kept, and one more at most.
BY_EPOCH = {"save_strategy": "epoch", "eval_strategy": "epoch", "load_best_model_at_end": True, "save_total_limit": 1}


def send(number):
    return lambda trainer: os.kill(os.getpid(), number)


def test_results_begin_with_what_a_person_looks_for(train, tmp_path):
    (run,) = train(save_strategy="no", max_steps=2)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results)[:2] == ["test", "validation"] and list(results)[-1] == "log_history"
    assert results["test"]["support"] == 6 and results["statistics"]["train"]["rows"] == 24
    assert results["unusable_pictures"] == {"train": {}, "validation": {}, "test": {}}
    assert set(results["versions"]) == {"torch", "transformers", "datasets", "accelerate"}
    summary = runs_summary([run])
    assert f"{100 * results['test']['f1']:.2f}" in summary and "0 of 6 entities" in summary


def test_scores_are_calibrated_and_saved_with_the_model(train, data, tmp_path):
    (run,) = train(save_strategy="no", max_steps=40)
    results = run.results["calibration"]
    model, processor = load_checkpoint(str(tmp_path / "out"))
    assert model.config.calibration_temperature == results["temperature"] != 1
    assert model.config.thresholds == results["thresholds"]
    told = "test: with the thresholds that validation chose (threshold='best'), F1 is "
    told += f"{100 * results['test']['thresholded_f1']:.2f}."
    for thresholds, is_told in (({"PER": 0.5}, True), ({}, False)):
        run.results["calibration"] = {**results, "thresholds": thresholds}
        assert (told in runs_summary([run])) == is_told
    # The pipeline has the scores that were calibrated, before and after.
    for when, temperature in (("after", results["temperature"]), ("before", 1.0)):
        model.config.calibration_temperature = temperature
        answers, is_right = [], []
        for row, entities in zip(
            data["test"], IFAformerPipeline(model, processor=processor)(data["test"]), strict=True
        ):
            gold = [(row["tokens"][1], data["test"].features["ner_tags"].feature.names[row["ner_tags"][1]][2:])]
            answers += [entity["score"] for entity in entities]
            is_right += [(entity["word"], entity["entity_group"]) in gold for entity in entities]
        expected = results["test"]["calibration_error"][when]
        assert calibration_error(np.array(answers), np.array(is_right)) == pytest.approx(expected, abs=1e-5)
    readme = (tmp_path / "out" / "README.md").read_text()
    assert f"at the temperature {results['temperature']:.2f}, which was fitted on the validation split" in readme


def test_without_a_test_split(data, processor, new_model, cache_dir, make_arguments, tmp_path):
    two = DatasetDict({split: data[split] for split in ("train", "validation")})
    check_splits(two, "tweets", "ner")
    runs = plan_runs(make_arguments(save_strategy="no", max_steps=2), seeds=[1, 2])
    train_runs(runs, two, processor, new_model, cache_dir=cache_dir)
    for run in runs:
        assert next(iter(run.results)) == "validation" and "test" not in run.results
        assert "| validation |" in (Path(run.arguments.output_dir) / "README.md").read_text()
        assert "test" not in runs_summary([run])
    assert list(json.loads((tmp_path / "out" / "results.json").read_text())["spread"]) == ["validation"]
    with pytest.raises(ValueError, match="tweets has no rows in test, but only in train, validation, test"):
        check_splits({**two, "test": data["test"].select([])}, "tweets", "ner")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_workers_too_lets_the_state_be_saved(train, before_step, tmp_path, number):
    """As `timeout` sends it, to the whole process group."""

    def send_to_all(trainer):
        workers = [str(process.pid) for process in multiprocessing.active_children()]
        assert workers
        # From another process: what this one sends, a worker takes for the end of the training.
        subprocess.run(["kill", "-s", str(int(number)), *workers], check=True)
        time.sleep(0.5)  # in which a worker would end
        os.kill(os.getpid(), number)

    before_step(5, send_to_all)
    with pytest.raises(TrainingStopped, match=f"{number.name} stopped the training after step 5"):
        train(max_steps=12, dataloader_num_workers=1)
    assert (tmp_path / "out" / "checkpoint-5" / "trainer_state.json").exists()


def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(train, weights, before_step, tmp_path):
    """SIGTERM at the last step of an epoch, and amid one: all epochs are evaluated, and the weights are the same."""
    (whole,) = train("whole", **BY_EPOCH)
    for stopped_after in (3, 6, 10):  # six steps an epoch
        before_step(stopped_after, send(signal.SIGTERM))
        with pytest.raises(
            TrainingStopped, match=f"SIGTERM stopped the training after step {stopped_after}"
        ) as stopped:
            train(**BY_EPOCH, resume_from_checkpoint="true")
        assert stopped.value.cause == signal.SIGTERM and "resume_from_checkpoint set to true" in str(stopped.value)
        state = json.loads((tmp_path / "out" / f"checkpoint-{stopped_after}" / "trainer_state.json").read_text())
        assert state["global_step"] == stopped_after
    before_step(0, None)
    with pytest.raises(ValueError, match="belongs to an earlier run"):
        train(**BY_EPOCH)
    (resumed,) = train(**BY_EPOCH, resume_from_checkpoint="true")
    expected, actual = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.allclose(expected[name], actual[name], rtol=1e-5, atol=1e-7) for name in expected)
    assert len(whole.results["validation_f1_by_epoch"]) == 2
    temperatures = [run.results["calibration"]["temperature"] for run in (resumed, whole)]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-3)
    assert resumed.results["validation_f1_by_epoch"] == whole.results["validation_f1_by_epoch"]
    assert resumed.results["train_seconds"] > resumed.results["log_history"][-1]["train_runtime"], "all parts together"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "signals are given back"


def test_an_output_folder_that_is_gone(train, before_step, tmp_path):
    before_step(5, lambda trainer: shutil.rmtree(trainer.args.output_dir))
    with pytest.raises(TrainingStopped, match="is gone, with the checkpoints of this run") as stopped:
        train()
    assert stopped.value.cause is None and "step 5 is saved in a new folder" in str(stopped.value)
    assert checkpoints(tmp_path / "out") == [last_complete_checkpoint(tmp_path / "out")]


def test_weights_that_are_no_numbers_are_no_result(train, monkeypatch, tmp_path):
    create_optimizer = IFAformerTrainer.create_optimizer

    def break_weights(self, *args, **kwargs):
        next(self.model.parameters()).data.fill_(float("nan"))
        return create_optimizer(self, *args, **kwargs)

    monkeypatch.setattr(IFAformerTrainer, "create_optimizer", break_weights)
    with pytest.raises(FloatingPointError, match="weights hold values that are no numbers"):
        train(save_strategy="no", logging_steps=1000, logging_nan_inf_filter=True, max_steps=2)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_out_of_memory(train, before_step):
    def exhaust(trainer):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    before_step(1, exhaust)
    with pytest.raises(MemoryError, match="Halve per_device_train_batch_size and double gradient_accumulation_steps"):
        train()


def test_several_seeds_give_mean_and_deviation(train, weights, tmp_path):
    folder, options = tmp_path / "out", {"max_steps": 4, "save_strategy": "no"}
    runs = train(seeds=[3, 5], **options)
    summary = json.loads((folder / "results.json").read_text())
    results = [json.loads((folder / f"seed-{seed}" / "results.json").read_text()) for seed in (3, 5)]
    assert summary["seeds"] == [3, 5] and summary["runs"] == {"3": "seed-3", "5": "seed-5"}
    losses = [run["log_history"][0]["loss"] for run in results]
    assert losses[0] != losses[1], "the seed changes the weights"
    for split in ("validation", "test"):
        f1 = summary["spread"][split]["f1"]
        assert f1["values"] == [run[split]["f1"] for run in results]
        assert f1["mean"] == pytest.approx(np.mean(f1["values"])) and f1["std"] == np.std(f1["values"], ddof=1)
    best = summary["best_seed"]
    assert f"The best run by validation F1 is in {folder / f'seed-{best}'}" in runs_summary(runs)
    assert "of 2 such runs, with the seeds 3, 5" in (folder / "seed-3" / "README.md").read_text()

    # A run with one seed is the same as that of several.
    train("alone", **options, seed=5)
    expected, alone = weights(folder / "seed-5"), weights(tmp_path / "alone")
    assert all(torch.equal(expected[name], alone[name]) for name in expected)

    # One seed alone has such a folder too, and others can be added later.
    train("more", seeds=[5], **options, resume_from_checkpoint="true")
    one = tmp_path / "more" / "seed-5" / "model.safetensors"
    before = one.stat().st_mtime_ns
    assert not (tmp_path / "more" / "results.json").exists()
    train("more", seeds=[3, 5], **options, resume_from_checkpoint="true")
    assert one.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "more" / "results.json").read_text())["spread"] == summary["spread"]

    # What has ended is not done again, what is missing is.
    with pytest.raises(ValueError, match="belongs to an earlier run"):
        train(seeds=[3, 5], **options)
    shutil.rmtree(folder / "seed-5")
    (folder / "results.json").unlink()
    before = (folder / "seed-3" / "model.safetensors").stat().st_mtime_ns
    train(seeds=[3, 5], **options, resume_from_checkpoint="true")
    assert (folder / "seed-3" / "model.safetensors").stat().st_mtime_ns == before
    assert json.loads((folder / "results.json").read_text()) == summary


def test_a_run_that_has_ended_is_not_done_again(train, make_arguments, tmp_path):
    (first,) = train(max_steps=3)
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    (again,) = train(max_steps=3, resume_from_checkpoint="true")
    assert again.start == "This run has ended." and again.results["test"] == first.results["test"]
    checkpoint = str(tmp_path / "out" / "checkpoint-3")
    (again,) = train(max_steps=3, resume_from_checkpoint=checkpoint)
    assert again.start == "This run has ended."
    with pytest.raises(ValueError, match=r"begun with other settings \(max_steps: 3 before, 12 now\)"):
        train(max_steps=12, resume_from_checkpoint="true")
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    (again,) = plan_runs(make_arguments(resume_from_checkpoint=checkpoint), overwrite=True)
    assert again.start == f"Going on from {checkpoint}."


def test_options_that_cannot_be(train, tmp_path):
    with pytest.raises(ValueError, match="metric_for_best_model must be one of f1, precision, recall, loss, got zzz"):
        train(metric_for_best_model="zzz")
    with pytest.raises(ValueError, match="lr_scheduler_kwargs are not those of the schedule"):
        train(lr_scheduler_kwargs={"zzz": 1})
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be at least 1, got 0"):
        train(gradient_accumulation_steps=0)


@pytest.mark.parametrize("name", ["settings.json", "results.json"])
def test_a_record_of_the_run_that_is_cut_off(train, tmp_path, name):
    train(max_steps=3)
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=rf"{name} is damaged: expected a JSON object"):
        train(max_steps=3, resume_from_checkpoint="true")


def test_a_run_goes_on_as_it_was_begun(
    train, before_step, data, processor, new_model, make_arguments, checkpoint, tmp_path
):
    before_step(4, send(signal.SIGTERM))
    with pytest.raises(TrainingStopped):
        train()
    before_step(0, None)
    folder = tmp_path / "out"
    optimizer = folder / "checkpoint-4" / "optimizer.pt"
    checksums = optimizer.with_name(CHECKSUMS)
    state, written = torch.load(optimizer), {path: path.read_bytes() for path in (optimizer, checksums)}
    state["param_groups"][0]["params"].append(10**4)  # as of a version that trained more of the model
    torch.save(state, optimizer)
    checksums.unlink()
    with pytest.raises(ValueError, match="checkpoint-4: its optimizer holds other weights than this model trains"):
        train(resume_from_checkpoint="true")
    for path, content in written.items():
        path.write_bytes(content)
    others = {"learning_rate": 2e-3, "seed": 1, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    for name, value in others.items():
        with pytest.raises(ValueError, match=rf"{name}: .* before, {value} now\). Go on with the settings of before"):
            train(**{name: value}, resume_from_checkpoint="true")

    def go_on(rows=data, model=new_model, record=None, modality_dropout=0.3):
        noise = {"mask_probability": 0.2, "modality_dropout": modality_dropout}
        runs = plan_runs(make_arguments(resume_from_checkpoint="true", **noise))
        train_runs(runs, rows, processor, model, record=record)

    def blind_model():
        model = new_model()
        model.config.text_attends_vision = False
        return model

    with pytest.raises(ValueError, match=r"\(text_attends_vision: True before, False now\)"):
        go_on(model=blind_model)
    with pytest.raises(ValueError, match=r"\(modality_dropout: 0\.3 before, 0\.5 now\)"):
        go_on(modality_dropout=0.5)
    other = DatasetDict({**data, "train": data["train"].select([*range(1, 24), 0])})
    with pytest.raises(ValueError, match=r"\(other features of train\)"):
        go_on(other)
    with pytest.raises(ValueError, match=r"\(other model\)"):
        go_on(record={"model": {"model": checkpoint}})
    (folder / "settings.json").rename(tmp_path / "kept")
    with pytest.raises(ValueError, match="out does not say with which settings its run was begun"):
        go_on()
    (tmp_path / "kept").rename(folder / "settings.json")
    train(resume_from_checkpoint="true", logging_steps=2, save_total_limit=2, per_device_eval_batch_size=2)


@pytest.mark.parametrize("damaged_steps", [(12,), (6, 12)])
def test_a_best_epoch_that_the_disk_has_changed_is_not_used(train, monkeypatch, tmp_path, damaged_steps):
    save = IFAformerTrainer._save_checkpoint

    def save_and_damage(self, *args):
        save(self, *args)
        if self.state.global_step in damaged_steps:
            path = tmp_path / "out" / f"checkpoint-{self.state.global_step}" / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-4] + b"else")

    monkeypatch.setattr(IFAformerTrainer, "_save_checkpoint", save_and_damage)
    if len(damaged_steps) == 2:
        with pytest.raises(
            OSError, match=r"no epoch can be used: the content of model.safetensors in .*checkpoint-12"
        ):
            train(**BY_EPOCH)
        return
    (run,) = train(**{**BY_EPOCH, "save_total_limit": 2})
    assert run.results["best_checkpoint"].endswith("checkpoint-6")
    assert run.results["validation"]["f1"] == run.results["validation_f1_by_epoch"][0]


def test_an_earlier_run_stays_until_all_is_ready_for_the_new_one(train, tmp_path):
    train(max_steps=3)

    def refused():
        raise ValueError("no such model")

    for message, options in (
        ("label_smoothing", {"label_smoothing_factor": 0.1}),
        ("no such", {"new_model": refused}),
    ):
        with pytest.raises(ValueError, match=message):
            train(max_steps=6, overwrite=True, **options)
        assert (tmp_path / "out" / "results.json").exists() and (tmp_path / "out" / "checkpoint-3").exists()
    train(max_steps=6, overwrite=True, save_strategy="no")
    assert not checkpoints(tmp_path / "out")


def test_an_argument_that_would_replace_the_loss_of_the_crf(train):
    with pytest.raises(ValueError, match=r"label_smoothing_factor is 0\.1, but an entity model learns by the loss of"):
        train(label_smoothing_factor=0.1)


@pytest.mark.parametrize(
    ("tail_first", "swap_probability", "searched", "is_told"),
    [
        (0, 0.0, None, True),
        (0, 0.01, None, True),
        (0, 0.5, None, False),
        (2, 0.0, None, False),
        (0, 0.0, 0.5, False),
        (0, 0.5, 0.0, True),
    ],
)
def test_rows_whose_order_gives_relations_away(
    relations, towers, cache_dir, make_arguments, caplog, tmp_path, tail_first, swap_probability, searched, is_told
):
    first, last = {"name": "so", "start": 0, "end": 1}, {"name": "again", "start": 2, "end": 3}
    pairs = [(last, first) if row < tail_first or row == 23 else (first, last) for row in range(24)]
    rows = relations.remove_columns(["head", "tail", "relation"])
    for name, values in zip(("head", "tail"), zip(*pairs, strict=True), strict=True):
        rows = rows.add_column(name, list(values))
    kinds = ClassLabel(names=["None", "in"])
    rows = rows.add_column("relation", [int(row > 21) for row in range(24)], feature=kinds)
    processor = build_processor(rows, **towers, aux_crop_size=8, rcnn_crop_size=8)

    by_step = {"max_steps": 1, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 1}

    def train(**options):
        train_runs(
            plan_runs(make_arguments(swap_probability=swap_probability, **by_step, **options)),
            DatasetDict(train=rows, validation=rows.select(range(4))),
            processor,
            lambda: build_model(processor, **towers),
            cache_dir=cache_dir,
            search=None if searched is None else Search(1, {"swap_probability": [searched]}),
        )

    train()
    told = "The tail comes first in 0 of 22 training pairs without relation, and in 1 of 2 with one."
    assert (told in caplog.text) == ("comes first" in caplog.text) == is_told
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results.get("seldom_first") == ("tail" if is_told else None)
    caplog.clear()
    train(resume_from_checkpoint="true")  # The run has ended, and needs no advice.
    assert "comes first" not in caplog.text


def test_rows_without_pictures_need_no_vision_tower(data, towers, cache_dir, make_arguments, caplog):
    by_step = {"max_steps": 1, "save_strategy": "no", "eval_strategy": "steps", "eval_steps": 1}

    def train(data, folder, looks):
        options = {**towers, "text_attends_vision": looks}
        processor = build_processor(data["train"], **options, aux_crop_size=8, rcnn_crop_size=8)
        runs = plan_runs(make_arguments(folder, **by_step))
        options["vision_model"] = None if looks else "no/where"
        record = {"model": options}
        new_model = partial(build_model, processor, **options)
        train_runs(runs, data, processor, new_model, with_pictures=looks, cache_dir=cache_dir, record=record)
        assert runs[0].results["arguments"]["model"]["vision_model"] is None
        return "No training row has what the model looks at (image, aux_crops, rcnn_crops)" in caplog.text

    assert not train(data, "pictures", looks=True)
    image = data["train"].features["image"]
    data = DatasetDict(
        {
            split: rows.remove_columns("image").add_column("image", [None] * len(rows), feature=image)
            for split, rows in data.items()
        }
    )
    assert not train(data, "alone", looks=False)
    assert train(data, "without", looks=True)


def test_a_swap_that_cannot_be_is_refused_before_anything_is_done(
    data, processor, new_model, make_arguments, tmp_path
):
    with pytest.raises(ValueError, match="swap_probability is for models for relations, and this one finds entities"):
        train_runs(plan_runs(make_arguments(swap_probability=0.5)), data, processor, new_model)
    assert not list((tmp_path / "out").glob("settings.json"))


def test_data_that_cannot_be_trained_on(data):
    check_splits(data, "tweets", "ner")
    with pytest.raises(ValueError, match="The task re needs the column relation"):
        check_splits(data, "tweets", "re")
    with pytest.raises(ValueError, match="tweets has no rows in validation, but only in train, test"):
        check_splits({"train": data["train"], "test": data["test"]}, "tweets", "ner")


@pytest.fixture
def adapted(processor, new_model, tmp_path):
    """Makes a new model with adapters, which starts from a trained one."""
    new_model().save_pretrained(tmp_path / "start")
    processor.save_pretrained(tmp_path / "start")
    return lambda: build_model(processor, model=str(tmp_path / "start"), lora={"rank": 2})


def test_a_run_with_adapters_ends_with_the_merged_model_and_with_the_adapter(
    train, adapted, features, data, weights, tmp_path
):
    rates = {"adapter_learning_rate": 3e-2, "text_learning_rate": 1e-3, "vision_learning_rate": 1e-3}
    train(**BY_EPOCH, new_model=adapted, max_steps=24, **rates)
    out, start = tmp_path / "out", str(tmp_path / "start")
    assert {path.name for path in (out / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    results = json.loads((out / "results.json").read_text())
    trained, whole = adapted().get_nb_trainable_parameters()
    assert results["num_trainable_parameters"] == trained
    merged, processor = load_checkpoint(str(out))
    assert results["num_parameters"] == merged.num_parameters() < whole

    # Its scores are those of the model that is saved, which is the base with its adapter.
    scores = score_checkpoints({"run": (merged, processor)}, data["test"])["run"]
    assert scores["f1"] == results["test"]["f1"]
    with_peft = PeftModel.from_pretrained(adapter_base(str(out), start, start), str(out / "adapter")).eval()
    batch = processor.data_collator([features["test"][row] for row in range(6)])
    with torch.no_grad():
        expected, actual = with_peft(**batch).logits, merged.eval()(**batch).logits
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4)
    before, after = weights(tmp_path / "start"), weights(out)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {name for name in changed if ".layer" in name}
    assert changed - layers == {  # These rows have no crops, whose positions would change too.
        *("classifier.weight", "classifier.bias"),
        *(f"crf.{name}" for name in ("transitions", "start_transitions", "end_transitions")),
    }
    assert layers and all(name.endswith(".weight") and "norm" not in name.lower() for name in layers)
    best = results["best_checkpoint"]
    kept = load_file(Path(best, "adapter_model.safetensors"))
    saved = load_file(out / "adapter" / "adapter_model.safetensors")
    assert all(torch.equal(kept[name], saved[name]) for name in kept), "those of the best epoch"

    # Another run in its place, without adapters, leaves none there.
    train(save_strategy="no", max_steps=1, overwrite=True)
    assert not (out / "adapter").exists()


def test_a_run_with_adapters_goes_on_as_if_it_had_not_been_stopped(
    train, adapted, processor, before_step, weights, tmp_path
):
    (whole,) = train("whole", **BY_EPOCH, new_model=adapted)
    before_step(8, send(signal.SIGTERM))
    with pytest.raises(TrainingStopped, match="SIGTERM stopped the training after step 8"):
        train(**BY_EPOCH, new_model=adapted)
    before_step(0, None)
    assert not (tmp_path / "out" / "checkpoint-8" / "model.safetensors").exists(), "a checkpoint is the adapter alone"
    for lora in ({"rank": 4}, None):
        other = partial(build_model, processor, model=str(tmp_path / "start"), lora=lora)
        with pytest.raises(ValueError, match=r"begun with other settings \(.*lora"):
            train(**BY_EPOCH, new_model=other, resume_from_checkpoint="true")
    (resumed,) = train(**BY_EPOCH, new_model=adapted, resume_from_checkpoint="true")
    expected, actual = weights(tmp_path / "whole"), weights(tmp_path / "out")
    assert all(torch.allclose(expected[name], actual[name], rtol=1e-4, atol=1e-6) for name in expected)
    assert resumed.results["validation_f1_by_epoch"] == whole.results["validation_f1_by_epoch"]


def test_adapters_cannot_be_merged_into_a_model_that_is_cut_up(train, adapted, monkeypatch):
    make = IFAformerTrainer.__init__

    def with_fsdp(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.is_fsdp_enabled = True

    monkeypatch.setattr(IFAformerTrainer, "__init__", with_fsdp)
    with pytest.raises(ValueError, match=r"Adapters \(lora\) cannot be merged into a model that FSDP"):
        train(new_model=adapted)
