"""Scores as text, and what the scores of runs that differ in the seed alone have in common."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any


METRICS = ("precision", "recall", "f1")


def results_table(results: dict[str, dict[str, Any]]) -> str:
    """
    A text table of the metrics of entities or relations: a row for each named result and entity type or relation, and
    one for the accuracy where there is one, in the place of F1; figures in percent.
    """
    width = max(map(len, results), default=0) + 2
    types = max((len(name) for result in results.values() for name in result["per_type"]), default=0)
    types = max(types, len("accuracy")) + 2
    lines = [f"{'':<{width}}{'type':<{types}}{'P':>8}{'R':>8}{'F1':>8}{'support':>10}"]
    for name, result in results.items():
        for entity_type, row in [*result["per_type"].items(), ("all", result)]:
            figures = "".join(f"{100 * row[key]:8.2f}" for key in METRICS)
            lines.append(f"{name:<{width}}{entity_type:<{types}}{figures}{row['support']:>10}")
            name = ""
        if "accuracy" in result:
            lines.append(f"{name:<{width}}{'accuracy':<{types}}{'':16}{100 * result['accuracy']:8.2f}")
    return "\n".join(lines)


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


def spread_table(spread: Mapping[str, Any]) -> str:
    """A text table, in percent: mean and standard deviation."""
    lines = [f"{'':<12}{'type':<8}{'P':>16}{'R':>16}{'F1':>16}"]
    for split, of in spread.items():
        for name, row in [*of["per_type"].items(), ("all", of)]:
            figures = "".join(f"{100 * row[m]['mean']:10.2f} ±{100 * row[m]['std']:5.2f}" for m in METRICS)
            lines.append(f"{split:<12}{name:<8}{figures}")
            split = ""
    return "\n".join(lines)


def out_of_reach(scores: Mapping[str, Any]) -> str:
    """What of the rows the model had no chance with, by metrics of entities or of relations."""
    if "unreadable_rows" in scores:
        return f"{scores['unreadable_rows']} rows have no room for both entities and count as without relation"
    return f"{scores['unreachable_entities']} of {scores['support']} entities are out of the model's reach"
