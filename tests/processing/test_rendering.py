import base64
import xml.etree.ElementTree as ElementTree
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processing.rendering import (
    COLOURS,
    CROP_COLOURS,
    entity_text,
    picture_figure,
    tweet_html,
    type_colour,
)


def parsed(fragment: str) -> ElementTree.Element:
    """Well-formed, or it raises."""
    return ElementTree.fromstring(f"<div>{fragment}</div>")


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
    marks = parsed(entity_text("Jordan met Paris!", entities)).findall("mark")
    assert [(mark.text, mark.find("small").text, mark.tail) for mark in marks] == [
        ("Jordan", "PER", " met "),
        ("Paris", "LOC 0.99", "!"),
    ]
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
    assert (small.text or "") == label


def test_a_type_has_one_colour_and_black_is_read_on_all():
    assert (
        type_colour("PER") == type_colour("PER") and len({type_colour(t) for t in ("PER", "ORG", "LOC", "MISC")}) == 4
    )
    assert type_colour("creative-work") in COLOURS
    assert all((relative_luminance(colour) + 0.05) / 0.05 > 7 for colour in COLOURS)


def test_a_picture_with_boxes():
    figure = picture_figure(
        Image.new("RGB", (640, 320), "teal"), 'a "b" <c>', [("cat & 0.9", (10, 20, 110, 220), "#e8590c")], width=320
    )
    svg = parsed(figure).find("figure/svg")
    assert svg.get("viewBox") == "0 0 640 320" and (svg.get("width"), svg.get("height")) == ("320", "160")
    assert svg.get("aria-label") == 'a "b" <c>'
    box = svg.find("rect")
    assert [float(box.get(name)) for name in ("x", "y", "width", "height")] == [10, 20, 100, 200]
    assert svg.find("text").text == "cat & 0.9"
    data = base64.b64decode(svg.find("image").get("href").removeprefix("data:image/jpeg;base64,"))
    assert Image.open(BytesIO(data)).size == (320, 160)


@pytest.mark.parametrize(("left", "anchor"), [(0, "start"), (95, "end")])
def test_labels_stay_inside_the_picture(left, anchor):
    image = Image.new("RGB", (100, 100))
    svg = parsed(picture_figure(image, boxes=[("x" * 6, (left, 0, 100, 5), "#000")])).find("figure/svg")
    text = svg.find("text")
    assert text.get("text-anchor") == anchor and 0 < float(text.get("y")) <= 100


def test_a_small_picture_is_not_blown_up():
    image = parsed(picture_figure(Image.new("RGB", (30, 20)), "crop")).find("figure/img")
    assert (image.get("width"), image.get("height"), image.get("alt")) == ("30", "20", "crop")


def shares(**of_sources):
    boxes = {"aux_crops 0": (0, 0, 20, 20), "rcnn_crops 0": (10, 10, 60, 40)}
    named = {name.replace("_crops_", "_crops "): share for name, share in of_sources.items()}
    return [
        {"source": source, "share": share, **({"box": boxes[source], "label": "<b>"} if source in boxes else {})}
        for source, share in named.items()
    ]


def test_a_tweet_without_shares():
    crops = {"aux_crops": [{"box": (0, 0, 20, 20), "label": "dog"}], "rcnn_crops": [{"box": (1, 1, 9, 9)}]}
    entities = [{"entity_group": "PER", "start": 0, "end": 6, "word": "Jordan"}]
    article = parsed(tweet_html("Jordan!", entities, Image.new("RGB", (60, 40)), crops, ["<i> is wrong"]))[0]
    assert article.find("p/mark").text == "Jordan" and article.find("p[@class='note']").text == "<i> is wrong"
    [figure] = article.iter("figure")
    assert [box.get("stroke") for box in figure.iter("rect")] == [CROP_COLOURS["aux"], CROP_COLOURS["rcnn"]]
    assert [label.text for label in figure.iter("text")] == ["dog", None]
    assert figure.find("figcaption").text == "1 aux_crops, 1 rcnn_crops"
    assert not list(parsed(tweet_html("Jordan!", entities)).iter("figure"))


def test_the_line_of_a_box_is_the_wider_the_larger_its_share():
    entities = [
        {"entity_group": "PER", "start": 0, "end": 6, "word": "Jordan"},
        {"entity_group": "LOC", "start": 7, "end": 12, "word": "Paris"},
    ]
    entities[0]["shares"] = shares(text=0.1, image=0.005, aux_crops_0=0.8, rcnn_crops_0=0.095)
    entities[1]["shares"] = shares(text=0.2, image=0.0, aux_crops_0=0.0, rcnn_crops_0=0.8)
    jordan, paris = parsed(tweet_html("Jordan Paris", entities, Image.new("RGB", (60, 40)))).iter("figure")
    caption = "Jordan: aux_crops 0 <b> 80%, text 10%, rcnn_crops 0 <b> 10%"
    assert jordan.find("figcaption").text == jordan.find("svg").get("aria-label") == caption
    lines = [
        {box.get("stroke"): float(box.get("stroke-width")) for box in figure.iter("rect")}
        for figure in (jordan, paris)
    ]
    assert lines[0][CROP_COLOURS["aux"]] == lines[1][CROP_COLOURS["rcnn"]] == pytest.approx(8.2)
    assert lines[1][CROP_COLOURS["aux"]] == 1
    assert list(lines[0]) == [CROP_COLOURS["rcnn"], CROP_COLOURS["aux"]], "the largest is drawn last"
    assert [label.text for label in paris.iter("text")] == [None, "80%"]
    [note] = parsed(tweet_html("Jordan", entities[:1])).findall("article/p[@class='note']")
    assert note.text == caption


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
    crops = {"aux_crops": [{"box": (0, 0, 9, 9), "label": text}]}
    image = Image.new("RGB", (60, 40))
    for entities in ([entity], [{**entity, "shares": [share]}]):
        for picture in (image, None):
            article = parsed(tweet_html(text, entities, picture, crops, [text]))
            assert {element.tag for element in article.iter()} <= {
                *("div", "article", "p", "mark", "small", "figure", "svg", "image", "rect", "text", "figcaption")
            }
            assert not any(name.startswith("on") for element in article.iter() for name in element.attrib)
            assert article.find("article/p/mark").text == text


def test_relations_are_shown_and_escaped():
    entities = [
        {"entity_group": "PER", "word": "<b>A</b>", "start": 0, "end": 8},
        {"entity_group": "LOC", "word": "Rome", "start": 9, "end": 13},
    ]
    relations = [{"head": "<b>A</b>", "tail": "Rome", "relation": "<i>/in", "score": 0.876}]
    shown = tweet_html("<b>A</b> Rome", entities, relations=relations)
    assert "<p><bdi>&lt;b&gt;A&lt;/b&gt;</bdi> <b>&lt;i&gt;/in</b> <bdi>Rome</bdi> 0.88</p>" in shown
    assert "<p><bdi>" not in tweet_html("<b>A</b> Rome", entities)
