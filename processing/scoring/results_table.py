"""Scores as text, and what the scores of runs that differ in the seed alone have in common."""

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from processing.inspection.statistics import text_table


METRICS = ("precision", "recall", "f1")


def scores_by_split(results: Mapping[str, Any]) -> dict[str, Any]:
    """What a `results.json` holds for `validation` and, where the data have it, `test`."""
    return {split: results[split] for split in ("validation", "test") if split in results}


def results_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """
    A text table of the metrics of entities or relations, or of their [`spread`]: a row for each named result and
    entity type or relation, and one for the accuracy where there is one, in the place of F1; figures in percent.
    """
    lines = [["", "type", "P", "R", "F1", "support"]]
    for name, result in results.items():
        for entity_type, row in [*result["per_type"].items(), ("all", result)]:
            lines.append([name, entity_type, *(_percent(row[key]) for key in METRICS), str(row.get("support", ""))])
            name = ""
        if "accuracy" in result:
            lines.append(["", "accuracy", "", "", _percent(result["accuracy"]), ""])
    return text_table(lines, num_names=2)


def _percent(figure: float | Mapping[str, float]) -> str:
    """A number, or mean and standard deviation."""
    if isinstance(figure, Mapping):
        return f"{100 * figure['mean']:.2f} ±{100 * figure['std']:5.2f}"
    return f"{100 * figure:.2f}"


def spread(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Mean and sample standard deviation over runs, of what their `results.json` hold: for `validation` and maybe `test`,
    `precision`, `recall`, `f1` and, for relations, `accuracy`, each with its `mean`, `std` and `values` (in the order
    of the runs), and `per_type` with the same for each type.
    """
    return {
        split: {
            **metrics_spread([run[split] for run in results]),
            "per_type": {
                name: metrics_spread([run[split]["per_type"][name] for run in results])
                for name in results[0][split]["per_type"]
                if all(name in run[split]["per_type"] for run in results)
            },
        }
        for split in scores_by_split(results[0])
    }


def metrics_spread(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Of each metric that all scores have `mean`, `std` (the sample deviation, None for one score alone) and `values`.
    """
    return {
        metric: {
            "mean": mean(of[metric] for of in scores),
            "std": stdev(of[metric] for of in scores) if len(scores) > 1 else None,
            "values": [of[metric] for of in scores],
        }
        for metric in (*METRICS, "accuracy")
        if all(metric in of for of in scores)
    }


def differences_table(differences: Mapping[str, Mapping[str, Any]]) -> str:
    """A text table of differences in F1, as [`CheckpointScores.differences`] gives them; points of F1 in percent."""
    lines = [["difference in F1, paired bootstrap", "to", "points", "95 % interval", "p"]]
    for name, of in differences.items():
        points, low, high = (f"{100 * of[key]:+.2f}" for key in ("f1", "low", "high"))
        lines.append([name, of["to"], points, f"{low} to {high}", f"{of['p_value']:.4f}"])
    return text_table(lines, num_names=2)


def out_of_reach(scores: Mapping[str, Any]) -> str:
    """What of the rows the model had no chance with, by metrics of entities or of relations."""
    if "unreadable_rows" in scores:
        return f"{scores['unreadable_rows']} rows have no room for both entities and count as without relation"
    return f"{scores['unreachable_entities']} of {scores['support']} entities are out of the model's reach"
