"""
Train IFAformer, for named entity recognition or relation extraction.

    accelerate launch scripts/train.py scripts/recipes/demo.yaml
    accelerate launch scripts/train.py scripts/recipes/twitter2017.yaml --data_dir DIR --output_dir runs/twitter2017
    accelerate launch scripts/train.py scripts/recipes/mnre.yaml --data_dir DIR --output_dir runs/mnre

Every option of a recipe is a flag too, and so is every `TrainingArguments` field; flags win. The best epoch by
validation F1 is kept and scored on the test split once. OUTPUT_DIR then holds model, processor, `results.json` and a
model card made of it. With `--seeds 1 2 3` these lie in OUTPUT_DIR/seed-1 and so on, and OUTPUT_DIR/results.json has
mean and deviation; `--search_trials 20` looks for training options first; `--push_to_hub true` shares the model.
"""

import gc
import json
import os
import platform
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from building import build_model, build_processor
from data_arguments import check_task
from recipe import parse_arguments
from run_folder import (
    RESULTS,
    TRIALS,
    checkpoint_to_resume,
    checkpoints,
    remove_incomplete_checkpoints,
    write_json,
)
from search import SearchArguments, search
from seeds import spread, spread_table
from splits import Split, make_split
from trainer import GO_ON, WRITE_ERRORS, IFAformerTrainer, StopAndSave, Stopped, Stopwatch
from training_arguments import DataArguments, IFAformerTrainingArguments, ModelArguments, absolute_if_there
from transformers import TrainingArguments, set_seed
from transformers.trainer_utils import HubStrategy
from upload import STALE_MODEL_FILES, check_destination, make_repository, model_files, upload

from hub_card.model_card import ModelFacts, save_model_card
from processing.collator import PICTURE_COLUMNS
from processing.data_statistics import split_statistics
from processing.metrics import results_table


try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]


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


def hardware(arguments: TrainingArguments) -> dict[str, Any]:
    """What the run was made on, for the model card."""
    device = arguments.device.type
    name = f"{platform.machine()} CPU with {torch.backends.cpu.get_cpu_capability()}"
    if device != "cpu":
        name = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} machine's {device}"
    return {
        "device": name,
        "num_devices": None if device == "cpu" else arguments.world_size,
        "num_processes": arguments.world_size,
        "cpu_cores": os.cpu_count(),
        "peak_memory_bytes": peak_memory(),
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else None,
    }


def peak_memory() -> int | None:
    """Of this process, in bytes; None on Windows."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


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
    save_model_card(ModelFacts.from_run(results, config), output_dir)


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
        check_destination(name, again, arguments.hub_token)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    repository = make_repository(
        name, "model", private=bool(arguments.hub_private_repo), again=again, token=arguments.hub_token
    )
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
            str(Path(__file__).with_name("push_to_hub.py")),
            "--model",
            str(folder),
            "--repo_id",
            name,
            *private,
        ]
    )
    print(f"The model is trained, and saved in {folder}.")
    url = upload(
        model_files(folder),
        name,
        "model",
        private=bool(arguments.hub_private_repo),
        message="Upload the trained model",
        again=again,
        stale=STALE_MODEL_FILES,
        token=arguments.hub_token,
    )
    print(f"Pushed: {url}")


def conclude(runs: list[Run], arguments: IFAformerTrainingArguments, out_of_reach: Callable[[Any], str]) -> Run:
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


def main() -> None:
    data_arguments, model_arguments, search_arguments, arguments, recipe = parse_arguments(
        DataArguments, ModelArguments, SearchArguments, IFAformerTrainingArguments, description=__doc__
    )
    transformers.utils.logging.set_verbosity(arguments.get_process_log_level())
    set_seed(arguments.seed)
    try:
        search_arguments.check()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    with arguments.main_process_first(desc="looking for checkpoints"):
        push_to_hub = arguments.push_to_hub
        if push_to_hub:
            prepare_push(arguments)
            arguments.push_to_hub = False  # which the Trainer would do in its own way
        runs = plan_runs(arguments)
    if arguments.process_index == 0 and arguments.resume_from_checkpoint:
        for run in runs:
            print(f"{run.arguments.output_dir}: {run.start}")

    # 1. Data
    with arguments.main_process_first(desc="preparing data"):
        data, report = data_arguments.load(model_arguments.num_aux_crops, model_arguments.num_rcnn_crops)
    if report and arguments.process_index == 0:
        print(report)
    check_splits(data, data_arguments.dataset, model_arguments.task)
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    if not model_arguments.text_attends_vision:
        data = data.remove_columns(list(PICTURE_COLUMNS))  # they reach no output

    # 2. Processor
    processor = build_processor(data_arguments, model_arguments, data["train"])
    if processor.max_length is None:
        processor.max_length = build_model(model_arguments, processor).ifaformer.text_model.max_length

    # 3. Features of the rows the model can read
    splits = {}
    for name, rows in data.items():
        with arguments.main_process_first(desc="preparing features"):
            splits[name] = make_split(
                rows,
                processor,
                cache_dir=data_arguments.cache_dir,
                num_proc=data_arguments.preprocessing_num_workers,
            )
        if number := len(splits[name].unreadable):
            reason = "have no token" if processor.relations is None else "have no room for both entities"
            logger.warning(f"{name}: {number} rows {reason} and are not given to the model.")

    def make_trainer(arguments: IFAformerTrainingArguments, **model: Any) -> IFAformerTrainer:
        return IFAformerTrainer(
            **model,
            args=arguments,
            train_dataset=splits["train"].features,
            eval_dataset=splits["validation"].features,
            processing_class=processor,
            mask_probability=data_arguments.mask_probability,
            compute_metrics=lambda prediction: {
                name: value
                for name, value in splits["validation"].score(prediction.predictions).items()
                if name != "per_type"
            },
        )

    # 4. Training options, if they are looked for
    if search_arguments.search_trials:
        best = search(
            lambda arguments: make_trainer(arguments, model_init=lambda: build_model(model_arguments, processor)),
            arguments,
            search_arguments,
        )
        for run in runs:
            for name, value in best.items():
                setattr(run.arguments, name, value)

    # 5. Training, scoring, sharing
    facts = {
        "statistics": statistics,
        "recipe": recipe,
        "arguments": {
            "data": asdict(data_arguments) | {"dataset": absolute_if_there(data_arguments.dataset)},
            "model": asdict(model_arguments),
        },
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, datasets, accelerate)},
    }
    for run in runs:
        if run.results is None:
            set_seed(run.arguments.seed)
            with explained_errors():
                trainer = make_trainer(run.arguments, model=build_model(model_arguments, processor))
                run.results = train(run, trainer, splits, facts)
            del trainer  # before the next one is made
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    if arguments.process_index == 0:
        best = conclude(runs, arguments, splits["test"].out_of_reach)
    arguments.distributed_state.wait_for_everyone()
    arguments.distributed_state.destroy_process_group()
    if push_to_hub and arguments.process_index == 0:  # which may take longer than processes wait for each other
        push(Path(best.arguments.output_dir), arguments)


if __name__ == "__main__":
    main()
