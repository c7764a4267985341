import json
import xml.etree.ElementTree as ElementTree

import pytest
from PIL import Image

from processing.tagged_text import Entities, TaggedText


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
