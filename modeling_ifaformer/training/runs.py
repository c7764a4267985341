"""Runs of training: one, or one for each seed."""

import json
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from transformers.trainer_utils import HubStrategy

from hub_card.model_card import save_model_card
from hub_card.model_facts import ModelFacts
from hub_card.sharing.model_folder import push_model
from hub_card.sharing.upload import NotPushed, check_destination, make_repository
from processing.data.tasks import check_task
from processing.jobs.atomic_files import write_json
from processing.scoring.results_table import out_of_reach, results_table, spread_table
from processing.scoring.seeds import spread
from processing.scoring.splits import Split

from .arguments import IFAformerTrainingArguments
from .hardware import hardware
from .run_folder import RESULTS, TRIALS, checkpoint_to_resume, checkpoints, remove_incomplete_checkpoints
from .stopping import StopAndSave, Stopped, Stopwatch
from .trainer import GO_ON, WRITE_ERRORS, IFAformerTrainer


logger = transformers.utils.logging.get_logger("train")


def check_splits(data: datasets.DatasetDict, name: str, task: str) -> None:
    """
    Raises:
        SystemExit: for data without the answers of the task, or without a split that training needs.
    """
    missing = [split for split in ("train", "validation", "test") if not data.get(split)]
    if missing:
        raise SystemExit(
            f"{name} has no rows in {', '.join(missing)}; there are {', '.join(data)}. Training fits train, chooses "
            "the epoch on validation and scores test once: give a file for each."
        )
    check_task(data, name, task)


