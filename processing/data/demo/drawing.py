"""Drawings of the demo data: what can be drawn, pictures painted of it, and crops as two detectors would cut them."""

import math
import random
from collections.abc import Iterable, Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


TYPES = ("PER", "LOC", "ORG", "MISC")

SHARE_WITHOUT_CROPS = 0.07
DECIDING_IN_AUX, DECIDING_IN_RCNN = 0.97, 0.92
MAX_CROPS = 3

PICTURE_SIZE = 128
SUPERSAMPLING = 2  # drawn larger, then reduced: PIL draws hard edges


@dataclass(frozen=True)
class Drawing:
    """
    One way to draw a kind of object: shapes `(primitive, colour, points)`, in percent of the object's box and in
    painting order. A star is given by its centre and a tip. `a`, `b` and `c` are colours around the circle from `hue`.
    """

    entity_type: str | None  # the type it stands for, None for a distractor
    aspect: float  # width over height
    hue: float
    shapes: tuple[tuple[str, str, list[tuple[float, float]]], ...]


def _parse_drawings(text: str) -> dict[str, Drawing]:
    """Reads paragraphs: a line `kind type aspect hue`, then shapes `primitive colour x y ...` between semicolons."""
    drawings = {}
    for paragraph in text.strip().split("\n\n"):
        header, body = paragraph.split("\n", 1)
        kind, entity_type, aspect, hue = header.split()
        shapes = []
        for shape in body.strip(" ;").split(";"):
            primitive, colour, *values = shape.split()
            numbers = [float(value) for value in values]
            shapes.append((primitive, colour, list(zip(numbers[::2], numbers[1::2], strict=True))))
        is_type = entity_type in TYPES
        drawings[kind] = Drawing(entity_type if is_type else None, float(aspect), float(hue), tuple(shapes))
    return drawings


def _map_pin(x: int, y: int) -> str:
    drop = f"poly pin {x - 10} {y + 4} {x + 10} {y + 4} {x} {y + 28} ; oval pin {x - 13} {y - 13} {x + 13} {y + 11}"
    return f"{drop} ; oval light {x - 5} {y - 6} {x + 5} {y + 4}"


def _windows(xs: Iterable[int], ys: Iterable[int]) -> str:
    return " ; ".join(f"box light {x} {y} {x + 6} {y + 8}" for x in xs for y in ys)


FACE = "oval hair 32 0 68 25 ; oval skin 36 5 64 28 ; oval ink 42 14 46 17 ; oval ink 54 14 58 17"

