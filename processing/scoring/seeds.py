"""Several runs of train.py that differ in the seed alone, and what they have in common."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any


METRICS = ("precision", "recall", "f1")


def spread(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Mean and sample standard deviation over runs, of what their `results.json` hold: for `validation` and `test`,
    `precision`, `recall`, `f1` and, for relations, `accuracy`, each with its `mean`, `std` and `values` (in the order
    of the runs), and `per_type` with the same for each type.
    """
    return {
        split: {
            **_spread([run[split] for run in results]),
            "per_type": {
                name: _spread([run[split]["per_type"][name] for run in results])
                for name in results[0][split]["per_type"]
                if all(name in run[split]["per_type"] for run in results)
            },
        }
        for split in ("validation", "test")
    }


def _spread(scores: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        metric: {
            "mean": mean(of[metric] for of in scores),
            "std": stdev(of[metric] for of in scores),
            "values": [of[metric] for of in scores],
        }
        for metric in (*METRICS, "accuracy")
        if all(metric in of for of in scores)
    }
