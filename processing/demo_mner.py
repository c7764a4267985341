"""
Demo data for multimodal named entity recognition: tweets with pictures, drawn on the fly, nothing downloaded.

What a tweet is made of:

- One name that may be a person, a place, an organisation or a work ("cannot stop thinking about Jordan tonight"). In
  each split every name takes the four types equally often, and the sentence does not tell them apart: the picture's
  *deciding object* does. A person, a place, an emblem, and a film, album, game or book stand for PER, LOC, ORG, MISC.
- Beside it distractors that settle nothing (dog, cup, car, ...), pixel noise, blur, changing light.
- Crops as two detectors would cut them: `aux_crops` (phrase grounding) and `rcnn_crops` (closed set), up to three of
  each, best first. The deciding object is in most lists, not always first; some lists are empty.
- 8 % of the tweets have no picture, and a sentence that settles the type ("flew to Austin for the weekend").
- 10 % of the pictures come with a tweet that holds no name; their objects mean nothing.
- 15 % of the tweets with a name hold a second entity that its words settle ("live from Ohio").

Per 100 tweets that is 83 names only the picture settles, 8 names the sentence settles and 14 second entities. A
reader of the text alone who finds every span guesses one name in four right: (83 / 4 + 8 + 14) / 105 = 41 F1. A reader
of text and picture can reach 100.

The three splits share no sentence, whatever the letter case. Every row depends on the seed, the split and its index
alone, so that `plan_tweet` tells later which crop shows the deciding object of a row.
"""

import hashlib
import io
import math
import random
import zlib
from collections.abc import Iterable, Iterator
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .labels import TWITTER_TAGS
from .rows import ner_features


SPLITS = ("train", "validation", "test")
TYPES = ("PER", "LOC", "ORG", "MISC")

NO_PICTURE, NO_ENTITY, SECOND_ENTITY = 0.08, 0.10, 0.15
NO_CROPS = 0.07
DECIDING_IN_AUX, DECIDING_IN_RCNN = 0.97, 0.92
MAX_CROPS = 3

PICTURE_SIZE = 128
SUPERSAMPLING = 2  # drawn larger, then reduced: PIL draws hard edges

# ---------------------------------------------------------------------------------------------------------- sentences


def _options(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";"))


NAMES = _options("""
    Jordan; Paris; Phoenix; Chelsea; Florence; Austin; Houston; Lincoln; Madison; Amazon; Apple; Eden; Sydney; Dallas;
    Savannah; Brooklyn; Charlotte; Virginia; Georgia; Orlando; Victoria; Santiago; Diego; Mercury; Titanic; Avatar;
    Jackson; Carolina; Aurora; Memphis; Denver; Alexandria; Lorraine; Kent; Troy; Hamilton; Cleveland; Wellington;
    Logan; Raleigh; Sierra; Atlas; Apollo; Juno; Phoebe; Vienna; Verona; Arizona; Salem; Tesla; San Marino;
    Saint Helens; Santa Cruz; White Sox; San Diego; Santa Fe; Monte Carlo; Saint Laurent; Rio Grande; Santa Monica;
    San Jose; Grand Rapids; Palo Alto; Red Rock; Silver Lake; Blue Ridge; Golden Gate; Black Forest
""")

SLOTS = {
    "when": _options("tonight; today; again; this week; right now; all day; lately; this morning; since monday"),
    "mood": _options("happy; tired; obsessed; emotional; speechless; shook; proud; confused; grateful; hyped"),
    "folks": _options("everyone; my sister; my roommate; twitter; my whole family; nobody; half the office; my mom"),
    "tag": _options("# mood; # tbt; # blessed; # fridayfeeling; # nofilter; # throwback; # love; # weekend; # wow"),
    "handle": _options("jenny_k; mikebreezy; itsdanny; realtalk99; coffeegirl; the_oz; bigsmooth; lilmissy"),
    "emoji": _options("😂; 😍; 🔥; 🙌; 😭; 💯; 👀; 🎉"),
    "thing": _options(
        "pizza; coffee; my exam; the weather; this song; that joke; homework; breakfast; the rain; my nap"
    ),
}
OPENERS = _options("; ; ; so ; ok but ; lol ; honestly , ; RT @ {handle} : ; @ {handle} ; {emoji} ; {tag} ; wow ,")
CLOSERS = _options("; ; . ; ! ; ! ! ; ... ; {emoji} ; {emoji} {emoji} ; {tag} ; {tag} {tag} ; {emoji} {tag}")

