"""The paired bootstrap against all resamples there are, and against a plain loop over texts."""

from itertools import product

import numpy as np
import pytest

from processing.scoring.bootstrap import f1_of_counts, paired_bootstrap


FIRST = np.array([[1, 1, 2], [0, 1, 1], [2, 2, 2], [0, 1, 0], [1, 2, 1]])
OTHER = np.array([[2, 2, 2], [1, 1, 1], [1, 2, 2], [0, 0, 0], [1, 1, 1]])


def f1(rows):
    correct, predicted, gold = (sum(column) for column in zip(*rows, strict=True))
    precision, recall = correct / (predicted or 1), correct / (gold or 1)
    return 2 * precision * recall / (precision + recall) if correct else 0.0


def difference(first, other, drawn):
    """That of the texts with these numbers, counted one by one."""
    return f1([other[text] for text in drawn]) - f1([first[text] for text in drawn])


def test_f1_of_counts():
    counts = np.random.default_rng(0).integers(0, 4, (200, 3))
    counts[:, 0] = counts.min(axis=1)
    assert f1_of_counts(counts) == pytest.approx([f1([row]) for row in counts])
    assert f1_of_counts([0, 0, 0]) == 0


def test_against_all_resamples():
    number = len(FIRST)
    differences = np.array([difference(FIRST, OTHER, drawn) for drawn in product(range(number), repeat=number)])
    observed = difference(FIRST, OTHER, range(number))
    found = paired_bootstrap(FIRST, OTHER, num_resamples=200_000)
    assert found["f1"] == pytest.approx(observed)
    share = (abs(differences - observed) >= abs(observed) - 1e-12).mean()
    assert 0.02 < share < 0.98 and found["p_value"] == pytest.approx(share, abs=0.005)
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(differences, (2.5, 97.5)), abs=0.01)


def test_against_a_plain_loop():
    random = np.random.default_rng(1)
    gold = random.integers(0, 4, 60)
    first, other = (
        np.stack([correct := random.binomial(gold, share), correct + random.integers(0, 2, 60), gold], axis=1)
        for share in (0.6, 0.7)
    )
    drawn = random.integers(0, 60, (4000, 60))
    differences = np.array([difference(first, other, texts) for texts in drawn])
    found = paired_bootstrap(first, other, num_resamples=100_000)
    assert found["f1"] == pytest.approx(difference(first, other, range(60)))
    assert [found["low"], found["high"]] == pytest.approx(np.percentile(differences, (2.5, 97.5)), abs=0.01)
    share = (abs(differences - found["f1"]) >= abs(found["f1"])).mean()
    assert 0.02 < share < 0.98 and found["p_value"] == pytest.approx(share, abs=0.03)


def test_equal_predictions_differ_in_nothing():
    assert paired_bootstrap(FIRST, FIRST) == {"f1": 0, "low": 0, "high": 0, "p_value": 1}


def test_pairs_are_drawn_together():
    """One answer more in every text is a sure gain, however the texts differ among each other."""
    gold = np.arange(1, 41)
    first, other = (np.stack([gold * 2 // 3 + more, gold, gold], axis=1) for more in (0, 1))
    found = paired_bootstrap(first, other, num_resamples=1000)
    assert found["low"] > 0 and found["p_value"] == 1 / 1001, "never 0"
    turned = paired_bootstrap(other, first, num_resamples=1000)
    assert (turned["f1"], turned["low"]) == pytest.approx((-found["f1"], -found["high"]))


def test_the_seed_alone_decides():
    swapped = [4, 2, 0, 1, 3]
    found = paired_bootstrap(FIRST, OTHER, 500, seed=3)
    assert found == paired_bootstrap(FIRST[swapped], OTHER[swapped], 500, seed=3)
    assert found != paired_bootstrap(FIRST, OTHER, 500, seed=4)


@pytest.mark.parametrize("first", [FIRST[:2], FIRST[:, :2], FIRST[:0]])
def test_counts_of_other_texts(first):
    other = first if not len(first) else OTHER
    with pytest.raises(ValueError, match=r"shape \(number of texts, 3\).*, got the shapes \(\d, \d\) and \(\d, 3\)"):
        paired_bootstrap(first, other)
