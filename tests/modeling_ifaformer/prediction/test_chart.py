"""The chart of the most frequent entities."""

import warnings

from hub_card.figures import png
from modeling_ifaformer.prediction.chart import MAX_BARS, top_entities_figure


def test_bars_are_as_long_as_counts_and_the_first_is_on_top():
    top = {"LOC": {"Paris": 40, "New York": 20}, "PER": {f"name {number}": 50 - number for number in range(30)}}
    places, persons = top_entities_figure(top).axes
    assert [bar.get_width() for bar in places.patches] == [40, 20]
    assert [label.get_text() for label in places.get_yticklabels()] == ["Paris", "New York"]
    assert places.yaxis_inverted() and places.get_title(loc="left") == "LOC"
    assert [bar.get_width() for bar in persons.patches] == list(range(50, 50 - MAX_BARS, -1))


def test_any_name_can_be_drawn():
    names = ["$A$AP \\frac{", "😀 \u200d 北京", "x" * 200, "%s {}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names:
            assert png(top_entities_figure({name: {name: 3}, "B": {"b": 1}, "C": {"c": 2}})).startswith(b"\x89PNG")
    (axes,) = top_entities_figure({"LOC": dict.fromkeys(names, 1)}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*names[:2], "x" * 21 + "…", names[3]]
