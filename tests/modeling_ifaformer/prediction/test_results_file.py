"""The file of results: its name, its columns, and how parts become one."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from modeling_ifaformer.prediction.results_file import check_output, merge_results, output_schema, write_results
from processing.jobs.processes import JobError
from processing.tagged_text import TaggedText


SCHEMA = output_schema(("entities",))
NOTHING = dict.fromkeys(
    ("crops", "problems", "image", "aux_crops", "rcnn_crops", "context")
)  # what a row may have besides


def result(text="Paris", **rest):
    return TaggedText(text=text, entities=[], **rest)


def test_names_of_outputs(tmp_path):
    check_output(tmp_path / "a.PARQUET", ["b.txt"])
    with pytest.raises(ValueError, match=r"must end in \.jsonl, \.json, \.parquet, got '.*a\.csv'"):
        check_output(tmp_path / "a.csv", [])
    with pytest.raises(FileNotFoundError, match="there is no folder nodir"):
        check_output(Path("nodir/a.jsonl"), [])


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_parts_become_one_file_in_order(tmp_path, ending):
    parts = [tmp_path / f"{number}.{ending}" for number in range(3)]
    for part, results in zip(parts, ([result("zero", id=1), result("and one")], [], [result("😀")]), strict=True):
        write_results(results, part, SCHEMA)
    output = tmp_path / f"out.{ending}"
    merge_results(parts, output, SCHEMA)
    if ending == "jsonl":
        rows = list(map(json.loads, output.read_text(encoding="utf-8").splitlines()))
        assert rows[0]["id"] == 1
    else:
        rows = pq.read_table(output).to_pylist()
        assert rows[0] == {"id": "1", "text": "zero", "entities": [], **NOTHING}
    assert [row["text"] for row in rows] == ["zero", "and one", "😀"]


def test_what_parquet_cannot_hold_is_said_at_once(tmp_path):
    crops = {"aux_crops": [{"box": [1.0, 2.0, 3.0, 4.0], "score": "high"}]}
    with pytest.raises(JobError, match=r"Parquet cannot hold .* ends in \.jsonl"):
        write_results([result(crops=crops)], tmp_path / "0.parquet", SCHEMA)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("found", "is_explained", "columns"),
    [
        (("entities",), True, ["entities"]),
        (("entities", "relations"), False, ["entities", "relations"]),
        (("relations",), False, ["relation", "score", "head", "tail"]),
    ],
)
def test_columns_are_those_of_what_is_found(found, is_explained, columns):
    schema = output_schema(found, is_explained)
    assert schema.names == ["id", "text", *columns, *NOTHING]
    assert ("shares" in str(schema)) is is_explained


@pytest.mark.parametrize(
    "name", ["in/a.jsonl", "in", "in/*.jsonl", "i*/[ab].jsonl", "in/../in/a.jsonl", "**/*.jsonl", "in/**/*.jsonl"]
)
def test_an_output_among_what_is_read_is_refused(tmp_path, monkeypatch, name):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    for output in (Path("in/a.jsonl"), tmp_path / "in" / "a.jsonl"):
        with pytest.raises(ValueError, match=r"The output .*a\.jsonl would be one of the files that are read \("):
            check_output(output, ["other.txt", name])
    with pytest.raises(ValueError, match="would be one of the files"):
        check_output(Path("in/a[1].jsonl"), ["in/a[1].jsonl"])  # a name like a pattern
    Path("self.jsonl").symlink_to("self.jsonl")
    with pytest.raises(ValueError, match="would be one of the files"):
        check_output(Path("self.jsonl"), ["self.jsonl"])


@pytest.mark.parametrize("name", ["in/b.jsonl", "in/deeper", "in/*.parquet", "*.jsonl", "in/*/*.jsonl", "**/*.csv"])
def test_an_output_beside_what_is_read(tmp_path, monkeypatch, name):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    check_output(Path("in/a.jsonl"), [name])


def test_the_context_of_a_row_and_several_pictures_go_on(tmp_path):
    schema = output_schema(("entities",), has_several_images=True)
    given = [["a.png", "b.png"], "c.png", None]
    contexts = ["a caption", [{"kind": "ocr", "text": "OPEN"}], 5]  # the last one is none, of which a problem tells
    results = [result(image=image, context=context) for image, context in zip(given, contexts, strict=True)]
    write_results(results, tmp_path / "0.parquet", schema)
    rows = pq.read_table(tmp_path / "0.parquet").to_pylist()
    assert [row["image"] for row in rows] == [["a.png", "b.png"], ["c.png"], []]
    assert [row["context"] for row in rows] == [
        [{"kind": None, "text": "a caption"}],
        [{"kind": "ocr", "text": "OPEN"}],
        None,
    ]
    write_results(results[:2], tmp_path / "one.parquet", SCHEMA)
    assert [row["image"] for row in pq.read_table(tmp_path / "one.parquet").to_pylist()] == ["a.png", "c.png"]
