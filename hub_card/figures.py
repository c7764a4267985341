"""Pictures of a model card: the training curve and the confusion matrix, as PNG."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from sklearn.metrics import ConfusionMatrixDisplay

from processing.inspection.contact_sheet import png
from processing.problems import visible
from processing.rendering import CROP_COLOURS


# The colours of the boxes on pages, which the colour-blind tell apart.
BLUE, ORANGE = CROP_COLOURS["rcnn"], CROP_COLOURS["aux"]
GREY, GRID = "#57606a", "#d0d7de"
# A page shows a picture at a third of these pixels on a telephone: 14 points are 12 pixels there.
DPI, WIDTH, FONT = 200, 6.4, 14
LEAST_F1_RANGE = 5  # points of F1 from bottom to top, so that a change of a tenth does not look like a leap
ENDS = ("missed", "spurious")  # of the columns and of the rows of a confusion matrix


def loss_by_step(log_history: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(step, training loss) of a Trainer's log, finite ones."""
    entries = [(entry["step"], entry["loss"]) for entry in log_history if "loss" in entry]
    return [(step, loss) for step, loss in entries if math.isfinite(loss)]


def f1_by_epoch(log_history: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """(epoch, validation F1) of a Trainer's log."""
    return [(entry["epoch"], entry["eval_f1"]) for entry in log_history if "eval_f1" in entry]


def training_curve(log_history: Sequence[Mapping[str, Any]], kept_epoch: float | None = None) -> bytes:
    """
    Training loss by step above validation F1 by epoch, or the one of them that was logged.

    Args:
        log_history: the log of a Trainer's state.
        kept_epoch: the epoch whose weights the model has. It is marked.

    Raises:
        ValueError: for a log without either.
    """
    losses = loss_by_step(log_history)
    scores = [(epoch, 100 * f1) for epoch, f1 in f1_by_epoch(log_history)]
    both = ((losses, "Training loss", "step"), (scores, "Validation F1 in percent", "epoch"))
    panels = [panel for panel in both if panel[0]]
    if not panels:
        raise ValueError("The log has neither a loss nor an eval_f1 to draw.")
    figure = _figure(2.4 * len(panels) + 0.2)
    for axes, (points, title, xlabel) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        x, y = zip(*points, strict=True)
        marker = None if points is losses and len(losses) > 30 else "o"
        axes.plot(x, y, color=BLUE, linewidth=2, marker=marker, markersize=6)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.10g}")
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if points is scores:
            lack = max(0, LEAST_F1_RANGE - (max(y) - min(y)))
            top = min(100, max(y) + lack / 2)
            bottom = min(min(y), top - LEAST_F1_RANGE)
            axes.set_ylim(bottom - 0.12 * (top - bottom), top + 0.12 * (top - bottom))
            if kept_epoch in x:
                kept = y[x.index(kept_epoch)]
                axes.plot([kept_epoch], [kept], color=ORANGE, marker="D", markersize=11, linestyle="none")
                mark = f"\N{BLACK DIAMOND} kept: {kept:.1f}"
                axes.set_title(mark, loc="right", color=ORANGE, fontsize=FONT, fontweight="bold")
        elif min(y) > 0 and max(y) > 5 * min(y):
            title += " (log scale)"
            log_scale(axes, "y")
        finish_axes(axes, title, xlabel)
    return png(figure)


def log_scale(axes: Axes, name: str) -> None:
    """Make the axis `x` or `y` logarithmic, with numbers as they are written: 0.05, 1, 2,000."""
    axes.set(**{f"{name}scale": "log"})
    axis: Axis = getattr(axes, f"{name}axis")
    lowest, highest = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 500 * lowest else (1,)))
    axis.set_major_formatter("{x:,.10g}")
    axis.set_minor_locator(NullLocator())


def finish_axes(axes: Axes, title: str, xlabel: str = "") -> None:
    """Title, label, grid and type of a panel."""
    axes.set_title(title, loc="left", fontsize=FONT, fontweight="bold")
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.tick_params(labelsize=FONT)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def confusion_matrix(types: Sequence[str], counts: Sequence[Sequence[int]], negative: str | None = None) -> bytes:
    """
    Gold types by row and predicted ones by column. What is missed and spurious, or the negative relation, is behind a
    line.

    A cell is shaded by its share of the gold ones of its row; a spurious one, by its share of the gold ones of its
    type.

    Args:
        types: the entity types, or the relations but for the negative one.
        counts: a row for each gold type and a column for each predicted one, then a row of spurious and a column of
            missed ones. The last cell of these counts nothing, unless there is a `negative`.
        negative: the relation that the last row and the last column stand for.

    Raises:
        ValueError: for counts of another shape.
    """
    size, lengths = len(types) + 1, [len(row) for row in counts]
    if (size == 1 and negative is None) or lengths != [size] * size:
        raise ValueError(
            f"Confusion counts of {len(types)} types have {size} rows and columns, the last for what is spurious and "
            f"missed. Got rows of lengths {lengths}."
        )
    numbers = np.array(counts)
    gold = np.maximum(numbers.sum(axis=1), 1)
    shares = numbers / gold[:, None]
    if negative is None:
        shares[-1] = np.minimum(numbers[-1] / gold, 1)
    # A dollar sign starts mathematics unless it is escaped.
    columns, rows = ([short(name).replace("$", r"\$") for name in (*types, negative or last)] for last in ENDS)
    longest, digits = max(map(len, columns + rows)), len(f"{numbers.max():,}")
    side = max(WIDTH, max(0.5, 0.14 * digits + 0.1) * size + 0.11 * longest + 0.5)  # inches
    figure = _figure(side, width=side)
    axes = figure.subplots()
    display = ConfusionMatrixDisplay(shares, display_labels=columns)
    display.plot(ax=axes, cmap="Blues", colorbar=False, im_kw={"vmin": 0, "vmax": 1}, text_kw={"fontsize": FONT})
    for text, count in zip(display.text_.flat, numbers.flat, strict=True):
        text.set_text(f"{count:,}")
    if negative is None:
        display.text_[-1, -1].set_text("")  # what is neither gold nor predicted is not counted
    for line in (axes.axhline, axes.axvline):
        line(size - 1.5, color="black", linewidth=1.5)
    axes.set_yticks(range(size), rows)
    is_tilted = max(map(len, columns)) > 7
    axes.set_xticks(range(size), columns, rotation=45 * is_tilted, ha="left" if is_tilted else "center")
    axes.tick_params(length=0, labelsize=FONT, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    for set_label, label in ((axes.set_xlabel, "predicted"), (axes.set_ylabel, "gold")):
        set_label(label, fontsize=FONT, fontweight="bold", labelpad=8)
    return png(figure)


def short(name: str, limit: int = 40) -> str:
    """A name for a figure, which would grow with it: at most so many characters, all of them visible."""
    name = visible(name)
    return name if len(name) <= limit else name[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _figure(height: float, width: float = WIDTH) -> Figure:
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
