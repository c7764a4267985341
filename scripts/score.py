"""
Score trained checkpoints on a split: precision, recall and F1 per entity type.

    python scripts/score.py --checkpoints runs/demo runs/demo_text_only --shuffle_pictures
    python scripts/score.py --checkpoints runs/twitter2017 --dataset twitter2017 --data_dir DIR --protocol both

The `word` protocol scores every word: entities that were cut off are misses. The `published` one is that of the
published code, in which they vanish from gold and prediction alike.
"""

import json
import tempfile
from dataclasses import dataclass, field
from typing import Any

from checkpoint import load_checkpoint
from data_arguments import DataSourceArguments, check_entities, choose_split
from recipe import output_path, parse_arguments
from splits import EntitySplit
from trainer import IFAformerTrainer
from transformers import PreTrainedModel, TrainingArguments

from processing.collator import PICTURE_COLUMNS
from processing.data import shuffle_pictures
from processing.metrics import PROTOCOLS, results_table


@dataclass
class ScoringArguments(DataSourceArguments):
    checkpoints: list[str] = field(default_factory=list, metadata={"help": "trained models, Hub names or folders"})
    split: str = field(default="test", metadata={"help": "which split", "choices": ["train", "validation", "test"]})
    protocol: str = field(default="word", metadata={"help": "how to score", "choices": [*PROTOCOLS, "both"]})
    shuffle_pictures: bool = field(
        default=False, metadata={"help": "score also with the pictures shuffled between tweets"}
    )
    seed: int = field(default=0, metadata={"help": "of the shuffling"})
    batch_size: int = field(default=64, metadata={"help": "tweets a batch"})
    output: str | None = field(default=None, metadata={"help": "JSON file for the results"})


def predict_tag_ids(model: PreTrainedModel, split: EntitySplit, batch_size: int) -> Any:
    """(number of rows, longest seq_length), padded with -100."""
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
    checkpoints = {name: load_checkpoint(name) for name in arguments.checkpoints}
    data, report = arguments.load(
        *(
            max(getattr(processor, number) for _, processor in checkpoints.values())
            for number in ("num_aux_crops", "num_rcnn_crops")
        )
    )
    if report:
        print(report)
    check_entities(data, arguments.dataset)
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
            split = EntitySplit(rows, processor, labels=False, cache_dir=arguments.cache_dir)
            tag_ids = predict_tag_ids(model, split, arguments.batch_size)
            for protocol in protocols:
                name = checkpoint + variant + (f" [{protocol}]" if len(protocols) > 1 else "")
                results[name] = split.score(tag_ids, protocol)
    print(results_table(results))
    for name, result in results.items():
        print(
            f"{name}: {result['unreachable_entities']} of {result['support']} entities are out of the model's reach."
        )
    if output:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
