import json

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from processing.data.own.file_mner import FileMNER
from processing.tokenizing import CUT_OFF


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


def test_iob1(folder, tags_of):
    rows = [{"tokens": list("abc"), "ner_tags": tags} for tags in (["I-PER", "B-PER", "O"], ["I-LOC", "I-LOC", "O"])]
    dataset, report = folder.write("train", *rows).prepare()
    assert tags_of(dataset["train"]) == [["B-PER", "B-PER", "O"], ["B-LOC", "I-LOC", "O"]]
    assert report.splits["train"].counts["tags_normalised"] == 2
    assert report.notes[0] == "tag scheme: IOB1, as found; now IOB2"


def test_named(folder):
    rows = [JORDAN, {"tokens": ["a"], "ner_tags": ["S-PER"]}]
    _, report = folder.write("train", *rows).prepare(tag_scheme="IOB2")
    assert report.skipped[0].where == "train.jsonl:2" and "got 'S-PER'" in report.skipped[0].problem.details
    assert report.notes[0] == "tag scheme: IOB2, as named; now IOB2"
    assert folder.prepare()[1].notes[0] == "tag scheme: BIOES, as found; now IOB2"


def test_several(folder):
    folder.write("train", {"tokens": ["a", "b"], "ner_tags": ["S-PER", "U-PER"]})
    with pytest.raises(
        ValueError, match=r"got prefixes of several: 1 S-, 1 U-\. Correct the tags, or name the scheme"
    ):
        folder.prepare()


def test_notes(folder):
    folder.write("train", PARIS, PARIS, JORDAN, {**JORDAN, "lang": "en"})
    folder.write("valid", PARIS).write("test", {"tokens": ["x", "y"], "ner_tags": ["B-ORG", "B-LOC"]})
    dataset, report = folder.prepare()
    assert dataset["test"].features["ner_tags"].feature.names[1::2] == ["B-LOC", "B-ORG", "B-PER"]
    assert report.notes == [
        "tag scheme: IOB2, as found; now IOB2",
        "3 entity types, with entities in train / validation / test: LOC 2 / 1 / 1, ORG 0 / 0 / 1, PER 2 / 0 / 0",
        "entity type ORG has 1 entities in test and none in train",
        "columns that are not used: lang",
    ]


def test_a_type_that_only_skipped_rows_have(folder):
    row = {"text": "Rome", "spans": [{"start": 0, "end": 9, "label": "CITY"}]}
    dataset, _ = folder.write("train", {**PARIS, "id": "a"}, row, {**JORDAN, "id": "a"}).prepare()
    assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-LOC", "I-LOC"]


def test_given(folder):
    dataset, report = folder.write("train", JORDAN, PARIS).prepare(entity_types=("ORG", "PER"))
    assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    ((where, problem),) = report.skipped
    assert (where, str(problem)) == ("train.jsonl:2", "an entity type is unknown ('LOC' is none of ORG, PER)")


def test_no_entity(folder):
    dataset, report = folder.write("train", {"tokens": ["a"], "ner_tags": ["O"]}).prepare()
    assert dataset["train"]["ner_tags"][:] == [[0]]
    assert report.notes == ["the tag scheme cannot be told, for every tag is O", "no entity in any row"]


def test_ids_of_several_splits(folder):
    folder.write("train", *({**PARIS, "id": name} for name in "dab"), PARIS)
    folder.write("validation", {**PARIS, "id": "c"}, PARIS)
    _, report = folder.write("test", *({**PARIS, "id": name} for name in "bcd"), PARIS).prepare()
    assert [note for note in report.notes if "ids" in note] == [
        "2 ids are in train and in test: the same rows?",
        "1 ids are in validation and in test: the same rows?",
    ]


def test_no_row_can_be_used(folder):
    folder.write("train", PARIS).write("test", *["{}"] * 7)
    with pytest.raises(ValueError, match=r"test\.jsonl: expected rows of the test split, but none of its 7 rows") as e:
        folder.prepare()
    assert str(e.value).count("\n") == 5 and "\ntest.jsonl:5: the row must have tokens" in str(e.value)
    folder.write("test")
    with pytest.raises(ValueError, match=r"test\.jsonl: expected rows of the test split, but it holds no rows"):
        folder.prepare()


