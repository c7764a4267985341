"""
Tagged tweets as HTML that stands alone and carries no script: texts with names in colour, pictures with frames, and
what the model looked at. `STYLE` belongs beside it; it follows the colours of the page around it, light or dark.
"""

import base64
import hashlib
import html
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, NamedTuple

from PIL import Image

from .columns import CROP_COLUMNS
from .images import MAX_MEGAPIXELS, ImageError, full_size, load_image
from .problems import visible


# Light enough for black text on them (WCAG contrast above 9), distinct for the colour-blind as far as eight can be.
COLOURS = ("#9ecae9", "#ffbf79", "#98df8a", "#f6b6d2", "#d5c7ee", "#e4dd82", "#8fdcd3", "#d8c3a5")
KNOWN_TYPES = ("PER", "ORG", "LOC", "MISC")

# Of the frames of a kind of crops, with white numbers on them (WCAG contrast above 4.5). Orange and blue: told apart
# by nearly all eyes, and on nearly all pictures.
CROP_COLOURS = {"aux": "#d0420e", "rcnn": "#1864ab"}
CROP_COLOURS_OF = {column: CROP_COLOURS[column.removesuffix("_crops")] for column in CROP_COLUMNS}
MAX_LINE = 9  # pixels that a share of 1 adds to the width of a line

MAX_SIDE, MAX_CROP_SIDE = 320, 48  # pixels of a picture and of a crop that is shown beside it
MAX_BYTES, MAX_CROP_BYTES = 14_000, 1_500  # of them as JPEG, so that a tweet with six crops has at most 40 kB
BADGE = 15  # pixels, side of a part's number in the picture
MAX_CHOSEN = 10  # names of a tweet that can be chosen, each to see what was looked at for it

# How the relations of MNRE are said; others by the last part of their name.
RELATION_PHRASES = {
    "/loc/loc/contain": "contains",
    "/misc/loc/held_on": "is held in",
    "/misc/misc/part_of": "is a part of",
    "/org/loc/locate_at": "is located in",
    "/org/org/alternate_names": "is another name of",
    "/org/org/subsidiary": "is a subsidiary of",
    "/per/loc/place_of_birth": "was born in",
    "/per/loc/place_of_residence": "lives in",
    "/per/misc/awarded": "was awarded",
    "/per/misc/nationality": "has the nationality",
    "/per/misc/present_in": "is present in",
    "/per/misc/race": "is of the people",
    "/per/misc/religion": "has the religion",
    "/per/org/member_of": "is a member of",
    "/per/per/alternate_names": "is another name of",
    "/per/per/alumi": "went to school with",
    "/per/per/charges": "brings charges against",
    "/per/per/couple": "is the partner of",
    "/per/per/neighbor": "is a neighbour of",
    "/per/per/parent": "is a parent of",
    "/per/per/peer": "is a peer of",
    "/per/per/siblings": "is a sibling of",
}

EMPTY_CELL = "<span></span>"  # keeps the place of a number or of a crop

