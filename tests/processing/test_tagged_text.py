import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from processing.rendering import STYLE
from processing.tagged_text import NO_ENTITIES, Entities, TaggedRelation, TaggedText


JORDAN = {"entity_group": "PER", "score": 0.9, "word": "Jordan", "start": 0, "end": 6}


def shown(result):
    """The article that a notebook shows; it comes with its style, since the page of a notebook has none of ours."""
    html = result._repr_html_()
    assert html.startswith(f"<style>{STYLE}</style>")
    return ElementTree.fromstring(f"<div>{html}</div>").find("article")


def paragraphs(article):
    return ["".join(p.itertext()) for p in article.findall("form/p")]


@pytest.mark.parametrize("kind", ["entities", "report"])
@pytest.mark.parametrize("form", ["picture", "path", "list"])
def test_what_a_notebook_shows(kind, form, tmp_path):
    crops = {"aux_crops": [{"box": [0, 0, 9, 9], "label": "dog"}]}
    if kind == "entities":
        result = Entities([JORDAN], "Jordan & co", crops)
    else:
        result = TaggedText(text="Jordan & co", entities=[JORDAN], crops=crops, problems=["a problem"])
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    assert not list(shown(result).iter("svg"))
    result.show_pictures({"image": {"picture": Image.open(path), "path": str(path), "list": [path]}[form]})
    article = shown(result)
    assert article.find("form/p/mark").text == "Jordan" and article.find("form/p/mark").tail == " & co"
    assert [label.text for label in article.iter("text")] == ["1"] and article.find(".//li/div").text == "dog"
    assert len(article.findall("form/p[@class='note']")) == (kind == "report")
    path.unlink()
    if form == "path":  # gone in the meantime
        assert not list(shown(result).iter("svg"))


def test_pictures_are_those_that_the_model_saw():
    result = Entities([], "a")
    result.show_pictures({})
    assert result.pictures == {"image": []}
    result.used_pictures = {"aux_crops": [0, 2], "rcnn_crops": [0]}
    result.show_pictures({"image": ["a.png", "b.png"], "aux_crops": ["0", "1", "2", "3"], "rcnn_crops": "4"})
    assert result.pictures == {"image": ["a.png", None], "aux_crops": ["0", "2"], "rcnn_crops": ["4"]}
    assert Entities([], "a").pictures == {}, "of each result its own"
    result.show_pictures({"image": None, "aux_crops": ("5",)})
    assert result.pictures == {"image": [], "aux_crops": ["5"], "rcnn_crops": []}


def test_no_names_are_said_to_be_none():
    assert paragraphs(shown(Entities([], "Hello"))) == ["Hello", NO_ENTITIES]
    report = TaggedText(text="Hello", entities=[])
    assert paragraphs(shown(report)) == ["Hello", NO_ENTITIES]
    assert NO_ENTITIES == "No names found."
    report.is_tagged = False  # nobody looked
    assert paragraphs(shown(report)) == ["Hello"]
    for found in (Entities([JORDAN], "Jordan"), TaggedText(text="Jordan", entities=[JORDAN])):
        assert NO_ENTITIES not in found._repr_html_()


def test_a_result_is_a_plain_list_or_dict():
    entities, report = Entities([JORDAN], "Jordan"), TaggedText(text="Jordan", entities=[JORDAN])
    assert entities == [JORDAN] and json.loads(json.dumps(entities)) == [JORDAN] and repr(entities) == repr([JORDAN])
    assert json.loads(json.dumps(report)) == report == {"text": "Jordan", "entities": [JORDAN]}


def test_a_row_without_a_text():
    report = TaggedText(text=None, entities=[], problems=["neither <text> nor tokens"])
    [note] = shown(report).findall("form/p[@class='note']")
    assert note.text == "neither <text> nor tokens"


def relation(head, tail, text="Jordan met <Paris>", **rest):
    places = {
        name: {"word": text[start:end], "start": start, "end": end}
        for name, (start, end) in (("head", head), ("tail", tail))
    }
    result = TaggedRelation({"text": text, "relation": "/per/loc/in", "score": 0.876, **places, **rest})
    result.text = text
    return result


@pytest.mark.parametrize(
    ("head", "tail", "marks"),
    [
        ((0, 6), (11, 18), [("Jordan", "head"), ("<Paris>", "tail")]),
        ((11, 18), (0, 6), [("Jordan", "tail"), ("<Paris>", "head")]),
        ((0, 10), (7, 18), []),
        ((7, 10), (0, 18), []),
        ((0, 6), (0, 6), []),
        ((0, 0), (0, 6), []),  # of words, one may be empty
    ],
)
def test_a_relation_shows_its_entities_and_its_line(head, tail, marks, tmp_path):
    result = relation(head, tail, problems=["<a> problem"])
    result.crops = {"rcnn_crops": [{"box": [0, 0, 9, 9], "label": "dog"}]}
    assert not list(shown(result).iter("svg"))
    result.show_pictures({"image": Image.new("RGB", (30, 20))})
    article = shown(result)
    text, line, note = article.findall("form/p")
    assert [(mark.text, mark.find("small").text.strip()) for mark in text.iter("mark")] == marks
    for small in text.iter("small"):
        small.text = ""
    assert "".join(text.itertext()) == result.text
    words = [result.text[slice(*span)] for span in (head, tail)]
    assert [bdi.text or "" for bdi in line.findall("bdi")] == words and line.find("b").text == "in"
    assert line.find("bdi[2]").tail == ", 0.88" and note.text == "<a> problem"
    assert [label.text for label in article.iter("text")] == ["1"]


def test_the_negative_relation_is_said_to_be_none():
    result = relation((0, 6), (11, 18), relation="None")
    result.holds = False
    assert paragraphs(shown(result))[1:] == ["No relation found, 0.88."]
    assert "No relation" not in relation((0, 6), (11, 18))._repr_html_()


def test_a_row_without_a_relation():
    result = TaggedRelation(text=None, problems=["neither text nor tokens"])
    result.is_tagged = False
    [note] = shown(result).findall("form/p[@class='note']")
    assert note.text == "neither text nor tokens"


def test_triples_are_told_by_their_words():
    paris = {"entity_group": "LOC", "score": 0.9, "word": "Paris", "start": 11, "end": 16}
    relations = [{"head": 1, "tail": 0, "relation": "in", "score": 0.5}]
    report = TaggedText(text="Jordan met Paris", entities=[JORDAN, paris], relations=relations)
    assert paragraphs(shown(report))[1:] == ["Paris in Jordan, 0.50"] and report["relations"] == relations
