"""Scores of trained models on splits of a data set, and how their own scores are calibrated."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainingArguments

from modeling_ifaformer.crf import LinearChainCRF
from processing import IFAformerProcessor
from processing.columns import PICTURE_COLUMNS
from processing.context import CONTEXT
from processing.labels import tag_types
from processing.pipeline_rows import given_thresholds
from processing.scoring.bootstrap import NUM_RESAMPLES, paired_bootstrap
from processing.scoring.calibration import (
    ScoredAnswers,
    best_thresholds,
    calibration_error,
    fit_temperature,
    log_loss,
    thresholded_f1,
)
from processing.scoring.error_analysis import ErrorAnalysis
from processing.scoring.splits import Split, shuffle_pictures

from .trainer import IFAformerTrainer, answers_of_logits


logger = logging.getLogger(__name__)


# What follows the name of a model that is scored in another way too.
SHUFFLED = " (pictures shuffled)"
LEFT_OUT = " (context left out)"
WITH_THRESHOLDS = " (with its thresholds)"
WAYS = (SHUFFLED, LEFT_OUT, WITH_THRESHOLDS)
ROWS_AT_ONCE = 512  # in the CRF, which has all else in memory already


def logits_and_answers(outputs: Any, labels: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A `preprocess_logits_for_metrics` for a Trainer: of its predictions scores of answers are computed."""
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits.float(), answers_of_logits(outputs, labels)


