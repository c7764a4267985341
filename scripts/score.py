"""
Score trained checkpoints on a split: precision, recall and F1 per entity type or relation.

    python scripts/score.py --checkpoints runs/demo runs/demo_text_only --shuffle_pictures
    python scripts/score.py --checkpoints runs/twitter2017 --dataset twitter2017 --data_dir DIR --protocol both

The `word` protocol scores every word: entities that were cut off are misses. The `published` one is that of the
published code, in which they vanish from gold and prediction alike. Relations are scored in one way, that of the
published code: accuracy, and micro figures over the relations but the negative one.
"""

import json
import tempfile
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from ifaformer_commands.command_line import output_path, parse_arguments, user_errors
from ifaformer_commands.data_options import DataSourceArguments
from modeling_ifaformer.checkpoints.trained import load_checkpoint, task_of
from modeling_ifaformer.training.trainer import IFAformerTrainer
from processing.columns import PICTURE_COLUMNS
from processing.data.tasks import ANSWERS, check_task, choose_split
from processing.scoring.entity_metrics import PROTOCOLS
from processing.scoring.results_table import results_table
from processing.scoring.splits import Split, make_split, shuffle_pictures


@dataclass
class ScoringArguments(DataSourceArguments):
    checkpoints: list[str] = field(default_factory=list, metadata={"help": "trained models, Hub names or folders"})
    task: str | None = field(
        default=None, metadata={"help": "what they must be for; default: what they are for", "choices": list(ANSWERS)}
    )
    split: str = field(default="test", metadata={"help": "which split", "choices": ["train", "validation", "test"]})
    protocol: str = field(default="word", metadata={"help": "how to score", "choices": [*PROTOCOLS, "both"]})
    shuffle_pictures: bool = field(
        default=False, metadata={"help": "score also with the pictures shuffled between tweets"}
    )
    seed: int = field(default=0, metadata={"help": "of the shuffling"})
    batch_size: int = field(default=64, metadata={"help": "tweets a batch"})
    output: str | None = field(default=None, metadata={"help": "JSON file for the results"})


def predict(model: PreTrainedModel, split: Split, batch_size: int) -> Any:
    """The model's answers, tag ids or relation ids."""
    trainer = IFAformerTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.gettempdir(), per_device_eval_batch_size=batch_size, remove_unused_columns=False
        ),
        processing_class=split.processor,
    )
    return trainer.predict(split.features).predictions


def main() -> None:
    arguments, _ = parse_arguments(ScoringArguments, description=__doc__)
    if not arguments.checkpoints:
        raise SystemExit("Name the checkpoints: --checkpoints runs/demo")
    output = output_path(arguments.output)
    with user_errors():
        checkpoints = {name: load_checkpoint(name, arguments.task) for name in arguments.checkpoints}
    data, report = arguments.load(
        *(
            max(getattr(processor, number) for _, processor in checkpoints.values())
            for number in ("num_aux_crops", "num_rcnn_crops")
        )
    )
    if report:
        print(report)
    tasks = {task_of(processor) for _, processor in checkpoints.values()}
    if len(tasks) > 1:
        raise SystemExit("The checkpoints are of different tasks: score each task by itself, on its data.")
    (task,) = tasks
    if task == "re" and arguments.protocol != "word":
        raise SystemExit(f"--protocol {arguments.protocol} is for entities; relations are scored in one way.")
    with user_errors():
        check_task(data, arguments.dataset, task)
        variants = {"": choose_split(data, arguments.split)}
    if arguments.shuffle_pictures:
        variants[" (pictures shuffled)"] = shuffle_pictures(variants[""], arguments.seed)
    protocols = PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,)

    results = {}
    for checkpoint, (model, processor) in checkpoints.items():
        for variant, rows in variants.items():
            if not model.config.text_attends_vision:  # pictures reach no output of this one
                if variant:
                    continue
                rows = rows.remove_columns(list(PICTURE_COLUMNS))
            # gold tags may be of types that the model does not know
            try:
                split = make_split(rows, processor, labels=task == "re", cache_dir=arguments.cache_dir)
            except ValueError as error:
                raise SystemExit(f"{checkpoint}, {arguments.dataset}: {error}") from error
            answers = predict(model, split, arguments.batch_size)
            for protocol in protocols:
                name = checkpoint + variant + (f" [{protocol}]" if len(protocols) > 1 else "")
                results[name] = split.score(answers, **({"protocol": protocol} if task == "ner" else {}))
    print(results_table(results))
    for name, result in results.items():
        print(f"{name}: {split.out_of_reach(result)}.")
    if output:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
