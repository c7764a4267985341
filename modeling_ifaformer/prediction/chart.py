"""The most frequent entities of each type as bars."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from hub_card.figures import BLUE, DPI, FONT, GREY, WIDTH, short


# A picture of matplotlib has less than 65,536 pixels in height.
MAX_TYPES, MAX_BARS = 100, 600
MAX_CHARACTERS = 22
BAR, SPACE = 0.34, 0.5  # inches, of a bar and above those of a type


def top_entities_figure(top: Mapping[str, Mapping[str, int]], number: int) -> Figure:
    """
    Bars of how often entities occur, on one scale: the `number` most frequent ones of each type, in a panel, as far as
    `MAX_BARS` in all allow it, of the first `MAX_TYPES` types.
    """
    types = [entity_type for entity_type in top if top[entity_type]][:MAX_TYPES]
    number = min(number, MAX_BARS // len(types))
    panels = {entity_type: dict(list(top[entity_type].items())[:number]) for entity_type in types}
    bars = [len(of_type) for of_type in panels.values()]
    height = BAR * sum(bars) + SPACE * (len(bars) + 1)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    title = (
        f"The {number} most frequent entities of each type" if number > 1 else "The most frequent entity of each type"
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=FONT, fontweight="bold")
    grid = figure.subplots(len(bars), squeeze=False, sharex=True, height_ratios=bars)
    for axes, (entity_type, of_type) in zip(grid[:, 0], panels.items(), strict=True):
        drawn = axes.barh(range(len(of_type)), [*of_type.values()], color=BLUE)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=4, fontsize=FONT, color=GREY)
        axes.set_yticks(range(len(of_type)), [short(name, MAX_CHARACTERS) for name in of_type], parse_math=False)
        axes.set_ylim(len(of_type) - 0.5, -0.5)  # The first is on top.
        axes.set_title(
            short(entity_type, MAX_CHARACTERS), loc="left", fontsize=FONT, fontweight="bold", parse_math=False
        )
        axes.tick_params(labelsize=FONT, length=0)
        axes.xaxis.set_visible(False)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlim(0, max(count for of_type in panels.values() for count in of_type.values()) * 1.2)
    return figure
