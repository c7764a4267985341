"""Accuracy, precision, recall and F1 of relations, in the published protocol, and which are taken for which."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from processing.labels import NO_RELATION

from .entity_metrics import figures


NO_PREDICTION = -1  # for a row that the model could not be given


def relation_metrics(
    predicted: Any, gold: Any, names: Sequence[str], negative: str | None = NO_RELATION
) -> dict[str, Any]:
    """
    Scores of predicted relations against gold ones, as the published code has them: accuracy over all rows; precision,
    recall and F1 as micro averages over the relations but the negative one, so that a negative row counts only where
    something else is predicted for it.

    Args:
        predicted, gold: relation ids, one a row. `NO_PREDICTION` for a row that the model could not be given counts as
            the negative relation, so that every other one is missed.
        names: of all relations, in id order.
        negative: name of the one that stands for no relation; None where there is none, and all relations count.

    Returns:
        `accuracy`, `precision`, `recall`, `f1`, `support` (rows with a relation), `per_type`: of each relation but the
        negative one that is gold or predicted somewhere, by name, the last four; `unreadable_rows`, the number of
        rows without a prediction.
    """
    number_unreadable = int((np.asarray(predicted) == NO_PREDICTION).sum())
    gold, predicted, absent, types = _pairs(predicted, gold, names, negative)
    positive = [index for index in range(len(names)) if index != absent]
    of_types = precision_recall_fscore_support(gold, predicted, labels=types, average=None, zero_division=0)
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predicted, labels=positive, average="micro", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        **figures(precision, recall, f1, (gold != absent).sum()),
        "per_type": {names[index]: figures(*row) for index, *row in zip(types, *of_types, strict=True)},
        "unreadable_rows": number_unreadable,
    }


def relation_counts(predicted: Any, gold: Any, names: Sequence[str], negative: str | None = NO_RELATION) -> np.ndarray:
    """
    Of each row how many relations but the negative one are correct, predicted and gold, (number of rows, 3), each 0
    or 1: their sums are those from which [`relation_metrics`], whose arguments these are, has its micro averages.
    """
    gold, predicted, absent, _ = _pairs(predicted, gold, names, negative)
    return np.stack([(gold == predicted) & (gold != absent), predicted != absent, gold != absent], axis=1).astype(int)


def relation_confusion(
    predicted: Any, gold: Any, names: Sequence[str], negative: str | None = NO_RELATION
) -> dict[str, Any]:
    """
    Gold relations by predicted ones, of arguments as in [`relation_metrics`].

    Returns:
        `types`: the relations but the negative one that are gold or predicted somewhere; `counts`: a row for each gold
        relation and a column for each predicted one, the last of both for the negative one; `negative`, its name.
    """
    gold, predicted, absent, types = _pairs(predicted, gold, names, negative)
    pairs, order = Counter(zip(gold.tolist(), predicted.tolist(), strict=True)), [*types, absent]
    counts = [[pairs[row, column] for column in order] for row in order]
    return {"types": [names[index] for index in types], "counts": counts, "negative": negative}


def _pairs(
    predicted: Any, gold: Any, names: Sequence[str], negative: str | None
) -> tuple[np.ndarray, np.ndarray, int, list[int]]:
    """Gold and predicted ids, the id that is taken where there is no prediction, and the others by name."""
    if negative is not None and negative not in names:
        raise ValueError(
            f"negative must be one of the relations ({', '.join(names)}), or None where all of them count; got "
            f"{negative!r}."
        )
    absent = NO_PREDICTION if negative is None else list(names).index(negative)
    predicted, gold = (np.asarray(ids, dtype=int) for ids in (predicted, gold))
    if predicted.shape != gold.shape or gold.ndim != 1:
        raise ValueError(
            f"Expected a predicted and a gold relation id a row, got arrays of shape {predicted.shape} and "
            f"{gold.shape}."
        )
    is_predicted = predicted != NO_PREDICTION
    unknown = [index for index in {*predicted[is_predicted], *gold} if not 0 <= index < len(names)]
    if unknown:
        raise ValueError(f"Relation ids must be in 0..{len(names) - 1}, got {sorted(map(int, unknown))}.")
    if not len(gold):
        raise ValueError("There are no rows to score.")
    predicted = np.where(is_predicted, predicted, absent)
    types = sorted({*gold.tolist(), *predicted.tolist()} - {absent}, key=lambda index: names[index])
    return gold, predicted, absent, types