STYLE = """
.tweet { overflow-wrap: anywhere; }
.tweet p { margin: .2rem 0 .6rem; }
.tweet .text { font-size: 1.1rem; line-height: 1.9; text-align: start; }
.tweet mark { border-radius: .3em; padding: .1em .25em; box-decoration-break: clone; }
.tweet mark, .tweet mark small { color: #1b1f24 !important; }  /* some pages give all elements a colour */
.tweet mark small { font-weight: 600; unicode-bidi: isolate; white-space: nowrap; }
.tweet .note { border-inline-start: .25rem solid; padding-inline-start: .5rem; font-size: .95rem; }
.tweet label { cursor: pointer; position: relative; border-radius: .3em; }
.tweet input[type="radio"] { position: absolute !important; opacity: 0; width: 1px; height: 1px; margin: 0; }
.tweet label:has(:checked) { outline: 2px solid; }
.tweet label:has(:focus-visible) { outline: 4px double; }
.tweet .seen { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: flex-start; }
.tweet .seen > svg { max-width: 100%; height: auto; border-radius: .3rem; }
.tweet .sources { flex: 1 1 15rem; min-width: 0; }
.tweet .seen .sources ul { list-style: none; margin: 0; padding: 0; }
.tweet .sources ul:not(:has(.share)) {
  display: grid; gap: 0 .8rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.tweet li { display: grid; grid-template-columns: 1.3rem 2.4rem 1fr; gap: 0 .5rem; align-items: center;
  margin: 0 0 .4rem; line-height: 1.3; }
.tweet .badge { text-align: center; border-radius: .2rem; color: #fff !important; font-size: .8rem; }
.tweet .crop { width: 2.4rem; height: 2.4rem; object-fit: contain; }
.tweet .share { display: grid; grid-template-columns: 1fr 3em; gap: .5rem; align-items: center; text-align: end;
  white-space: nowrap; }
.tweet .share i { height: .6em; border-radius: .2em; border: 1px solid;
  background: linear-gradient(currentColor 0 100%) 0 / var(--share) no-repeat; }
"""
STYLE += "".join(
    f".tweet:not(:has(.chooses-{name}:checked)) .of-{name} {{ display: none; }}\n" for name in range(MAX_CHOSEN)
)


class Part(NamedTuple):
    """A crop: its column; its box in the picture and what is said of it, as far as that is known; and its pixels."""

    column: str
    found: Mapping[str, Any]
    crop: Image.Image | None


def escaped(name: str) -> str:
    """A name as HTML, see [`visible`]."""
    return html.escape(visible(name))


def type_colour(entity_type: str) -> str:
    """The same type has the same colour on every page."""
    if entity_type in KNOWN_TYPES:
        return COLOURS[KNOWN_TYPES.index(entity_type)]
    return COLOURS[hashlib.sha256(entity_type.encode(errors="surrogatepass")).digest()[0] % len(COLOURS)]


def marked_type(entity_type: str) -> str:
    """The name of a type on its colour."""
    return f'<mark style="background:{type_colour(entity_type)}">{escaped(entity_type)}</mark>'


def relation_phrase(relation: str) -> str:
    """The words that stand between head and tail in a sentence: "is a member of" for /per/org/member_of."""
    return RELATION_PHRASES.get(relation, relation.rpartition("/")[2].replace("_", " "))


def entity_text(text: str, entities: Sequence[Mapping[str, Any]], num_chosen: int = 0) -> str:
    """
    The text with its entities marked, the first `num_chosen` of them to choose from; all of it is escaped. Entities
    have `entity_group`, `start` and `end` (characters, `end` exclusive), and `score` where there is one. Those that
    overlap or lie outside are a ValueError.
    """
    parts, position = [], 0
    for number, entity in sorted(enumerate(entities), key=lambda numbered: numbered[1]["start"]):
        start, end = entity["start"], entity["end"]
        if not position <= start < end <= len(text):
            raise ValueError(
                f"Entities must not overlap and lie inside the text of {len(text)} characters; got {start} to {end}."
            )
        parts.append(html.escape(text[position:start]))
        score = f" {entity['score']:.2f}" if entity.get("score") is not None else ""
        entity_type = entity["entity_group"]
        mark = (  # the space is for screen readers, and for people who copy the text
            f'<mark style="background:{type_colour(entity_type)}">{html.escape(text[start:end])}'
            f"<small> {escaped(entity_type)}{score}</small></mark>"
        )
        if number < num_chosen:
            checked = "" if number else ' checked=""'
            mark = f'<label><input type="radio" name="name" class="chooses-{number}"{checked}/>{mark}</label>'
        parts.append(mark)
        position = end
    return "".join([*parts, html.escape(text[position:])])


