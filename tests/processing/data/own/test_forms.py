import copy
import json
import re

import pytest

from processing.data.own.forms import FORMS, REJECTED, in_our_columns, is_predicted, rejection
from processing.problems import ProblemError
from processing.rows.picture_files import PICTURE_ENDINGS
from processing.tokenizing import CUT_OFF


TEXT = "Jordan met Ana"
JORDAN, ANA = {"start": 0, "end": 6, "label": "PER"}, {"start": 11, "end": 14, "label": "PER"}


def region(name, start, end, label="PER"):
    value = {"start": start, "end": end, "text": TEXT[start:end], "labels": [label]}
    return {"id": name, "from_name": "label", "to_name": "text", "type": "labels", "value": value}


PEERS = {"from_id": "a", "to_id": "b", "type": "relation", "direction": "right", "labels": ["peer"]}
ANNOTATED = {"id": 1, "result": [region("a", 0, 6), region("b", 11, 14), PEERS], "was_cancelled": False}
TASK = {"id": 5, "data": {"text": TEXT, "image": "photos/1.jpg"}, "annotations": [ANNOTATED], "predictions": []}

# Of each form the row in a file, and the columns that it becomes.
ROWS = {
    "Label Studio": (TASK, {"id": 5, "text": TEXT, "image": "photos/1.jpg", "spans": [JORDAN, ANA]}),
    "Label Studio, JSON_MIN": (
        {"id": 1, "text": TEXT, "ner": [{"start": 0, "end": 6, "text": "Jordan", "labels": ["PER"]}]},
        {"id": 1, "text": TEXT, "spans": [JORDAN]},
    ),
    "Label Studio, JSON_MIN without entities": (
        {"id": 1, "text": TEXT, "annotation_id": 3, "annotator": 1},
        {"id": 1, "text": TEXT, "spans": []},
    ),
    "doccano": ({"text": TEXT, "label": [[0, 6, "PER"], [11, 14, "PER"]]}, {"text": TEXT, "spans": [JORDAN, ANA]}),
    "doccano, labels": ({"text": TEXT, "labels": []}, {"text": TEXT, "spans": []}),
    "doccano with relations": (
        {"text": TEXT, "entities": [{"id": 4, "label": "PER", "start_offset": 0, "end_offset": 6}], "relations": []},
        {"text": TEXT, "entities": [JORDAN], "relations": []},
    ),
    "Prodigy": (
        {
            "text": TEXT,
            "tokens": [{"text": "Jordan", "start": 0, "end": 6, "id": 0, "ws": True}],
            "spans": [{**JORDAN, "token_start": 0, "token_end": 0}],
            "answer": "accept",
        },
        {"text": TEXT, "spans": [JORDAN], "answer": "accept"},
    ),
    "Prodigy without entities": ({"text": TEXT, "answer": "accept"}, {"text": TEXT, "spans": [], "answer": "accept"}),
    "spaCy": ({"text": TEXT, "entities": [[0, 6, "PER"]]}, {"text": TEXT, "entities": [JORDAN]}),
    "GLiNER": (
        {"tokenized_text": ["New", "York", "won"], "ner": [[0, 1, "LOC"]]},
        {"tokens": ["New", "York", "won"], "ner_tags": ["B-LOC", "I-LOC", "O"]},
    ),
    "tner": ({"tokens": ["a"], "tags": [0]}, {"tokens": ["a"], "ner_tags": [0]}),
    "predict.py, AutoMM": (
        {"text": TEXT, "entities": [{"entity_group": "PER", "score": 0.9, "word": "Jordan", "start": 0, "end": 6}]},
        {"text": TEXT, "entities": [JORDAN]},
    ),
    "this project": ({"text": TEXT, "spans": [JORDAN]}, {"text": TEXT, "spans": [JORDAN]}),
    "tags of this project beside others": (
        {"tokens": ["a"], "ner_tags": ["O"], "tags": ["x"], "label": [1]},
        {"tokens": ["a"], "ner_tags": ["O"], "tags": ["x"], "label": [1]},
    ),
}


