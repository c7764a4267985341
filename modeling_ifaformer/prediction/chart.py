"""The most frequent entities of each type as bars, a PNG."""

import io
import math
import warnings
from collections.abc import Mapping

from matplotlib.figure import Figure

from hub_card.figures import BLUE, DPI, FONT, GREY, WIDTH


MAX_BARS = 10
MAX_CHARACTERS = 22


def top_entities_chart(top: Mapping[str, Mapping[str, int]]) -> bytes:
    """The figure of [`top_entities_figure`] as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # an emoji that the font lacks becomes a box
        top_entities_figure(top).savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def top_entities_figure(top: Mapping[str, Mapping[str, int]]) -> Figure:
    """
    A panel for each type, of at most `MAX_BARS` bars.

    Args:
        top: for each type its entities and how often they occur, the most frequent first.

    Raises:
        ValueError: where there is no entity.
    """
    panels = {entity_type: list(of_type.items())[:MAX_BARS] for entity_type, of_type in top.items() if of_type}
    if not panels:
        raise ValueError("There are no entities to draw.")
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    bars = max(map(len, panels.values()))
    figure = Figure(figsize=(WIDTH * columns, (0.32 * bars + 0.9) * rows), dpi=DPI, layout="constrained")
    for number, (entity_type, of_type) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        names, counts = zip(*of_type, strict=True)
        drawn = axes.barh(range(len(counts)), counts, color=BLUE)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=4, fontsize=FONT, color=GREY)
        axes.set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)
        axes.set_ylim(bars - 0.5, -0.5)  # the first is on top, and bars of all panels are equally wide
        axes.set_xlim(0, max(counts) * 1.18)
        axes.set_title(_short(entity_type), loc="left", fontsize=FONT, fontweight="bold", parse_math=False)
        axes.tick_params(labelsize=FONT, length=0)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= MAX_CHARACTERS else name[: MAX_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
