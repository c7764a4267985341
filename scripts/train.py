r"""
Train IFAformer, for named entity recognition or relation extraction.

    python scripts/train.py scripts/recipes/demo.yaml
    accelerate launch --config_file scripts/accelerate/one_gpu.yaml scripts/train.py scripts/recipes/twitter2017.yaml \
        --data_dir DIR --output_dir runs/twitter2017

A recipe holds values of options, and flags win over it. The epoch with the best F1 on the validation split is kept,
and is scored once on a test split. OUTPUT_DIR then holds the model, its processor, `results.json` and a model card;
with `--seeds 1 2 3` they lie in OUTPUT_DIR/seed-1 and so on, and OUTPUT_DIR/results.json has mean and deviation.
`--search_trials 20` looks for training options first. `--push_to_hub true` shares the model.
"""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from ifaformer_commands.options.command_line import option, parse_arguments, this_command, user_errors
from ifaformer_commands.options.data_options import TASKS, DataSourceArguments
from ifaformer_commands.options.model_options import (
    AdapterArguments,
    ModelArguments,
    ReadingArguments,
    TowerArguments,
    fill,
)


FIRST = ["dataset", "data_dir", "task", "text_model", "vision_model", "model", "output_dir", "num_train_epochs"]
FIRST += ["per_device_train_batch_size", "learning_rate", "resume_from_checkpoint"]


@dataclass
class DataArguments(DataSourceArguments):
    """Options of the data."""

    task: str = option("The model finds entities (ner), or the relation of two entities (re).", "ner", TASKS)
    preprocessing_num_workers: int | None = option("How many processes prepare features. By default it is one.")
    max_seq_length: int | None = option(
        "Cut texts to this many tokens. By default nothing is cut, but texts with relations to what the tower takes."
    )


@dataclass
class RunArguments:
    """Options of the run."""

    overwrite_output_dir: bool = option("Remove an earlier run from the output folder, and begin anew.", False)
    seeds: list[int] | None = option("Train once with each of these seeds, and report mean and deviation.")
    search_trials: int = option("Try this many settings first, and train with the best one. This needs optuna.", 0)
    search_space: dict | None = option("The training options to try, as JSON: each has a list of values or bounds.")


# The groups of options. Those of the Trainer come behind them.
GROUPS = (
    DataArguments,
    TowerArguments,
    ReadingArguments,
    ModelArguments,
    AdapterArguments,
    RunArguments,
)


def main() -> None:
    from modeling_ifaformer import training

    data_options, towers, reading, model_options, adapters, options, arguments, recipe = parse_arguments(
        *GROUPS, training.IFAformerTrainingArguments, description=__doc__, first=FIRST
    )
    from hub_card.sharing import NotPushed, push_model

    again = this_command("accelerate", "launch").replace(arguments.hub_token or "TOKEN", "TOKEN")
    is_main = arguments.process_index == 0
    push, arguments.push_to_hub = arguments.push_to_hub, False  # The Trainer would push in its own way.
    try:
        with user_errors(FloatingPointError, MemoryError, ImportError):
            # 1. Where the runs begin
            searched = options.search_trials, options.search_space
            search = training.Search(*searched) if any(searched) else None
            with arguments.main_process_first(desc="looking for checkpoints"):
                if push:
                    training.prepare_push(arguments)
                runs = training.plan_runs(arguments, options.seeds, options.overwrite_output_dir)
            for run in runs if is_main and arguments.resume_from_checkpoint else ():
                print(f"{run.arguments.output_dir}: {run.start}")

            # 2. Data
            start = training.start_options(towers.model, towers.system)
            fill(start, towers, reading, model_options)
            if adapters.lora:
                training.check_adaptable(adapters.of_adapters(), **asdict(towers), **asdict(model_options))
            with arguments.main_process_first(desc="preparing data"):
                data, report = data_options.load(reading.num_aux_crops, reading.num_rcnn_crops, start["word_splitter"])
            if report and is_main:
                print(report)
            training.check_splits(data, data_options.dataset, data_options.task)

            # 3. Processor, features, training and scores
            processor = training.build_processor(
                data["train"],
                **asdict(towers),
                **asdict(reading),
                max_length=data_options.max_seq_length,
                text_attends_vision=model_options.text_attends_vision,
                other_rows=[rows for split, rows in data.items() if split != "train"],
            )
            of_model = asdict(towers) | asdict(reading) | asdict(model_options) | {"lora": adapters.of_adapters()}
            best = training.train_runs(
                runs,
                data,
                processor,
                lambda: training.build_model(
                    processor, **asdict(towers), **asdict(model_options), lora=adapters.of_adapters()
                ),
                with_pictures=model_options.text_attends_vision,  # Else they reach no output.
                search=search,
                cache_dir=data_options.cache_dir,
                num_proc=data_options.preprocessing_num_workers,
                record={"recipe": recipe, "data": asdict(data_options), "model": of_model},
            )
            if is_main:
                above = arguments.output_dir if len(runs) > 1 else best.arguments.output_dir
                print(training.runs_summary(runs), f"Written: {Path(above, 'results.json')}", sep="\n")
            arguments.distributed_state.destroy_process_group()

            # 4. Sharing, which may take longer than processes wait for each other
            if push and is_main:
                folder, name, private = best.arguments.output_dir, arguments.hub_model_id, arguments.hub_private_repo
                print(f"The model is trained, and saved in {folder}.")
                named = ["--model", folder, "--repo_id", name, *(["--private", "true"] if private else [])]
                again = shlex.join(["python", str(Path(__file__).with_name("push_to_hub.py")), *named])
                print(f"Pushed: {push_model(folder, name, private=bool(private), token=arguments.hub_token).url}")
    except NotPushed as error:
        raise SystemExit(f"{error} The command is:\n{again}") from error
    except training.TrainingStopped as stopped:
        if is_main and stopped.cause:
            print(stopped)
        raise SystemExit(128 + stopped.cause if stopped.cause else str(stopped)) from None


if __name__ == "__main__":
    main()
