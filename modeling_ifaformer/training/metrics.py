"""Scores of a model's answers from prepared features alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import EvalPrediction

from processing.processing_ifaformer import IFAformerProcessor
from processing.scoring.entity_metrics import entity_metrics
from processing.scoring.relation_metrics import relation_metrics


def feature_metrics(processor: IFAformerProcessor) -> Callable[[EvalPrediction], dict[str, Any]]:
    """
    A `compute_metrics` for a Trainer: precision, recall and F1 of the answers (tag ids or relation ids).

    It knows the words and rows that the model was given. Those that were cut off or could not be read count as missed
    only in the scores of [`Split`], which `train.py` and `score.py` use.
    """

    def compute_metrics(prediction: EvalPrediction) -> dict[str, Any]:
        labels = np.asarray(prediction.label_ids)
        if processor.relations is not None:
            scores = relation_metrics(prediction.predictions, labels, processor.relations, processor.negative_relation)
        else:
            names = np.array(processor.labels, dtype=object)
            # Not the special tokens and continuations, which have labels in the deepke scheme.
            is_word = np.isin(labels, [index for index, name in enumerate(names) if name in processor.tags])
            numbers = np.where(is_word, is_word.cumsum(axis=1) - 1, -1).tolist()
            scores = entity_metrics(
                prediction.predictions,
                word_ids=[[None if number < 0 else number for number in row] for row in numbers],
                word_labels=[names[row[words]].tolist() for row, words in zip(labels, is_word, strict=True)],
                id2label=dict(enumerate(processor.labels)),
            )
        return {name: scores[name] for name in ("accuracy", "precision", "recall", "f1") if name in scores}

    return compute_metrics