class TestSplitsWithoutLabels:
    def test_they_are_left_out(self, folder):
        folder.write("train", PARIS).write("validation", {"text": "x"})
        dataset, report = folder.write("test", {"tokens": ["x"]}, {"tokens": ["y"], "ner_tags": None}).prepare()
        assert list(dataset) == ["train"] and list(report.splits) == ["train"]
        assert [note for note in report.notes if "left out" in note] == [
            f"the {split} split is left out, since its rows ({number}) have no labels; predict.py tags them with "
            f"--input {split}.jsonl"
            for split, number in (("validation", 1), ("test", 2))
        ]

    @pytest.mark.parametrize("tags", [["", ""], [None, None], ["_", "_"], [-1, -1], []])
    def test_hidden_tags(self, folder, tags):
        rows = [{"tokens": ["a", "b"], "ner_tags": tags}, {"text": "a b", "spans": [], "answer": "reject"}]
        dataset, report = folder.write("train", PARIS).write("test", rows[0]).write("validation", rows[1]).prepare()
        assert list(dataset) == ["train"]
        test, validation = (
            next(note for note in report.notes if note.startswith(f"the {split} split is left out"))
            for split in ("test", "validation")
        )
        assert "its rows (1) have no labels; predict.py" in test
        assert "its rows (1) have no labels, or the row says of itself that it is not to be used" in validation

    def test_other_faults_are_none(self, folder):
        folder.write("train", PARIS).write("test", {"tokens": ["x"]}, {**PARIS, "spans": 1})
        with pytest.raises(ValueError, match="expected rows of the test split, but none of its 2 rows"):
            folder.prepare()

    def test_train_needs_labels(self, folder):
        with pytest.raises(ValueError, match=r"expected rows of the train split[^\n]*\n.*the row has no labels"):
            folder.write("train", {"tokens": ["x"]}).prepare()

    def test_a_split_without_entities(self, folder):
        _, report = folder.write("train", PARIS).write("test", {"text": "x", "spans": []}).prepare()
        assert "no entity in any row of test" in report.notes


class TestTagsWithoutPrefix:
    @pytest.mark.parametrize("prefix", ["", "I-"])
    def test_they_are_read(self, folder, prefix):
        tags = [f"{prefix}PER", f"{prefix}PER", "O", f"{prefix}building-airport"]
        dataset, report = folder.write("train", {"tokens": list("abcd"), "ner_tags": tags}).prepare()
        names = dataset["train"].features["ner_tags"].feature.names
        expected = ["B-PER", "I-PER", "O", "B-building-airport"]
        assert [names[tag] for tag in dataset["train"][0]["ner_tags"]] == expected
        assert report.notes[0] == f"tag scheme: {'IO' if not prefix else 'IOB1'}, as found; now IOB2"

    def test_one_among_others_is_skipped(self, folder):
        wrong = {"tokens": ["a", "b"], "ner_tags": ["PER", "O"]}
        _, report = folder.write("train", wrong, {"tokens": ["a"], "ner_tags": ["B-PER"]}).prepare()
        assert "got 'PER'; where every tag is O or a bare type, name the tag_scheme IO" in str(report.skipped[0])

    @pytest.mark.parametrize("tag", ["B_PER", "b-PER", "PER-B", "B", "I", "B:PER"])
    def test_what_may_mean_a_prefix_is_no_type(self, folder, tag):
        folder.write("train", {"tokens": ["a", "b"], "ner_tags": [tag, "O"]})
        with pytest.raises(ValueError, match=f"got '{tag}'"):
            folder.prepare()

    def test_named(self, folder):
        folder.write("train", {"tokens": ["a"], "ner_tags": ["PER"]}, {"tokens": ["a"], "ner_tags": ["B-PER"]})
        dataset, report = folder.prepare(tag_scheme="IO")
        assert len(dataset["train"]) == 1 and "got 'B-PER'" in str(report.skipped[0])

    def test_ids_of_class_labels(self, tmp_path):
        names = ClassLabel(names=["O", "PER"])
        rows = {"tokens": [["a", "b"]], "ner_tags": [[1, 0]]}
        features = Features({"tokens": List(Value("string")), "ner_tags": List(names)})
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
        builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        assert builder.as_dataset()["train"].features["ner_tags"].feature.names == ["O", "B-PER", "I-PER"]


def test_columns_that_say_something_else(folder):
    span = {"start": 0, "end": 6, "label": "PER"}
    row = {"tokens": ["Jordan", "met", "Ana"], "ner_tags": ["B-PER", "O", "O"], "text": "Jordan met Ana"}
    folder.write(
        "train",
        {**row, "spans": [span]},
        {**row, "spans": [{**span, "end": 10}]},
        {**row, "entities": []},
        {**row, "entities": ["Jordan"]},
        {**row, "text": "Lee met Ana"},
    )
    dataset, report = folder.prepare()
    assert len(dataset["train"]) == 3
    assert [str(row) for row in report.skipped] == [
        "train.jsonl:2: skipped: spans: must say the same as ner_tags (PER 'Jordan met' by spans, PER 'Jordan' by "
        "ner_tags; leave out one column)",
        "train.jsonl:3: skipped: entities: must say the same as ner_tags ( '' by entities, PER 'Jordan' by ner_tags; "
        "leave out one column)",
    ]
    assert "the column text says something else than tokens, which are used, in 1 rows: train.jsonl:5" in report.notes