DRAWINGS = _parse_drawings(
    f"""
portrait PER 0.85 0.6
  oval hair 20 0 80 70 ; poly a 0 100 8 80 34 70 66 70 92 80 100 100 ; poly skin 40 54 60 54 60 74 50 82 40 74 ;
  oval skin 28 10 72 66 ; poly hair 27 32 32 8 68 8 73 32 60 18 40 20 ; oval ink 38 35 44 42 ; oval ink 56 35 62 42 ;
  poly c 42 52 58 52 50 58

standing_person PER 0.5 0.52
  line b 42 60 36 96 ; line b 58 60 64 96 ; line skin 30 36 16 62 ; line skin 70 36 84 62 ;
  poly a 26 30 74 30 68 66 32 66 ; {FACE}

waving_person PER 0.6 0.83
  line skin 42 70 40 97 ; line skin 58 70 60 97 ; line skin 32 36 10 10 ; line skin 68 36 90 10 ;
  poly a 32 30 68 30 84 78 16 78 ; {FACE}

skyline LOC 1.25 0.05
  box stone 2 52 26 100 ; box a 26 30 50 100 ; box stone 50 60 74 100 ; box a 74 44 98 100 ;
  {_windows((5, 16), (58, 70, 82))} ; {_windows((30, 41), (38, 50, 62, 74))} ; {_windows((54, 65), (67, 80))} ;
  {_windows((78, 89), (51, 63, 75))} ; {_map_pin(64, 18)}

mountain LOC 1.2 0.4
  poly leaf 30 100 68 26 100 100 ; poly stone 0 100 38 10 76 100 ; poly light 28 34 38 10 48 34 42 30 38 38 33 30 ;
  line wood 80 100 80 56 ; poly pin 62 46 90 46 100 55 90 64 62 64

tower LOC 0.75 0.12
  poly stone 38 4 44 4 50 52 72 100 56 100 41 72 26 100 10 100 32 52 ; box b 26 48 56 55 ; box b 17 72 65 79 ;
  {_map_pin(78, 24)}

crest ORG 0.85 0.97
  poly a 4 4 96 4 96 52 80 82 50 99 20 82 4 52 ; poly b 50 4 96 4 96 52 80 82 50 99 ; box light 4 38 96 56 ;
  star c 50 46 50 18

badge ORG 1.0 0.33
  oval a 2 2 98 98 ; oval light 14 14 86 86 ; star b 50 42 50 14 ; poly c 0 64 100 64 90 74 100 84 0 84 10 74

logo ORG 1.0 0.66
  poly a 50 0 96 22 96 66 50 90 4 66 4 22 ; poly light 50 12 84 28 84 60 50 78 16 60 16 28 ;
  poly b 30 62 50 20 70 62 58 62 50 44 42 62 ; box c 4 80 96 100

film MISC 1.15 0.75
  box ink 0 8 100 92 ; {_windows(range(6, 96, 14), (13, 79))} ; box a 6 27 94 73 ; poly light 38 33 68 50 38 67

album MISC 1.35 0.88
  oval ink 38 4 100 96 ; oval b 58 34 80 66 ; box a 0 2 66 98 ; line light 28 68 28 24 50 18 50 62 ;
  oval light 15 62 32 78 ; oval light 37 56 54 72

gamepad MISC 1.5 0.45
  poly plastic 16 14 84 14 96 40 100 92 84 94 68 68 32 68 16 94 0 92 4 40 ; box gold 19 37 43 47 ;
  box gold 26 24 36 60 ; oval b 61 36 70 50 ; oval c 77 36 86 50 ; oval c 69 22 78 36 ; oval b 69 50 78 64

book MISC 1.4 0.15
  poly a 0 12 50 22 100 12 100 92 50 100 0 92 ; poly light 5 6 50 18 50 94 5 84 ; poly light 95 6 50 18 50 94 95 84 ;
  line ink 12 24 43 32 ; line ink 12 42 43 50 ; line ink 12 60 43 68 ; line ink 57 32 88 24 ; line ink 57 50 88 42 ;
  line ink 57 68 88 60

dog - 1.3 0
  line fur 8 30 18 52 ; line fur 22 70 22 97 ; line fur 34 70 34 97 ; line fur 58 70 58 97 ; line fur 70 70 70 97 ;
  oval fur 12 40 78 80 ; oval fur 60 14 94 56 ; oval fur 82 34 100 52 ; poly ink 60 14 72 18 62 46 ;
  oval ink 78 26 83 32

cup - 1.0 0.5
  oval a 60 30 100 74 ; oval light 68 40 90 64 ; poly a 8 16 80 16 70 98 18 98 ; oval wood 8 6 80 28

tree - 0.8 0
  box wood 42 56 58 100 ; oval leaf 2 26 58 70 ; oval leaf 42 26 98 70 ; oval leaf 20 0 80 52

car - 1.9 0.25
  poly a 20 46 34 12 70 12 84 46 ; poly light 28 44 38 20 66 20 76 44 ; box a 2 44 98 78 ; oval ink 14 60 36 100 ;
  oval ink 64 60 86 100

ball - 1.0 0.7
  oval a 2 2 98 98 ; oval b 28 2 72 98 ; oval light 42 2 58 98

sun - 1.0 0
  line gold 50 2 50 98 ; line gold 2 50 98 50 ; line gold 16 16 84 84 ; line gold 16 84 84 16 ; oval gold 24 24 76 76

cloud - 1.6 0
  oval light 2 40 46 92 ; oval light 54 40 98 92 ; oval light 24 8 74 92
    """
)
KINDS = {key: tuple(k for k, d in DRAWINGS.items() if d.entity_type == key) for key in (*TYPES, None)}

