"""The chart of the most frequent entities."""

import io
import warnings
from importlib import import_module

import numpy as np
import pytest
from PIL import Image


def blue_rows(png):
    """Runs of rows of pixels in which something is blue, and the widest of each."""
    values = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    widths = (values[..., 2] - values[..., 0] > 100).sum(axis=1)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], (widths > 0).astype(int), [0]])))
    return [int(widths[start:stop].max()) for start, stop in zip(starts[::2], starts[1::2], strict=True)]


def test_bars_are_as_long_as_counts():
    chart = import_module("modeling_ifaformer.prediction.chart")
    widths = blue_rows(chart.top_entities_chart({"LOC": [("Paris", 40), ("New York", 20), ("Ulm", 10)]}))
    assert [round(width / widths[0], 2) for width in widths] == [1, 0.5, 0.25]
    top = {"LOC": [(f"name {number}", 50 - number) for number in range(30)]}
    assert len(blue_rows(chart.top_entities_chart(top))) == chart.MAX_BARS


def test_any_name_can_be_drawn():
    chart = import_module("modeling_ifaformer.prediction.chart")
    names = ["$A$AP \\frac{", "😀 \u200d 北京", "x" * 200, "%s {}"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain, odd = (chart.top_entities_chart({"A_$b$": [(name, 3)], "B": [("b", 1)]}) for name in ("x", names[0]))
        for name in names[1:]:
            chart.top_entities_chart({name: [(name, 3)]})
    assert plain != odd
    with pytest.raises(ValueError, match="no entities to draw"):
        chart.top_entities_chart({"LOC": []})
