"""Measure what a row of the table of systems costs: a training step, and inference, against BERT-CRF."""

from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from ifaformer_commands.options.model_options import ModelArguments, ReadingArguments, TowerArguments, fill
from modeling_ifaformer.comparison.table_file import Table, TableRow, read_table
from modeling_ifaformer.training import build_model, build_processor, start_options
from processing.columns import PICTURE_COLUMNS
from processing.features.prepare import prepare_features

from .measuring import compared, rates
from .models import training
from .work import Work, run_batches


TABLE = Path(__file__).resolve().parents[1] / "tables" / "twitter2017.yaml"
BASELINE = "bert"  # its row
WARM_UP = 4  # tweets
# The configurations of the checkpoints that the table names. A row with other ones, of another size, is left out.
TOWERS: dict[str | None, dict[str, Any] | None] = {
    None: None,
    "bert-base-uncased": {},
    "openai/clip-vit-base-patch32": {"model_type": "clip_vision_model"},
    "microsoft/resnet-50": {"model_type": "resnet"},
}


def measured_rows(table: Table) -> list[TableRow]:
    """The rows whose towers are among `TOWERS`."""

    def is_known(row: TableRow) -> bool:
        options = {**table.common, **row.options}
        return all(options.get(name) in TOWERS for name in ("text_model", "vision_model"))

    return list(filter(is_known, table.rows))


class System:
    """
    A row of the table: its batches, and how its model is made, as train.py would, but with random weights.

    Args:
        work: the rows that it takes, and sizes that are not those of the checkpoints.
        options: of train.py.
    """

    def __init__(self, work: Work, options: dict[str, Any]):
        self.work = work
        groups: list[Any] = [
            group(**{field.name: options[field.name] for field in fields(group) if field.name in options})
            for group in (TowerArguments, ReadingArguments, ModelArguments)
        ]
        towers, reading, self.model_options = groups
        fill(start_options(None, towers.system), *groups)
        looks = self.model_options.text_attends_vision
        for tower in ("text", *(["vision"] if looks else [])):
            config = TOWERS[getattr(towers, f"{tower}_model")]
            if config is not None:
                setattr(towers, f"{tower}_config", {**config, **(getattr(work.options, f"{tower}_config") or {})})
                setattr(towers, f"{tower}_model", None)
        self.towers = asdict(towers)
        self.processor = build_processor(work.rows, **self.towers, **asdict(reading), text_attends_vision=looks)
        if self.processor.max_word_bytes is None:  # Else a token is a word.
            self.processor.tokenizer = work.processor.tokenizer
        rows = work.sample
        if not looks:  # Then train.py leaves pictures out too.
            rows = rows.remove_columns(list(PICTURE_COLUMNS))
        features = prepare_features(rows, self.processor, work.folder)
        loader = DataLoader(features, work.options.batch_size, collate_fn=self.processor.data_collator)
        self.batches = [{name: values.to(work.device) for name, values in batch.items()} for batch in loader]

    def rates(self) -> dict[str, tuple[float, float]]:
        """The rates of a new model in training and in inference."""
        model = self.work.placed(build_model(self.processor, **self.towers, **asdict(self.model_options)))
        train, number = training(model, fused=True), len(self.work.sample)
        few = [{name: values[:WARM_UP] for name, values in self.batches[0].items()}]
        train(few)  # in which the optimizer makes its state
        of_training = rates(number, partial(train, self.batches))
        model.eval()
        run_batches(model, few)
        return {"training": of_training, "inference": rates(number, partial(run_batches, model, self.batches))}


def measure_systems(work: Work) -> dict[str, Any]:
    """
    Rows of the table against its BERT-CRF, with batches at hand. Models are made anew in every round, one at a time:
    together, with gradients and the optimizer's state, they would take some 30 GB.
    """
    table = read_table(str(TABLE))
    options = {row.name: {**table.common, **row.options} for row in measured_rows(table)}
    systems = {name: System(work, of_row) for name, of_row in options.items()}
    baseline = next(row.name for row in table.rows if row.key == BASELINE)
    rounds = [{name: system.rates() for name, system in systems.items()} for _ in range(work.options.repeats)]
    return {
        kind: compared([{name: of[kind] for name, of in of_round.items()} for of_round in rounds], baseline, "tweets")
        for kind in ("training", "inference")
    }
