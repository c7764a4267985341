"""Pictures of a model card: the training curve and the confusion matrix, as PNG."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator


# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, ORANGE = "#0072B2", "#D55E00"
GREY, GRID = "#666666", "#dddddd"
# A page shows a picture at a third of these pixels on a telephone: 14 points are 12 pixels there.
DPI, WIDTH, FONT = 200, 6.4, 14


@dataclass(frozen=True)
class Confusion:
    """
    Gold entities by predicted type, or gold relations by predicted ones.

    Args:
        types: of entities, or relations but the negative one.
        counts: a row for each gold type, a column for each predicted one; then a row of spurious and a column of
            missed ones. The last cell, both of it, counts nothing, but for `negative`.
        negative: the relation that the last row and column stand for.

    Raises:
        ValueError: for counts of another shape.
    """

    types: Sequence[str]
    counts: Sequence[Sequence[int]]
    negative: str | None = None

    def __post_init__(self):
        size = len(self.types) + 1
        if (size == 1 and self.negative is None) or [len(row) for row in self.counts] != [size] * size:
            raise ValueError(
                f"Confusion counts of {len(self.types)} types have {size} rows and columns, the last for what is "
                f"spurious and missed; got rows of {[len(row) for row in self.counts]}."
            )


def loss_by_step(log_history: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """(step, training loss) of a Trainer's log, finite ones."""
    entries = [(entry["step"], entry["loss"]) for entry in log_history if "loss" in entry]
    return [(step, loss) for step, loss in entries if math.isfinite(loss)]


def f1_by_epoch(log_history: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(epoch, validation F1) of a Trainer's log."""
    return [(entry["epoch"], entry["eval_f1"]) for entry in log_history if "eval_f1" in entry]


def training_curve(log_history: Sequence[Mapping[str, Any]], kept_epoch: float | None = None) -> bytes:
    """
    Training loss by step above validation F1 by epoch, whichever of them was logged.

    Args:
        log_history: of a Trainer's state.
        kept_epoch: whose weights the model has, which is marked.

    Raises:
        ValueError: for a log with neither.
    """
    losses, scores = loss_by_step(log_history), f1_by_epoch(log_history)
    panels = [panel for panel in (losses, scores) if panel]
    if not panels:
        raise ValueError("The log has neither a loss nor an eval_f1 to draw.")
    figure = _figure(2.4 * len(panels) + 0.2)
    axes = list(figure.subplots(len(panels), squeeze=False)[:, 0])
    if losses:
        _draw_losses(axes.pop(0), losses)
    if scores:
        _draw_scores(axes.pop(0), scores, kept_epoch)
    return _png(figure)


def _draw_losses(axes: Axes, losses: list[tuple[int, float]]) -> None:
    steps, values = zip(*losses, strict=True)
    axes.plot(steps, values, color=BLUE, linewidth=2, marker="o" if len(losses) <= 30 else None, markersize=6)
    title = "training loss"
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        title += " (log scale)"
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlim(0, max(steps) * 1.04)
    _finish(axes, title, "step")


def _draw_scores(axes: Axes, scores: list[tuple[float, float]], kept_epoch: float | None) -> None:
    epochs = [epoch for epoch, _ in scores]
    percent = [100 * f1 for _, f1 in scores]
    axes.plot(epochs, percent, color=BLUE, linewidth=2, marker="o", markersize=6)
    if kept_epoch in epochs:
        f1 = percent[epochs.index(kept_epoch)]
        axes.plot([kept_epoch], [f1], color=ORANGE, marker="D", markersize=11, linestyle="none")
        axes.set_title(
            f"\N{BLACK DIAMOND} kept: {f1:.1f}", loc="right", color=ORANGE, fontsize=FONT, fontweight="bold"
        )
    axes.set_xlim(0, max(epochs) * 1.04)
    axes.margins(y=0.12)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _finish(axes, "validation F1, percent", "epoch")


def confusion_matrix(confusion: Confusion) -> bytes:
    """
    Gold types by row, predicted ones by column, what is missed and spurious, or the negative relation, behind a line.

    A cell is shaded by its share of the gold ones of its row, a spurious one by its share of those of its column: what
    is right blue, what is wrong orange.
    """
    types, counts, negative = confusion.types, confusion.counts, confusion.negative
    size = len(types) + 1
    longest = max(map(len, [*types, negative or ""]))
    cell = max(0.75, 0.15 * max(len(f"{count:,}") for row in counts for count in row))  # inches
    figure = _figure(0.8 * size + 1.6, width=max(WIDTH, cell * size + 0.13 * max(longest, 8) + 0.5))
    (axes,) = figure.subplots(1, squeeze=False)[0]
    gold = [sum(row) for row in (counts[:-1] if negative is None else counts)]
    for row, column in ((row, column) for row in range(size) for column in range(size)):
        if negative is None and row == column == size - 1:
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor="#eeeeee", edgecolor=GRID))
            continue
        count = counts[row][column]
        share = min(count / (gold[row if row < len(gold) else column] or 1), 1)
        strength = share if row == column else math.sqrt(share)  # a few errors shall show
        colour = _shade(BLUE if row == column else ORANGE, strength)
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor=GRID))
        axes.text(
            column + 0.5,
            row + 0.5,
            f"{count:,}",
            ha="center",
            va="center",
            fontsize=FONT,
            color="white" if strength > 0.6 else "black" if count else GREY,
        )
    for line in (axes.axhline, axes.axvline):
        line(size - 1, color="black", linewidth=1.5)
    centres = [index + 0.5 for index in range(size)]
    rotation = 45 if longest > 7 else 0
    last = ["missed", "spurious"] if negative is None else [negative] * 2
    # else what is between two of them is set as mathematics
    columns, rows = ([name.replace("$", r"\$") for name in [*types, name]] for name in last)
    axes.set_xticks(centres, columns, rotation=rotation, ha="left" if rotation else "center")
    axes.set_yticks(centres, rows)
    axes.set_xlim(0, size)
    axes.set_ylim(size, 0)
    axes.tick_params(length=0, labelsize=FONT, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", fontsize=FONT, fontweight="bold", labelpad=8)
    axes.set_ylabel("gold", fontsize=FONT, fontweight="bold", labelpad=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _png(figure)


def _shade(colour: str, strength: float) -> tuple[float, float, float]:
    """From white to the colour."""
    red, green, blue = (1 - strength * (1 - int(colour[at : at + 2], 16) / 255) for at in (1, 3, 5))
    return red, green, blue


def _figure(height: float, width: float = WIDTH) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _finish(axes: Axes, title: str, xlabel: str) -> None:
    axes.set_title(title, loc="left", fontsize=FONT, fontweight="bold")
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.tick_params(labelsize=FONT)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