def test_offsets_of_other_units_are_counted(folder):
    span = {"start": 3, "end": 5, "label": "PER", "text": "Al"}
    dataset, report = folder.write("train", {"text": "\U0001f525 Al", "spans": [span]}, PARIS).prepare()
    assert dataset["train"][0]["tokens"][-1] == "Al" and dataset["train"][0]["ner_tags"][-1] > 0
    assert "the offsets of 1 spans were UTF-16 units, as their own texts show" in report.notes


@pytest.mark.parametrize("strict", [False, True])
def test_rows_that_are_no_gold(folder, tmp_path, strict):
    no_gold = [{**PARIS, "answer": "reject"}, {**PARIS, "was_cancelled": True}, {**PARIS, "answer": "ignore"}]
    folder.write("train", {**PARIS, "answer": "accept", "was_cancelled": False, "is_confirmed": None}, *no_gold)
    dataset, report = folder.prepare(strict=strict)
    assert len(dataset["train"]) == 1 and report.splits["train"].counts["rows_skipped"] == 3
    assert report.notes[-2:] == [
        "2 rows are left out, since their column answer says that nobody accepted them",
        "1 rows are left out, since their column was_cancelled says that nobody accepted them",
    ]


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_predictions_of_a_model(folder, ending):
    """They are told, and rows of which the model did not read all words are left out."""
    entity = {"entity_group": "PER", "score": 0.5, "word": "Jordan", "start": 0, "end": 6}
    row = {"text": "Jordan met Paris", "entities": [entity], "problems": None}
    cut = {**row, "problems": [f"text: {CUT_OFF} (3 of 9 words)"]}
    rows, path = [row, {**row, "problems": ["image: there is no such file"]}, cut], folder.root / f"train.{ending}"
    folder.write("train", *rows) if ending == "jsonl" else Dataset.from_list(rows).to_parquet(path)
    dataset, report = folder.prepare()
    assert len(dataset["train"]) == 2 and [row.problem.column for row in report.skipped] == ["problems"]
    said = [note for note in report.notes if "2 rows hold scores of a model" in note or "1 rows are left out" in note]
    assert len(said) == 2 and not any("not used: problems" in note for note in report.notes)


def test_rows_of_parquet_that_are_no_gold(tmp_path):
    rows = [{**PARIS, "is_confirmed": confirmed, "more": 1} for confirmed in (True, False, None)]
    Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    assert len(builder.as_dataset()["train"]) == 2
    assert builder.report.notes[-1] == "columns that are not used: more"


def test_columns_of_a_form_beside_tags_are_not_used(folder):
    row = {"tokens": ["Ana"], "ner_tags": ["B-PER"], "label": [[0, 3, "LOC"]], "labels": []}
    assert "columns that are not used: label, labels" in folder.write("train", row).prepare()[1].notes


def test_words_that_are_not_those_of_the_text(folder):
    row = {"text": "Ana met Bob", "tokens": ["Ana", "met", "Tom"], "spans": []}
    _, report = folder.write("train", row).prepare()
    assert "the column tokens says something else than text, which are used, in 1 rows: train.jsonl:1" in report.notes


def test_items_on_one_line_have_their_numbers(folder):
    folder.root.mkdir()
    (folder.root / "train.json").write_text(json.dumps([{}, PARIS, {}]))
    _, report = folder.prepare()
    assert [row.where for row in report.skipped] == ["train.json:1", "train.json:1, item 3"]
    with pytest.raises(ValueError, match=r"/train\.json:1: the row must have"):
        folder.prepare(strict=True)


@pytest.mark.parametrize(("name", "value"), [("img", "a"), ("image_path", "1.jpg"), ("shot", "photos/1.PNG")])
def test_pictures_in_a_column_of_another_name(folder, name, value):
    _, report = folder.write("train", {**PARIS, name: value}).prepare()
    assert sum(f"NO PICTURE IS READ: they seem to be in the column {name}, and" in note for note in report.notes) == 1
    _, report = folder.write("train", {**PARIS, name: value, "image": None}, {**PARIS, "source": "a.jpg b"}).prepare()
    assert not any("NO PICTURE" in note for note in report.notes)