def plain(row):
    """Without what entities have besides start, end and label."""
    return {
        name: [{key: span[key] for key in JORDAN} for span in value] if name in ("spans", "entities") else value
        for name, value in row.items()
    }


@pytest.mark.parametrize("name", ROWS)
def test_forms(name):
    row, expected = ROWS[name]
    before = copy.deepcopy(row)
    found = plain(in_our_columns(row))
    assert row == before
    if "relations" not in expected:
        found.pop("relations", None)
    found.pop("annotation_id", None), found.pop("annotator", None)
    assert found == expected


def test_each_form_is_tried():
    assert {form.name for form in FORMS for row, _ in ROWS.values() if form.fits(row)} == {form.name for form in FORMS}


def task(*annotations, **columns):
    return {"data": {"text": TEXT}, "annotations": [{**ANNOTATED, **one} for one in annotations], **columns}


class TestLabelStudio:
    def test_annotations_that_do_not_count(self):
        other = [region("x", 11, 14, "ORG")]
        same = [region("y", 0, 6), region("z", 11, 14), {**PEERS, "from_id": "y", "to_id": "z"}]
        for row in (
            task({"was_cancelled": True, "result": other}, {}),
            task({"result": other}, {"ground_truth": True}),
            task({}, {"result": same}),
            {"data": {"text": TEXT}, "completions": [ANNOTATED]},
            {"data": {"text": TEXT}, "predictions": [ANNOTATED]},
        ):
            assert plain(in_our_columns(row))["spans"] == [JORDAN, ANA]
        with pytest.raises(ProblemError, match=r"annotations differ, and none is the ground truth \(2 annotations\)"):
            in_our_columns(task({}, {"result": other}))
        with pytest.raises(ProblemError, match="annotations differ"):
            in_our_columns(task({}, {"result": ANNOTATED["result"][:2]}))

    def test_an_empty_annotation_is_a_text_without_entities(self):
        row = in_our_columns(task({"result": []}))
        assert row["spans"] == []
        assert rejection(row) is None

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            (task(), r"annotations: .*\(nobody has annotated it\)"),
            (task(predictions=[ANNOTATED]), "nobody has annotated it"),
            (
                {"text": TEXT, "entities": [], "problems": [f"text: {CUT_OFF} (2 of 9 words)"]},
                "did not read all of its",
            ),
            (task({"was_cancelled": True}), "was_cancelled: "),
            ({"text": TEXT, "answer": "reject"}, "reject"),
            ({"text": TEXT, "spans": [], "answer": "ignore"}, "ignore"),
        ],
    )
    def test_no_gold(self, row, said):
        problem = rejection(in_our_columns(row))
        assert problem.kind == REJECTED and re.search(said, str(problem))

    def test_predictions_of_a_model(self):
        entity = {"entity_group": "PER", "score": 0.5, "start": 0, "end": 6}
        region = {**ANNOTATED["result"][0], "score": 0.5}
        for row, is_so in [
            ({"text": TEXT, "entities": [entity]}, True),
            (
                {"text": TEXT, "entities": [{**entity, "score": None}], "problems": ["image: there is no such file"]},
                False,
            ),
            ({"text": TEXT, "spans": [entity], "answer": "accept"}, False),
            ({"text": TEXT, "entities": 5}, False),
            ({"text": TEXT, "head": [0, 6], "tail": [7, 9], "relation": "peer", "score": 0.5}, True),
            ({"data": {"text": TEXT}, "predictions": [{"result": [region]}]}, True),
            (task({"result": [region]}), False),
        ]:
            row = in_our_columns(row)
            assert is_predicted(row) is is_so, row
            assert rejection(row) is None

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/data/local-files/?d=my%20photos/1.jpg", "my photos/1.jpg"),
            ("/data/upload/3/ab-1.jpg", "upload/3/ab-1.jpg"),
            ("https://example.org/data/1.jpg", "https://example.org/data/1.jpg"),
            *((f"photos/1{ending}", f"photos/1{ending}") for ending in PICTURE_ENDINGS),
        ],
    )
    def test_other_names_of_columns(self, path, expected):
        row = in_our_columns(task({}) | {"data": {"tweet": TEXT, "photo": path, "author": "me"}})
        assert (row["text"], row["image"], row["author"]) == (TEXT, expected, "me")

    def test_the_text_is_the_same_column_with_and_without_entities(self):
        for result in ([], ANNOTATED["result"]):
            data = {"tweet": TEXT, "source": f"web: {TEXT}"}
            assert in_our_columns(task({"result": result}) | {"data": data})["text"] == TEXT
            with pytest.raises(ProblemError, match=r"must have the tweet as text .*; rename the column that holds it"):
                in_our_columns(task({"result": result}) | {"data": {"a": TEXT, "source": "web"}})

    def test_which_column_is_the_text(self):
        with pytest.raises(ProblemError, match=r"data: must have the tweet as text \(got id, one, two\)"):
            in_our_columns(task({"result": []}) | {"data": {"one": "a", "two": "b"}})

    def test_a_context_is_not_taken_for_the_text(self):
        row = in_our_columns(task({}) | {"data": {"tweet": TEXT, "context": "a dog"}})
        assert (row["text"], row["context"]) == (TEXT, "a dog")

    def test_broken_tasks(self):
        with pytest.raises(ProblemError, match=r"the row is not as Label Studio writes it \(KeyError: 'result'\)"):
            in_our_columns({"data": {"text": TEXT}, "annotations": [{}]})
        with pytest.raises(ProblemError, match=r"the row is not as Label Studio writes it \(AttributeError"):
            in_our_columns({"data": {"text": TEXT}, "annotations": ["x"]})


