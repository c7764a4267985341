import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from processing.columns import OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.data.own.file_mner import FileMNER
from processing.data.own.file_source import FileMNERConfig, FileSource
from processing.data.own.labelled_rows import read_labelled_row
from processing.data.own.own_pictures import OwnPictures
from processing.data.own.tables import read_table
from processing.data.twitter_mner import read_sentences
from processing.images import NO_SUCH_FILE, UNKNOWN_FORMAT
from processing.labels import TWITTER_TAGS, entity_spans
from processing.problems import Problem, ProblemError
from processing.rows.loading_report import SplitReport
from processing.rows.row_features import ner_features, with_objects
from processing.tokenizing import join_words


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


def save_picture(path: Path, colour: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (colour, 0, 0)).save(path, "PNG")


def write_rows(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class Folder:
    """A folder of JSON lines and a cache beside it."""

    def __init__(self, place: Path):
        self.root, self.cache = place / "mine", place / "cache"

    def write(self, split: str = "train", *rows) -> "Folder":
        write_rows(self.root / f"{split}.jsonl", rows)
        return self

    def builder(self, **kwargs) -> FileMNER:
        return FileMNER(**{"data_dir": self.root, "cache_dir": str(self.cache), **kwargs})

    def prepare(self, **kwargs):
        builder = self.builder(**kwargs)
        builder.download_and_prepare()
        return builder.as_dataset(), builder.report


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


NUMBERS = st.floats(width=32) | st.integers() | st.sampled_from([10**400, -(10**400), None, "1", "x"])
PATHS = st.text("/.\0a", max_size=6) | st.sampled_from(["/a\0/b.jpg", "http://a/b.jpg", "a" * 5000])
ANY_PICTURE = (
    st.none()
    | PATHS
    | st.binary(max_size=3)
    | st.fixed_dictionaries({"path": st.none() | PATHS}, optional={"bytes": st.none() | st.binary(max_size=3)})
)
ANY_OBJECT = NUMBERS | st.fixed_dictionaries(
    {"label": st.sampled_from(["dog", "", None]), "score": NUMBERS, "box": st.lists(NUMBERS, min_size=3, max_size=5)}
)
PICTURES_AND_OBJECTS = datasets.Features(
    {
        name: feature
        for name, feature in with_objects(ner_features(["O"])).items()
        if name in (*PICTURE_COLUMNS, *OBJECT_COLUMNS)
    }
)


def tags_of(dataset) -> list[list[str]]:
    names = dataset.features["ner_tags"].feature.names
    return [[names[tag] for tag in tags] for tags in dataset["ner_tags"]]


def counts(report, split="train"):
    return {name: count for name, count in report.splits[split].counts.items() if count}


class TestRows:
    def test_spans(self, folder):
        text = "so New York\u2019s \U0001f600 Paris!"
        spans = [{"start": 16, "end": 21, "label": "LOC"}, {"start": 3, "end": 11, "label": "LOC", "more": 1}]
        dataset, report = folder.write("train", {"id": 7, "image_id": "p", "text": text, "spans": spans}).prepare()
        assert dataset["train"].features == ner_features(["O", "B-LOC", "I-LOC"])
        assert list(dataset["train"]) == [
            {
                "id": "7",
                "image_id": "p",
                "tokens": ["so", "New", "York", "\u2019", "s", "\U0001f600", "Paris", "!"],
                "ner_tags": [0, 1, 2, 0, 0, 0, 1, 0],
                "image": None,
                "aux_crops": [],
                "rcnn_crops": [],
            }
        ]
        assert report.notes == ["tags made of character spans", "1 entity types, with entities in train: LOC 2"]
        assert not report.skipped and not report.moved

    def test_tags(self, folder):
        rows = JORDAN, {"tokens": ["a b", "c"], "ner_tags": ["O", "B-LOC"], "text": "not read", "spans": 5}
        dataset, report = folder.write("train", *rows).prepare()
        assert dataset["train"]["id"][:] == ["train-0", "train-1"]
        assert dataset["train"]["tokens"][:] == [["Michael", "Jordan"], ["a b", "c"]]
        assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
        assert dataset["train"]["ner_tags"][:] == [[3, 4], [0, 1]]
        assert counts(report)["rows"] == 2

    def test_entities_is_another_name_of_spans(self, folder):
        dataset, _ = folder.write("train", {"text": "Paris!", "entities": PARIS["spans"]}).prepare()
        assert tags_of(dataset["train"]) == [["B-LOC", "O"]]

    def test_spans_that_are_moved(self, folder):
        text = "New York-based  Paris!"
        rows = [
            {
                "text": text,
                "spans": [{"start": 1, "end": 7, "label": "LOC"}, {"start": 15, "end": 21, "label": "LOC"}],
            },
            {"text": "#GoLakers now", "spans": [{"start": 3, "end": 9, "label": "ORG"}]},
        ]
        dataset, report = folder.write("train", *rows).prepare()
        assert tags_of(dataset["train"]) == [
            ["B-LOC", "I-LOC", "O", "O", "B-LOC", "O"],
            ["O", "B-ORG", "O"],
        ]
        assert report.moved == [
            ("train.jsonl:1", "ew Yor", "New York"),
            ("train.jsonl:1", " Paris", "Paris"),
            ("train.jsonl:2", "Lakers", "GoLakers"),
        ]
        assert counts(report)["spans_moved"] == 3
        assert "train.jsonl:1: 'ew Yor' became 'New York'" in str(report)

    def test_the_text_names_the_file_with_all_of_the_report(self, folder):
        row = {"text": "#GoLakers now", "spans": [{"start": 3, "end": 9, "label": "ORG"}]}
        builder = folder.write("train", *[row] * 25).builder()
        builder.download_and_prepare()
        for report in (builder.report, folder.builder().report):
            text = str(report)
            path = re.search(r"^and 5 more, all of them in (/.*), `moved`$", text, re.MULTILINE)[1]
            assert len(json.loads(Path(path).read_text(encoding="utf-8"))["splits"]["train"]["moved"]) == 25
        streaming = folder.builder(num_aux_crops=1)  # prepared nowhere
        list(streaming.as_streaming_dataset("train"))
        assert str(streaming.report).endswith("\nand 5 more")

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"spans": [(0, 5), (4, 6)]}, "spans: spans of whole words must not overlap ('Paris' and 's!')"),
            ({"spans": [(4, 6), (0, 5)]}, "spans: spans of whole words must not overlap ('Paris' and 's!')"),
            ({"spans": [(0, 5), (0, 5)]}, "spans: spans of whole words must not overlap ('Paris' and 'Paris')"),
            ({"spans": [(0, 2), (3, 5)]}, "spans: spans of whole words must not overlap ('Pa' and 'is')"),
            (
                {"spans": [(2, 2)]},
                "spans: start and end must be 0 <= start < end <= length (got 2:2 in a text of 8 characters)",
            ),
            ({"spans": [(5, 0)]}, "spans: start and end must be 0 <= start < end <= length (got 5:0"),
            ({"spans": [(0, 9)]}, "spans: start and end must be 0 <= start < end <= length (got 0:9"),
            ({"spans": [(-1, 5)]}, "spans: start and end must be 0 <= start < end <= length (got -1:5"),
            ({"spans": [(6, 7)]}, "spans: each span must have a word (got ' ' at 6)"),
            (
                {"spans": [(0, 1.5)]},
                "spans: start and end must be whole numbers (got {'start': 0, 'end': 1.5",
            ),
            ({"spans": [(False, 5)]}, "spans: start and end must be whole numbers"),
            ({"spans": [("0", "5")]}, "spans: start and end must be whole numbers"),
            (
                {"spans": [{"start": 0, "end": 5}]},
                "spans: each must be a dict with start, end and label (got",
            ),
            ({"spans": [[0, 5, "LOC"]]}, "spans: each must be a dict with start, end and label (got [0, 5"),
            (
                {"text": "Paris", "spans": {"start": 0}},
                "spans: must be a list (got {'start': 0})",
            ),
            ({"text": "Paris", "spans": "none"}, "spans: must be a list (got 'none')"),
            (
                {"spans": [{"start": 0, "end": 5, "label": 3}]},
                "spans: labels must be strings: the file has no names for their ids (got 3)",
            ),
            (
                {"spans": [{"start": 0, "end": 5, "label": ""}]},
                "spans: labels must be strings, or ids of the file's own names (got '')",
            ),
            ({"spans": [], "entities": []}, "the row must have spans or entities, not both"),
            (
                {"text": "x"},
                "the row must have tokens and ner_tags, or text and spans (an empty list where there are no",
            ),
            ({"tokens": ["x"]}, "the row must have tokens and ner_tags, or text and spans"),
            ({}, "the row must have tokens and ner_tags, or text and spans"),
            ({"text": 5, "spans": []}, "text: must be a string (got 5)"),
            ({"text": "", "spans": []}, "text: must have a word (got '')"),
            ({"text": " \u3000\n", "spans": []}, "text: must have a word"),
            (
                {"tokens": ["a"], "ner_tags": ["O", "O"]},
                "ner_tags: must have one tag for each word (1 tokens, 2 ner_tags)",
            ),
            ({"tokens": [], "ner_tags": []}, "tokens: must be words, none of them empty (got [])"),
            (
                {"tokens": ["a", ""], "ner_tags": ["O", "O"]},
                "tokens: must be words, none of them empty (got ['a', ''])",
            ),
            (
                {"tokens": "a b", "ner_tags": ["O", "O"]},
                "tokens: must be a list of words, one for each of ner_tags (got 'a b')",
            ),
            (
                {"tokens": ["a", 1], "ner_tags": ["O", "O"]},
                "tokens: must be a list of words, one for each of ner_tags (got ['a', 1])",
            ),
            ({"ner_tags": ["O", "O"]}, "tokens: must be a list of words, one for each of ner_tags (got None)"),
            ({"tokens": ["a"], "ner_tags": "O"}, "ner_tags: must be a list of tags (got 'O')"),
            (
                {"tokens": ["a"], "ner_tags": [1]},
                "ner_tags: labels must be strings: the file has no names for their ids (got 1)",
            ),
            (
                {"tokens": ["a"], "ner_tags": [None]},
                "ner_tags: labels must be strings, or ids of the file's own names (got None)",
            ),
            (
                {"tokens": ["a"], "ner_tags": ["PER"]},
                "ner_tags: a tag is none of the scheme (expected O, or one of B, I, E, S, L, U, M, W, a dash and an",
            ),
            ({**JORDAN, "id": 1.5}, "id: must be a string (got 1.5)"),
            ({**JORDAN, "id": ""}, "id: must be a string (got '')"),
            ({**JORDAN, "image_id": []}, "image_id: must be a string (got [])"),
            (
                {**JORDAN, "aux_objects": [{"label": "dog"}]},
                "aux_objects: must be a list of dicts with label, score and box (got [{",
            ),
            (
                {**JORDAN, "aux_objects": [{"label": "dog", "score": 10**400, "box": [0, 0, 1, 1]}]},
                "aux_objects: must be a list of dicts with label, score and box",
            ),
            (
                {**JORDAN, "aux_objects": [{"label": "dog", "score": 1, "box": [0, 0, 1, 10**400]}]},
                "aux_objects: must be a list of dicts with label, score and box",
            ),
            ({**JORDAN, "rcnn_objects": 1}, "rcnn_objects: must be a list of dicts with label, score and box (got 1)"),
            ("{", "the line is not a JSON object (Expecting property name"),
            ("\0", "the line is not text (its character 1 is NUL, 0x00)"),
        ],
    )
    def test_rows_that_cannot_be_used(self, folder, row, reason):
        if isinstance(row, dict) and isinstance(row.get("spans"), list) and "text" not in row:
            spans = [{"start": s[0], "end": s[1], "label": "LOC"} if isinstance(s, tuple) else s for s in row["spans"]]
            row = {"text": "Paris!  ", **row, "spans": spans}
        folder.write("train", PARIS, row, JORDAN)
        dataset, report = folder.prepare()
        assert dataset["train"]["id"][:] == ["train-0", "train-2"]
        ((where, problem),) = report.skipped
        assert where == "train.jsonl:2"
        assert str(problem).startswith(reason)
        assert counts(report)["rows_skipped"] == 1 and counts(report)["rows"] == 2
        with pytest.raises(
            ValueError, match=r"mine/train\.jsonl:2: .*\. Correct the row, or load without strict"
        ) as error:
            folder.prepare(strict=True)
        assert reason in str(error.value)

    def test_strict_on_good_rows(self, folder):
        assert folder.write("train", PARIS).prepare(strict=True)[0]["train"].num_rows == 1

    def test_repeated_ids(self, folder):
        folder.write("train", *({**PARIS, "id": name} for name in ("a", 5, "b", "a", "5")), PARIS)
        dataset, report = folder.write("test", {**PARIS, "id": "a"}).prepare()
        assert dataset["train"]["id"][:] == ["a", "5", "b", "train-5"]
        assert dataset["test"]["id"][:] == ["a"]
        kind = "must be another one in each row"
        assert report.skipped == [
            ("train.jsonl:4", Problem(kind, "id", details="('a' is also at train.jsonl:1)")),
            ("train.jsonl:5", Problem(kind, "id", details="('5' is also at train.jsonl:2)")),
        ]
        assert report.notes[-1] == "1 ids are in train and in test, 'a' for example: the same rows?"

    def test_ids_of_several_splits(self, folder):
        folder.write("train", *({**PARIS, "id": name} for name in "dab"), PARIS)
        folder.write("validation", {**PARIS, "id": "c"}, PARIS)
        _, report = folder.write("test", *({**PARIS, "id": name} for name in "bcd"), PARIS).prepare()
        assert [note for note in report.notes if "ids" in note] == [
            "2 ids are in train and in test, 'b' for example: the same rows?",
            "1 ids are in validation and in test, 'c' for example: the same rows?",
        ]

    @pytest.mark.parametrize("names", [["train-1", None, "train-1-2"], [None, None, "train-1"], ["train-2", 0, None]])
    def test_a_made_up_id_is_no_other_rows(self, folder, names):
        rows = [PARIS if name is None else {**PARIS, "id": name} for name in names]
        dataset, report = folder.write("train", *rows).prepare(strict=True)
        ids = dataset["train"]["id"][:]
        assert not report.skipped and len(set(ids)) == 3
        assert [one for one, name in zip(ids, names, strict=True) if name is not None] == [
            str(name) for name in names if name is not None
        ]
        assert all(one.startswith("train-") for one, name in zip(ids, names, strict=True) if name is None)

    def test_no_row_can_be_used(self, folder):
        folder.write("train", PARIS).write("test", *["{}"] * 7)
        with pytest.raises(
            ValueError, match=r"test\.jsonl: expected rows of the test split, but none of its 7 rows"
        ) as e:
            folder.prepare()
        assert str(e.value).count("\n") == 5 and "\ntest.jsonl:5: the row must have tokens" in str(e.value)
        folder.write("test")
        with pytest.raises(ValueError, match=r"test\.jsonl: expected rows of the test split, but it holds no rows"):
            folder.prepare()

    def test_an_unreadable_row_in_the_middle_of_100_000(self, tmp_path):
        lines = [f'{{"id": "{i}", "tokens": ["a"], "ner_tags": ["O"]}}' for i in range(100_000)]
        lines[50_000] = lines[50_000][:20]
        write_rows(tmp_path / "train.jsonl", lines)
        source, skipped = FileSource.find(tmp_path), []
        ids = [row.row_id for _, row in source.rows("train", FileMNERConfig(), skipped, with_pictures=True)]
        assert len(ids) == 99_999 and ids[50_000] == "50001"
        details = "(Unterminated string starting at character 17)"
        assert skipped == [("train.jsonl:50001", Problem("the line is not a JSON object", details=details))]
        builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"), strict=True)
        with pytest.raises(ValueError, match=r"/train\.jsonl:50001: the line is not a JSON object"):
            builder.download_and_prepare()

    @given(
        st.dictionaries(
            st.sampled_from(["id", "text", "tokens", "ner_tags", "spans", "entities"]),
            st.deferred(
                lambda: (
                    st.none()
                    | st.integers()
                    | st.text(max_size=5)
                    | st.lists(
                        st.text(max_size=3)
                        | st.integers(0, 3)
                        | st.fixed_dictionaries(
                            {
                                "start": st.integers(-1, 5),
                                "end": st.integers(-1, 6),
                                "label": st.sampled_from(["LOC", "", 3]),
                            }
                        ),
                        max_size=3,
                    )
                )
            ),
        )
    )
    def test_any_row_can_be_used_or_has_a_problem(self, row):
        try:
            labelled = read_labelled_row(row, "train-0")
        except ProblemError as error:
            assert error.problem.kind
        else:
            assert len(labelled.tokens) == len(labelled.tags) > 0

    @given(
        st.dictionaries(
            st.sampled_from(["image", "aux_crops", "rcnn_crops", "aux_objects", "rcnn_objects"]),
            ANY_PICTURE | ANY_OBJECT | st.lists(ANY_PICTURE | ANY_OBJECT, max_size=3),
        )
    )
    def test_any_pictures_and_objects_are_columns_or_a_problem(self, tmp_path_factory, row):
        report = SplitReport()
        pictures = OwnPictures(str(tmp_path_factory.getbasetemp()), report, {"aux": 2, "rcnn": 1})
        try:
            columns = pictures.of("train-0", row, keep_objects=True)
        except ProblemError as error:
            assert error.problem.column in OBJECT_COLUMNS
        else:
            assert not columns["image"] and not columns["aux_crops"] and not columns["rcnn_crops"]
            datasets.Dataset.from_list([columns], features=PICTURES_AND_OBJECTS)


