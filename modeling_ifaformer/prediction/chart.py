"""The most frequent entities of each type as bars, a PNG."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hub_card.figures import BLUE, DPI, FONT, GREY, WIDTH


MAX_BARS = 10
MAX_CHARACTERS = 22


def top_entities_chart(top: Mapping[str, Sequence[tuple[str, int]]]) -> bytes:
    """
    A panel for each type, of at most `MAX_BARS` bars.

    Args:
        top: for each type, entities and how often they occur, the most frequent first.

    Raises:
        ValueError: where there is no entity.
    """
    panels = {entity_type: of_type[:MAX_BARS] for entity_type, of_type in top.items() if of_type}
    if not panels:
        raise ValueError("There are no entities to draw.")
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    bars = max(map(len, panels.values()))
    figure = Figure(
        figsize=(WIDTH * columns, (0.32 * bars + 0.9) * rows), dpi=DPI, layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (entity_type, of_type) in zip(grid, panels.items(), strict=False):
        _draw(axes, entity_type, of_type, bars)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # an emoji that the font lacks becomes a box
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, entity_type: str, of_type: Sequence[tuple[str, int]], bars: int) -> None:
    counts = [count for _, count in of_type]
    drawn = axes.barh(range(len(counts)), counts, color=BLUE)
    axes.bar_label(drawn, [f"{count:,}" for count in counts], padding=4, fontsize=FONT, color=GREY)
    axes.set_yticks(range(len(counts)), [_short(name) for name, _ in of_type])
    axes.set_ylim(bars - 0.5, -0.5)  # the first on top, and bars of all panels as wide
    axes.set_xlim(0, max(counts) * 1.18)
    axes.set_title(_short(entity_type), loc="left", fontsize=FONT, fontweight="bold")
    axes.tick_params(labelsize=FONT, length=0)
    axes.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def _short(name: str) -> str:
    name = name if len(name) <= MAX_CHARACTERS else name[: MAX_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return name.replace("$", r"\$")  # else what is between two of them is set as mathematics