# Sentences that leave the type of {name} open.
OPEN_SENTENCES = _options("""
    cannot stop thinking about {name} {when} ; {name} is all over my timeline {when} ;
    {folks} keeps talking about {name} ; feeling so {mood} about {name} {when} ; {name} makes me {mood} {when} ;
    look at {name} {when} ; still not over {name} ; who else is {mood} because of {name} ? ;
    nothing beats {name} {when} ; people sleep on {name} ; this is {name} , in case {folks} asks ;
    {name} never gets old ; why is {name} trending {when} ? ; I will defend {name} until the end ;
    {folks} loves {name} and I get it ; can we talk about {name} {when} ? ; so many memories of {name} ;
    my love for {name} is real {when} ; more {name} please ; {name} > everything else {when} ;
    a little bit of {name} for {folks} ; {folks} sent me this photo of {name} ; hard to explain {name} to {folks} ;
    not ready for {name} {when} ; {name} did not disappoint {when} ; that is so {name} , {folks} says ;
    {name} and nothing else {when} ; unpopular opinion : {name} is overrated ; tell me more about {name} ;
    {name} has changed a lot {when} ; I was wrong about {name} , {mood} now ; if you know {name} , you know ;
    {folks} is {mood} and it is all because of {name}
""")

# Sentences that settle it, for the tweets without a picture.
SETTLED_SENTENCES = {
    "PER": _options("""
        {name} signed my book and hugged me {when} ; happy birthday to my cousin {name} , he makes me {mood} ;
        {name} told {folks} that her brother is getting married ; met {name} backstage {when} , what a kind guy ;
        {name} said he is {mood} {when}
"""),
    "LOC": _options("""
        flew to {name} for the weekend ; driving through {name} {when} , traffic is awful ;
        our hotel in downtown {name} makes {folks} {mood} ; moved to {name} with {folks} , the streets are lovely ;
        it is raining in {name} {when}
"""),
    "ORG": _options("""
        {name} shares fell after the merger {when} ; {name} hired a new CEO and {folks} is {mood} ;
        the {name} board fired 200 employees {when} ; {folks} got a job offer from the company {name} ;
        {name} reported record quarterly profits {when}
"""),
    "MISC": _options("""
        just finished watching the movie {name} with {folks} ; stuck on level 9 of the game {name} {when} ;
        the novel {name} made {folks} {mood} until the last chapter ; the soundtrack album {name} is on repeat {when} ;
        season two of the series {name} made me {mood}
"""),
}

# A second entity: its tail and its name both tell the type.
SECOND_ENTITIES = {
    "PER": (
        _options("says @ {other}; with my idol {other}"),
        _options("Rihanna; Obama; Beyonce; Messi; Taylor Swift; Justin Bieber"),
    ),
    "LOC": (
        _options("live from {other}; greetings from {other}"),
        _options("Ohio; Canada; Tokyo; Berlin; New Zealand; South Africa"),
    ),
    "ORG": (
        _options("via {other}; according to {other}"),
        _options("Reuters; NASA; UNICEF; FIFA; Red Cross; European Union"),
    ),
    "MISC": (
        _options("after the {other}; before the {other}"),
        _options("Oscars; Grammys; Olympics; Emmys; World Cup; Super Bowl"),
    ),
}

# ----------------------------------------------------------------------------------------------------------- drawings


@dataclass(frozen=True)
class Drawing:
    """
    One way to draw a kind of object.

    Attributes:
        entity_type: the type it stands for, None for a distractor.
        aspect: width over height.
        hue: about the hue of colour `a`.
        shapes: `(primitive, colour, points)`, in percent of the object's box and in painting order. A star is given by
            its centre and a tip. `a`, `b` and `c` are three colours around the circle from `hue`.
    """

    entity_type: str | None
    aspect: float
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
        drawings[kind] = Drawing(
            entity_type if entity_type in TYPES else None, float(aspect), float(hue), tuple(shapes)
        )
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

standing PER 0.5 0.52
  line b 42 60 36 96 ; line b 58 60 64 96 ; line skin 30 36 16 62 ; line skin 70 36 84 62 ;
  poly a 26 30 74 30 68 66 32 66 ; {FACE}

