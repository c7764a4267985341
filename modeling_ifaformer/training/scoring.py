"""Scores of trained models on a split of a data set."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from processing import IFAformerProcessor
from processing.columns import PICTURE_COLUMNS
from processing.scoring.splits import Split, shuffle_pictures

from .trainer import IFAformerTrainer


SHUFFLED = " (pictures shuffled)"  # what follows the name of a model in the second result


def score_checkpoints(
    checkpoints: Mapping[str, tuple[PreTrainedModel, IFAformerProcessor]],
    rows: Dataset,
    protocols: Sequence[str] = ("word",),
    shuffle_seed: int | None = None,
    batch_size: int = 64,
    cache_dir: str | None = None,
) -> dict[str, dict[str, Any]]:
    """
    The metrics of each model on the rows.

    Args:
        checkpoints: by name, models of one task with their processors, as [`load_checkpoint`] gives them.
        rows: with the gold answers of that task.
        protocols: how entities are scored, see [`entity_metrics`]. Relations are scored in one way, that of `"word"`.
        shuffle_seed: if given, models that look at pictures are scored a second time, with the pictures shuffled
            between the rows by this seed.
        batch_size: rows a batch, on each device.
        cache_dir: of [`prepare_features`].

    Returns:
        By name, followed by [`SHUFFLED`] and, of several protocols, by `" [protocol]"`: what
        [`entity_metrics`] or [`relation_metrics`] returns.

    Raises:
        ValueError: for models of different tasks, a protocol that their task has not, and rows that do not fit a
            model, with its name.
    """
    of_relations = {processor.relations is not None for _, processor in checkpoints.values()}
    if len(of_relations) > 1:
        raise ValueError("The checkpoints are of different tasks: score each task by itself, on its data.")
    if of_relations == {True} and list(protocols) != ["word"]:
        raise ValueError(f"Relations are scored in one way; the protocol {protocols[-1]} is for entities.")
    variants = {"": rows}
    if shuffle_seed is not None:
        variants[SHUFFLED] = shuffle_pictures(rows, shuffle_seed)
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # in which nothing is written
        per_device_eval_batch_size=batch_size,
        report_to="none",
    )
    results = {}
    for name, (model, processor) in checkpoints.items():
        for variant, of_variant in variants.items():
            if not model.config.text_attends_vision:  # pictures reach no output of this one
                if variant:
                    continue
                of_variant = of_variant.remove_columns(list(PICTURE_COLUMNS))
            try:
                # Gold tags may be of types that the model does not know.
                split = Split(of_variant, processor, labels=processor.relations is not None, cache_dir=cache_dir)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            trainer = IFAformerTrainer(model=model, args=arguments, processing_class=processor)
            answers = trainer.predict(split.features).predictions
            for protocol in protocols:
                suffix = f" [{protocol}]" if len(protocols) > 1 else ""
                results[f"{name}{variant}{suffix}"] = split.score(answers, protocol)
    return results