class TestProdigy:
    WORDS = [{"text": "Jordan", "start": 0, "end": 6, "id": 0}]  # noqa: RUF012

    @pytest.mark.parametrize(
        "row",
        [
            {"text": TEXT, "tokens": TEXT.split(), "ner_tags": ["B-PER", "O", "O"], "answer": "accept"},
            {"text": TEXT, "entities": [JORDAN], "answer": "accept"},
            {"text": TEXT, "head": "Jordan", "tail": "Ana", "relation": "peer", "answer": "accept"},
            {"text": TEXT, "answer": "Jordan met her."},
            {"text": TEXT, "label": "SPORTS", "answer": "accept"},
            {"text": TEXT, "options": [{"id": "SPORTS"}], "accept": ["SPORTS"], "answer": "accept"},
        ],
    )
    def test_what_other_rows_say_stays(self, row):
        assert in_our_columns(row) == row

    def test_entities_of_another_form(self):
        row = in_our_columns({"text": TEXT, "label": [[0, 6, "PER"]], "answer": "accept"})
        assert row == {"text": TEXT, "spans": [JORDAN], "answer": "accept"}


@pytest.mark.parametrize(
    "row",
    [
        {"text": TEXT, "tokens": TEXT.split(), "ner_tags": ["O"] * 3, "annotation_id": 3},
        {"tokens": ["a"], "tags": ["#fun"], "text": "a", "spans": []},
        {"data": {"source": "x"}, "tokens": ["a"], "ner_tags": ["O"]},
    ],
)
def test_columns_of_ones_own_beside_those_of_a_form(row):
    assert in_our_columns(row) == row


