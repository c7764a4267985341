"""Whether a difference in F1 between two models is more than chance: the paired bootstrap."""

from typing import Any

import numpy as np


NUM_RESAMPLES = 10_000


def f1_of_counts(counts: Any) -> Any:
    """F1, micro average, of (..., 3) numbers of correct, predicted and gold answers; 0 where there is neither."""
    correct, predicted, gold = np.moveaxis(np.asarray(counts), -1, 0)
    return 2 * correct / np.maximum(predicted + gold, 1)


def paired_bootstrap(
    first: np.ndarray, other: np.ndarray, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, float]:
    """
    The difference in F1 between two models on the same texts, and how sure it is: paired bootstrap resampling over
    texts (Koehn, 2004, https://aclanthology.org/W04-3250), as Berg-Kirkpatrick et al. have its p-value (2012,
    https://aclanthology.org/D12-1091), here for a difference in either direction, since nobody says beforehand which
    model is the better one.

    A resample has as many texts as there are, drawn with replacement, the same ones for both models.

    Args:
        first, other: of each text how many answers of a model are correct, how many are predicted and how many are
            gold, (number of texts, 3).
        num_resamples: how many resamples are drawn.
        seed: of the drawing.

    Returns:
        `f1`, that of the other minus that of the first; `low` and `high`, the 2.5th and the 97.5th percentile of this
        difference over the resamples; `p_value`, the share of resamples whose difference is off from `f1` by at least
        as much as `f1` is off from 0, the given texts counted as one more resample so that it is never 0.

    Raises:
        ValueError: for counts that are not of the same texts, and for no texts.
    """
    if first.shape != other.shape or first.ndim != 2 or first.shape[1] != 3 or not len(first):
        raise ValueError(
            "Expected two arrays of the shape (number of texts, 3) with the counts of the same texts, got the shapes "
            f"{first.shape} and {other.shape}."
        )
    # Texts with the same counts are one kind of texts. How often each kind is drawn is multinomial, so that neither
    # time nor memory grow with the number of texts.
    kinds, numbers = np.unique(np.concatenate([first, other], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(first), numbers / len(first), size=num_resamples)
    sums = drawn @ kinds  # (num_resamples, 6)
    differences = f1_of_counts(sums[:, 3:]) - f1_of_counts(sums[:, :3])
    difference = f1_of_counts(other.sum(axis=0)) - f1_of_counts(first.sum(axis=0))
    low, high = np.percentile(differences, (2.5, 97.5))
    # Sums of fractions are off by their last digits, where a resample is as far off as the difference is.
    as_far = np.abs(differences - difference) >= np.abs(difference) - 1e-12
    return {
        "f1": float(difference),
        "low": float(low),
        "high": float(high),
        "p_value": float((as_far.sum() + 1) / (num_resamples + 1)),
    }