def calibrate(
    model: Any,
    splits: Mapping[str, Split],
    predictions: Mapping[str, Any],
    metrics: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """
    Set the `calibration_temperature` of a model, which has 1 before, so that its scores are what share of such answers
    is right (temperature scaling; [Guo et al., 2017](https://arxiv.org/abs/1706.04599)), and its `thresholds`.

    For relations the cross-entropy of the softmax is least on the validation split. For entities it is the log loss of
    their scores, see [`log_loss`]: at the temperature with the least negative log likelihood of the gold tags, scores
    of entities are still too high, since they are a mean over words, all of which have to be right.

    Args:
        predictions: by the name of the split, `validation` among them, what a Trainer with [`logits_and_answers`]
            predicts for its features.
        metrics: by the name of the split, what [`Split.score`] has for these predictions.

    Returns:
        The `temperature`; for entities the `thresholds` of scores by type with the best F1 on the validation split,
        see [`best_thresholds`], which the model's configuration has too. Of each split the `calibration_error` of
        scores `before` and `after`, see [`calibration_error`], and for entities the `thresholded_f1`.
    """
    config = copy(model.config)
    validation = splits["validation"]
    logits = {name: torch.from_numpy(of.predictions[0]) for name, of in predictions.items()}
    answers = {name: torch.from_numpy(of.predictions[1]) for name, of in predictions.items()}
    crf = None if validation.processor.relations is not None else _whole_crf(model, config)

    def scored(name: str, temperature: float) -> ScoredAnswers:
        config.calibration_temperature = temperature
        found = answers[name]
        if crf is None:
            probabilities = (logits[name] / temperature).softmax(dim=-1).gather(-1, found.unsqueeze(-1)).squeeze(-1)
        else:
            probabilities = _tag_probabilities(crf, logits[name], found)
        return splits[name].scored(found.numpy(), probabilities.numpy())

    def loss(temperature: float) -> float:
        if crf is not None:
            _, *scores = scored("validation", temperature)
            return log_loss(*scores)
        gold = torch.from_numpy(predictions["validation"].label_ids)
        return torch.nn.functional.cross_entropy(logits["validation"] / temperature, gold).item()

    before = {name: scored(name, 1.0) for name in predictions}
    temperature = fit_temperature(loss) if len(before["validation"].scores) else 1.0
    after = {name: scored(name, temperature) for name in predictions}
    model.config.calibration_temperature = temperature
    results: dict[str, Any] = {"temperature": temperature}
    of_splits: dict[str, dict[str, Any]] = {}
    for name, of in after.items():
        errors = [calibration_error(some.scores, some.is_right) for some in (before[name], of)]
        of_splits[name] = {"calibration_error": dict(zip(("before", "after"), errors, strict=True))}
    if crf is not None:
        num_gold = {name: of["support"] for name, of in metrics.items()}
        thresholds = best_thresholds(after["validation"], num_gold["validation"])
        results["thresholds"] = model.config.thresholds = thresholds
        for name, of in after.items():
            of_splits[name]["thresholded_f1"] = thresholded_f1(of, num_gold[name], thresholds)
    return {**results, **of_splits}


def _whole_crf(model: Any, config: Any) -> LinearChainCRF:
    """A copy of the model's CRF on the CPU, with that configuration. FSDP has parts of it in each process."""
    crf = LinearChainCRF(config.num_labels, config)
    weights: dict[str, Any] = model.crf.state_dict()
    whole = {name: of.full_tensor() if hasattr(of, "full_tensor") else of for name, of in weights.items()}
    crf.load_state_dict({name: of.float().cpu() for name, of in whole.items()})
    return crf


def _tag_probabilities(crf: LinearChainCRF, emissions: torch.Tensor, tag_ids: torch.Tensor) -> torch.Tensor:
    """The probability of each tag under the CRF, (number of rows, seq_length), 0 where there is none (-100)."""
    with torch.no_grad():
        return torch.cat(
            [
                crf.marginals(emissions[rows], tag_ids[rows] >= 0)
                .gather(-1, tag_ids[rows].clamp(min=0).unsqueeze(-1))
                .squeeze(-1)
                for rows in torch.arange(len(tag_ids)).split(ROWS_AT_ONCE)
            ]
        )


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
        How far the F1 of a result is from that of another one in the same protocol, by name: `to`, the name of the
        other one, and what [`paired_bootstrap`] returns. Each model is compared with the first one, and a model that
        is scored in another way with the same model as it is.
        """
        found = {}
        for protocol, suffix in self.suffixes.items():
            counts = {name: split.counts(of, protocol) for name, (split, of) in self.answers.items()}
            first, *others = counts
            model = first  # after which stand the other ways in which it is scored
            for name in others:
                to = model if name.endswith(WAYS) else first
                model = model if name.endswith(WAYS) else name
                difference = paired_bootstrap(counts[to], counts[name], num_resamples, seed)
                found[name + suffix] = {"to": to + suffix, **difference}
        return found

    def errors(self, train: Dataset | None = None) -> dict[str, ErrorAnalysis]:
        """
        The errors of each model, in each of the ways in which it was scored, by name, see [`Split.errors`].
        `train` is the training split, for entities whose words are unseen in it.
        """
        words = None if train is None else {word for of_row in train["tokens"] for word in of_row}
        return {name: split.errors(of_split, words) for name, (split, of_split) in self.answers.items()}


def score_checkpoints(
    checkpoints: Mapping[str, tuple[PreTrainedModel, IFAformerProcessor]],
    rows: Dataset,
    protocols: Sequence[str] = ("word",),
    shuffle_seed: int | None = None,
    without_context: bool = False,
    with_thresholds: bool = False,
    batch_size: int = 64,
    cache_dir: str | None = None,
    mixed_precision: str = "no",
) -> CheckpointScores:
    """
    The metrics of each model on the rows.

    Args:
        checkpoints: by name, models of one task with their processors, as [`load_checkpoint`] gives them.
        rows: with the gold answers of that task.
        protocols: how entities are scored, see [`entity_metrics`]. Relations are scored in one way, that of `"word"`.
        shuffle_seed: if given, models that look at pictures are scored a second time, with the pictures shuffled
            between the rows by this seed.
        without_context: whether models that read contexts are scored once more without them.
        with_thresholds: whether taggers that have `thresholds` in their configuration are scored once more, without
            the entities whose score is below the threshold of their type. Where pictures are shuffled or contexts
            are left out, no threshold applies.
        batch_size: rows a batch, on each device.
        cache_dir: of [`prepare_features`].
        mixed_precision: of the computation: "no", "bf16" or "fp16", as `results.json` has it.

    Returns:
        By name, followed by [`SHUFFLED`], [`LEFT_OUT`] or [`WITH_THRESHOLDS`] and, of several protocols, by
        `" [protocol]"`: what [`entity_metrics`] or [`relation_metrics`] returns.

    Raises:
        ValueError: for models of different tasks, a protocol that their task has not, and rows or thresholds that do
            not fit a model, with its name.
    """
    of_relations = {processor.relations is not None for _, processor in checkpoints.values()}
    if len(of_relations) > 1:
        raise ValueError("The checkpoints are of different tasks: score each task by itself, on its data.")
    if of_relations == {True} and list(protocols) != ["word"]:
        raise ValueError(f"Relations are scored in one way; the protocol {protocols[-1]} is for entities.")
    variants = {"": rows}
    if shuffle_seed is not None:
        variants[SHUFFLED] = shuffle_pictures(rows, shuffle_seed)
    if without_context and CONTEXT in rows.column_names:
        variants[LEFT_OUT] = rows.remove_columns([CONTEXT])
    arguments = TrainingArguments(
        output_dir=tempfile.gettempdir(),  # in which nothing is written
        per_device_eval_batch_size=batch_size,
        report_to="none",
        use_cpu=not torch.accelerator.is_available(),  # Else the library refuses bf16 there.
        bf16=mixed_precision == "bf16",
        fp16=mixed_precision == "fp16",
    )
    answers = {}
    for name, (model, processor) in checkpoints.items():
        for variant, of_variant in variants.items():
            if variant == LEFT_OUT and not getattr(processor, "max_context_length", None):
                continue
            if not model.config.text_attends_vision:  # pictures reach no output of this one
                if variant == SHUFFLED:
                    continue
                of_variant = of_variant.remove_columns(list(PICTURE_COLUMNS))
            try:
                # Gold tags may be of types that the model does not know.
                split = Split(of_variant, processor, labels=processor.relations is not None, cache_dir=cache_dir)
                thresholds = {}
                if with_thresholds and not variant and processor.relations is None and model.config.thresholds:
                    thresholds = given_thresholds("best", tag_types(processor.tags), model.config.thresholds)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            trainer = IFAformerTrainer(
                model=model,
                args=arguments,
                processing_class=processor,
                preprocess_logits_for_metrics=logits_and_answers if thresholds else answers_of_logits,
            )
            predictions: Any = trainer.predict(split.features).predictions
            if not thresholds:
                answers[f"{name}{variant}"] = split, predictions
                continue
            emissions, tags = predictions
            crf = _whole_crf(model, model.config)
            probabilities = _tag_probabilities(crf, torch.from_numpy(emissions), torch.from_numpy(tags)).numpy()
            answers[name] = split, tags
            answers[f"{name}{WITH_THRESHOLDS}"] = split, split.above_thresholds(tags, probabilities, thresholds)
    suffixes = {protocol: f" [{protocol}]" if len(protocols) > 1 else "" for protocol in protocols}
    return CheckpointScores(answers, suffixes)
