"""Foreign names on cards: what is in them shows, and does nothing."""

import re

import pytest
import yaml

from hub_card.dataset_card import dataset_card
from hub_card.markdown import code, counts_table, plain
from hub_card.space_card import SpaceFacts, space_card
from processing.problems import visible
from processing.rows.row_features import ner_features


HOSTILE = [
    "a|b",
    "`x`",
    "a\n---\n# b",
    "[x](javascript:alert(1))",
    "![x](http://e/x.png)",
    "<script>alert(1)</script>",
    "__b__ *i* ~~s~~ $x$ &amp;",
    "{{ 7*7 }}",
    "\u202egnp.exe\x1b[31m\x00\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_plain_text_shows_what_is_there(name):
    shown = plain(name)
    assert "\n" not in shown and "\u202e" not in shown and shown.encode()
    # What is not escaped starts nothing in CommonMark or GFM, https://spec.commonmark.org/0.31.2/#backslash-escapes
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*\[\]<|~$]", shown)
    assert re.sub(r"\\([^a-z0-9\s])", r"\1", shown) == visible(name), "a reader sees all of it"


def test_plain_text_leaves_names_as_they_are():
    assert plain("date_of_birth") == "date_of_birth" and plain("/per/loc-2 (x)") == "/per/loc-2 (x)"
    assert plain("_x_") == r"\_x\_" and plain(3) == "3"


def test_code():
    assert code("bert") == "`bert`" and code("a``b") == "``` a``b ```" and code("a\nb") == r"`a\nb`"


@pytest.mark.parametrize("name", HOSTILE)
def test_cards_keep_their_structure(name):
    """Lines, cells and metadata are those of a harmless name."""

    def structure(name):
        statistics = {"train": {"rows": 3, "words": {"longest": 3}, "entities": {name: 2}, "without_image": 0}}
        # Arrow keeps no half of a surrogate pair, so that a class label has none.
        features = ner_features(["O", f"B-{name.encode(errors='replace').decode()}"])
        cards = [
            dataset_card(features, statistics, {"train": 3}, title=name, repo_id="me/x"),
            space_card(SpaceFacts(name, [name], name)),
        ]
        texts = [str(card) for card in cards]
        metadata = [yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n")) for text in texts]
        assert metadata[0]["pretty_name"] == metadata[1]["title"] == name
        lines = [text.split("\n---\n", 1)[1].split("\n") for text in texts]
        return [sorted(of) for of in metadata], [(len(of), [line[:1] for line in of]) for of in lines]

    assert structure(name) == structure("harmless")


def test_a_table_has_one_line_for_each_count():
    table = counts_table({"train": {"rows": 1, "entities": dict.fromkeys(HOSTILE, 1), "without_image": 0}}, "entities")
    assert len(table.splitlines()) == 4 + len(HOSTILE)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table.splitlines())
