"""A contact sheet: pictures in a grid with the boxes of their objects, for a person to judge a detector by."""

import io
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from processing.images import full_size
from processing.object_proposals import DetectedObject
from processing.rendering import CROP_COLOURS

from .html_page import CROP_KIND_NAMES


COLUMNS = 3
CELL_WIDTH, CELL_HEIGHT = 4.4, 4.1  # inches
FIELD_ASPECT = 4 / 3  # of a picture's field, width to height
DPI = 100
TEXT_WIDTH, TEXT_LINES = 62, 3  # characters


class SheetEntry(NamedTuple):
    """A cell of the sheet: a picture with a title above it and a text below it, cut after three lines."""

    title: str
    text: str
    image: Image.Image
    objects: Mapping[str, Sequence[DetectedObject]]  # of each kind ("aux", "rcnn")


def contact_sheet(entries: Sequence[SheetEntry], title: str = "") -> bytes:
    """
    The entries, at least one, row by row as a PNG, under a title and a legend. Each object is a frame in the colour of
    its kind, with its label and score.
    """
    if not entries:
        raise ValueError("A contact sheet needs at least one entry.")
    columns, rows = min(COLUMNS, len(entries)), math.ceil(len(entries) / COLUMNS)
    figure = Figure(figsize=(columns * CELL_WIDTH, rows * CELL_HEIGHT + 0.8), dpi=DPI, layout="constrained")
    # Without `parse_math`, what lies between two dollars is text as all else.
    shown_title = textwrap.shorten(title, columns * TEXT_WIDTH * 3 // 4, placeholder=" …")
    figure.suptitle(shown_title, parse_math=False)
    legend = [
        Patch(facecolor="none", edgecolor=CROP_COLOURS[kind], linewidth=2, label=name)
        for kind, name in CROP_KIND_NAMES.items()
    ]
    figure.legend(handles=legend, loc="outside lower left", ncols=len(legend), frameon=False)
    for axes, entry in zip_longest(figure.subplots(rows, columns, squeeze=False).flat, entries):
        if entry is None:
            axes.set_axis_off()
        else:
            _draw(axes, entry)
    return png(figure)


def png(figure: Figure) -> bytes:
    """The figure as a PNG. A character that the font lacks, such as an emoji, becomes a box."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axes: Axes, entry: SheetEntry) -> None:
    shown = entry.image.copy()
    shown.thumbnail((2 * CELL_WIDTH * DPI, 2 * CELL_HEIGHT * DPI))
    width, height = full_size(entry.image)
    axes.imshow(shown, extent=(0, width, height, 0))  # so that boxes are in pixels of the picture
    # The picture lies in the middle of a field that has the same shape in all cells.
    right, below = max(0, height * FIELD_ASPECT - width) / 2, max(0, width / FIELD_ASPECT - height) / 2
    axes.set(xlim=(-right, width + right), ylim=(height + below, -below), xticks=[], yticks=[], facecolor="#f1f3f5")
    axes.spines[:].set_visible(False)
    counts = ", ".join(f"{kind} {len(objects)}" for kind, objects in entry.objects.items())
    axes.set_title(textwrap.shorten(entry.title, 45, placeholder=" …"), loc="left", fontsize=10, parse_math=False)
    axes.set_title(counts, loc="right", fontsize=10, color="#666666")
    text = textwrap.wrap(entry.text, TEXT_WIDTH, max_lines=TEXT_LINES, placeholder=" …")
    axes.set_xlabel("\n".join(text + [""] * (TEXT_LINES - len(text))), fontsize=9, loc="left", parse_math=False)
    for kind, objects in entry.objects.items():
        colour = CROP_COLOURS[kind]
        for label, score, (xmin, ymin, xmax, ymax) in objects:
            frame = Rectangle((xmin, ymin), xmax - xmin, ymax - ymin, fill=False, edgecolor=colour, linewidth=2)
            frame.set_path_effects([withStroke(linewidth=3, foreground="white")])
            axes.add_patch(frame)
            # Often both detectors find the same object: the tags of its two frames stand at different corners.
            is_left = xmin + xmax < width
            axes.text(
                xmin if is_left else xmax,
                ymax if kind == "rcnn" else ymin,
                textwrap.shorten(label, 30, placeholder=" …") + ("" if score is None else f" {score:.2f}"),
                color="white",
                fontsize=8,
                horizontalalignment="left" if is_left else "right",
                verticalalignment="bottom" if kind == "rcnn" else "top",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
                parse_math=False,
            )