def tweet_html(
    text: str | None,
    entities: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Sequence[Any]] = MappingProxyType({}),
    crops: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
    problems: Sequence[str] = (),
    relations: Sequence[Mapping[str, Any]] = (),
    nothing: str = "",
    max_megapixels: float = MAX_MEGAPIXELS,
) -> str:
    """
    A tagged tweet: its text with the entities marked, the relations between them as sentences, its picture with a
    numbered frame for each crop, and the list of these crops. Where entities have `shares`, one of them is chosen at a
    time, by a click or with the keyboard, and shares are bars in the list and the width of the frames. All text is
    escaped.

    Args:
        text: what the offsets of the entities point into.
        entities, crops: as the pipeline returns them.
        pictures: by column (`image`, `aux_crops` and `rcnn_crops`), lists of what [`load_image`] takes; of `image`
            None keeps the place of one that is not shown, and a crop names its picture by the place. A crop is shown
            where its box is not known, or no picture is there to cut it from. What cannot be read is not shown: that
            was told when the tweet was tagged.
        problems: what was wrong with the tweet.
        relations: `head` and `tail` (words), `relation` and `score` of each.
        nothing: what is said where nothing was found.
        max_megapixels: the largest picture, see [`load_image`].
    """
    chosen = entities[:MAX_CHOSEN] if all("shares" in entity for entity in entities) else []
    parts = [f'<p class="text" dir="auto">{entity_text(text or "", entities, len(chosen))}</p>']
    for relation in relations:
        head, tail = (escaped(relation[of]) for of in ("head", "tail"))
        score = f", {relation['score']:.2f}" if relation.get("score") is not None else ""
        phrase = escaped(relation_phrase(relation["relation"]))
        parts.append(f"<p><bdi>{head}</bdi> <b>{phrase}</b> <bdi>{tail}</bdi>{score}</p>")
    if nothing:
        parts.append(f"<p>{escaped(nothing)}</p>")
    parts += [f'<p class="note">{escaped(problem)}</p>' for problem in problems]
    if chosen and len(chosen) < len(entities):
        parts.append(f'<p class="note">Only the first {len(chosen)} names can be chosen.</p>')
    loaded = enumerate(_loaded(pictures.get("image", ()), max_megapixels))
    images = {place: image for place, image in loaded if image is not None}
    shown = []
    for column in CROP_COLUMNS:
        found = crops.get(column, ())
        cut = _loaded(pictures.get(column, ()), max_megapixels) if not images or not found else ()
        shown += [Part(column, of_crop or {}, crop) for of_crop, crop in zip_longest(found, cut)]
    if images or shown or chosen:
        parts.append(f'<div class="seen">{_seen(images, shown, chosen)}</div>')
    # A form, so that names are chosen in each tweet by themselves. This one sends nothing.
    return f'<article class="tweet"><form method="dialog">{"".join(parts)}</form></article>'


def _loaded(sources: Sequence[Any], max_megapixels: float) -> Iterator[Image.Image | None]:
    """The pictures; None for those that are not to be shown or cannot be read."""
    for source in sources:
        try:
            yield None if source is None else load_image(source, max_megapixels)
        except ImageError:
            yield None


