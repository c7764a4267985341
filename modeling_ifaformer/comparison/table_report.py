"""A table as Markdown and as a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from hub_card.figures import BLUE, GREY, ORANGE, finish_axes, short
from hub_card.markdown import plain
from processing.inspection.contact_sheet import png
from processing.scoring.results_table import METRICS

from .table_file import Table


HEADER = (
    "system",
    "sees of a picture",
    "parameters, trained of all",
    "P",
    "R",
    "F1",
    "F1, published protocol",
    "F1, pictures shuffled",
    "published F1",
    "difference",
    "seconds",
)


_SAID = {"precision": "P", "recall": "R", "f1": "F1"}


def percent(spread: Mapping[str, Any]) -> str:
    """Mean and, of several runs, sample deviation."""
    deviation = "" if spread["std"] is None else f" ± {100 * spread['std']:.2f}"
    return f"{100 * spread['mean']:.2f}{deviation}"


def difference(row: Mapping[str, Any]) -> float | None:
    """Points of F1 by the published protocol above what is published; None where either is missing."""
    if "f1" not in row["published"] or "published_protocol" not in row:
        return None
    return 100 * row["published_protocol"]["f1"]["mean"] - row["published"]["f1"]


def table_markdown(table: Table, rows: Sequence[Mapping[str, Any]], data: Mapping[str, Mapping[str, Any]]) -> str:
    """
    The page: the table, what stands below it, the sources of the published figures, what was not run, and the data.

    Args:
        table: whose title and note it has.
        rows: as `table_row` gives them.
        data: as `data_digests` gives it.
    """
    run = [row for row in rows if "word" in row]
    lines = [f"# {plain(table.title)}", "", _table(run), "", table.note.strip(), ""]
    lines += [f"- {plain(row['name'])}: {row['note'].strip()}" for row in rows if row["note"]]
    sources = {}
    for row in rows:
        figures = [
            f"{_SAID[metric]} {row['published'][metric]:.2f}" for metric in METRICS if metric in row["published"]
        ]
        if figures:
            sources[row["name"]] = f"{', '.join(figures)}; {row['source']}"
    if sources:
        lines += [
            "",
            "Published:",
            "",
            *(f"- {plain(name)}: {said}" for name, said in sources.items()),
        ]
    absent = [row for row in rows if "not_run" in row]
    if absent:
        lines += ["", "Not run:", "", *(f"- {plain(row['name'])}: {plain(row['not_run'])}" for row in absent)]
    seeds = sorted({seed for row in rows for seed in row["seeds"]})
    of_fewer = [row for row in run if len(row["seeds"]) < len(seeds)]
    fewer = "".join(f" {plain(row['name'])}: {', '.join(map(str, row['seeds']))} alone." for row in of_fewer)
    counts = ", ".join(f"{split} {of['rows']:,} rows ({of['digest']})" for split, of in data.items())
    lines += ["", f"Seeds: {', '.join(map(str, seeds))}.{fewer} Data, with a digest of words and tags: {counts}.", ""]
    return "\n".join(lines)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[*HEADER], ["---", "---", *["---:"] * (len(HEADER) - 2)]]
    for row in rows:
        shuffled, above = row.get("word_shuffled"), difference(row)
        cells.append(
            [
                plain(row["name"]),
                plain(row["sees"]),
                f"{row['trained_parameters'] / 1e6:.2f} of {row['parameters'] / 1e6:.2f} M",
                *(percent(row["word"][metric]) for metric in METRICS),
                percent(row["published_protocol"]["f1"]),
                "" if shuffled is None else percent(shuffled["f1"]),
                f"{row['published']['f1']:.2f}" if row["published"] else "",
                "" if above is None else f"{above:+.2f}",
                f"{row['seconds']:.0f}",
            ]
        )
    return "\n".join(f"| {' | '.join(of_row)} |" for of_row in cells)


def table_figure(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """
    F1 of each row that was run as a PNG: a dot for its mean and a line for its deviation, a ring with the pictures
    shuffled, all by the protocol `word`, and a cross for what is published.
    """
    run = [row for row in rows if "word" in row][::-1]
    figure = Figure(figsize=(7.5, 1.2 + 0.42 * len(run)), dpi=200, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for place, row in enumerate(run):
        for name, shown in (("word_shuffled", {"mfc": "white"}), ("word", {})):
            if name in row:
                of = row[name]["f1"]
                style: dict[str, Any] = {"color": BLUE, "fmt": "o", "capsize": 4, "markersize": 9, **shown}
                axes.errorbar(100 * of["mean"], place, xerr=100 * (of["std"] or 0), **style)
        if row["published"]:
            axes.plot(row["published"]["f1"], place, "x", color=ORANGE, markersize=9, markeredgewidth=2.5)
    axes.set_yticks(range(len(run)), [short(row["name"]).replace("$", r"\$") for row in run])
    axes.set_ylim(-0.6, len(run) - 0.4)
    finish_axes(axes, "Test F1 in percent")
    keys = (
        "dot: measured here; ring: pictures shuffled; both by the protocol word\ncross: published, by its own protocol"
    )
    figure.supxlabel(keys, fontsize=11, color=GREY)  # below the whole figure: the axes are narrower than it
    return png(figure)