waving PER 0.6 0.83
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

# -------------------------------------------------------------------------------------------------------------- scenes

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
    radii = (math.dist(centre, tip), 0.45 * math.dist(centre, tip))
    angles = [math.pi * (corner / 5 - 0.5) for corner in range(10)]
    return [
        (centre[0] + radii[k % 2] * math.cos(angle), centre[1] + radii[k % 2] * math.sin(angle))
        for k, angle in enumerate(angles)
    ]


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
            corners = (min(xs), min(ys), max(xs), max(ys))
            paint(corners, fill=colours[slot], outline=colours["ink"], width=SUPERSAMPLING)


def _overlap(one: Box, other: Box) -> float:
    """Shared area, as a share of the smaller box."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return max(width, 0) * max(height, 0) / smaller


def _plan_objects(entity_type: str | None, rng: random.Random) -> tuple[SceneObject, ...]:
    """The deciding object, if the tweet has a name, and one to three others that overlap it little."""
    objects: list[SceneObject] = []
    wanted = [(kind, False) for kind in rng.sample(KINDS[None], rng.randint(1, 3))]
    if entity_type is not None:
        wanted.insert(0, (rng.choice(KINDS[entity_type]), True))
    elif rng.random() < 0.5:  # a person beside a tweet without a name means nothing
        wanted.insert(0, (rng.choice(KINDS[rng.choice(TYPES)]), False))
    for kind, deciding in wanted:
        # Equal areas whatever the aspect; a distractor is smaller.
        side = rng.uniform(26, 40) if DRAWINGS[kind].entity_type is None else rng.uniform(54, 78)
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
    if rng.random() < NO_CROPS:
        return ()
    found = [item for item in objects if not item.deciding or rng.random() < deciding_share]
    # The bonus: the deciding object is often first and seldom cut off, but its place in the list gives nothing away.
    found.sort(key=lambda item: rng.random() + 0.3 * item.deciding, reverse=True)
    crops = []
    for item in found[:MAX_CROPS]:
        left, top, right, bottom = item.box
        margins = [0.1 * extent * rng.random() for extent in (right - left, bottom - top) * 2]
        box = (
            max(round(left - margins[0]), 0),
            max(round(top - margins[1]), 0),
            min(round(right + margins[2]), PICTURE_SIZE),
            min(round(bottom + margins[3]), PICTURE_SIZE),
        )
        crops.append(Crop(item, box))
    return tuple(crops)


# -------------------------------------------------------------------------------------------------------------- tweets


@dataclass(frozen=True)
class Tweet:
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    scene: Scene | None


def _write(template: str, entities: dict[str, tuple[str, str]], rng: random.Random) -> list[tuple[str, str]]:
    """Fills a template's slots: `(word, tag)` pairs. `entities` gives the text and type of `{name}` and `{other}`."""
    words = []
    for part in template.split():
        slot = part.strip("{}") if part.startswith("{") else None
        if slot in entities:
            text, entity_type = entities[slot]
            words += [(word, f"{'I' if k else 'B'}-{entity_type}") for k, word in enumerate(text.split())]
        else:
            words += [(word, "O") for word in (rng.choice(SLOTS[slot]) if slot else part).split()]
    return words


def _write_tweet(body: str, entities: dict[str, tuple[str, str]], rng: random.Random) -> list[tuple[str, str]]:
    words = _write(rng.choice(OPENERS), {}, rng) + _write(body, entities, rng)
    if entities and rng.random() < SECOND_ENTITY:
        entity_type = rng.choice(TYPES)
        tails, names = SECOND_ENTITIES[entity_type]
        words += _write(rng.choice(tails), {"other": (rng.choice(names), entity_type)}, rng)
    words += _write(rng.choice(CLOSERS), {}, rng)
    style = rng.random()
    if style < 0.15:
        return [(word.lower(), tag) for word, tag in words]
    if style < 0.22:
        return [(word.upper(), tag) for word, tag in words]
    if style < 0.6:
        words[0] = (words[0][0][0].upper() + words[0][0][1:], words[0][1])
    return words


@lru_cache(maxsize=16)
def _name_types(seed: int, split: str) -> list[tuple[str, str]]:
    """Every name with every type, shuffled: rows walk through this list, so that the pairs stay balanced."""
    pairs = [(name, entity_type) for name in NAMES for entity_type in TYPES]
    random.Random(f"{seed}/{split}").shuffle(pairs)
    return pairs


def plan_tweet(seed: int, split: str, index: int) -> Tweet:
    """Row `index` of a split before its picture is painted: its words, tags and scene."""
    row = f"{seed}/{split}/{index}"
    home = SPLITS.index(split)
    rng = random.Random(row)
    pairs = _name_types(seed, split)
    name, entity_type = pairs[index % len(pairs)]
    scene = None
    if rng.random() < NO_PICTURE:
        entities, bodies = {"name": (name, entity_type)}, SETTLED_SENTENCES[entity_type]
    else:
        has_name = rng.random() >= NO_ENTITY
        entities, bodies = {"name": (name, entity_type)} if has_name else {}, OPEN_SENTENCES
        objects = _plan_objects(entity_type if has_name else None, rng)
        scene = Scene(
            seed=f"{row}/paint",
            objects=objects,
            aux_crops=_plan_crops(objects, DECIDING_IN_AUX, rng),
            rcnn_crops=_plan_crops(objects, DECIDING_IN_RCNN, rng),
        )
    while True:
        body = rng.choice(bodies)
        words = _write_tweet(body if entities else body.replace("{name}", "{thing}"), entities, rng)
        tokens, tags = zip(*words, strict=True)
        # Each sentence belongs to one split, whatever the seed; only the sentence is drawn again, never name or type.
        if zlib.crc32(" ".join(tokens).lower().encode()) % len(SPLITS) == home:
            return Tweet(tokens, tags, scene)


# ------------------------------------------------------------------------------------------------------------- builder


def _encode(image: Image.Image) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return {"bytes": buffer.getvalue(), "path": None}


@dataclass
class DemoMNERConfig(datasets.BuilderConfig):
    """
    Args:
        seed: another seed is another data set; its test sentences are in no train split of any seed.
        num_train, num_validation, num_test: rows of each split; a split of 0 rows is left out.
    """

    seed: int = 0
    num_train: int = 6000
    num_validation: int = 200
    num_test: int = 400

    def __post_init__(self):
        super().__post_init__()
        if min(self.num_train, self.num_validation, self.num_test) < 0:
            raise ValueError("The number of rows of a split must not be negative.")


class DemoMNER(datasets.GeneratorBasedBuilder):
    """`DemoMNER(seed=0)`, then `download_and_prepare()` and `as_dataset()`, or `as_streaming_dataset()` alone."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = DemoMNERConfig

    def __init__(self, *args, hash: str | None = None, **kwargs):
        # Part of the cache key, so that no drawing outlives a change of this file.
        source = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        super().__init__(*args, hash=hash or source, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Tweets with drawn pictures, where the picture settles the type of an ambiguous name.",
            features=ner_features(TWITTER_TAGS),
        )

    def _split_generators(self, dl_manager) -> list[datasets.SplitGenerator]:
        sizes = {split: getattr(self.config, f"num_{split}") for split in SPLITS}
        # A list of chunks, since `num_proc` and shuffled streams share out the elements of a list.
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "split": split,
                    "chunks": [range(start, min(start + 100, size)) for start in range(0, size, 100)],
                },
            )
            for split, size in sizes.items()
            if size
        ]

    def _generate_examples(self, split: str, chunks: list[range]) -> Iterator[tuple[int, dict]]:
        for index in (index for chunk in chunks for index in chunk):
            yield index, self._row(split, index)

    def _row(self, split: str, index: int) -> dict:
        tweet = plan_tweet(self.config.seed, split, index)
        row: dict[str, Any] = {
            "id": f"{split}-{index}",
            "image_id": None,
            "tokens": list(tweet.tokens),
            "ner_tags": list(tweet.tags),
            "image": None,
            "aux_crops": [],
            "rcnn_crops": [],
        }
        if tweet.scene is not None:
            picture = tweet.scene.paint()
            row["image_id"] = row["id"]
            row["image"] = _encode(picture)
            for crops in ("aux_crops", "rcnn_crops"):
                row[crops] = [_encode(picture.crop(crop.box)) for crop in getattr(tweet.scene, crops)]
        return row