def _seen(images: Mapping[int, Image.Image], parts: Sequence[Part], chosen: Sequence[Mapping[str, Any]]) -> str:
    """
    The pictures, by their place in the row, with their frames, and the list of what there is to look at with the
    shares of the chosen names.
    """
    numbered = list(enumerate(parts, start=1))
    shares = [_by_source(entity["shares"], parts) for entity in chosen]
    picture = ""
    picture_ids: dict[int | None, str] = {}
    for place, image in images.items():
        frames = [
            (number, part.found["box"], CROP_COLOURS_OF[part.column])
            for number, part in numbered
            if "box" in part.found and _place(part.found) == place
        ]
        widths = [[1 + MAX_LINE * of_name.get(number, 0.0) for number, *_ in frames] for of_name in shares]
        name = "The picture" if len(images) == 1 else f"Picture {place + 1}"
        drawn, picture_ids[place] = _picture(image, frames, widths, name=name)
        picture += drawn
    if not (parts or chosen):
        return picture
    sources: list[tuple[Any, str, str]] = []
    if chosen:
        sources.append(("text", 2 * EMPTY_CELL, "the text"))
        named = dict.fromkeys(source for of_name in shares for source in of_name if str(source).startswith("image"))
        for source in named:
            place = int(source.partition(" ")[2] or 0)
            small = _cut(picture_ids[place], (0, 0, *full_size(images[place]))) if place in images else EMPTY_CELL
            said = "the whole picture" if source == "image" else f"picture {place + 1} as a whole"
            sources.append((source, EMPTY_CELL + small, said))
    for number, part in numbered:
        badge = f'<span class="badge" style="background:{CROP_COLOURS_OF[part.column]}">{number}</span>'
        picture_id = picture_ids.get(_place(part.found)) if "box" in part.found else None
        cut = _crop(part.crop) if picture_id is None else _cut(picture_id, part.found["box"])
        sources.append((number, badge + cut, _said(part.found)))
    rows = "".join(f"<li>{shown}<div>{said}{_bars(source, shares)}</div></li>" for source, shown, said in sources)
    title = "What did the model look at?" if chosen else "Parts of the picture:"
    return f'{picture}<div class="sources"><p>{title}</p><ul>{rows}</ul></div>'


def _place(found: Mapping[str, Any]) -> int | None:
    """The place of the picture that a crop was cut from among those of the row; None where it is not there."""
    return found.get("image", 0)


def _by_source(shares: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> dict[Any, float]:
    """The shares of an entity by "text", "image" (of several "image 0" and so on) and the number of the part."""
    columns = [part.column for part in parts]
    numbers = {
        f"{column} {index}": number
        for column in CROP_COLUMNS
        for index, number in enumerate(number for number, of in enumerate(columns, start=1) if of == column)
    }
    return {numbers.get(share["source"], share["source"]): share["share"] for share in shares}


def _said(found: Mapping[str, Any]) -> str:
    """What is said of a part of the picture."""
    label = found.get("label")
    if not label:
        return "a part of the picture"
    return escaped(str(label)) + (" (found by the detector)" if found.get("score") is not None else "")


def _bars(source: Any, shares: Sequence[Mapping[Any, float]]) -> str:
    """The share of a source for each name, of which one is shown."""
    return "".join(
        f'<div class="share of-{name}"><i style="--share:{of_name.get(source, 0.0):.0%}"></i>'
        f"{100 * of_name.get(source, 0.0):.0f} %</div>"
        for name, of_name in enumerate(shares)
    )


def framed_picture(image: Image.Image, label: str, frames: Sequence[tuple[str, Sequence[float], str]] = ()) -> str:
    """
    A picture of at most 320 pixels a side with frames: what stands at the corner, (xmin, ymin, xmax, ymax) in pixels
    of the picture's [`full_size`], and CSS colour. `label` is what is read out.
    """
    return _picture(image, frames, label=label)[0]


def _picture(
    image: Image.Image,
    frames: Sequence[tuple[Any, Sequence[float], str]],
    widths: Sequence[Sequence[float]] = (),
    label: str = "",
    name: str = "The picture",
) -> tuple[str, str]:
    """
    The picture as SVG, and the id by which its pixels are shown again, see [`_cut`]. `widths` are those of the frames'
    lines for each name, of which one is shown. `label` is what is read out; without one it is the picture's `name` and
    the number of frames.
    """
    shown = image.copy()
    shown.thumbnail((MAX_SIDE, MAX_SIDE))
    source = _data(shown, MAX_BYTES)
    # in the picture's own pixels: the browser scales frames and picture alike
    width, height = full_size(image)
    unit = max(width, height) / max(shown.size)
    picture_id = f"picture-{hashlib.sha256(f'{width} {height} {source}'.encode()).hexdigest()[:16]}"
    drawn = [f'<g fill="none">{_frames(frames, [2] * len(frames), unit)}</g>'] if not widths else []
    for number, of_name in enumerate(widths):
        drawn.append(f'<g fill="none" class="of-{number}">{_frames(frames, of_name, unit)}</g>')
    badges = "".join(_badges(frames, (width, height), unit))
    said = escaped(label) or f"{name}{_WITH_FRAMES.get(len(frames), f' with {len(frames)} numbered frames')}"
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{shown.width}" height="{shown.height}" role="img" '
        f'aria-label="{said}"><image id="{picture_id}" href="{source}" width="{width}" height="{height}"/>'
        f"{''.join(drawn)}{badges}</svg>",
        picture_id,
    )


