"""Scores of trained models on a split of a data set."""

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from processing import IFAformerProcessor
from processing.columns import PICTURE_COLUMNS
from processing.scoring.bootstrap import NUM_RESAMPLES, paired_bootstrap
from processing.scoring.error_analysis import ErrorAnalysis
from processing.scoring.splits import Split, shuffle_pictures

from .trainer import IFAformerTrainer


SHUFFLED = " (pictures shuffled)"  # what follows the name of a model in the second result


class CheckpointScores(dict[str, dict[str, Any]]):
    """
    The metrics by name, and what else there is to say of the answers that were scored.

    Attributes:
        answers: by name, without a protocol, the rows with the model's answers to them.
        suffixes: what follows such a name among the metrics, by protocol.
    """

    def __init__(self, answers: Mapping[str, tuple[Split, Any]], suffixes: Mapping[str, str]):
        self.answers, self.suffixes = answers, suffixes
        super().__init__(
            (name + suffix, split.score(of_split, protocol))
            for name, (split, of_split) in answers.items()
            for protocol, suffix in suffixes.items()
        )

    def differences(self, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> dict[str, dict[str, Any]]:
        """
        How far the F1 of each result is from that of the first one in the same protocol, by name: `to`, the name of
        that one, and what [`paired_bootstrap`] returns.
        """
        found = {}
        for protocol, suffix in self.suffixes.items():
            (first, counts), *others = (
                (name, split.counts(of, protocol)) for name, (split, of) in self.answers.items()
            )
            for name, of_other in others:
                difference = paired_bootstrap(counts, of_other, num_resamples, seed)
                found[name + suffix] = {"to": first + suffix, **difference}
        return found

    def errors(self, train: Dataset | None = None) -> dict[str, ErrorAnalysis]:
        """
        The errors of each model, with pictures shuffled too where that was scored, by name, see [`Split.errors`].
        `train` is the training split, for entities whose words are unseen in it.
        """
        words = None if train is None else {word for of_row in train["tokens"] for word in of_row}
        return {name: split.errors(of_split, words) for name, (split, of_split) in self.answers.items()}


def score_checkpoints(
    checkpoints: Mapping[str, tuple[PreTrainedModel, IFAformerProcessor]],
    rows: Dataset,
    protocols: Sequence[str] = ("word",),
    shuffle_seed: int | None = None,
    batch_size: int = 64,
    cache_dir: str | None = None,
) -> CheckpointScores:
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
    answers = {}
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
            answers[f"{name}{variant}"] = split, trainer.predict(split.features).predictions
    suffixes = {protocol: f" [{protocol}]" if len(protocols) > 1 else "" for protocol in protocols}
    return CheckpointScores(answers, suffixes)
