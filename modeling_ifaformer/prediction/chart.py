"""The most frequent entities of each type as bars."""

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from hub_card.figures import BLUE, DPI, FONT, GREY, WIDTH, short


MAX_BARS = 10
MAX_CHARACTERS = 22


def top_entities_figure(top: Mapping[str, Mapping[str, int]]) -> Figure:
    """
    A panel of at most `MAX_BARS` bars for each type that has entities, of how often these occur, the most frequent
    first.
    """
    panels = {entity_type: list(of_type.items())[:MAX_BARS] for entity_type, of_type in top.items() if of_type}
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    bars = max(map(len, panels.values()))
    figure = Figure(figsize=(WIDTH * columns, (0.32 * bars + 0.9) * rows), dpi=DPI, layout="constrained")
    for number, (entity_type, of_type) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, columns, number)
        names, counts = zip(*of_type, strict=True)
        drawn = axes.barh(range(len(counts)), counts, color=BLUE)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=4, fontsize=FONT, color=GREY)
        axes.set_yticks(range(len(names)), [short(name, MAX_CHARACTERS) for name in names], parse_math=False)
        axes.set_ylim(bars - 0.5, -0.5)  # the first is on top, and bars of all panels are equally wide
        axes.set_xlim(0, max(counts) * 1.18)
        axes.set_title(
            short(entity_type, MAX_CHARACTERS), loc="left", fontsize=FONT, fontweight="bold", parse_math=False
        )
        axes.tick_params(labelsize=FONT, length=0)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure
