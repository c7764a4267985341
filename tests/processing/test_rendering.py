import base64
import re
import xml.etree.ElementTree as ElementTree
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processing.data.mnre import MNRE_RELATIONS
from processing.inspection.html_page import page
from processing.labels import NO_RELATION
from processing.rendering import (
    BADGE,
    COLOURS,
    CROP_COLOURS,
    MAX_CHOSEN,
    MAX_CROP_SIDE,
    MAX_SIDE,
    RELATION_PHRASES,
    STYLE,
    entity_text,
    framed_picture,
    relation_phrase,
    tweet_html,
    type_colour,
)


def parsed(fragment: str) -> ElementTree.Element:
    """Well-formed, or it raises."""
    return ElementTree.fromstring(f"<div>{fragment}</div>")


def words(element: ElementTree.Element) -> str:
    """What a screen reader reads and a copy of the text holds."""
    return "".join(element.itertext())


def embedded(address: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))


def relative_luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG21/#dfn-relative-luminance"""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_entities_are_marked_in_place():
    entities = [
        {"entity_group": "LOC", "start": 11, "end": 16, "score": 0.987},
        {"entity_group": "PER", "start": 0, "end": 6},
    ]
    text = parsed(entity_text("Jordan met Paris!", entities))
    marks = text.findall("mark")
    assert [(mark.text, mark.find("small").text, mark.tail) for mark in marks] == [
        ("Jordan", " PER", " met "),
        ("Paris", " LOC 0.99", "!"),
    ]
    assert words(text) == "Jordan PER met Paris LOC 0.99!", "a space lies between name and type"
    assert len({mark.get("style") for mark in marks}) == 2


@pytest.mark.parametrize("spans", [[(0, 3), (2, 4)], [(3, 3)], [(4, 2)], [(0, 99)], [(-1, 2)]])
def test_spans_that_cannot_be_marked(spans):
    with pytest.raises(ValueError, match="must not overlap and lie inside the text of 6 characters"):
        entity_text("Jordan", [{"entity_group": "PER", "start": start, "end": end} for start, end in spans])


PRINTABLE = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)


@given(text=PRINTABLE, label=PRINTABLE, data=st.data())
def test_no_text_becomes_markup(text, label, data):
    text = f"<script>alert(1)</script>&{text}"
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    element = parsed(entity_text(text, [{"entity_group": label, "start": start, "end": end}]))
    assert {child.tag for child in element.iter()} == {"div", "mark", "small"}
    mark = element.find("mark")
    small = mark.find("small")
    assert (element.text or "") + (mark.text or "") + (mark.tail or "") == text
    assert small.text == f" {label}"


def test_a_type_has_one_colour_and_all_text_on_colours_can_be_read():
    assert (
        type_colour("PER") == type_colour("PER") and len({type_colour(t) for t in ("PER", "ORG", "LOC", "MISC")}) == 4
    )
    assert type_colour("creative-work") in COLOURS
    assert all((relative_luminance(colour) + 0.05) / 0.05 > 7 for colour in COLOURS)
    assert all(1.05 / (relative_luminance(colour) + 0.05) >= 4.5 for colour in CROP_COLOURS.values())
    svg = parsed(framed_picture(Image.new("RGB", (60, 40)), "", [("1", (0, 0, 20, 20), CROP_COLOURS["aux"])]))[0]
    assert svg.find("text").get("fill") == "#fff" and ".tweet .badge { text-align: center;" in STYLE
    assert re.search(r"\.tweet \.badge \{[^}]*color: #fff !important", STYLE), "white in every scheme and on any page"


def test_a_picture_with_a_frame():
    frame = ("cat & 0.9", (10, 20, 110, 220), "#e8590c")
    svg = parsed(framed_picture(Image.new("RGB", (640, 320), "teal"), 'a "b" <c>', [frame])).find("svg")
    assert svg.get("viewBox") == "0 0 640 320" and (svg.get("width"), svg.get("height")) == ("320", "160")
    assert (svg.get("role"), svg.get("aria-label")) == ("img", 'a "b" <c>')
    box = svg.find("g/rect")
    assert [float(box.get(name)) for name in ("x", "y", "width", "height")] == [10, 20, 100, 200]
    assert box.get("stroke") == "#e8590c" and svg.find("text").text == "cat & 0.9"
    assert embedded(svg.find("image").get("href")).size == (320, 160)


def test_a_small_picture_is_not_blown_up():
    svg = parsed(framed_picture(Image.new("RGB", (30, 20)), "crop"))[0]
    assert (svg.get("width"), svg.get("height")) == ("30", "20")


SIDES = st.tuples(st.integers(100, 900), st.integers(100, 900))  # there is room for eight numbers
POINT = st.tuples(st.floats(-0.1, 1.1), st.floats(-0.1, 1.1))


@given(size=SIDES, corners=st.lists(st.tuples(POINT, POINT), min_size=1, max_size=8))
def test_numbers_lie_in_the_picture_and_do_not_cover_each_other(size, corners):
    frames = []
    for number, points in enumerate(corners, start=1):
        (left, right), (top, bottom) = (
            sorted(place * side for place in of) for of, side in zip(zip(*points, strict=True), size, strict=True)
        )
        frames.append((str(number), (left, top, right, bottom), CROP_COLOURS["aux"]))
    svg = parsed(framed_picture(Image.new("RGB", size), "", frames))[0]
    side = BADGE * max(size) / min(max(size), MAX_SIDE)
    badges = [box for box in svg.findall("rect") if box.get("fill") != "none"]
    places = [(float(badge.get("x")), float(badge.get("y"))) for badge in badges]
    assert [text.text for text in svg.findall("text")] == [number for number, *_ in frames]
    for index, (x, y) in enumerate(places):
        assert all(-0.1 <= place <= extent - side + 0.1 for place, extent in zip((x, y), size, strict=True))
        assert all(max(abs(x - x2), abs(y - y2)) > side for x2, y2 in places[:index])


@pytest.mark.parametrize("size", [(1, 9000), (9000, 1), (1, 1)])
def test_pictures_without_room_for_numbers(size):
    frames = [(str(number), (0, 0, 1, 1), CROP_COLOURS["aux"]) for number in range(5)]
    svg = parsed(framed_picture(Image.new("RGB", size), "", frames))[0]
    assert len(svg.findall("text")) == 5


AUX = {"box": (0, 0, 20, 20), "label": "dog", "score": 0.5}
RCNN = {"box": (10, 10, 60, 40)}


def tweet(*arguments, **options) -> ElementTree.Element:
    return parsed(tweet_html(*arguments, **options))[0]


def sources(article: ElementTree.Element) -> list[tuple[str, str]]:
    """Number and description of each part."""
    return [(words(item[0]), item.find("div").text) for item in article.iter("li")]


def test_a_tweet_without_shares():
    pictures = {"image": [Image.new("RGB", (60, 40))]}
    entities = [{"entity_group": "PER", "start": 0, "end": 6, "word": "Jordan"}]
    article = tweet("Jordan!", entities, pictures, {"aux_crops": [AUX], "rcnn_crops": [RCNN]}, ["<i> is wrong"])
    assert article.find("form/p/mark").text == "Jordan" and article.find(".//p[@class='note']").text == "<i> is wrong"
    [picture] = article.iter("image")
    svg = article.find(".//div[@class='seen']/svg")
    frames = svg.findall("g/rect")
    assert [box.get("stroke") for box in frames] == [CROP_COLOURS["aux"], CROP_COLOURS["rcnn"]]
    assert [label.text for label in svg.iter("text")] == ["1", "2"]
    assert sources(article) == [("1", "dog (found by the detector)"), ("2", "a part of the picture")]
    assert svg.get("aria-label") == "The picture with 2 numbered frames"
    cuts = list(article.iter("use"))  # the pixels are not there a second time
    assert {cut.get("href") for cut in cuts} == {f"#{picture.get('id')}"} and len(cuts) == 2
    boxes = [svg.get("viewBox") for svg in article.iter("svg") if svg.get("class") == "crop"]
    assert boxes == ["0.0 0.0 20.0 20.0", "10.0 10.0 50.0 30.0"]
    assert not list(article.iter("input")) and not list(article.iter("img"))
    bare = tweet("Jordan!", entities)
    assert not list(bare.iter("svg")) and not list(bare.iter("ul"))


def chosen(article: ElementTree.Element, number: int) -> dict[str, object]:
    """What is shown of name `number`: bars and percents by source, and widths of the frames by colour."""
    shown = f"of-{number}"
    bars = [item.find(f"div/div[@class='share {shown}']") for item in article.iter("li")]
    (frames,) = (group for group in article.iter("g") if group.get("class") == shown)
    return {
        "percents": [words(bar) for bar in bars],
        "bars": [bar.find("i").get("style") for bar in bars],
        "frames": {box.get("stroke"): float(box.get("stroke-width")) for box in frames},
    }


def shares(**of_sources):
    return [{"source": name.replace("_crops_", "_crops "), "share": share} for name, share in of_sources.items()]


def test_one_name_is_chosen_and_what_speaks_for_it_is_shown():
    entities = [
        {"entity_group": "PER", "start": 0, "end": 6, "word": "Jordan"},
        {"entity_group": "LOC", "start": 7, "end": 12, "word": "Paris"},
    ]
    entities[0]["shares"] = shares(text=0.1, image=0.005, aux_crops_0=0.8, rcnn_crops_0=0.095)
    entities[1]["shares"] = shares(text=0.2, image=0.0, aux_crops_0=0.0, rcnn_crops_0=0.8)
    article = tweet(
        "Jordan Paris",
        entities,
        {"image": [Image.new("RGB", (60, 40))]},
        {"aux_crops": [AUX], "rcnn_crops": [RCNN]},
    )
    labels = article.findall("form/p/label")
    assert [label.find("mark").text for label in labels] == ["Jordan", "Paris"]
    choices = [label.find("input") for label in labels]
    assert [choice.get("class") for choice in choices] == ["chooses-0", "chooses-1"]
    assert [choice.get("checked") is not None for choice in choices] == [True, False], "the first, before any click"
    assert len({choice.get("name") for choice in choices}) == 1 and {of.get("type") for of in choices} == {"radio"}
    assert [said for _, said in sources(article)] == [
        "the text",
        "the whole picture",
        "dog (found by the detector)",
        "a part of the picture",
    ]
    jordan, paris = chosen(article, 0), chosen(article, 1)
    assert jordan["percents"] == ["10 %", "0 %", "80 %", "10 %"] and paris["percents"] == [
        "20 %",
        "0 %",
        "0 %",
        "80 %",
    ]
    assert jordan["bars"][2] == "--share:80%" and paris["bars"][2] == "--share:0%"
    assert jordan["frames"][CROP_COLOURS["aux"]] == paris["frames"][CROP_COLOURS["rcnn"]] == pytest.approx(8.2)
    assert paris["frames"][CROP_COLOURS["aux"]] == 1
    assert list(jordan["frames"]) == [CROP_COLOURS["rcnn"], CROP_COLOURS["aux"]], "the widest is drawn last"
    assert len(list(article.iter("image"))) == 1


def test_the_style_shows_what_belongs_to_the_chosen_name():
    rule = ".tweet:not(:has(.chooses-{0}:checked)) .of-{0} {{ display: none; }}"
    assert all(rule.format(number) in STYLE for number in range(MAX_CHOSEN))
    assert ".tweet label:has(:focus-visible)" in STYLE, "it is seen where the keyboard is"
    text = " ".join(["Jordan"] * (MAX_CHOSEN + 1))
    entities = [
        {"entity_group": "PER", "start": start, "end": start + 6, "shares": shares(text=1.0)}
        for start in range(0, len(text), 7)
    ]
    article = tweet(text, entities)
    assert len(list(article.iter("mark"))) == MAX_CHOSEN + 1 and len(list(article.iter("input"))) == MAX_CHOSEN
    assert article.find(".//p[@class='note']").text == f"Only the first {MAX_CHOSEN} names can be chosen."


def crop(colour):
    return Image.new("RGB", (100, 80), colour)


def colours_of_crops(article):
    images = [embedded(image.get("src")) for image in article.iter("img")]
    assert all(max(image.size) <= MAX_CROP_SIDE for image in images)
    return [image.getpixel((5, 5)) for image in images]


def test_crops_are_shown_where_their_boxes_are_not_known():
    pictures = {"image": [crop("black")], "aux_crops": [crop("red"), b"broken", crop("blue")], "rcnn_crops": [RCNN]}
    entity = {"entity_group": "PER", "start": 0, "end": 6}
    entity["shares"] = shares(text=0.1, aux_crops_0=0.2, aux_crops_2=0.6, rcnn_crops_0=0.1)
    article = tweet("Jordan", [entity], pictures, {"rcnn_crops": [RCNN]})
    (red, blue) = colours_of_crops(article)
    assert red[0] > 200 > red[2] and blue[2] > 200 > blue[0]
    assert [number for number, _ in sources(article)] == ["", "1", "2", "3", "4"]
    assert chosen(article, 0)["percents"] == ["10 %", "20 %", "0 %", "60 %", "10 %"], "each beside its own crop"
    assert chosen(article, 0)["frames"].keys() == {CROP_COLOURS["rcnn"]}


@pytest.mark.parametrize("image", [[], [None], [b"broken"]])
def test_crops_are_shown_where_there_is_no_picture_to_cut_them_from(image):
    pictures = {"image": image, "aux_crops": [crop("red")]}
    article = tweet("Jordan", [], pictures, {"aux_crops": [AUX]})
    assert len(colours_of_crops(article)) == 1 and sources(article) == [("1", "dog (found by the detector)")]
    assert not list(article.iter("svg"))
    assert not list(tweet("Jordan", [], {**pictures, "aux_crops": []}, {"aux_crops": [AUX]}).iter("img"))


def test_a_picture_larger_than_the_limit_is_not_shown():
    assert not list(tweet("a", [], {"image": [crop("red")]}, max_megapixels=0.001).iter("svg"))


def photo(size: int, seed: int) -> Image.Image:
    """As photos are: large shapes, finer ones that are fainter, and hardly any noise."""
    random, pixels = np.random.default_rng(seed), np.zeros((size, size, 3))
    for cells in (4, 16, 64, 256):
        grid = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC)) * (4 / cells) ** 0.5
    return Image.fromarray((255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(np.uint8))


@pytest.mark.parametrize("with_boxes", [True, False])
def test_a_tweet_with_six_crops_is_small(with_boxes):
    found = {"box": (100, 100, 900, 900), "label": "a part of a photo", "score": 0.5}
    objects = {column: [found] * 3 for column in ("aux_crops", "rcnn_crops")} if with_boxes else {}
    crops = {column: [photo(800, seed) for seed in range(3)] for column in ("aux_crops", "rcnn_crops")}
    text = " ".join(["Jordan"] * 4)
    of_sources = dict.fromkeys(("text", "image", *(f"{c}_crops_{n}" for c in ("aux", "rcnn") for n in range(3))), 0.12)
    entities = [
        {"entity_group": "PER", "score": 1.0, "start": start, "end": start + 6, "shares": shares(**of_sources)}
        for start in range(0, len(text), 7)
    ]
    article = tweet_html(text, entities, {"image": [photo(1000, 9)], **crops}, objects)
    assert article.count("data:image/jpeg") == (1 if with_boxes else 7)
    assert 20_000 < len(article.encode()) <= 40_000


def test_a_picture_that_hardly_compresses_is_kept_small():
    noise = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (320, 320, 3), dtype=np.uint8))
        for seed in range(4)
    ]
    crops = {"aux_crops": noise[1:], "rcnn_crops": noise[1:]}
    assert len(tweet_html("a", [], {"image": noise[:1], **crops})) <= 40_000
    sources = ["text", "image", *(f"{column} {number}" for column in crops for number in range(3))]
    of_entity = [{"source": source, "share": 0.125} for source in sources]
    entities = [
        {"entity_group": "PER", "start": at, "end": at + 1, "score": 1.0, "shares": of_entity} for at in range(20)
    ]
    boxes = {column: [{"box": (10, 20, 300, 310), "label": "person", "score": 0.5}] * 3 for column in crops}
    assert len(tweet_html("a" * 20, entities, {"image": noise[:1]}, boxes)) <= 40_000


