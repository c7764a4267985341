"""Curves of how time and memory grow, as PNG."""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hub_card.figures import BLUE, DPI, FONT, GREY, GRID, ORANGE, WIDTH


def growth_figure(curve: dict[str, Any]) -> bytes:
    """
    Seconds, with lowest and highest, above memory; both axes logarithmic where nothing is 0. A grey line shows what
    would be linear.

    Args:
        curve: of `measure_growth`.
    """
    figure = Figure(figsize=(WIDTH, 5.0), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    times, memory = figure.subplots(2, sharex=True)
    numbers, seconds = curve["x"], curve["seconds"]
    medians = [time["median"] for time in seconds]
    times.fill_between(
        numbers, [time["lowest"] for time in seconds], [time["highest"] for time in seconds], color=BLUE, alpha=0.2
    )
    times.plot(numbers, [medians[-1] * number / numbers[-1] for number in numbers], color=GREY, linestyle="--")
    times.plot(numbers, medians, color=BLUE, linewidth=2, marker="o", markersize=6)
    memory.plot(numbers, curve["memory_mb"], color=ORANGE, linewidth=2, marker="o", markersize=6)
    if min(numbers) > 0:
        times.set_xscale("log")
        times.set_yscale("log")
    memory.set_ylim(0, max(*curve["memory_mb"], 1.0) * 1.05)
    _finish(times, "seconds (dashed: in proportion)")
    _finish(memory, "peak memory beyond that before, MB")
    memory.set_xlabel(curve["name"], fontsize=FONT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=FONT, fontweight="bold")
    axes.tick_params(labelsize=FONT)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