PALETTE = {
    "skin": ("#ffe0c4", "#f1c27d", "#e0ac69", "#c68642", "#8d5524", "#6f4528"),
    "hair": ("#1c1410", "#4a2c17", "#8b5a2b", "#d9b44a", "#b5462b", "#b8b8b8"),
    "fur": ("#c89664", "#8a5a34", "#e8d8b8", "#707070"),
    "wood": ("#6b4423", "#8b5e3c", "#50351e"),
    "leaf": ("#2e8b3d", "#5aa02c", "#1f6b4a", "#b0772a"),
    "gold": ("#ffd23c", "#ffb020", "#fff08a"),
    "stone": ("#8a8f99", "#b0a595", "#6f7f95", "#a07860"),
    "plastic": ("#26262c", "#3a3550", "#4a4e69", "#1d3040"),
    "pin": ("#e53935", "#f4511e", "#d81b60"),
    "light": ("#ffffff", "#f4f0e0", "#e4eef8"),
    "ink": ("#101014", "#20203a", "#2c1c14"),
}

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True)
class SceneObject:
    """An object of a picture: its drawing, its place, and whether it decides the type of the tweet's name."""

    kind: str
    box: Box
    deciding: bool = False


@dataclass(frozen=True)
class Crop:
    """A pretend detection: the object it is about, and the box it cuts."""

    object: SceneObject
    box: Box

    @property
    def detected(self) -> dict[str, Any]:
        """What a detector would say of it. There is no score, since it is drawn and not found."""
        return {"label": self.object.kind.replace("_", " "), "score": None, "box": [float(side) for side in self.box]}


@dataclass(frozen=True)
class Scene:
    """A picture before it is painted. `seed` fixes colours, noise and light."""

    seed: str
    objects: tuple[SceneObject, ...]
    aux_crops: tuple[Crop, ...]
    rcnn_crops: tuple[Crop, ...]

    def paint(self) -> Image.Image:
        rng = random.Random(self.seed)
        noise = np.random.default_rng(rng.getrandbits(64))
        size = PICTURE_SIZE * SUPERSAMPLING
        top, bottom = noise.uniform(130, 250, (2, 3))
        canvas = Image.fromarray(np.linspace(top, bottom, size)[:, None].repeat(size, 1).astype(np.uint8))
        draw = ImageDraw.Draw(canvas)
        horizon = rng.uniform(0.55, 0.95) * size
        draw.rectangle((0, horizon, size, size), fill=tuple(int(value) for value in noise.uniform(90, 210, 3)))
        for item in sorted(self.objects, key=lambda item: item.deciding):  # the deciding one is never hidden
            _draw_object(draw, item, rng)
        picture = canvas.reduce(SUPERSAMPLING).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.6)))
        pixels = np.asarray(picture, np.float32) * rng.uniform(0.8, 1.15)
        pixels += noise.standard_normal(pixels.shape, np.float32) * rng.uniform(2, 8)
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _star(centre: tuple[float, float], tip: tuple[float, float]) -> list[tuple[float, float]]:
    """The ten corners of a five-pointed star, as seen upright from `centre`; `tip` gives its size."""
    corners = []
    for corner in range(10):
        radius, angle = math.dist(centre, tip) * (1, 0.45)[corner % 2], math.pi * (corner / 5 - 0.5)
        corners.append((centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle)))
    return corners


