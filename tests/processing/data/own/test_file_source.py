import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing.data.own.file_mner import FileMNER
from processing.data.own.file_source import FileMNERConfig, FileSource
from processing.problems import Problem


PARIS = {"text": "Paris!", "spans": [{"start": 0, "end": 5, "label": "LOC"}]}
JORDAN = {"tokens": ["Michael", "Jordan"], "ner_tags": ["B-PER", "I-PER"]}


def counts(report, split="train"):
    return {name: count for name, count in report.splits[split].counts.items() if count}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "the line is not a JSON object (Expecting property name"),
        ("\0", "the line is not text (its character 1 is NUL, 0x00)"),
        ({"text": 5, "spans": []}, "text: must be a string (got 5)"),
        ({**JORDAN, "aux_objects": 1}, "aux_objects: must be a list of dicts with label, score and box (got 1)"),
        (
            {"tokens": ["a"], "ner_tags": ["PER"]},
            "ner_tags: a tag is none of the scheme (expected O, or one of B, I, E, S, L, U, M, W, a dash and an",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_skipped(folder, row, problem):
    folder.write("train", PARIS, row, JORDAN)
    dataset, report = folder.prepare()
    assert dataset["train"]["id"][:] == ["train-0", "train-2"]
    (skipped,) = report.skipped
    assert skipped.where == "train.jsonl:2" and str(skipped.problem).startswith(problem)
    assert counts(report)["rows_skipped"] == 1 and counts(report)["rows"] == 2
    message = r"mine/train\.jsonl:2: .*\. Correct the row, or load without strict"
    with pytest.raises(ValueError, match=message) as error:
        folder.prepare(strict=True)
    assert problem in str(error.value)


def test_strict_on_good_rows(folder):
    assert folder.write("train", PARIS).prepare(strict=True)[0]["train"].num_rows == 1


def test_repeated_ids(folder):
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


@pytest.mark.parametrize("names", [["train-1", None, "train-1-2"], [None, None, "train-1"], ["train-2", 0, None]])
def test_a_made_up_id_is_no_other_rows(folder, names):
    rows = [PARIS if name is None else {**PARIS, "id": name} for name in names]
    dataset, report = folder.write("train", *rows).prepare(strict=True)
    ids = dataset["train"]["id"][:]
    assert not report.skipped and len(set(ids)) == 3
    assert [one for one, name in zip(ids, names, strict=True) if name is not None] == [
        str(name) for name in names if name is not None
    ]
    assert all(one.startswith("train-") for one, name in zip(ids, names, strict=True) if name is None)


def test_an_unreadable_row_in_the_middle_of_100_000(tmp_path, write_rows):
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


@pytest.mark.parametrize("change", ["text", "picture", "added picture", "split", "option"])
def test_changes_are_prepared_afresh(folder, change):
    folder.save_picture("sub/a.png")
    folder.write("train", {**PARIS, "image": "sub/a.png"})
    before = folder.builder().cache_dir
    assert folder.builder().cache_dir == before
    options = {}
    if change == "text":
        folder.write("train", {**PARIS, "image": "sub/b.png"})
    elif change == "picture":
        folder.save_picture("sub/a.png", 1)
    elif change == "added picture":
        folder.save_picture("sub/b.png")
    elif change == "split":
        (folder.root / "train.jsonl").rename(folder.root / "test.jsonl")
    else:
        options = {"entity_types": ["LOC"]}
    assert folder.builder(**options).cache_dir != before


@pytest.mark.parametrize("name", ["a.jpg_large", "a.jpg:orig", "a", "a.JPEG"])
def test_a_replaced_picture_of_any_name(folder, name):
    folder.write("train", {**PARIS, "image": name})
    (folder.root / name).write_text("<html>404</html>")
    assert folder.prepare()[0]["train"][0]["image"] is None
    folder.save_picture(name, 200)
    assert folder.prepare()[0]["train"][0]["image"].getpixel((0, 0))[0] == 200


def test_what_is_no_picture_needs_no_other_preparation(folder):
    folder.save_picture("a.png")
    folder.cache = folder.root / "cache"  # below the pictures
    folder.write("train", {**PARIS, "image": "a.png"}).prepare()
    (folder.root / "nowhere").symlink_to("gone")
    before = folder.builder().cache_dir
    os.utime(folder.root / "train.jsonl", (1, 1))  # the same text
    folder.prepare()
    assert folder.builder().cache_dir == before


def test_a_text_that_names_no_picture_needs_no_listing(folder):
    folder.save_picture("a.png")
    before = folder.write("train", PARIS).builder().cache_dir
    folder.save_picture("b.png")
    assert folder.builder().cache_dir == before


def test_changed_parquet(tmp_path):
    def cache_dir(*tags):
        rows = [{"tokens": ["a"] * len(tags), "ner_tags": list(tags)}]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
        return FileMNER(data_dir=tmp_path / "x.parquet", cache_dir=str(tmp_path / "cache")).cache_dir

    assert cache_dir("O") != cache_dir("O", "B-X", "I-X")