def test_names_are_chosen_only_where_all_have_shares():
    entities = [{"entity_group": "PER", "start": at, "end": at + 1} for at in range(2)]
    entities[1]["shares"] = [{"source": "text", "share": 1.0}]
    assert "radio" not in tweet_html("ab", entities)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'--><svg/onload=x>",
    "&lt;b&gt; &#60;",
    "]]>",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_tweet_becomes_markup(text):
    entity = {"entity_group": text, "start": 0, "end": len(text), "word": text}
    share = {"source": "aux_crops 0", "share": 1.0, "box": (0, 0, 9, 9), "label": text}
    crops = {"aux_crops": [{"box": (0, 0, 9, 9), "label": text, "score": 1.0}]}
    relations = [{"head": text, "tail": text, "relation": text, "score": 1.0}]
    picture = Image.new("RGB", (60, 40))
    known = {
        *("article", "form", "p", "b", "bdi", "label", "input", "mark", "small", "div", "i", "ul", "li", "span"),
        *("svg", "image", "rect", "text", "g", "use", "img"),
    }
    for entities in ([entity], [{**entity, "shares": [share]}]):
        for pictures in ({"image": [picture]}, {"aux_crops": [picture]}, {}):
            article = tweet(text, entities, pictures, crops, [text], relations, text)
            assert {element.tag for element in article.iter()} <= known
            assert not any(name.startswith("on") for element in article.iter() for name in element.attrib)
            assert article.find("form").get("action") is None and article.find("form").get("method") == "dialog"
            assert next(article.iter("mark")).text == text and len(article.findall(".//bdi")) == 2
    assert not re.search(
        r"https?://|<script|<link|url\(|@import", page("a", tweet_html("a", [], {"image": [picture]}))
    )


def test_relations_are_said_as_sentences():
    entities = [
        {"entity_group": "PER", "word": "<b>A</b>", "start": 0, "end": 8},
        {"entity_group": "LOC", "word": "Rome", "start": 9, "end": 13},
    ]
    relations = [
        {"head": "<b>A</b>", "tail": "Rome", "relation": "/per/org/member_of", "score": 0.926},
        {"head": "Rome", "tail": "<b>A</b>", "relation": "<i>/lies_<in>"},
    ]
    first, second = tweet("<b>A</b> Rome", entities, relations=relations).findall("form/p")[1:]
    assert words(first) == "<b>A</b> is a member of Rome, 0.93" and words(second) == "Rome lies <in> <b>A</b>"
    assert not list(tweet("<b>A</b> Rome", entities).iter("bdi"))


def test_every_relation_of_mnre_has_its_words():
    assert set(RELATION_PHRASES) == set(MNRE_RELATIONS) - {NO_RELATION}
    assert relation_phrase("works_for") == "works for" and relation_phrase("/a/b/is_near") == "is near"


def test_what_is_said_where_nothing_was_found():
    said = [p.text for p in tweet("Hello", [], nothing="No names found.").findall("form/p")]
    assert said == ["Hello", "No names found."]
    assert len(tweet("Hello", []).findall("form/p")) == 1


def test_text_from_right_to_left_lies_right():
    text = tweet("שלום Jordan עולם", [{"entity_group": "PER", "start": 5, "end": 11}]).find("form/p")
    assert (
        text.get("dir") == "auto"
        and ".tweet .text { font-size: 1.1rem; line-height: 1.9; text-align: start; }" in STYLE
    )
    assert re.search(r"\.tweet mark small \{[^}]*unicode-bidi: isolate", STYLE)
