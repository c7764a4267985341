"""Counts of predicted rows, and of what was wrong with them by kind and column."""

import json

from modeling_ifaformer.prediction.prediction_report import MAX_EXAMPLES, PredictionReport
from processing.problems import Problem
from processing.tagged_text import TaggedRelation, TaggedText


NO_FILE = "there is no such file:"
EMPTY = Problem("the text is empty", "text")


def with_problems(result, problems, is_tagged):
    result.found_problems, result.is_tagged = list(problems), is_tagged
    return result


def tagged(*entities, problems=(), is_tagged=True):
    found = [{"entity_group": entity_type, "word": word} for entity_type, word in entities]
    return with_problems(TaggedText(text="x", entities=found), problems, is_tagged)


def related(relation, problems=()):
    place = {"word": "x", "start": 0, "end": 1}
    result = TaggedRelation(text="x", relation=relation, score=0.5, head=place, tail=place)
    return with_problems(result, problems, is_tagged=relation is not None)


def through_json(report):
    return json.loads(json.dumps(vars(report)))


def test_every_row_is_counted_once():
    report = PredictionReport()
    report.add("a:1", tagged(("PER", "Jordan"), ("LOC", "New\nYork")))
    report.add("a:2", tagged())
    report.add("a:3", tagged(("PER", "Ann"), problems=[Problem(NO_FILE, "image", details="b.png")]))
    report.add("a:4", tagged(problems=[Problem(NO_FILE, "image", details="c.png"), EMPTY], is_tagged=False))
    report.add("a:5", tagged(problems=[Problem("the line is no JSON object")], is_tagged=False))
    published = report.to_dict()
    assert (published["rows"], published["tagged"], published["without_entities"]) == (5, 3, 1)
    assert published["entities"] == {"PER": 2, "LOC": 1}
    assert published["skipped"] == {
        "text: the text is empty": {"count": 1, "examples": ["a:4: text: the text is empty"]},
        "the line is no JSON object": {"count": 1, "examples": ["a:5: the line is no JSON object"]},
    }
    examples = [f"a:3: image: {NO_FILE} b.png", f"a:4: image: {NO_FILE} c.png"]
    assert published["problems"] == {f"image: {NO_FILE}": {"count": 2, "examples": examples}}
    assert "5 rows, 3 tagged, 1 of them without entities" in report.summary() and examples[1] in report.summary()


def test_what_is_left_out_is_counted():
    reports = [PredictionReport(), PredictionReport()]
    result = tagged(("PER", "Jordan"))
    assert "left_out" not in reports[0].to_dict() and "left out" not in reports[0].summary()
    result.left_out = ["LOC", "PER", "LOC"]
    reports[0].add("a:1", result)
    reports[1].update(through_json(reports[0]))
    for report in reports:
        assert report.to_dict()["left_out"] == {"LOC": 2, "PER": 1}
        assert "left out, with a score below the threshold: 2 LOC, 1 PER" in report.summary().splitlines()


def test_names_and_numbers_do_not_make_another_problem():
    report = PredictionReport()
    names = ["my dog: best.jpg", "4: got '5'.jpg", "words lie at 1.png", "'", '"', ""]
    for number, name in enumerate(names):
        report.add(f"a:{number}", tagged(problems=[Problem(NO_FILE, "aux_crops", number, name)]))
    report.add("a:9", tagged(problems=[Problem(NO_FILE, "rcnn_crops", 0, "a.png")]))
    counts = {reason: problem["count"] for reason, problem in report.to_dict()["problems"].items()}
    assert counts == {f"aux_crops: {NO_FILE}": len(names), f"rcnn_crops: {NO_FILE}": 1}
    assert report.examples[f"aux_crops: {NO_FILE}"][0] == f"a:0: aux_crops 0: {NO_FILE} my dog: best.jpg"


def test_reports_add_up_and_survive_json():
    whole, first, second = (PredictionReport(names={}) for _ in range(3))
    for number in range(9):
        problems = [Problem(NO_FILE, "image", details=f"{number}.png")] if number % 2 else []
        result = tagged(("PER", f"name {number % 2}"), problems=problems)
        for report in (whole, first if number < 5 else second):
            report.add(f"a:{number}", result)
    first.seconds["tag"], second.seconds["tag"], whole.seconds["tag"] = 1.0, 2.0, 3.0
    added = PredictionReport(names={})
    for report in (first, second):
        added.update(through_json(report))
    assert vars(added) == vars(whole) and whole.problems[f"image: {NO_FILE}"] == 4
    examples = whole.examples[f"image: {NO_FILE}"]
    assert [example.split(": ")[0] for example in examples] == ["a:1", "a:3", "a:5"] and MAX_EXAMPLES == 3


def test_entities_are_counted_by_name_where_that_is_asked_for():
    report = PredictionReport()
    report.add("a:1", tagged(("LOC", "Paris")))
    assert report.names is None and report.top_entities(3) == {}
    report.update(through_json(report))
    assert report.names is None and report.entities == {"LOC": 2}
    assert "top_entities" not in report.to_dict() and report.to_dict(3)["top_entities"] == {}


def test_top_entities_whatever_their_case():
    report = PredictionReport(names={})
    for name, number in {"PARIS": 1, "Paris": 3, "paris": 1, "Rome": 5, "Bonn": 5, "Ulm": 1}.items():
        report.add("a:1", tagged(*[("LOC", name)] * number))
    report.add("a:2", tagged(("PER", "Paris")))
    top = {"LOC": {"Bonn": 5, "Paris": 5, "Rome": 5}, "PER": {"Paris": 1}}
    assert report.to_dict(3)["top_entities"] == top
    assert report.summary(3).splitlines()[-2:] == ["LOC: Bonn 5, Paris 5, Rome 5", "PER: Paris 1"]


def test_relations_are_counted_with_the_negative_one():
    first, second = (PredictionReport(("relations",)) for _ in range(2))
    for number, relation in enumerate(("None", "in", "None")):
        (first if number < 2 else second).add(f"a:{number}", related(relation))
    kind = "this does not occur in the text once:"
    second.add("a:3", related(None, [Problem(kind, "head", details="'y'")]))
    first.update(through_json(second))
    published = first.to_dict()
    assert published["relations"] == {"None": 2, "in": 1} and (published["rows"], published["tagged"]) == (4, 3)
    assert "entities" not in published and "without_entities" not in published
    assert first.summary().startswith(f"4 rows, 3 tagged\nrelations: 2 None, 1 in\nskipped: 1 x head: {kind}\n")


def test_triples_are_counted_beside_entities():
    report = PredictionReport(("entities", "relations"))
    result = tagged(("PER", "Jordan"), ("LOC", "Paris"))
    result["relations"] = [{"head": 0, "tail": 1, "relation": "in", "score": 0.5}] * 2
    report.add("a:1", result)
    assert report.to_dict()["entities"] == {"PER": 1, "LOC": 1} and report.to_dict()["relations"] == {"in": 2}
    assert "entities: 1 PER, 1 LOC\nrelations: 2 in" in report.summary()
