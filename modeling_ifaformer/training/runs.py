"""Runs of training, one or one for each seed: each trains, is scored on both splits, and keeps its results."""

import gc
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from datasets import DatasetDict
from transformers import PreTrainedModel, set_seed

from hub_card.model_card import save_model_card
from hub_card.model_facts import ModelFacts
from modeling_ifaformer.checkpoints.adapters import FOLDER, adapter_settings, has_adapters
from processing.columns import PICTURE_COLUMNS
from processing.context import CONTEXT
from processing.data.tasks import check_task
from processing.inspection.statistics import has_pictures, seldom_first, split_statistics
from processing.jobs.atomic_files import write_json
from processing.jobs.digests import checkpoint_digest, file_digest, rows_digest
from processing.processing_ifaformer import IFAformerProcessor
from processing.scoring.results_table import out_of_reach, results_table, scores_by_split, spread
from processing.scoring.splits import Split

from .arguments import IFAformerTrainingArguments, check_arguments
from .hardware import hardware, versions
from .planning import Run
from .run_folder import GO_ON, RESULTS, SETTINGS, check_settings, released, remove_stale, run_settings
from .scoring import calibrate, logits_and_answers
from .search import Search, find_options
from .stopping import StopAndSave, Stopwatch, TrainingStopped
from .trainer import WRITE_ERRORS, IFAformerTrainer


logger = logging.getLogger(__name__)


def check_splits(data: DatasetDict, name: str, task: str) -> None:
    """
    Check that the data can be trained on.

    Args:
        name: what a message calls the data.
        task: "ner" or "re".

    Raises:
        ValueError: for data without the answers of the task, or without a split that training needs.
    """
    needed = ("train", "validation", *(["test"] if "test" in data else []))
    missing = [split for split in needed if not data.get(split)]
    if missing:
        raise ValueError(
            f"{name} has no rows in {', '.join(missing)}, but only in {', '.join(data) or 'no split'}. Training "
            "learns from train, chooses the epoch on validation and, where there is one, scores test once. Give a "
            "file for each of them."
        )
    check_task(data, name, task)


