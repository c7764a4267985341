"""The chart of the most frequent entities."""

import io
import warnings

from PIL import Image

from hub_card.figures import DPI, FONT
from modeling_ifaformer.prediction.chart import MAX_TYPES, top_entities_figure
from processing.inspection.contact_sheet import png


def test_bars_are_as_long_as_counts_and_the_first_is_on_top():
    top = {"LOC": {"Paris": 40, "New York": 20}, "PER": {f"name {number}": 50 - number for number in range(30)}}
    figure = top_entities_figure(top, 20)
    places, persons = figure.axes
    assert figure.get_suptitle() == "The 20 most frequent entities of each type"
    assert places.get_xlim() == persons.get_xlim(), "one scale"
    assert [bar.get_width() for bar in places.patches] == [40, 20]
    assert [label.get_text() for label in places.get_yticklabels()] == ["Paris", "New York"]
    assert places.yaxis_inverted() and places.get_title(loc="left") == "LOC"
    assert [bar.get_width() for bar in persons.patches] == list(range(50, 30, -1))


def test_type_is_readable_at_400_pixels():
    top = {entity_type: {"Paris": 3} for entity_type in ("PER", "LOC", "ORG")}
    assert FONT * DPI / 72 * 400 / Image.open(io.BytesIO(png(top_entities_figure(top, 1)))).width > 8  # of an em


def test_the_height_has_a_limit():
    top = {f"type {number}": {f"name {name}": 1 for name in range(1000)} for number in range(150)}
    figure = top_entities_figure(top, 1000)
    assert len(figure.axes) == MAX_TYPES and figure.get_suptitle().startswith("The 6 most frequent")
    of_one_type = top_entities_figure({"PER": top["type 0"]}, 1000)
    assert max(figure.get_figheight(), of_one_type.get_figheight()) * DPI < 2**16


def test_any_name_can_be_drawn():
    names = ["$A$AP \\frac{", "😀 \u200d 北京", "x" * 200, "%s {}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in names:
            assert png(top_entities_figure({name: {name: 3}, "B": {"b": 1}, "C": {"c": 2}}, 3)).startswith(b"\x89PNG")
    (axes,) = top_entities_figure({"LOC": dict.fromkeys(names, 1)}, 10).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*names[:2], "x" * 21 + "…", names[3]]