def prepare_output_dir(arguments: IFAformerTrainingArguments) -> Path | None:
    """
    Remove half-written checkpoints, and with `overwrite_output_dir` the earlier run; the checkpoint to go on from.

    Raises:
        SystemExit: for a folder with an earlier run, where nothing was said of it.
    """
    try:
        resume = checkpoint_to_resume(
            arguments.output_dir, arguments.resume_from_checkpoint, arguments.overwrite_output_dir
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if arguments.process_index == 0:
        for path in remove_incomplete_checkpoints(arguments.output_dir):
            logger.warning(f"{path} was half-written and has been removed.")
        if resume is None and arguments.overwrite_output_dir:
            for path in checkpoints(arguments.output_dir):
                shutil.rmtree(path)
            for name in (RESULTS, TRIALS):
                (Path(arguments.output_dir) / name).unlink(missing_ok=True)
    return resume


@dataclass
class Run:
    """
    Attributes:
        arguments: of this run, with its seed and output folder.
        resume: the checkpoint to go on from.
        results: where it has ended already.
    """

    arguments: IFAformerTrainingArguments
    resume: Path | None = None
    results: dict[str, Any] | None = None

    @property
    def start(self) -> str:
        """Where it begins, in words."""
        if self.results is not None:
            return "it has ended."
        if self.resume is not None:
            return f"going on from {self.resume}."
        return "there is no whole checkpoint: starting at the beginning."


def plan_runs(arguments: IFAformerTrainingArguments) -> list[Run]:
    """
    The run, or one for each of the `seeds` in a folder of its own. One that has ended is not done again where earlier
    runs are gone on with.

    Raises:
        SystemExit: for seeds that make no sense; and as [`prepare_output_dir`].
    """
    if arguments.seeds is None:
        return [Run(arguments, prepare_output_dir(arguments))]
    if len(arguments.seeds) < 2 or len(set(arguments.seeds)) < len(arguments.seeds):
        raise SystemExit(f"--seeds needs several seeds that differ, got {arguments.seeds}; for one run use --seed.")
    go_on = (arguments.resume_from_checkpoint or "false").lower()
    if go_on not in ("true", "false"):
        raise SystemExit(f"With --seeds, --resume_from_checkpoint is true or false, got {go_on}: each has its own.")
    prepare_output_dir(arguments)
    runs = []
    for seed in arguments.seeds:
        of_seed = copy(arguments)
        of_seed.seed = seed
        of_seed.output_dir = str(Path(arguments.output_dir) / f"seed-{seed}")
        run = Run(of_seed, prepare_output_dir(of_seed))
        path = Path(of_seed.output_dir) / RESULTS
        if go_on == "true" and path.exists():
            run.results = json.loads(path.read_bytes())
        runs.append(run)
    return runs


def fit(trainer: IFAformerTrainer, resume: Path | None) -> dict[str, float]:
    """
    Train; the metrics of the training.

    Raises:
        SystemExit: with status 143 where SIGTERM stopped it, 130 where SIGINT did; with a message where the output
            folder is gone.
        FloatingPointError, OSError, torch.OutOfMemoryError: see [`explained_errors`].
    """
    stop, stopwatch = StopAndSave(trainer), Stopwatch(resume)
    trainer.add_callback(stop)
    trainer.add_callback(stopwatch)
    try:
        training = trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        trainer.check_weights()
    except Stopped:
        step, folder = trainer.state.global_step, trainer.args.output_dir
        trainer.accelerator.wait_for_everyone()
        trainer.end()
        if stop.folder_is_gone:
            raise SystemExit(
                f"{folder} is gone, with the checkpoints of this run: was it removed, or its disk taken away? The "
                f"state of step {step} is saved in a new folder of that name. Put the old one back if you can; then "
                f"{GO_ON}."
            ) from None
        if trainer.is_world_process_zero():
            cause = signal.SIGTERM if stop.received is None else stop.received  # None where another process got it
            print(f"Stopped by {cause.name} after step {step}, which is saved: {GO_ON}.")
        raise SystemExit(128 + (stop.received or signal.SIGTERM)) from None
    finally:
        stop.restore_signals()
    return {**training.metrics, "train_runtime": stopwatch.seconds}


@contextmanager
def explained_errors() -> Iterator[None]:
    """
    Raises:
        SystemExit: where training or scoring cannot go on, with what to do.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SystemExit(
            f"Out of memory: {error} Halve --per_device_train_batch_size and double --gradient_accumulation_steps, "
            f"which trains the same, and where it was in scoring halve --per_device_eval_batch_size; {GO_ON}, if "
            "there is a checkpoint."
        ) from error
    except (FloatingPointError, OSError) as error:
        raise SystemExit(str(error)) from error


def train(run: Run, trainer: IFAformerTrainer, splits: dict[str, Split], facts: dict[str, Any]) -> dict[str, Any]:
    """
    Train, and score the best epoch on both splits, the test split once. Model, processor, results and card lie in the
    run's folder then.

    Args:
        facts: what is recorded besides of what the run is made of.
    """
    training_metrics = fit(trainer, run.resume)
    trainer.compute_metrics = None
    results: dict[str, Any] = {"confusion": {}}
    for name in ("validation", "test"):
        answers = trainer.predict(splits[name].features).predictions
        results[name] = splits[name].score(answers)
        results["confusion"][name] = splits[name].confusion(answers)
    try:
        trainer.save_model()
    except WRITE_ERRORS as error:
        raise OSError(f"The trained model was not written: {error}. Free space, then {GO_ON}.") from error
    log_history = trainer.state.log_history
    results |= {
        "validation_f1_by_epoch": [entry["eval_f1"] for entry in log_history if "eval_f1" in entry],
        "best_checkpoint": trainer.state.best_model_checkpoint,
        "log_history": log_history,
        "train_seconds": training_metrics["train_runtime"],
        # of this call alone, if the run was gone on with
        "train_samples_per_second": None if run.resume else training_metrics["train_samples_per_second"],
        "mixed_precision": trainer.accelerator.mixed_precision,
        "hardware": hardware(run.arguments),
        "num_parameters": trainer.model.num_parameters(),
        "seed": run.arguments.seed,
        **facts,
    }
    results["arguments"] = {**facts["arguments"], "training": run.arguments.to_sanitized_dict()}
    if trainer.is_world_process_zero():
        write_run(results, run.arguments.output_dir)
    trainer.accelerator.wait_for_everyone()
    return results


def write_run(results: dict[str, Any], output_dir: str) -> None:
    """Its results and its card, beside the saved model."""
    write_json(results, Path(output_dir) / RESULTS)
    config = json.loads((Path(output_dir) / "config.json").read_bytes())
    save_model_card(ModelFacts(results, config), output_dir)


def prepare_push(arguments: IFAformerTrainingArguments) -> None:
    """
    Before the work: make the repository, and write its whole name into the arguments.

    Raises:
        SystemExit: where it cannot be made, or the options do not fit.
    """
    strategy = HubStrategy(arguments.hub_strategy)
    if strategy != HubStrategy.END:
        # The Trainer would publish training_args.bin and logs as well, with paths of this machine and the token.
        raise SystemExit(f"--hub_strategy is end alone, got {strategy.value}: pushed is what is trained.")
    if arguments.hub_revision is not None:
        raise SystemExit("--hub_revision: models are pushed to the main branch; name a repository of its own instead.")
    name = arguments.hub_model_id or Path(arguments.output_dir).absolute().name
    again = shlex.join(["accelerate", "launch", *sys.argv])
    if arguments.hub_token:
        again = again.replace(arguments.hub_token, "TOKEN")
    try:
        check_destination(name, arguments.hub_token)
        repository = make_repository(
            name, "model", private=bool(arguments.hub_private_repo), token=arguments.hub_token
        )
    except NotPushed as error:
        raise SystemExit(f"{error} The command is:\n{again}") from error
    arguments.hub_model_id = repository.repo_id


def push(folder: Path, arguments: IFAformerTrainingArguments) -> None:
    """
    Raises:
        SystemExit: where it fails, with the command that pushes what is trained.
    """
    name = arguments.hub_model_id
    private = ["--private", "true"] if arguments.hub_private_repo else []
    again = shlex.join(
        [
            "python",
            str(Path(__file__).parents[2] / "scripts" / "push_to_hub.py"),
            "--model",
            str(folder),
            "--repo_id",
            name,
            *private,
        ]
    )
    print(f"The model is trained, and saved in {folder}.")
    try:
        pushed = push_model(folder, name, private=bool(arguments.hub_private_repo), token=arguments.hub_token)
    except NotPushed as error:
        raise SystemExit(f"{error} The command is:\n{again}") from error
    print(f"Pushed: {pushed.url}")


def conclude(runs: list[Run], arguments: IFAformerTrainingArguments) -> Run:
    """
    Print the results; of several seeds, write what they have in common, to a file beside theirs, to theirs and to
    their cards. The best run by validation F1.
    """
    results = {run.arguments.seed: run.results for run in runs}
    best = max(runs, key=lambda run: run.results["validation"]["f1"])
    if len(runs) == 1:
        print(results_table({split: best.results[split] for split in ("validation", "test")}))
        print(f"test: {out_of_reach(best.results['test'])}.")
    else:
        common = {"seeds": list(results), "spread": spread(list(results.values()))}
        for run in runs:
            write_run({**run.results, **common}, run.arguments.output_dir)
        folders = {run.arguments.seed: Path(run.arguments.output_dir).name for run in runs}
        summary = {**common, "best_seed": best.arguments.seed, "runs": folders}
        write_json(summary, Path(arguments.output_dir) / RESULTS)
        print(spread_table(common["spread"]))
        print(
            f"Mean and standard deviation over seeds {', '.join(map(str, results))}. The best by validation F1 is in "
            f"{best.arguments.output_dir}."
        )
    print(f"Written: {Path(arguments.output_dir) / RESULTS}")
    return best