_WITH_FRAMES = {0: "", 1: " with one numbered frame"}


def _frames(frames: Sequence[tuple[Any, Sequence[float], str]], widths: Sequence[float], unit: float) -> str:
    """The frames, those with the widest lines on top."""
    ordered = sorted(zip(widths, frames, strict=True), key=lambda frame: frame[0])
    return "".join(
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{right - left:.0f}" height="{bottom - top:.0f}" '
        f'stroke="{escaped(colour)}" stroke-width="{line_width * unit:.1f}"/>'
        for line_width, (_, (left, top, right, bottom), colour) in ordered
    )


def _badges(frames: Sequence[tuple[Any, Sequence[float], str]], size: tuple[int, int], unit: float) -> Iterator[str]:
    """What stands at the corners of the frames. Each lies in the picture, and over no other, while there is room."""
    side = BADGE * unit
    step = side + unit  # else two numbers side by side are read as one
    taken: list[tuple[float, float]] = []
    right, bottom = (max(extent - side, 0.0) for extent in size)
    for text, (xmin, ymin, xmax, ymax), colour in frames:
        if text == "":
            continue
        corners = [(x, y) for y in (ymin, ymax - side) for x in (xmin, xmax - side)]
        corners = [(min(max(x, 0.0), right), min(max(y, 0.0), bottom)) for x, y in corners]
        others = [(x * step, y * step) for x in range(int(right / step) + 1) for y in range(int(bottom / step) + 1)]
        others.sort(key=lambda place: abs(place[0] - xmin) + abs(place[1] - ymin))
        x, y = next(
            (
                place
                for place in corners + others
                if all(max(abs(place[0] - other[0]), abs(place[1] - other[1])) >= step for other in taken)
            ),
            corners[0],
        )
        taken.append((x, y))
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="{escaped(colour)}"/>'
            f'<text x="{x + side / 2:.1f}" y="{y + 0.8 * side:.1f}" text-anchor="middle" font-size="{0.8 * side:.1f}" '
            f'fill="#fff">{escaped(str(text))}</text>'
        )


def _cut(picture_id: str, box: Sequence[float]) -> str:
    """A part of the picture that is shown already, at the size of a crop: its pixels are not stored again."""
    left, top, right, bottom = box
    return (
        f'<svg class="crop" viewBox="{left:.1f} {top:.1f} {right - left:.1f} {bottom - top:.1f}" aria-hidden="true">'
        f'<use href="#{picture_id}"/></svg>'
    )


def _crop(crop: Image.Image | None) -> str:
    """A crop of which no box is known."""
    if crop is None:
        return EMPTY_CELL
    shown = crop.copy()
    shown.thumbnail((MAX_CROP_SIDE, MAX_CROP_SIDE))
    source = _data(shown, MAX_CROP_BYTES)
    return f'<img class="crop" src="{source}" alt="" width="{shown.width}" height="{shown.height}"/>'


def _data(image: Image.Image, max_bytes: int) -> str:
    """The picture as JPEG, of the best quality at which it has at most so many bytes."""
    for quality in range(80, 10, -10):
        file = BytesIO()
        image.save(file, format="JPEG", quality=quality, optimize=True)
        if file.tell() <= max_bytes:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