def _draw_object(draw: ImageDraw.ImageDraw, item: SceneObject, rng: random.Random) -> None:
    colours: dict[str, str | tuple[int, ...]] = {slot: rng.choice(options) for slot, options in PALETTE.items()}
    hue = DRAWINGS[item.kind].hue + rng.uniform(-0.05, 0.05)
    for step, slot in enumerate("abc"):
        rgb = hsv_to_rgb(hue + step / 3 + rng.uniform(-0.1, 0.1), rng.uniform(0.55, 1), rng.uniform(0.55, 1))
        colours[slot] = tuple(int(255 * value) for value in rgb)

    left, top, right, bottom = (SUPERSAMPLING * edge for edge in item.box)
    mirrored, shear = rng.random() < 0.5, rng.uniform(-0.1, 0.1)

    def place(x: float, y: float) -> tuple[float, float]:
        x = (100 - x if mirrored else x) + shear * (50 - y) + rng.uniform(-1, 1)
        y += rng.uniform(-1, 1)
        return left + (right - left) * x / 100, top + (bottom - top) * y / 100

    for primitive, slot, points in DRAWINGS[item.kind].shapes:
        points = [place(x, y) for x, y in (_star(*points) if primitive == "star" else points)]
        if primitive in ("poly", "star"):
            draw.polygon(points, fill=colours[slot], outline=colours["ink"], width=SUPERSAMPLING)
        elif primitive == "line":
            draw.line(points, fill=colours[slot], width=max(2, round(0.06 * (bottom - top))), joint="curve")
        else:
            xs, ys = zip(*points, strict=True)
            paint = draw.ellipse if primitive == "oval" else draw.rectangle
            paint(
                (min(xs), min(ys), max(xs), max(ys)), fill=colours[slot], outline=colours["ink"], width=SUPERSAMPLING
            )


def _overlap(one: Box, other: Box) -> float:
    """Shared area, as a share of the smaller box."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(width, 0) * max(height, 0) / smaller


def place_objects(
    wanted: Sequence[tuple[str, bool]], deciding_sides: tuple[float, float], rng: random.Random
) -> tuple[SceneObject, ...]:
    """
    Objects at places where they overlap those before them little; one that finds no place is left out.

    Args:
        wanted: kind of each, and whether it is a deciding one.
        deciding_sides: from and to, in pixels: side of the square that has the area of an object which stands for a
            type, whatever its aspect. A distractor is smaller.
    """
    objects: list[SceneObject] = []
    for kind, deciding in wanted:
        side = rng.uniform(26, 40) if DRAWINGS[kind].entity_type is None else rng.uniform(*deciding_sides)
        aspect = DRAWINGS[kind].aspect * rng.uniform(0.85, 1.15)
        width, height = (min(round(side * factor), PICTURE_SIZE - 8) for factor in (aspect**0.5, aspect**-0.5))
        for _ in range(12):
            left, top = (rng.randint(2, PICTURE_SIZE - extent - 2) for extent in (width, height))
            box = (left, top, left + width, top + height)
            if all(_overlap(box, other.box) < 0.15 for other in objects):
                objects.append(SceneObject(kind, box, deciding))
                break
    return tuple(objects)


def _plan_crops(objects: tuple[SceneObject, ...], deciding_share: float, rng: random.Random) -> tuple[Crop, ...]:
    """What a detector might return: loose boxes, best first, at times nothing at all."""
    if rng.random() < SHARE_WITHOUT_CROPS:
        return ()
    found = [item for item in objects if not item.deciding or rng.random() < deciding_share]
    # The bonus: the deciding object is often first and seldom cut off, but its place in the list gives nothing away.
    found.sort(key=lambda item: rng.random() + 0.3 * item.deciding, reverse=True)
    crops = []
    for item in found[:MAX_CROPS]:
        left, top, right, bottom = item.box
        margins = [0.1 * extent * rng.random() for extent in (right - left, bottom - top) * 2]
        edges = (left - margins[0], top - margins[1], right + margins[2], bottom + margins[3])
        left, top, right, bottom = (min(max(round(edge), 0), PICTURE_SIZE) for edge in edges)
        crops.append(Crop(item, (left, top, right, bottom)))
    return tuple(crops)


def plan_scene(seed: str, objects: tuple[SceneObject, ...], rng: random.Random) -> Scene:
    crops = [_plan_crops(objects, share, rng) for share in (DECIDING_IN_AUX, DECIDING_IN_RCNN)]
    return Scene(seed, objects, *crops)
