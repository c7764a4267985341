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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from transformers import set_seed

from ifaformer_commands.command_line import parse_arguments, user_errors
from modeling_ifaformer.training.arguments import (
    DataArguments,
    IFAformerTrainingArguments,
    ModelArguments,
    absolute_if_there,
)
from modeling_ifaformer.training.building import build_model, build_processor
from modeling_ifaformer.training.runs import (
    check_splits,
    conclude,
    explained_errors,
    plan_runs,
    prepare_push,
    push,
    train,
)
from modeling_ifaformer.training.search import SearchArguments, search
from modeling_ifaformer.training.trainer import IFAformerTrainer
from processing.columns import PICTURE_COLUMNS
from processing.inspection.statistics import split_statistics
from processing.scoring.splits import Split


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
    with user_errors():
        check_splits(data, data_arguments.dataset, model_arguments.task)
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    if not model_arguments.text_attends_vision:
        data = data.remove_columns(list(PICTURE_COLUMNS))  # they reach no output

    # 2. Processor
    processor = build_processor(data_arguments, model_arguments, data["train"])
    if processor.max_length is None:
        processor.max_length = build_model(model_arguments, processor).config.max_text_length

    # 3. Features of the rows the model can read
    splits = {}
    for name, rows in data.items():
        with arguments.main_process_first(desc="preparing features"):
            splits[name] = Split(
                rows,
                processor,
                cache_dir=data_arguments.cache_dir,
                num_proc=data_arguments.preprocessing_num_workers,
            )

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
        best = conclude(runs, arguments)
    arguments.distributed_state.wait_for_everyone()
    arguments.distributed_state.destroy_process_group()
    if push_to_hub and arguments.process_index == 0:  # which may take longer than processes wait for each other
        push(Path(best.arguments.output_dir), arguments)


if __name__ == "__main__":
    main()
