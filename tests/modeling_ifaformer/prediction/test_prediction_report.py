"""Counts of predicted rows, and reasons without names and values."""

import json
from importlib import import_module

import pytest

from processing.tagged_text import TaggedRelation, TaggedText


@pytest.fixture
def report_module():
    return import_module("modeling_ifaformer.prediction.prediction_report")


def tagged(*entities, problems=(), is_tagged=True):
    found = [{"entity_group": entity_type, "word": word} for entity_type, word in entities]
    result = TaggedText(text="x", entities=found, **({"problems": list(problems)} if problems else {}))
    result.is_tagged = is_tagged
    return result


@pytest.mark.parametrize(
    ("problems", "reason"),
    [
        (("image: /a/b.jpg: no such file", "image: c d: no such file"), "image: no such file"),
        (
            ("aux_crops 0: x.png: empty (0 bytes)", "aux_crops 12: bytes: empty (0 bytes)"),
            "aux_crops: empty (N bytes)",
        ),
        (
            ("rcnn_crops: 4 crops, the model takes the first 2", "rcnn_crops: 9 crops, the model takes the first 2"),
            "rcnn_crops: N crops, the model takes the first N",
        ),
        (
            ("aux_crops 1: the box [1.5, -2, 3, 4e-05] lies outside the picture of 3 x 4 pixels",),
            "aux_crops N: the box [N, N, N, N] lies outside the picture of N x N pixels",
        ),
        (
            (
                "text: '' is empty, or the tokenizer keeps nothing of it",
                "text: '\\u200d cut off is empty, or the tokenizer keeps nothing of it",
            ),
            "text: the text is empty, or the tokenizer keeps nothing of it",
        ),
        (("expected text to be a string, got 5", "expected text to be a string, got ['a']"), None),
        (
            (
                "head: 'New York' occurs 2 times in the text as whole words",
                'head: "it\'s" occurs 0 times in the text as whole words',
            ),
            "head: ... occurs N times in the text as whole words",
        ),
        (
            (
                "tail: characters 1 to 2 are no whole words; words lie at 0-3, 4-7",
                "tail: characters 5 to 9 are no whole words; words lie at 0-3",
            ),
            "tail: characters N to N are no whole words",
        ),
        (("half of a surrogate pair, '\\ud83d', is no character",), "half of a surrogate pair, ..., is no character"),
    ],
)
def test_problems_of_one_kind_have_one_reason(report_module, problems, reason):
    assert {report_module.reason_of(problem) for problem in problems} == {reason or "expected text to be a string"}


def test_every_row_is_counted_once(report_module):
    report = report_module.PredictionReport()
    report.add("a:1", tagged(("PER", "Jordan"), ("LOC", "New\nYork")))
    report.add("a:2", tagged())
    report.add("a:3", tagged(("PER", "Ann"), problems=["image: b.png: no such file"]))
    report.add("a:4", tagged(problems=["image: c.png: no such file", "text: '' is empty"], is_tagged=False))
    report.add("a:5", tagged(problems=["a:5: not JSON"], is_tagged=False))
    published = report.published()
    assert (published["rows"], published["tagged"], published["without_entities"]) == (5, 3, 1)
    assert published["entities"] == {"PER": 2, "LOC": 1} and report.names["LOC"] == {"New York": 1}
    assert published["skipped"] == {
        "text: the text is empty": {"count": 1, "examples": ["a:4: text: '' is empty"]},
        "not JSON": {"count": 1, "examples": ["a:5: not JSON"]},
    }
    examples = ["a:3: image: b.png: no such file", "a:4: image: c.png: no such file"]
    assert published["problems"] == {"image: no such file": {"count": 2, "examples": examples}}
    assert "5 rows, 3 tagged, 1 of them without entities" in report.summary() and examples[1] in report.summary()


def test_reports_add_up_and_survive_json(report_module):
    whole, first, second = (report_module.PredictionReport() for _ in range(3))
    for number in range(9):
        result = tagged(("PER", f"name {number % 2}"), problems=["image: x: gone"] if number % 2 else ())
        for report in (whole, first if number < 5 else second):
            report.add(f"a:{number}", result)
    first.seconds["tag"], second.seconds["tag"], whole.seconds["tag"] = 1.0, 2.0, 3.0
    added = report_module.PredictionReport()
    for report in (first, second):
        added.update(report_module.PredictionReport.from_dict(json.loads(json.dumps(report.to_dict()))))
    assert added == whole and whole.problems["image: gone"].count == 4
    assert whole.problems["image: gone"].examples == [f"a:{number}: image: x: gone" for number in (1, 3, 5)]
    added.update(first, with_names=False)
    assert added.rows == 14 and added.names == whole.names


def test_reasons_are_bounded(report_module):
    report = report_module.PredictionReport()
    for number in range(200):
        report.add("a:1", tagged(problems=[f"odd {chr(0x4E00 + number)}"], is_tagged=False))
    assert len(report.skipped) == report_module.MAX_REASONS + 1
    assert report.skipped[report_module.OTHER_REASONS].count == 200 - report_module.MAX_REASONS
    assert report.tagged == 0


def test_top_entities_whatever_their_case(report_module):
    report = report_module.PredictionReport()
    for name, number in {"PARIS": 1, "Paris": 3, "paris": 1, "Rome": 5, "Bonn": 5, "Ulm": 1}.items():
        report.add("a:1", tagged(*[("LOC", name)] * number))
    report.add("a:2", tagged(("PER", "Paris")))
    top = report.top_entities(3)
    assert top == {"LOC": [("Bonn", 5), ("Paris", 5), ("Rome", 5)], "PER": [("Paris", 1)]}
    assert next(iter(report_module.top_lines(top))) == "LOC: Bonn 5, Paris 5, Rome 5"


def related(relation):
    place = {"word": "x", "start": 0, "end": 1}
    return TaggedRelation(text="x", relation=relation, score=0.5, head=place, tail=place)


def test_relations_are_counted_with_the_negative_one(report_module):
    first, second = (report_module.PredictionReport(("relations",)) for _ in range(2))
    for number, relation in enumerate(("None", "in", "None")):
        (first if number < 2 else second).add(f"a:{number}", related(relation))
    untagged = TaggedRelation(text="x", problems=["head: 'y' occurs 0 times"])
    untagged.is_tagged = False
    second.add("a:3", untagged)
    first.update(report_module.PredictionReport.from_dict(json.loads(json.dumps(second.to_dict()))))
    published = first.published()
    assert published["relations"] == {"None": 2, "in": 1} and (published["rows"], published["tagged"]) == (4, 3)
    assert "entities" not in published and "without_entities" not in published
    assert first.summary().startswith(
        "4 rows, 3 tagged\nrelations: 2 None, 1 in\nskipped: 1 x head: ... occurs N times"
    )


def test_triples_are_counted_beside_entities(report_module):
    report = report_module.PredictionReport(("entities", "relations"))
    result = tagged(("PER", "Jordan"), ("LOC", "Paris"))
    result["relations"] = [{"head": 0, "tail": 1, "relation": "in", "score": 0.5}] * 2
    report.add("a:1", result)
    assert report.published()["entities"] == {"PER": 1, "LOC": 1} and report.published()["relations"] == {"in": 2}
    assert "entities: 1 PER, 1 LOC\nrelations: 2 in" in report.summary()
    assert report_module.PredictionReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report
