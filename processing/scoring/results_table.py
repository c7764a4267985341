"""Scores as text: tables, and a sentence on what a model had no chance with."""

from collections.abc import Mapping
from typing import Any

from .seeds import METRICS


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
            figures = "".join(f"{100 * row[key]:8.2f}" for key in ("precision", "recall", "f1"))
            lines.append(f"{name:<{width}}{entity_type:<{types}}{figures}{row['support']:>10}")
            name = ""
        if "accuracy" in result:
            lines.append(f"{name:<{width}}{'accuracy':<{types}}{'':16}{100 * result['accuracy']:8.2f}")
    return "\n".join(lines)


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
