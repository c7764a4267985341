import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from processing.tagged_text import Entities, TaggedRelation, TaggedText


JORDAN = {"entity_group": "PER", "score": 0.9, "word": "Jordan", "start": 0, "end": 6}


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
    assert not list(ElementTree.fromstring(result._repr_html_()).iter("svg"))
    result.image = {"picture": Image.open(path), "path": str(path), "list": [path]}[form]
    article = ElementTree.fromstring(result._repr_html_())
    assert article.find("p/mark").text == "Jordan" and article.find("p/mark").tail == " & co"
    assert [label.text for label in article.iter("text")] == ["dog"]
    assert len(article.findall("p[@class='note']")) == (kind == "report")
    path.unlink()
    if form == "path":  # gone in the meantime
        assert not list(ElementTree.fromstring(result._repr_html_()).iter("svg"))


def test_a_result_is_a_plain_list_or_dict():
    entities, report = Entities([JORDAN], "Jordan"), TaggedText(text="Jordan", entities=[JORDAN])
    assert entities == [JORDAN] and json.loads(json.dumps(entities)) == [JORDAN] and repr(entities) == repr([JORDAN])
    assert json.loads(json.dumps(report)) == report == {"text": "Jordan", "entities": [JORDAN]}


def test_a_row_without_a_text():
    report = TaggedText(text=None, entities=[], problems=["neither <text> nor tokens"])
    [note] = ElementTree.fromstring(report._repr_html_()).findall("p[@class='note']")
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
    assert not list(ElementTree.fromstring(result._repr_html_()).iter("svg"))
    result.image = Image.new("RGB", (30, 20))
    article = ElementTree.fromstring(result._repr_html_())
    text, line, note = article.findall("p")
    assert [(mark.text, mark.find("small").text) for mark in text.iter("mark")] == marks
    for small in text.iter("small"):
        small.text = ""
    assert "".join(text.itertext()) == result.text
    words = [result.text[slice(*span)] for span in (head, tail)]
    assert [bdi.text or "" for bdi in line.findall("bdi")] == words and line.find("b").text == "/per/loc/in"
    assert line.find("bdi[2]").tail == " 0.88" and note.text == "<a> problem"
    assert [label.text for label in article.iter("text")] == ["dog"]


def test_a_row_without_a_relation():
    result = TaggedRelation(text=None, problems=["neither text nor tokens"])
    result.is_tagged = False
    [note] = ElementTree.fromstring(result._repr_html_()).findall("p[@class='note']")
    assert note.text == "neither text nor tokens"


def test_triples_are_told_by_their_words():
    paris = {"entity_group": "LOC", "score": 0.9, "word": "Paris", "start": 11, "end": 16}
    relations = [{"head": 1, "tail": 0, "relation": "in", "score": 0.5}]
    report = TaggedText(text="Jordan met Paris", entities=[JORDAN, paris], relations=relations)
    line = ElementTree.fromstring(report._repr_html_()).findall("p")[1]
    assert "".join(line.itertext()) == "Paris in Jordan 0.50" and report["relations"] == relations