def train_runs(
    runs: Sequence[Run],
    data: DatasetDict,
    processor: IFAformerProcessor,
    new_model: Callable[[], PreTrainedModel],
    *,
    with_pictures: bool = True,
    search: Search | None = None,
    cache_dir: str | None = None,
    num_proc: int | None = None,
    record: Mapping[str, Any] | None = None,
) -> Run:
    """
    Prepare features, train each run that has not ended, and score its best epoch on the validation split and, where
    there is one, on the test split, the latter once.

    Each run's folder then has model, processor, results and card. Of several runs, the folder above them has what they
    have in common, and their own results and cards tell of it.

    Args:
        runs: as [`plan_runs`] gives them.
        data: rows as `load_data` gives them, with the splits `train`, `validation` and maybe `test`.
        processor: as [`build_processor`] makes it.
        new_model: makes a new model for the processor.
        with_pictures: False leaves them out, for models that do not look at them.
        search: a search for training options, for all runs, before the first.
        cache_dir, num_proc: as for `prepare_features`.
        record: what `results.json` and the card also tell: the `recipe`, and the options of `data` and `model`.

    Returns:
        The run with the best F1 on the validation split.

    Raises:
        TrainingStopped: where a signal stopped the training or its folder is gone, after the state was saved.
        FloatingPointError: where training has diverged.
        MemoryError: where a device's memory does not suffice; it says what to do.
        OSError: where a checkpoint or the model cannot be written.
        ValueError: for a row that cannot be used; for training arguments that do not suit the processor, see
            [`check_arguments`], or that choose the best epoch by a metric that there is not; for adapters with FSDP or
            DeepSpeed; for a run that was begun with other settings; where no trial of a search came to its end.
    """
    with released(runs[0].claims):
        arguments = runs[0].arguments
        check_arguments(search.at_most(arguments) if search is not None else arguments, processor)
        _check_metric(arguments, processor)
        facts = _facts(record or {}) | {"statistics": {name: split_statistics(rows) for name, rows in data.items()}}
        is_begun = all(run.results or run.resume for run in runs)  # and needs no advice
        is_told = arguments.process_index == 0 and not is_begun
        looked_at = [column for column, limit in processor.picture_limits.items() if limit] if with_pictures else []
        if looked_at and is_told and not has_pictures(facts["statistics"]["train"], looked_at):
            logger.warning(
                f"No training row has what the model looks at ({', '.join(looked_at)}), so that it learns nothing of "
                "pictures. A model that reads texts alone, without a vision tower, is IFAformer with "
                "text_attends_vision set to false."
            )
        if not with_pictures:
            data = data.remove_columns(list(PICTURE_COLUMNS))
        with arguments.main_process_first(desc="preparing features"):
            splits = {
                name: Split(rows, processor, cache_dir=cache_dir, num_proc=num_proc) for name, rows in data.items()
            }

        if getattr(processor, "max_context_length", None) and CONTEXT not in data["train"].column_names:
            logger.warning("max_context_length has no effect on this training: its rows have no column context.")

        def make_trainer(arguments: IFAformerTrainingArguments, **model: Any) -> IFAformerTrainer:
            return IFAformerTrainer(
                **model,
                args=arguments,
                train_dataset=splits["train"].features,
                eval_dataset=splits["validation"].features,
                processing_class=processor,
                compute_metrics=lambda prediction: {
                    name: value
                    for name, value in splits["validation"].score(prediction.predictions).items()
                    if name != "per_type"
                },
            )

        if any(run.stale for run in runs):
            new_model()  # What it refuses is said before an earlier run is removed.
        if arguments.process_index == 0:
            remove_stale([path for run in runs for path in run.stale])
        if search is not None:
            of_trials = copy(arguments)
            of_trials.output_dir = str(runs[0].common_folder)
            found = find_options(search, lambda arguments: make_trainer(arguments, model_init=new_model), of_trials)
            for run in runs:
                for name, value in found.items():
                    setattr(run.arguments, name, value)
            facts["search"] = {"trials": search.trials, "options": [*found]}
        of_train, negative = facts["statistics"]["train"], processor.negative_relation
        seldom = negative and seldom_first(of_train, negative, arguments.swap_probability)
        if seldom:
            facts["seldom_first"] = seldom
            if is_told:
                _warn_of_one_order(of_train, processor, seldom)
        contents = _digests(splits, facts["arguments"]["model"])
        for run in runs:
            set_seed(run.arguments.seed)
            model = new_model()
            settings = run_settings(run.arguments, model.config, contents | {"lora": adapter_settings(model)})
            if run.results or run.resume is not None:
                begun = run.resume.parent if run.resume is not None else str(run.arguments.output_dir)
                check_settings(begun, settings, contents)
            if run.results:
                continue
            if run.arguments.process_index == 0:
                write_json(settings, Path(str(run.arguments.output_dir)) / SETTINGS)
            try:
                trainer = make_trainer(run.arguments, model=model)
                if has_adapters(model) and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
                    raise ValueError(
                        "Adapters (lora) cannot be merged into a model that FSDP or DeepSpeed has cut up. Launch with "
                        "scripts/accelerate/ddp_8_gpus.yaml, which leaves it whole, or leave lora out."
                    )
                run.results = _train(run, trainer, splits, facts)
            except torch.OutOfMemoryError as error:
                raise MemoryError(
                    f"The memory of the device does not suffice: {error} Halve per_device_train_batch_size and double "
                    "gradient_accumulation_steps, which trains nearly the same. If it happened in scoring, halve "
                    f"per_device_eval_batch_size. If there is a checkpoint: {GO_ON}"
                ) from error
            del trainer, model  # before the next ones are made
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
        if len(runs) > 1 and arguments.process_index == 0:
            _write_common(runs, runs[0].common_folder)
        arguments.distributed_state.wait_for_everyone()
        return best_run(runs)


