"""What an error analysis says, in tables and sentences: as text for a terminal, and in parts for a page."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset

from processing.inspection.statistics import text_table
from processing.problems import visible
from processing.tokenizing import row_words

from .bootstrap import f1_of_counts
from .error_analysis import CORRECT, ErrorAnalysis, Match


NUM_CONFUSIONS = 10
EXAMPLES_IN_TEXT = 2


def counts_lines(analysis: ErrorAnalysis) -> tuple[list[str], list[list[str]]]:
    """
    Header and rows of a table: a line for each group of each criterion, with its counts and with precision, recall and
    F1 in percent.
    """
    lines = []
    for criterion, groups in analysis.counts.items():
        for group, counts in groups.items():
            correct, predicted, gold = of_scores = [counts[name] for name in (CORRECT, "predicted", "gold")]
            figures = [correct / max(predicted, 1), correct / max(gold, 1), f1_of_counts(of_scores)]
            of_kinds = [correct, *(counts[kind] for kind in analysis.kinds)]
            numbers = [gold, predicted, *(f"{100 * figure:.1f}" for figure in figures), *of_kinds]
            lines.append([f"{criterion}: {group}" if group else criterion, *map(str, numbers)])
    return ["", "gold", "predicted", "P", "R", "F1", CORRECT, *analysis.kinds], lines


def confusion_lines(analysis: ErrorAnalysis) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of the most frequent confusions of two labels."""
    found = analysis.confusions(NUM_CONFUSIONS)
    return ["gold and predicted", "times"], [
        [f"{gold}, predicted {predicted}", str(count)] for gold, predicted, count in found
    ]


def errors_of(kind: str, analysis: ErrorAnalysis, rows: Dataset) -> str:
    """What a kind of errors is, how many there are, and in how many rows."""
    number = sum(match.kind == kind for match in analysis.matches)
    return f"{analysis.kinds[kind]} ({number} in {len(analysis.rows_of(kind))} of {len(rows)} tweets)"


def answers_lines(analysis: ErrorAnalysis, index: int, row: Mapping[str, Any]) -> list[str]:
    """All gold and predicted answers of a row, a line for each kind that it has: "missed: Jordan (PER)"."""
    lines = []
    for kind in (*analysis.kinds, CORRECT):
        said = [_said(match, row) for match in analysis.matches if match.row == index and match.kind == kind]
        if said:
            lines.append(f"{kind}: {'; '.join(said)}")
    return lines


def _said(match: Match, row: Mapping[str, Any]) -> str:
    answers = [of for of in dict.fromkeys((match.gold, match.predicted)) if of is not None]
    if "head" in row:
        relations = ", predicted ".join(of.label for of in answers)
        return f"{relations} ({row['head']['name']}, {row['tail']['name']})"
    return ", predicted ".join(f"{' '.join(row['tokens'][of.start : of.end])} ({of.label})" for of in answers)


def by_protocol(rows: Dataset) -> str:
    """The words that say by which protocol entities are compared; none for relations, for which there is one way."""
    return "" if "head" in rows.column_names else ", by the protocol word"


def errors_text(name: str, analysis: ErrorAnalysis, rows: Dataset) -> str:
    """
    The errors of the model of that name as text: counts, the most frequent confusions, and of each kind a few tweets
    with all their answers.
    """
    parts = [f"Errors of {name}{by_protocol(rows)}:"]
    for header, lines in (counts_lines(analysis), confusion_lines(analysis)):
        parts += [text_table([header, *lines])] if lines else []
    for kind in analysis.kinds:
        told = [f"{kind}: {errors_of(kind, analysis, rows)}"]
        for index in analysis.examples(kind, EXAMPLES_IN_TEXT):
            row = rows[index]
            told += [f"  {visible(row_words(row)[0])}"]
            told += [f"    {visible(line)}" for line in answers_lines(analysis, index, row)]
        parts.append("\n".join(told))
    return "\n\n".join(parts)