WORDS = st.lists(st.text("abÀ中\u2028\xa0'\"\\", min_size=1), min_size=1, max_size=6)


class TestFormats:
    """The same sentences in every format."""

    @settings(deadline=None, max_examples=10)
    @given(st.lists(WORDS, min_size=1, max_size=3), st.data())
    def test_what_is_written_reads_back(self, tmp_path_factory, sentences, data):
        place = tmp_path_factory.mktemp("formats")
        tags = [
            data.draw(st.lists(st.sampled_from(["O", "B-LOC", "B-PER"]), min_size=len(words), max_size=len(words)))
            for words in sentences
        ]
        rows = [{"tokens": words, "ner_tags": labels} for words, labels in zip(sentences, tags, strict=True)]
        write_rows(place / "x.jsonl", rows)
        with open(place / "x.csv", "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(
                [["tokens", "ner_tags"], *([" ".join(v) for v in row.values()] for row in rows)]
            )
        pq.write_table(pa.Table.from_pylist(rows), place / "x.parquet")
        for ending in ("jsonl", "csv", "parquet"):
            builder = FileMNER(data_dir=place / f"x.{ending}", cache_dir=str(place / "cache"), strict=True)
            read = list(builder.as_streaming_dataset("train"))
            names = builder.info.features["ner_tags"].feature.names
            assert [row["tokens"] for row in read] == sentences
            assert [[names[tag] for tag in row["ner_tags"]] for row in read] == tags

    def test_csv_spans(self, tmp_path):
        with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "entities", "lang"])
            writer.writerow(["so,\nParis", json.dumps([{"start": 4, "end": 9, "label": "LOC"}]), "en"])
            writer.writerow(["Paris", "[", "en"])
            writer.writerow(["Paris", "", "en"])
        builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        assert builder.as_dataset("train")["tokens"][:] == [["so", ",", "Paris"]]
        assert [row.where for row in builder.report.skipped] == ["train.csv:4", "train.csv:5"]
        assert "columns that are not used: lang" in builder.report.notes

    @pytest.mark.parametrize("saved", ["parquet", "folder", "disk"])
    def test_class_labels_keep_their_ids(self, tmp_path, saved):
        names = ["O", "B-PER", "B-LOC", "I-LOC", "I-PER"]
        dataset = datasets.Dataset.from_dict(
            {"id": ["a"], "tokens": [["x", "y"]], "ner_tags": [[2, 3]]},
            features=datasets.Features(
                {
                    "id": datasets.Value("string"),
                    "tokens": datasets.List(datasets.Value("string")),
                    "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
                }
            ),
        )
        root = tmp_path / "mine"
        if saved == "disk":
            datasets.DatasetDict({"train": dataset, "test": dataset}).save_to_disk(root)
        else:
            (root / "data").mkdir(parents=True)
            for split in ("train", "test"):
                name = f"{split}-00000-of-00001.parquet" if saved == "folder" else f"{split}.parquet"
                dataset.to_parquet(root / ("data" if saved == "folder" else "") / name)
        builder = FileMNER(data_dir=root, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        read = builder.as_dataset()
        assert list(read) == ["train", "test"]
        assert read["test"].features["ner_tags"].feature.names == names
        assert read["test"][0]["ner_tags"] == [2, 3]

    def test_class_labels_of_another_scheme(self, tmp_path):
        names = ["S-PER", "O", "B-PER", "E-PER", "I-PER", "S-LOC", "none"]
        features = datasets.Features(
            {
                "tokens": datasets.List(datasets.Value("string")),
                "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
            }
        )
        rows = {"tokens": [["x", "y", "z"], ["x"], ["x"]], "ner_tags": [[2, 3, 5], [6], [0]]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "x.parquet")
        builder = FileMNER(data_dir=tmp_path / "x.parquet", cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        read = builder.as_dataset("train")
        assert read.features["ner_tags"].feature.names == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
        assert tags_of(read) == [["B-PER", "I-PER", "B-LOC"], ["B-PER"]]
        assert builder.report.skipped[0].where == "x.parquet, row 1"
        assert "got 'none'" in builder.report.skipped[0].problem.details

    def test_spans_as_datasets_stores_them(self, tmp_path):
        label = datasets.ClassLabel(names=["PER", "LOC"])
        number = datasets.Value("int32")
        features = datasets.Features(
            {"text": datasets.Value("string"), "spans": {k: datasets.List(number) for k in ("start", "end")}}
        )
        features["spans"]["label"] = datasets.List(label)
        rows = {"text": ["Paris!"], "spans": [{"start": [0], "end": [5], "label": [1]}]}
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "a")
        features = datasets.Features(
            {"text": features["text"], "spans": datasets.List({"start": number, "end": number, "label": label})}
        )
        rows["spans"] = [[{"start": 0, "end": 5, "label": 1}]]
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "b")
        for name in "ab":
            builder = FileMNER(data_dir=tmp_path / name, cache_dir=str(tmp_path / "cache"))
            builder.download_and_prepare()
            assert builder.as_dataset("train")["ner_tags"][:] == [[3, 0]]

    def test_prepared_data_are_read_again(self, folder, tmp_path):
        # As Parquet for the Hub, and as save_to_disk: pictures are inside.
        save_picture(folder.root / "a.png", 50)
        row = {**JORDAN, "image": "a.png", "rcnn_crops": ["a.png"]}
        folder.write("train", row, PARIS).write("test", row)
        folder.builder().download_and_prepare(str(tmp_path / "out"), file_format="parquet")
        dataset, report = folder.prepare()
        assert not report.absent
        dataset.save_to_disk(tmp_path / "disk")
        (folder.root / "a.png").unlink()
        for place in ("out", "disk"):
            builder = FileMNER(data_dir=tmp_path / place, cache_dir=str(folder.cache))
            builder.download_and_prepare()
            assert not builder.report.absent and not builder.report.skipped
            read = builder.as_dataset()
            assert read["train"].features == dataset["train"].features
            assert read["test"][0]["rcnn_crops"][0].getpixel((0, 0)) == (50, 0, 0)
            for split in read:
                columns = ["id", "tokens", "ner_tags"]
                assert read[split].select_columns(columns)[:] == dataset[split].select_columns(columns)[:]


