"""Accuracy, precision, recall and F1 of relations, in the published protocol, and which are taken for which."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from processing.labels import NO_RELATION


NO_PREDICTION = -1


def relation_metrics(
    predicted: Any,
    gold: Any,
    names: Sequence[str],
    negative: str | None = NO_RELATION,
    unreadable: Sequence[int] = (),
) -> dict[str, Any]:
    """
    Scores of predicted relations against gold ones, as the published code has them: accuracy over all rows; precision,
    recall and F1 as micro averages over the relations but the negative one, so that a negative row counts only where
    something else is predicted for it.

    Args:
        predicted, gold: relation ids, one a row.
        names: of all relations, in id order.
        negative: name of the one that stands for no relation; None where there is none, and all relations count.
        unreadable: gold ids of rows that the model could not be given (see `drop_unreadable`): the negative relation
            counts as predicted for them, so that every other one is missed.

    Returns:
        `accuracy`, `precision`, `recall`, `f1`, `support` (rows with a relation), `per_type`: of each relation but the
        negative one that is gold or predicted somewhere, by name, the last four; `unreadable_rows`.

    Raises:
        ValueError: for no row, numbers of rows that differ, an id that no name has, or a negative relation that is not
            among the names.
    """
    gold, predicted, absent = _pairs(predicted, gold, names, negative, unreadable)
    types = _types(gold, predicted, absent, names)
    positive = [index for index in range(len(names)) if index != absent]
    of_types = precision_recall_fscore_support(gold, predicted, labels=types, average=None, zero_division=0)
    precision, recall, f1, _ = precision_recall_fscore_support(
        gold, predicted, labels=positive, average="micro", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(gold, predicted)),
        **_figures(precision, recall, f1, (gold != absent).sum()),
        "per_type": {names[index]: _figures(*row) for index, *row in zip(types, *of_types, strict=True)},
        "unreadable_rows": len(unreadable),
    }


def relation_confusion(
    predicted: Any,
    gold: Any,
    names: Sequence[str],
    negative: str | None = NO_RELATION,
    unreadable: Sequence[int] = (),
) -> dict[str, Any]:
    """
    Gold relations by predicted ones.

    Args:
        predicted, gold, names, negative, unreadable: as in [`relation_metrics`].

    Returns:
        `types`: the relations but the negative one that are gold or predicted somewhere; `counts`: a row for each gold
        relation and a column for each predicted one, the last of both for the negative one; `negative`, its name.

    Raises:
        ValueError: as in [`relation_metrics`].
    """
    gold, predicted, absent = _pairs(predicted, gold, names, negative, unreadable)
    types = _types(gold, predicted, absent, names)
    counts = confusion_matrix(gold, predicted, labels=[*types, absent])
    return {"types": [names[index] for index in types], "counts": counts.tolist(), "negative": negative}


def _pairs(
    predicted: Any, gold: Any, names: Sequence[str], negative: str | None, unreadable: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Gold and predicted ids of all rows, and the id that is predicted for an unreadable one."""
    if negative is not None and negative not in names:
        raise ValueError(
            f"negative must be one of the relations ({', '.join(names)}), or None where all of them count; got "
            f"{negative!r}."
        )
    absent = NO_PREDICTION if negative is None else list(names).index(negative)
    predicted, gold, missing = (np.asarray(ids, dtype=int) for ids in (predicted, gold, unreadable))
    if predicted.shape != gold.shape or gold.ndim != 1:
        raise ValueError(
            f"Expected a predicted and a gold relation id a row, got arrays of shape {predicted.shape} and "
            f"{gold.shape}."
        )
    unknown = [index for index in {*predicted, *gold, *missing} if not 0 <= index < len(names)]
    if unknown:
        raise ValueError(f"Relation ids must be in 0..{len(names) - 1}, got {sorted(map(int, unknown))}.")
    gold = np.concatenate([gold, missing])
    if not len(gold):
        raise ValueError("There are no rows to score.")
    return gold, np.concatenate([predicted, np.full(len(missing), absent)]), absent


def _types(gold: np.ndarray, predicted: np.ndarray, absent: int, names: Sequence[str]) -> list[int]:
    """Ids of the relations that occur, in the order of their names."""
    return sorted({*gold.tolist(), *predicted.tolist()} - {absent}, key=lambda index: names[index])


def _figures(precision: Any, recall: Any, f1: Any, support: Any) -> dict[str, float | int]:
    # numpy numbers, which JSON does not take
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