class TestAsData:
    @pytest.mark.parametrize("name", [name for name, (row, _) in ROWS.items() if "label" in str(row).lower()])
    def test_tags(self, folder, name):
        data, _ = folder.write("train", ROWS[name][0]).prepare()
        types = data["train"].features["ner_tags"].feature.names
        tags = [types[tag] for tag in data["train"]["ner_tags"][0]]
        spans = next((value for key, value in ROWS[name][1].items() if key in ("spans", "entities")), None)
        if spans is not None:
            assert tags == ["B-PER" if spans else "O", "O", "B-PER" if len(spans) == 2 else "O"]

    def test_spacy_arrays(self, folder):
        folder.root.mkdir()
        (folder.root / "train.json").write_text(json.dumps([[TEXT, {"entities": [[0, 6, "PER"]]}]]))
        data, _ = folder.prepare()
        assert data["train"]["tokens"][:] == [["Jordan", "met", "Ana"]] and data["train"]["ner_tags"][0] == [1, 0, 0]

    def test_numbers_and_a_label_file(self, folder):
        folder.write("train", {"tokens": ["Ana", "sang"], "tags": [2, 0]})
        with pytest.raises(ValueError, match=r"the file has no names for their ids, and there is no label"):
            folder.prepare()
        (folder.root / "label.json").write_text('{"O": 0, "B-LOC": 1, "B-PER": 2}')
        data, _ = folder.prepare()
        assert data["train"].features["ner_tags"].feature.names[data["train"]["ner_tags"][0][0]] == "B-PER"
        (folder.root / "label.json").write_text('{"O": 0, "B-ORG": 1, "B-MISC": 2}')
        data, _ = folder.prepare()
        assert data["train"].features["ner_tags"].feature.names[data["train"]["ner_tags"][0][0]] == "B-MISC"

    def test_rejected_rows_are_counted_and_do_not_stop_a_strict_loading(self, folder):
        rejected = {"text": TEXT, "spans": [JORDAN], "answer": "reject"}
        _, report = folder.write("train", {"text": TEXT, "spans": [JORDAN]}, rejected).prepare(strict=True)
        assert report.splits["train"].counts["rows_skipped"] == 1
        assert report.skipped[0].problem.kind == REJECTED

    @pytest.mark.parametrize(
        ("row", "hint"),
        [
            ({"text": TEXT, "mentions": [JORDAN]}, "rename the column mentions to spans"),
            ({"tokens": ["a", "b"], "iob": ["O", "O"]}, "rename the column iob to ner_tags"),
            ({"text": TEXT, "mentions": '[{"start": 0}]'}, "rename the column mentions to spans"),
            ({"sentence": TEXT, "spans": [JORDAN]}, "rename the column sentence to text"),
            ({"text": TEXT, "sentiment": "good"}, r"it has values for text, sentiment\)"),
        ],
    )
    def test_the_message_names_the_column(self, folder, row, hint):
        with pytest.raises(ValueError, match=hint):
            folder.write("train", row).prepare()

    @pytest.mark.parametrize("name", ["doccano", "doccano_relations", "gliner", "label_studio", "spacy", "tner"])
    def test_the_reported_exports(self, shared, folder, name):
        path = shared / "cases" / "09-exports-of-annotation-tools" / f"{name}.jsonl"
        data, report = folder.prepare(data_dir=path, image_dir=path.parent)
        names = data["train"].features["ner_tags"].feature.names
        tags = [names[tag] for tag in data["train"]["ner_tags"][0]]
        assert data["train"]["tokens"][:] == [["Jordan", "met", "Ana"]] and not report.skipped
        assert tags == [
            "B-PER",
            "O",
            "B-PER" if "Ana" in path.read_text() and name in ("doccano", "gliner", "tner") else "O",
        ]

    @pytest.mark.parametrize("name", ["predictions.jsonl", "automm.csv"])
    def test_the_reported_predictions(self, shared, folder, name):
        path = shared / "cases" / "08-own-predictions-as-data" / name
        data, _ = folder.prepare(data_dir=path, image_dir=path.parent)
        assert data["train"]["tokens"][:] == [["so", "Phoenix", "is", "here"]]
        assert data["train"].features["ner_tags"].feature.names[data["train"]["ner_tags"][0][1]] == "B-ORG"