class TestTagSchemes:
    def test_iob1(self, folder):
        rows = [
            {"tokens": list("abc"), "ner_tags": tags} for tags in (["I-PER", "B-PER", "O"], ["I-LOC", "I-LOC", "O"])
        ]
        dataset, report = folder.write("train", *rows).prepare()
        assert tags_of(dataset["train"]) == [["B-PER", "B-PER", "O"], ["B-LOC", "I-LOC", "O"]]
        assert counts(report)["tags_normalised"] == 2
        assert report.notes[0] == "tag scheme: IOB1, as found; now IOB2"

    def test_named(self, folder):
        rows = [JORDAN, {"tokens": ["a"], "ner_tags": ["S-PER"]}]
        _, report = folder.write("train", *rows).prepare(tag_scheme="IOB2")
        assert report.skipped[0].where == "train.jsonl:2" and "got 'S-PER'" in report.skipped[0].problem.details
        assert report.notes[0] == "tag scheme: IOB2, as named; now IOB2"
        assert folder.prepare()[1].notes[0] == "tag scheme: BIOES, as found; now IOB2"

    def test_several(self, folder):
        folder.write("train", {"tokens": ["a", "b"], "ner_tags": ["S-PER", "U-PER"]})
        with pytest.raises(
            ValueError, match=r"got prefixes of several: 1 S-, 1 U-\. Correct the tags, or name the scheme"
        ):
            folder.prepare()


