"""Files, folders and patterns; rows and what is wrong with them."""

import json
import os
from importlib import import_module
from pathlib import Path

import pytest
from datasets import Dataset


@pytest.fixture
def rows_module():
    return import_module("modeling_ifaformer.prediction.input_rows")


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ('{"text": "x"}\n{"text": \n', "a.jsonl:2", "is not a JSON object"),
        ("[1]\n", "a.jsonl:1", "is not a JSON object"),
        ('{"txt": "x"}\n', "a.jsonl:1", "expected a column text"),
        ('\n{"text": ["a"]}\n', "a.jsonl:2", "expected text to be a string, got ['a']"),
        ('{"tokens": "a b"}\n', "a.jsonl:1", "expected tokens to be a list of words, got 'a b'"),
        ('{"text": "a", "image": 5}\n', "a.jsonl:1", "expected paths or bytes of pictures in image, got 5"),
        ('{"text": "a", "aux_crops": [5]}\n', "a.jsonl:1", "expected paths or bytes of pictures in aux_crops, got 5"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_the_rest_goes_on(rows_module, tmp_path, content, place, problem):
    path = tmp_path / "a.jsonl"
    path.write_text(content + '{"text": "the last", "image": "b.png", "aux_crops": []}\n')
    *_, last = rows = list(rows_module.file_source([str(path)], image_dir=None).read())
    assert last.columns == {"text": "the last", "image": tmp_path / "b.png"} and last.problem is None
    [wrong] = [row for row in rows if row.problem]
    assert wrong.place == str(tmp_path / place) and problem in wrong.problem and wrong.columns == {}


def test_files_folders_and_patterns_in_order(rows_module, tmp_path):
    (tmp_path / "shards").mkdir()
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        (tmp_path / "shards" / name).write_text(json.dumps({"text": name}))
    (tmp_path / "z.txt").write_text("z\n")
    (tmp_path / "shards" / "notes.md").touch()

    def texts(*inputs):
        source = rows_module.file_source([str(tmp_path / name) for name in inputs], image_dir=None)
        assert list(source.read()) == list(source.read())  # anew each time
        return [row.columns["text"] for row in source.read()]

    assert texts("z.txt", "shards") == ["z", "a.jsonl", "b.jsonl", "c.jsonl"]
    assert texts("shards/[bc].jsonl", "shards/a.jsonl") == ["b.jsonl", "c.jsonl", "a.jsonl"]
    (tmp_path / "x[1].txt").write_text("a name like a pattern")
    assert texts("x[1].txt") == ["a name like a pattern"]
    with pytest.raises(ValueError, match=r"names files twice: .*a\.jsonl\. Name each once"):
        texts("shards", "shards/a*")
    with pytest.raises(FileNotFoundError, match="no file fits this pattern"):
        texts("shards/*.csv")
    with pytest.raises(FileNotFoundError):
        texts("gone.jsonl")
    (tmp_path / "shards" / "crops.json").write_text("{}")
    with pytest.raises(ValueError, match=r"files of one ending in this folder, got c\.jsonl, crops\.json|a\.jsonl"):
        texts("shards")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="expected files ending in"):
        texts("empty")


def test_a_file_of_another_kind(rows_module, tmp_path):
    (tmp_path / "a.xml").write_text("<x/>")
    with pytest.raises(ValueError, match=r"a\.xml: expected a file ending in \.jsonl"):
        rows_module.file_source([str(tmp_path / "a.xml")], image_dir=None)


@pytest.mark.parametrize(
    "name", ["in/a.jsonl", "in", "in/*.jsonl", "i*/[ab].jsonl", "in/../in/a.jsonl", "**/*.jsonl", "in/**/*.jsonl"]
)
def test_an_output_among_what_is_read_is_refused(rows_module, tmp_path, monkeypatch, name):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    for output in (Path("in/a.jsonl"), tmp_path / "in" / "a.jsonl"):
        with pytest.raises(ValueError, match=r"--output .*a\.jsonl would be one of the files that are read \("):
            rows_module.check_not_read(output, ["other.txt", name])
    with pytest.raises(ValueError, match="would be one of the files"):
        rows_module.check_not_read(Path("in/a[1].jsonl"), ["in/a[1].jsonl"])  # a name like a pattern


@pytest.mark.parametrize("name", ["in/b.jsonl", "in/deeper", "in/*.parquet", "*.jsonl", "in/*/*.jsonl", "**/*.csv"])
def test_an_output_beside_what_is_read(rows_module, tmp_path, monkeypatch, name):
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    rows_module.check_not_read(Path("in/a.jsonl"), [name])


def test_a_change_shows_in_the_content(rows_module, tmp_path):
    path = tmp_path / "a.txt"

    def content():
        return rows_module.file_source([str(path)], image_dir=None).content

    path.write_text("Paris\n")
    first = content()
    assert content() == first
    path.write_text("Paris!\n")
    longer = content()
    os.utime(path, ns=(1, 1))
    assert len({first, longer, content()}) == 3
    texts = [rows_module.text_source({"text": text}).content for text in ("a", "b", "a")]
    assert texts[0] == texts[2] != texts[1]
    splits = [Dataset.from_dict({"tokens": [[word]]}) for word in ("a", "b")]
    assert len({rows_module.dataset_source(rows, "x test").content for rows in splits}) == 2


def test_rows_of_a_data_set_have_places(rows_module):
    rows = Dataset.from_dict({"id": ["7"], "tokens": [["Paris"]], "ner_tags": [[0]]})
    assert list(rows_module.dataset_source(rows, "mine test").read()) == [
        ("mine test, row 0", {"id": "7", "tokens": ["Paris"]}, None)
    ]


def test_size_counts_what_is_in_the_row(rows_module):
    size = rows_module.size_in_memory
    assert size({"text": "abc", "image": "a/path.png"}) == 3
    assert size({"tokens": ["ab", "c"], "image": {"path": None, "bytes": b"1234"}, "aux_crops": [b"12", b"345"]}) == 12
    assert size({}) == 0


def test_relations_need_head_and_tail_of_a_data_set(rows_module):
    rows = Dataset.from_dict(
        {"tokens": [["Paris"]], "head": [{"start": 0, "end": 1}], "tail": [{"start": 0, "end": 1}]}
    )
    (row,) = rows_module.dataset_source(rows, "mine test", with_pair=True).read()
    assert row.columns == rows[0]
    assert [row.columns for row in rows_module.dataset_source(rows, "mine test").read()] == [{"tokens": ["Paris"]}]
    with pytest.raises(
        ValueError, match="mine test has no head and tail, but tokens, head: the model is for relations"
    ):
        rows_module.dataset_source(rows.remove_columns("tail"), "mine test", with_pair=True)