def best_run(runs: Sequence[Run]) -> Run:
    """The run with the best F1 on the validation split, of runs that have ended."""
    return max(runs, key=lambda run: run.results["validation"]["f1"])


def runs_summary(runs: Sequence[Run]) -> str:
    """The scores of runs that have ended, as text: those of one run, or mean and deviation of several."""
    best = best_run(runs)
    if len(runs) == 1:
        scores = scores_by_split(best.results)
        split, last = list(scores.items())[-1]
        calibration = best.results.get("calibration", {})
        told = f"{results_table(scores)}\n{split}: {out_of_reach(last)}."
        if calibration.get("thresholds"):
            f1 = calibration[split]["thresholded_f1"]
            told += f"\n{split}: with the thresholds that validation chose (threshold='best'), F1 is {100 * f1:.2f}."
        return told
    seeds = ", ".join(str(run.arguments.seed) for run in runs)
    return (
        f"{results_table(spread([run.results for run in runs]))}\n"
        f"These are mean and standard deviation over the seeds {seeds}. The best run by validation F1 is in "
        f"{best.arguments.output_dir}."
    )


def _check_metric(arguments: IFAformerTrainingArguments, processor: IFAformerProcessor) -> None:
    """Refuse to look for the best epoch by a metric that the evaluation of an epoch does not give."""
    metrics = ["f1", "precision", "recall", "loss", *(["accuracy"] if processor.relations is not None else [])]
    metric = arguments.metric_for_best_model
    if metric is not None and metric.removeprefix("eval_") not in metrics:
        raise ValueError(f"metric_for_best_model must be one of {', '.join(metrics)}, got {metric}.")


def _warn_of_one_order(statistics: Mapping[str, Any], processor: IFAformerProcessor, seldom: str) -> None:
    orders = [statistics[f"{seldom}_first"], statistics["head_first" if seldom == "tail" else "tail_first"]]
    unrelated = [counts.get(processor.negative_relation, 0) for counts in orders]
    related = [sum(counts.values()) - number for counts, number in zip(orders, unrelated, strict=True)]
    scheme = "the label scheme word and " if processor.label_scheme == "deepke" else ""
    logger.warning(
        f"The {seldom} comes first in {unrelated[0]} of {sum(unrelated)} training pairs without relation, and in "
        f"{related[0]} of {sum(related)} with one. A model learns this, and may find a relation in any pair in which "
        f"the {seldom} comes first, whatever the text says. To find relations between the names of a tagger, which "
        f"asks in both directions, train with {scheme}swap_probability 0.5. To read rows whose entities stand in the "
        "same order as here, nothing needs to be done (docs/relations.md)."
    )