class TestLabelSet:
    def test_notes(self, folder):
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

    def test_a_type_that_only_skipped_rows_have(self, folder):
        row = {"text": "Rome", "spans": [{"start": 0, "end": 9, "label": "CITY"}]}
        dataset, _ = folder.write("train", {**PARIS, "id": "a"}, row, {**JORDAN, "id": "a"}).prepare()
        assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-LOC", "I-LOC"]

    def test_given(self, folder):
        dataset, report = folder.write("train", JORDAN, PARIS).prepare(entity_types=("ORG", "PER"))
        assert dataset["train"].features["ner_tags"].feature.names == ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
        ((where, problem),) = report.skipped
        assert (where, str(problem)) == ("train.jsonl:2", "an entity type is unknown ('LOC' is none of ORG, PER)")

    def test_no_entity(self, folder):
        dataset, report = folder.write("train", {"tokens": ["a"], "ner_tags": ["O"]}).prepare()
        assert dataset["train"]["ner_tags"][:] == [[0]]
        assert report.notes == ["the tag scheme cannot be told, for every tag is O", "no entity in any row"]


class TestPictures:
    def test_sources(self, folder, tmp_path):
        for colour, name in enumerate(("a.png", "sub/b.png", "c.png")):
            save_picture(folder.root / name, colour)
        (tmp_path / "link").symlink_to(folder.root)
        save_picture(tmp_path / "outside.png")
        (folder.root / "page.png").write_text("<html>")
        images = [
            "a.png",
            "./sub/../sub/b.png",
            str(folder.root / "c.png"),
            str(tmp_path / "link" / "c.png"),
            {"path": "a.png", "bytes": None},
            {"path": None, "bytes": None},
            None,
            "",
            "gone.png",
            "page.png",
            "../outside.png",
            str(tmp_path / "outside.png"),
            "https://example.org/a.png",
            "data:image/png;base64,AAAA",
            5,
            {"url": "a.png"},
            "a\0.png",
            "/a\0/b.png",
        ]
        dataset, report = folder.write("train", *({**PARIS, "image": image} for image in images)).prepare()
        found = [image and image.getpixel((0, 0))[0] for image in dataset["train"]["image"]]
        assert found == [0, 1, 2, 2, 0] + [None] * 13
        assert not report.skipped
        url = "a URL, and nothing is downloaded: name a file below the image folder"
        assert [(picture.row_id, str(picture.problem)) for picture in report.absent] == [
            ("train-7", "a picture must be a path, bytes or a dict of the two (got '')"),
            ("train-8", NO_SUCH_FILE),
            ("train-9", UNKNOWN_FORMAT),
            ("train-10", "outside the folder of the pictures (mine)"),
            ("train-11", "outside the folder of the pictures (mine)"),
            ("train-12", url),
            ("train-13", url),
            ("train-14", "a picture must be a path, bytes or a dict of the two (got 5)"),
            ("train-15", "a picture must be a path, bytes or a dict of the two (got {'url': 'a.png'})"),
            ("train-16", "a path must not have NUL (0x00) in it (got 'a\\x00.png')"),
            ("train-17", "a path must not have NUL (0x00) in it (got '/a\\x00/b.png')"),
        ]
        names = ("images", "images_missing", "images_unreadable", "images_outside")
        assert [counts(report)[name] for name in names] == [5, 1, 6, 4]

    def test_image_dir(self, folder, tmp_path):
        save_picture(tmp_path / "pictures" / "a.png", 9)
        folder.write("train", {**PARIS, "image": "a.png"})
        assert folder.prepare(image_dir=tmp_path / "pictures")[0]["train"][0]["image"].getpixel((0, 0)) == (9, 0, 0)
        assert folder.prepare()[0]["train"][0]["image"] is None
        with pytest.raises(FileNotFoundError, match=r"image_dir='gone': no such folder"):
            folder.builder(image_dir="gone")

    def test_bytes(self, tmp_path):
        save_picture(tmp_path / "a.png", 7)
        data = (tmp_path / "a.png").read_bytes()
        row = {"tokens": ["a"], "ner_tags": ["O"], "image": data, "aux_crops": [{"bytes": data[:50], "path": "b.png"}]}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
        builder = FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        (read,) = builder.as_dataset("train")
        assert read["image"].getpixel((0, 0)) == (7, 0, 0) and read["aux_crops"] == []
        assert [picture.path for picture in builder.report.absent] == ["b.png"]

    def test_crops_and_objects(self, folder):
        for colour in range(5):
            save_picture(folder.root / f"{colour}.png", colour)
        (folder.root / "1.png").unlink()
        boxes = [{"label": str(i), "score": 1, "box": [0, 0, i, 8]} for i in range(5)]
        row = {**PARIS, "aux_crops": [f"{i}.png" for i in range(5)], "aux_objects": boxes}
        folder.write("train", row, {**JORDAN, "rcnn_crops": "0.png"})
        dataset, report = folder.prepare(num_aux_crops=3)
        assert dataset["train"].features == with_objects(ner_features(["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]))
        first, second = dataset["train"]
        assert [crop.getpixel((0, 0))[0] for crop in first["aux_crops"]] == [0, 2]
        assert [item["label"] for item in first["aux_objects"]] == ["0", "2"]
        assert first["aux_objects"][1] == {"label": "2", "score": 1.0, "box": [0.0, 0.0, 2.0, 8.0]}
        assert second["aux_objects"] == second["rcnn_objects"] == second["rcnn_crops"] == []
        assert counts(report)["crops_surplus"] == 2
        assert [str(picture.problem) for picture in report.absent] == [
            NO_SUCH_FILE,
            "rcnn_crops: must be a list of pictures",
        ]
        streamed = list(folder.builder(num_aux_crops=3).as_streaming_dataset("train"))
        assert streamed[0]["aux_objects"] == first["aux_objects"]

    def test_the_first_pass_reads_no_pictures(self, tmp_path, monkeypatch):
        pq.write_table(pa.Table.from_pylist([{**JORDAN, "image": b"", "more": 1}]), tmp_path / "train.parquet")
        asked = []

        def read(path, columns):
            asked.append(columns)
            return read_table(path, columns)

        monkeypatch.setattr("processing.data.own.file_source.read_table", read)
        list(FileMNER(data_dir=tmp_path, cache_dir=str(tmp_path / "cache")).as_streaming_dataset("train"))
        assert ["image" in columns for columns in asked] == [False, True]
        assert not any("more" in columns for columns in asked)

    def test_csv(self, tmp_path):
        for colour in range(3):
            save_picture(tmp_path / f"{colour}.png", colour)
        (tmp_path / "x.csv").write_text("tokens,ner_tags,image,aux_crops\na b,O B-X,0.png,1.png;2.png\nc,O,,\n")
        builder = FileMNER(data_dir=tmp_path / "x.csv", cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        first, second = builder.as_dataset("train")
        assert first["image"].getpixel((0, 0))[0] == 0
        assert [crop.getpixel((0, 0))[0] for crop in first["aux_crops"]] == [1, 2]
        assert second["image"] is None and second["aux_crops"] == []
        assert not builder.report.absent


class TestCache:
    def test_the_same_files_are_prepared_once(self, folder, monkeypatch):
        folder.write("train", PARIS).prepare()
        monkeypatch.setattr(FileMNER, "_generate_examples", None)
        builder = folder.builder()
        builder.download_and_prepare()
        assert builder.report.splits["train"].counts["rows"] == 1
        assert builder.info.features == ner_features(["O", "B-LOC", "I-LOC"])

    @pytest.mark.parametrize("change", ["text", "picture", "added picture", "split", "option"])
    def test_changes_are_prepared_afresh(self, folder, change):
        save_picture(folder.root / "sub" / "a.png")
        folder.write("train", {**PARIS, "image": "sub/a.png"})
        before = folder.builder().cache_dir
        assert folder.builder().cache_dir == before
        options = {}
        if change == "text":
            folder.write("train", {**PARIS, "image": "sub/b.png"})
        elif change == "picture":
            save_picture(folder.root / "sub" / "a.png", 1)
        elif change == "added picture":
            save_picture(folder.root / "sub" / "b.png")
        elif change == "split":
            (folder.root / "train.jsonl").rename(folder.root / "test.jsonl")
        else:
            options = {"entity_types": ["LOC"]}
        assert folder.builder(**options).cache_dir != before

    @pytest.mark.parametrize("name", ["a.jpg_large", "a.jpg:orig", "a", "a.JPEG"])
    def test_a_replaced_picture_of_any_name(self, folder, name):
        folder.write("train", {**PARIS, "image": name})
        (folder.root / name).write_text("<html>404</html>")
        assert folder.prepare()[0]["train"][0]["image"] is None
        save_picture(folder.root / name, 200)
        assert folder.prepare()[0]["train"][0]["image"].getpixel((0, 0))[0] == 200

    def test_what_is_no_picture_needs_no_other_preparation(self, folder):
        save_picture(folder.root / "a.png")
        folder.cache = folder.root / "cache"  # below the pictures
        folder.write("train", {**PARIS, "image": "a.png"}).prepare()
        (folder.root / "nowhere").symlink_to("gone")
        before = folder.builder().cache_dir
        os.utime(folder.root / "train.jsonl", (1, 1))  # the same text
        folder.prepare()
        assert folder.builder().cache_dir == before

    def test_a_text_that_names_no_picture_needs_no_listing(self, folder):
        save_picture(folder.root / "a.png")
        before = folder.write("train", PARIS).builder().cache_dir
        save_picture(folder.root / "b.png")
        assert folder.builder().cache_dir == before

    def test_changed_parquet(self, tmp_path):
        def cache_dir(*tags):
            rows = [{"tokens": ["a"] * len(tags), "ner_tags": list(tags)}]
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
            return FileMNER(data_dir=tmp_path / "x.parquet", cache_dir=str(tmp_path / "cache")).cache_dir

        assert cache_dir("O") != cache_dir("O", "B-X", "I-X")

    def test_changed_while_it_is_read(self, folder):
        folder.write("train", PARIS, JORDAN)
        stream = folder.builder().as_streaming_dataset("train")
        folder.write("train", PARIS)
        with pytest.raises(RuntimeError, match=r"mine was changed while it was read; load it again"):
            list(stream)
        folder.write("train", PARIS, {"tokens": ["a"], "ner_tags": ["B-NEW"]})
        with pytest.raises(RuntimeError, match=r"mine was changed while it was read"):
            list(stream)

    def test_streaming(self, folder):
        folder.write("train", PARIS, "{", JORDAN)
        builder = folder.builder()
        stream = builder.as_streaming_dataset("train")
        assert list(stream) == list(stream) == list(folder.prepare()[0]["train"])
        assert builder.report == folder.builder().report
        assert counts(builder.report)["rows_skipped"] == 1


class TestArguments:
    def test_data_dir(self):
        with pytest.raises(ValueError, match="data_dir is needed: pass a file, or the folder"):
            FileMNER()

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"tag_scheme": "BIO"}, r"tag_scheme must be one of \('IOB2', .*got 'BIO'"),
            ({"entity_types": "PER"}, r"entity_types must be distinct names, such as \['PER', 'LOC'\], got 'PER'"),
            ({"entity_types": []}, "entity_types must be distinct names"),
            ({"entity_types": ["PER", "PER"]}, "entity_types must be distinct names"),
            ({"entity_types": [1]}, "entity_types must be distinct names"),
            ({"num_aux_crops": -1}, "num_aux_crops must be an int, 0 or more, got -1"),
        ],
    )
    def test_options(self, folder, option, message):
        with pytest.raises(ValueError, match=message):
            folder.write("train", PARIS).builder(**option)

    def test_plain_text(self, tmp_path):
        (tmp_path / "x.txt").write_text("Paris")
        with pytest.raises(
            ValueError, match=r"(?s)x\.txt: expected rows of the train split, .*it has values for text"
        ):
            FileMNER(data_dir=tmp_path / "x.txt", cache_dir=str(tmp_path / "cache")).download_and_prepare()


