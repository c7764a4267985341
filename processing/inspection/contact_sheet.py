"""A contact sheet: pictures in a grid with the boxes of their objects, for a person to judge a detector by."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from processing.detectors import DetectedObject
from processing.rendering import CROP_COLOURS


NAMES = {"aux": "aux: phrase grounding", "rcnn": "rcnn: closed set"}
PAPER, INK, FAINT, EMPTY = "white", "#212529", "#868e96", "#f1f3f5"

CELL_WIDTH, PICTURE_HEIGHT = 440, 330
GAP, MARGIN = 24, 28
FONT_SIZE, TAG_SIZE, TITLE_SIZE = 16, 14, 22
TEXT_LINES = 3

Box = tuple[float, float, float, float]


class SheetEntry(NamedTuple):
    """
    A cell of the sheet: `objects` by kind ("aux", "rcnn"), boxes in pixels of `image`; `note` stands in the place of a
    picture that is absent.
    """

    title: str
    text: str
    image: Image.Image | None
    objects: Mapping[str, Sequence[DetectedObject]]
    note: str = "no picture"


def contact_sheet(entries: Sequence[SheetEntry], title: str = "", columns: int = 3) -> Image.Image:
    """
    The entries row by row, under a title and a legend.

    Each object is a frame in its kind's colour with label and score beside it; below a picture stand its title, the
    number of objects of each kind and the text, cut after three lines.
    """
    font, small, large = _font(FONT_SIZE), _font(TAG_SIZE), _font(TITLE_SIZE)
    columns = max(1, min(columns, len(entries)))
    line = FONT_SIZE + 6
    header = MARGIN + (TITLE_SIZE + 14 if title else 0) + line + GAP
    cell_height = PICTURE_HEIGHT + 8 + (1 + TEXT_LINES) * line
    rows = math.ceil(len(entries) / columns)
    width = 2 * MARGIN + columns * CELL_WIDTH + (columns - 1) * GAP
    height = header + rows * (cell_height + GAP) + MARGIN - GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)

    y = MARGIN
    if title:
        draw.text((MARGIN, y), _lines(title, large, width - 2 * MARGIN, 1)[0], INK, large)
        y += TITLE_SIZE + 14
    x = MARGIN
    for kind, colour in CROP_COLOURS.items():
        draw.rectangle((x, y + 2, x + 26, y + FONT_SIZE + 2), outline=colour, width=3)
        draw.text((x + 36, y), NAMES[kind], INK, font)
        x += 36 + int(font.getlength(NAMES[kind])) + 40

    for index, entry in enumerate(entries):
        left = MARGIN + index % columns * (CELL_WIDTH + GAP)
        top = header + index // columns * (cell_height + GAP)
        sheet.paste(_framed_picture(entry, font, small), (left, top))
        y = top + PICTURE_HEIGHT + 8
        counts = "   ".join(f"{kind} {len(objects)}" for kind, objects in entry.objects.items())
        counts_width = font.getlength(counts)
        draw.text((left, y), _lines(entry.title, font, CELL_WIDTH - counts_width - 20, 1)[0], INK, font)
        draw.text((left + CELL_WIDTH - counts_width, y), counts, FAINT, font)
        for number, part in enumerate(_lines(entry.text, font, CELL_WIDTH, TEXT_LINES), 1):
            draw.text((left, y + number * line), part, INK, font)
    return sheet


def _framed_picture(entry: SheetEntry, font, small) -> Image.Image:
    """The picture at the middle of its field, with frames and tags."""
    field = Image.new("RGB", (CELL_WIDTH, PICTURE_HEIGHT), EMPTY)
    draw = ImageDraw.Draw(field)
    if entry.image is None:
        lines = _lines(entry.note, font, CELL_WIDTH - 40, 4)
        y = (PICTURE_HEIGHT - len(lines) * (FONT_SIZE + 6)) / 2
        for number, part in enumerate(lines):
            draw.text(((CELL_WIDTH - font.getlength(part)) / 2, y + number * (FONT_SIZE + 6)), part, FAINT, font)
        return field
    scale = min(CELL_WIDTH / entry.image.width, PICTURE_HEIGHT / entry.image.height)
    size = (max(1, round(entry.image.width * scale)), max(1, round(entry.image.height * scale)))
    picture = entry.image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    x, y = (CELL_WIDTH - size[0]) // 2, (PICTURE_HEIGHT - size[1]) // 2
    field.paste(picture, (x, y))

    frames = [
        (CROP_COLOURS[kind], detected, _scaled(detected.box, scale, x, y))
        for kind, objects in entry.objects.items()
        for detected in objects
    ]
    for colour, _, frame in frames:
        draw.rectangle(frame, outline=PAPER, width=4)  # a light rim: the colours are hard to see on dark pictures
        draw.rectangle(frame, outline=colour, width=3)
    tags: list[Box] = []
    for colour, detected, frame in frames:  # above all frames
        text = _lines(f"{detected.label} {detected.score:.2f}", small, CELL_WIDTH - 20, 1)[0]
        tag = _free_place(frame, small.getlength(text) + 8, TAG_SIZE + 6, tags)
        tags.append(tag)
        draw.rectangle(tag, fill=colour)
        draw.text((tag[0] + 4, tag[1] + 1), text, PAPER, small)
    return field


def _scaled(box: Box, scale: float, x: int, y: int) -> Box:
    xmin, ymin, xmax, ymax = (round(value * scale) for value in box)
    return x + xmin, y + ymin, x + max(xmax, xmin + 1) - 1, y + max(ymax, ymin + 1) - 1


def _free_place(frame: Box, width: float, height: float, taken: list[Box]) -> Box:
    """A place for a tag on or beside its frame that covers no other tag, within the field; else the first."""
    xmin, ymin, xmax, ymax = frame
    corners = [
        *((xmin, ymin - height), (xmin, ymin), (xmin, ymax - height), (xmin, ymax)),
        *((xmax - width, ymin - height), (xmax - width, ymin), (xmax - width, ymax - height), (xmax - width, ymax)),
        *((xmax + 2, ymin), (xmin - width - 2, ymin), (xmax + 2, ymax - height), (xmin - width - 2, ymax - height)),
        *((xmin, ymin + number * (height + 1)) for number in (1, 2, 3, 4, 5, -2, -3, -4, -5)),
    ]
    places = []
    for x, y in corners:
        left, top = min(max(x, 0), CELL_WIDTH - 1 - width), min(max(y, 0), PICTURE_HEIGHT - 1 - height)
        places.append((left, top, left + width, top + height))
    return next((place for place in places if not any(_overlap(place, tag) for tag in taken)), places[0])


def _overlap(a: Box, b: Box) -> bool:
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _lines(text: str, font, width: float, limit: int) -> list[str]:
    """The text in at most `limit` lines of at most `width` pixels, at least one; what is left over becomes "…"."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < limit:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width:
            count += 1
        lines.append(" ".join(words[:count]))
        words = words[count:]
    if words:
        lines[-1] += " …"
    for number, line in enumerate(lines):
        cut = line
        while len(cut) > 1 and font.getlength(cut) > width:
            cut = cut.removesuffix("…").rstrip()[:-1] + "…"
        lines[number] = cut
    return lines or [""]


def _font(size: int):
    """DejaVu Sans, which knows most scripts, where the system has it; else Pillow's own font, which knows Latin."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
