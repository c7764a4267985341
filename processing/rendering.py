"""Texts with highlighted entities and pictures with boxes, as HTML that stands alone and carries no script."""

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any

from PIL import Image

from .images import MAX_MEGAPIXELS, ImageError, full_size, load_image
from .problems import visible


# Light enough for black text on them (WCAG contrast above 9), distinct for the colour-blind as far as eight can be.
COLOURS = ("#9ecae9", "#ffbf79", "#98df8a", "#f6b6d2", "#d5c7ee", "#e4dd82", "#8fdcd3", "#d8c3a5")
KNOWN_TYPES = ("PER", "ORG", "LOC", "MISC")

# Of the boxes of a kind of crops. Orange and blue: told apart by nearly all eyes, and on nearly all pictures.
CROP_COLOURS = {"aux": "#d9480f", "rcnn": "#1864ab"}
MAX_LINE = 9  # pixels that a share of 1 adds to the width of a line
MIN_TOLD = 0.01  # smaller shares are not told


def escaped(name: str) -> str:
    """A name as HTML, see [`visible`]."""
    return html.escape(visible(name))


def type_colour(entity_type: str) -> str:
    """The same type has the same colour on every page."""
    if entity_type in KNOWN_TYPES:
        return COLOURS[KNOWN_TYPES.index(entity_type)]
    return COLOURS[hashlib.sha256(entity_type.encode(errors="surrogatepass")).digest()[0] % len(COLOURS)]


def entity_text(text: str, entities: Sequence[Mapping[str, Any]]) -> str:
    """
    The text with its entities marked; all of it is escaped. Entities have `entity_group`, `start` and `end`
    (characters, `end` exclusive), and `score` where there is one. Those that overlap or lie outside are a ValueError.
    """
    parts, position = [], 0
    for entity in sorted(entities, key=lambda entity: entity["start"]):
        start, end = entity["start"], entity["end"]
        if not position <= start < end <= len(text):
            raise ValueError(
                f"Entities must not overlap and lie inside the text of {len(text)} characters; got {start} to {end}."
            )
        parts.append(html.escape(text[position:start]))
        score = f" {entity['score']:.2f}" if entity.get("score") is not None else ""
        entity_type = entity["entity_group"]
        parts.append(
            f'<mark style="background:{type_colour(entity_type)}">{html.escape(text[start:end])}'
            f"<small>{escaped(entity_type)}{score}</small></mark>"
        )
        position = end
    return "".join([*parts, html.escape(text[position:])])


def picture_figure(
    image: Image.Image,
    caption: str = "",
    boxes: Sequence[tuple[str, Sequence[float], str] | tuple[str, Sequence[float], str, float]] = (),
    width: int = 320,
) -> str:
    """
    An RGB picture, scaled to at most `width` pixels across, with a caption below it and boxes over it: label, (xmin,
    ymin, xmax, ymax) in pixels of the picture's [`full_size`], CSS colour and, where it is not 2 pixels of the scaled
    picture, line width.
    """
    shown = image.copy()
    shown.thumbnail((width, 4 * width))
    data = BytesIO()
    shown.save(data, format="JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
    label = escaped(caption)
    if boxes:
        # in the picture's own pixels: the browser scales boxes and picture alike
        width, height = full_size(image)
        unit = width / shown.width
        drawn = "".join(_box(box, (width, height), unit) for box in boxes)
        picture = (
            f'<svg viewBox="0 0 {width} {height}" width="{shown.width}" height="{shown.height}" '
            f'role="img" aria-label="{label}"><image href="{source}" width="{width}" '
            f'height="{height}"/>{drawn}</svg>'
        )
    else:
        picture = f'<img src="{source}" alt="{label}" width="{shown.width}" height="{shown.height}"/>'
    return f"<figure>{picture}<figcaption>{label}</figcaption></figure>"


def _box(box: Sequence[Any], size: tuple[int, int], unit: float) -> str:
    label, (left, top, right, bottom), colour, line_width = (*box, 2)[:4]
    font = 12 * unit
    baseline = top - 3 * unit if top > font else min(top + font, size[1])
    # the text of a box at the right edge runs to the left of it
    x, anchor = (left + 2 * unit, "start") if left < 0.6 * size[0] else (right - 2 * unit, "end")
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" fill="none" '
        f'stroke="{escaped(colour)}" stroke-width="{line_width * unit:.1f}"/>'
        f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="{anchor}" font-size="{font:.1f}" fill="#fff" '
        f'stroke="#000" stroke-width="{2.5 * unit:.1f}" paint-order="stroke">{escaped(label)}</text>'
    )


def tweet_html(
    text: str | None,
    entities: Sequence[Mapping[str, Any]],
    image: Any = None,
    crops: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    problems: Sequence[str] = (),
    relations: Sequence[Mapping[str, Any]] = (),
    max_megapixels: float = MAX_MEGAPIXELS,
) -> str:
    """
    A tagged tweet: its text with the entities marked, the relations between them, its picture with the boxes of its
    crops, and for each entity with `shares` the picture once more, where the share of a crop is the width of its box's
    line. All text is escaped.

    Args:
        text: what the offsets of the entities point into.
        entities, crops: as the pipeline returns them.
        image: what [`load_image`] takes, or a list of it. One that cannot be read is not shown: that was told when the
            tweet was tagged.
        problems: what was wrong with the tweet.
        relations: `head` and `tail` (words), `relation` and `score` of each.
        max_megapixels: the largest picture, see [`load_image`].
    """
    parts = [f'<p dir="auto">{entity_text(text or "", entities)}</p>']
    for relation in relations:
        head, tail = (escaped(relation[of]) for of in ("head", "tail"))
        name = escaped(relation["relation"])
        parts.append(f"<p><bdi>{head}</bdi> <b>{name}</b> <bdi>{tail}</bdi> {relation['score']:.2f}</p>")
    parts += [f'<p class="note">{escaped(problem)}</p>' for problem in problems]
    figures = [_explained(entity) for entity in entities if "shares" in entity]
    source = next(iter(image), None) if isinstance(image, list | tuple) else image
    try:
        picture = None if source is None else load_image(source, max_megapixels)
    except ImageError:
        picture = None
    if picture is None:
        parts += [f'<p class="note">{escaped(caption)}</p>' for caption, _ in figures]
        return f"<article>{''.join(parts)}</article>"
    if not figures:
        boxes = [
            (str(crop.get("label", "")), crop["box"], CROP_COLOURS[column.removesuffix("_crops")])
            for column, of_column in crops.items()
            for crop in of_column
        ]
        figures = [(", ".join(f"{len(of_column)} {column}" for column, of_column in crops.items()), boxes)]
    shown = "".join(picture_figure(picture, caption, boxes) for caption, boxes in figures)
    return f'<article>{"".join(parts)}<div class="pictures">{shown}</div></article>'


def _explained(entity: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The caption and the boxes of an entity with shares."""
    shares = sorted(entity["shares"], key=lambda share: share["share"])
    told = [
        f"{' '.join(filter(None, (share['source'], share.get('label'))))} {share['share']:.0%}"
        for share in reversed(shares)
        if share["share"] >= MIN_TOLD
    ]
    boxes = [  # the largest on top
        (
            f"{share['share']:.0%}" if share["share"] >= MIN_TOLD else "",
            share["box"],
            CROP_COLOURS[share["source"].partition("_crops")[0]],
            1 + MAX_LINE * share["share"],
        )
        for share in shares
        if "box" in share
    ]
    return f"{entity['word']}: {', '.join(told)}", boxes