PREPARE = """
import sys, types
package = sys.modules["processing"] = types.ModuleType("processing")  # without torch, which takes seconds to import
package.__path__ = ["processing"]
from processing.data.own.file_mner import FileMNER
builder = FileMNER(data_dir=sys.argv[1], cache_dir=sys.argv[2])
print("start", flush=True)
builder.download_and_prepare()
print(builder.as_dataset("train").num_rows, len(builder.report.skipped), flush=True)
"""


class TestTrouble:
    """A disk that is full or read-only, several processes, and a kill at any moment."""

    @pytest.fixture
    def start(self, folder, repository):
        processes = []

        def start():
            command = [sys.executable, "-c", PREPARE, str(folder.root), str(folder.cache)]
            pipe = subprocess.PIPE
            processes.append(subprocess.Popen(command, cwd=repository, stdout=pipe, stderr=pipe, text=True))
            return processes[-1]

        yield start
        for process in processes:
            process.kill()
            process.communicate()

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
    def test_a_full_disk(self, folder):
        builder = folder.write("train", *[PARIS] * 3000).builder()
        part = Path(builder.cache_dir + ".incomplete", "file_mner-train-00000-00000-of-NNNNN.arrow")
        part.parent.mkdir(parents=True)
        part.symlink_to("/dev/full")  # The system itself says that there is no space.
        with pytest.raises(OSError, match=r"no space left in .*/cache/.*: free some, give another cache_dir") as error:
            builder.download_and_prepare()
        assert error.value.errno == errno.ENOSPC
        assert folder.prepare()[0]["train"].num_rows == 3000

    @pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
    def test_a_cache_that_cannot_be_written(self, folder, monkeypatch, number):
        folder.write("train", PARIS)
        builder = folder.builder()

        def refuse(path, *args, **kwargs):
            raise OSError(number, os.strerror(number), str(path))

        with monkeypatch.context() as patch:
            patch.setattr(os, "makedirs", refuse)
            with pytest.raises(
                OSError, match=r"/cache.* cannot be written: allow it, give another cache_dir .*, or set HF"
            ):
                builder.download_and_prepare()
            with pytest.raises(OSError, match=r"/cache cannot be written"):
                folder.builder()
        assert folder.prepare()[0]["train"].num_rows == 1

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_read_only_folder(self, folder):
        folder.write("train", PARIS)
        folder.cache.mkdir(mode=0o500)
        with pytest.raises(OSError, match=r"/cache.* cannot be written"):
            folder.prepare()

    def test_a_source_that_cannot_be_read_is_named(self, folder, monkeypatch):
        builder = folder.write("train", PARIS).builder()

        def refuse(*args, **kwargs):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder.root / "train.jsonl"))

        monkeypatch.setattr("processing.data.own.file_source.read_table", refuse)
        with pytest.raises(PermissionError, match=r"Permission denied: .*/mine/train\.jsonl"):
            builder.download_and_prepare()

    def test_two_processes_at_once(self, folder, start):
        folder.write("train", *[PARIS] * 3000, "{")
        outputs = [process.communicate(timeout=120) for process in [start(), start()]]
        assert [out for out, _ in outputs] == ["start\n3000 1\n"] * 2, outputs

    def test_killed_while_preparing(self, folder, start):
        folder.write("train", *[PARIS] * 10_000, "{")
        for delay in (0, 0.2):
            process = start()
            assert process.stdout.readline() == "start\n"
            started, deadline = time.time(), time.monotonic() + 60
            while not any(part.stat().st_mtime > started for part in folder.cache.glob("**/*.incomplete/*.arrow")):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert list(folder.cache.glob("**/*.incomplete/*.arrow"))  # killed before it was done
        dataset, report = folder.prepare()
        assert dataset["train"].num_rows == 10_000 == len(set(dataset["train"]["id"]))
        assert counts(report)["rows"] == 10_000 and len(report.skipped) == 1
        assert not list(folder.cache.glob("**/*.incomplete"))


