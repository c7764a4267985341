import pytest


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
        "2 ids are in train and in test, 'b' for example: the same rows?",
        "1 ids are in validation and in test, 'c' for example: the same rows?",
    ]


def test_no_row_can_be_used(folder):
    folder.write("train", PARIS).write("test", *["{}"] * 7)
    with pytest.raises(ValueError, match=r"test\.jsonl: expected rows of the test split, but none of its 7 rows") as e:
        folder.prepare()
    assert str(e.value).count("\n") == 5 and "\ntest.jsonl:5: the row must have tokens" in str(e.value)
    folder.write("test")
    with pytest.raises(ValueError, match=r"test\.jsonl: expected rows of the test split, but it holds no rows"):
        folder.prepare()