def _digests(splits: Mapping[str, Split], options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of what runs learn from, by name: of features, and of the files that the options of the model name."""
    digests = {f"features of {name}": rows_digest(split.features) for name, split in splits.items()}
    for name in ("model", "text_model", "vision_model"):
        digests[name] = checkpoint_digest(options[name]) if options.get(name) else ""
    if options.get("word_vectors"):
        digests["word_vectors"] = file_digest(options["word_vectors"])
    return digests


def _facts(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run. Folders have absolute paths in it, which cannot be taken for names on the Hub."""
    options = {part: dict(record.get(part, {})) for part in ("data", "model")}
    if options["model"].get("model"):  # It took the place of towers.
        options["model"] |= dict.fromkeys(("text_model", "vision_model", "text_config", "vision_config"))
    elif options["model"].get("text_attends_vision") is False:
        options["model"]["vision_model"] = None  # Nothing of it is in the model.
    named = {"data": ("dataset",), "model": ("model", "text_model", "vision_model", "word_vectors")}
    for part, name in ((part, name) for part, names in named.items() for name in names):
        value = options[part].get(name)
        if value and Path(value).exists():
            options[part][name] = str(Path(value).absolute())
    return {"arguments": options, "recipe": record.get("recipe")}


def _train(
    run: Run, trainer: IFAformerTrainer, splits: Mapping[str, Split], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Train and score; the results, which then lie in the run's folder beside model, processor and card."""
    stop, stopwatch = StopAndSave(trainer), Stopwatch(run.resume)
    trainer.add_callback(stop)
    trainer.add_callback(stopwatch)
    try:
        training = trainer.train(resume_from_checkpoint=str(run.resume) if run.resume else None)
        trainer.check_weights()
    except TrainingStopped:
        trainer.accelerator.wait_for_everyone()
        trainer.end()
        raise
    finally:
        stop.restore_signals()
    seconds = stopwatch.seconds  # without those of scoring
    model: Any = trainer.model
    num_trained = model.num_parameters(only_trainable=True)  # before these are merged into the others
    adapter_folder = Path(str(run.arguments.output_dir), FOLDER)
    if trainer.is_world_process_zero():
        shutil.rmtree(adapter_folder, ignore_errors=True)  # of an earlier run
    if has_adapters(model):
        _save_or_explain(lambda: trainer.save_and_merge_adapters(adapter_folder))
    trainer.compute_metrics = None
    trainer.preprocess_logits_for_metrics = logits_and_answers  # type: ignore[assignment]
    predictions: dict[str, Any] = {
        name: trainer.predict(splits[name].features) for name in ("test", "validation") if name in splits
    }
    answers = {name: of.predictions[1] for name, of in predictions.items()}
    metrics = {name: splits[name].score(answers[name]) for name in answers}
    # Before the model is saved with its temperature.
    calibration = calibrate(trainer.model, splits, predictions, metrics)
    _save_or_explain(trainer.save_model)
    model = trainer.model
    unused = None if model.config.text_attends_vision else model.towers().get("vision")
    log_history = trainer.state.log_history
    results = {
        **metrics,
        "validation_f1_by_epoch": [entry["eval_f1"] for entry in log_history if "eval_f1" in entry],
        "best_checkpoint": trainer.state.best_model_checkpoint,
        "calibration": calibration,
        "seed": run.arguments.seed,
        # Without those of a vision tower that is not looked at.
        "num_parameters": model.num_parameters() - (unused.num_parameters() if unused is not None else 0),
        "num_trainable_parameters": num_trained,
        "train_seconds": seconds,
        # That of this call alone would not be that of the whole run.
        "train_samples_per_second": None if run.resume else training.metrics["train_samples_per_second"],
        "mixed_precision": trainer.accelerator.mixed_precision,
        "hardware": hardware(run.arguments),
        "versions": versions(),
        **facts,
        "unusable_pictures": {name: split.unusable_pictures for name, split in splits.items()},
        "arguments": {**facts["arguments"], "training": run.arguments.to_sanitized_dict()},
        "confusion": {name: splits[name].confusion(answers[name]) for name in answers},
        "log_history": log_history,
    }
    if trainer.is_world_process_zero():
        _write_run(results, run.arguments.output_dir)
    trainer.accelerator.wait_for_everyone()
    return results


def _save_or_explain(save: Callable[[], Any]) -> None:
    try:
        save()
    except WRITE_ERRORS as error:
        raise OSError(f"The trained model was not written: {error}. Free space. {GO_ON}") from error


def _write_run(results: dict[str, Any], output_dir: str) -> None:
    """Write results and card beside the saved model."""
    write_json(results, Path(output_dir) / RESULTS)
    config = json.loads((Path(output_dir) / "config.json").read_bytes())
    save_model_card(ModelFacts(results, config), output_dir)


def _write_common(runs: Sequence[Run], output_dir: Path) -> None:
    """Write what runs with several seeds have in common: above them, and in their results and cards."""
    folders = {run.arguments.seed: Path(run.arguments.output_dir).name for run in runs}
    common = {"spread": spread([run.results for run in runs]), "seeds": list(folders)}
    for run in runs:
        _write_run({**run.results, **common}, run.arguments.output_dir)
    write_json({**common, "best_seed": best_run(runs).arguments.seed, "runs": folders}, output_dir / RESULTS)