# The parts of an entity of BIOES by the length of the entity.
def bioes(tags):
    tags = list(tags)
    for entity_type, start, end in entity_spans(tags):
        letters = "S" if end - start == 1 else "B" + "I" * (end - start - 2) + "E"
        tags[start:end] = [f"{letter}-{entity_type}" for letter in letters]
    return tags


def iob1(tags):
    tags, last = list(tags), ("", -1)
    for entity_type, start, end in entity_spans(tags):
        tags[start:end] = [f"I-{entity_type}"] * (end - start)
        if last == (entity_type, start):
            tags[start] = f"B-{entity_type}"
        last = (entity_type, end)
    return tags


class TestRealTweets:
    """Tweets in every format give what TwitterMNER gives."""

    @pytest.mark.parametrize("kind", ["jsonl", "bioes.jsonl", "iob1.jsonl", "csv", "parquet", "disk"])
    def test_twitter2017(self, shared, tmp_path, kind):
        root, scheme = tmp_path / "mine", {"bioes.jsonl": bioes, "iob1.jsonl": iob1}.get(kind, list)
        expected = {
            split: list(read_sentences(str(shared / "data" / "twitter2017" / f"{name}.txt")))
            for split, name in (("validation", "valid"), ("test", "test"))
        }
        features = ner_features(TWITTER_TAGS).copy()
        features = datasets.Features({name: features[name] for name in ("image_id", "tokens", "ner_tags")})
        saved = {}
        root.mkdir()
        for split, sentences in expected.items():
            rows = [{"image_id": s.image_id, "tokens": s.tokens, "ner_tags": scheme(s.tags)} for s in sentences]
            if kind == "csv":
                with open(root / f"{split}.csv", "w", encoding="utf-8", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(features)
                    writer.writerows([s.image_id, " ".join(s.tokens), " ".join(s.tags)] for s in sentences)
            elif kind in ("parquet", "disk"):
                saved[split] = datasets.Dataset.from_list(rows, features=features)
            else:
                write_rows(root / f"{split}.jsonl", rows)
        if kind == "disk":
            datasets.DatasetDict(saved).save_to_disk(root)
        for split in saved if kind == "parquet" else ():
            saved[split].to_parquet(root / f"{split}-00000-of-00001.parquet")

        builder = FileMNER(data_dir=root, cache_dir=str(tmp_path / "cache"), strict=True)
        builder.download_and_prepare()
        read = builder.as_dataset()
        for split, sentences in expected.items():
            assert read[split]["image_id"][:] == [sentence.image_id for sentence in sentences]
            assert read[split]["tokens"][:] == [sentence.tokens for sentence in sentences]
            assert tags_of(read[split]) == [sentence.tags for sentence in sentences]
        names = read["test"].features["ner_tags"].feature.names
        assert names == TWITTER_TAGS if saved else sorted(names) == sorted(TWITTER_TAGS)
        normalised = sum(split.counts["tags_normalised"] for split in builder.report.splits.values())
        tags = [sentence.tags for sentences in expected.values() for sentence in sentences]
        assert normalised == sum(a != b for row in tags for a, b in zip(row, scheme(row), strict=True))
        name = {"bioes.jsonl": "BIOES", "iob1.jsonl": "IOB1"}.get(kind, "IOB2")
        assert builder.report.notes[0] == f"tag scheme: {name}, as found; now IOB2"

    def test_twitter2015_has_stray_tags(self, shared, tmp_path):
        sentences = list(read_sentences(str(shared / "data" / "twitter2015" / "train.txt")))
        write_rows(tmp_path / "x.jsonl", ({"tokens": s.tokens, "ner_tags": s.tags} for s in sentences))
        builder = FileMNER(data_dir=tmp_path / "x.jsonl", cache_dir=str(tmp_path / "cache"), strict=True)
        builder.download_and_prepare()
        tags = tags_of(builder.as_dataset("train"))
        assert [entity_spans(row) for row in tags] == [entity_spans(sentence.tags) for sentence in sentences]
        changed = sum(a != b for row, s in zip(tags, sentences, strict=True) for a, b in zip(row, s.tags, strict=True))
        assert builder.report.splits["train"].counts["tags_normalised"] == changed > 100
        assert not any(entity_spans(row) != strict_spans(row) for row in tags)

    def test_spans(self, shared, tmp_path):
        sentences = list(read_sentences(str(shared / "data" / "twitter2017" / "train.txt")))
        rows, entities = [], []
        for sentence in sentences:
            text, _, offsets = join_words(sentence.tokens)
            spans = [(offsets[a][0], offsets[b - 1][1], name) for name, a, b in entity_spans(sentence.tags)]
            rows.append({"text": text, "spans": [dict(zip(("start", "end", "label"), s, strict=True)) for s in spans]})
            entities.append([(name, text[start:end].replace(" ", "")) for start, end, name in spans])
        write_rows(tmp_path / "x.jsonl", rows)
        builder = FileMNER(data_dir=tmp_path / "x.jsonl", cache_dir=str(tmp_path / "cache"), strict=True)
        builder.download_and_prepare()
        read = builder.as_dataset("train")
        assert not builder.report.moved
        assert entities == [
            [(name, "".join(words[start:end])) for name, start, end in entity_spans(tags)]
            for words, tags in zip(read["tokens"], tags_of(read), strict=True)
        ]


def strict_spans(tags):
    """Entities of tags that are strictly IOB2: those that start with `B-`."""
    starts = [(index, tag[2:]) for index, tag in enumerate(tags) if tag.startswith("B-")]
    return [
        (name, start, next((i for i in range(start + 1, len(tags)) if tags[i] != f"I-{name}"), len(tags)))
        for start, name in starts
    ]
