"""Files, folders and patterns; rows and what is wrong with them."""

import json
import os
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from modeling_ifaformer.prediction import input_rows
from modeling_ifaformer.prediction.input_rows import (
    InputRow,
    RowSource,
    dataset_rows,
    file_rows,
    row_digest,
    single_row,
)
from processing.problems import Problem


def test_a_line_that_cannot_be_read_is_named_and_the_rest_goes_on(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n{"text": \n\n[1]\n{"text": "the last"}\n')
    rows = list(file_rows([str(path)]).read())
    assert [row.place for row in rows] == [f"{path}:{line}" for line in (1, 2, 4, 5)]
    assert [row.columns for row in rows] == [{"text": "x"}, {}, {}, {"text": "the last"}]
    assert (
        "as JSON" in rows[1].problem.kind and "not a JSON object" in rows[2].problem.kind and rows[3].problem is None
    )


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ('"image": "a\\u0000.png"', None),  # which is the picture's problem
        ('"text": "\\ud800"', "text: a text must be valid Unicode"),
        ('"crops": [[0, 0, 1' + "0" * 400 + ", 5]]", "crops: whole numbers must have at most 1,000 bits"),
        ('"crops": [[0, 0, 1' + "0" * 5000 + ", 5]]", "the line cannot be read as JSON (it has a whole number of"),
        ('"crops": ' + "[" * 50 + "]" * 50, "crops: there must be at most 32 lists or dicts inside each other"),
        ('"id": 1, "id": 2', "the line cannot be read as JSON (a dict has the key 'id' twice)"),
        ('"id": NaN', "id: must be a string or a whole number (got nan)"),
        ('"id": 1e400', "id: must be a string or a whole number (got inf)"),
        ('"id": {"a": 1}', "id: must be a string or a whole number (got {'a': 1})"),
        ('"id": true', "id: must be a string or a whole number (got True)"),
        ('"id": 7', None),
        ('"data": {}, "annotations": 5', None),
    ],
)
def test_whatever_a_row_holds_costs_that_row_alone(tmp_path, columns, problem):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "x", {columns}}}\n{{"text": "the last"}}\n'.replace('"text": "x", "text"', '"text"'))
    row, last = file_rows([str(path)]).read()
    assert last.columns == {"text": "the last"}
    row_digest(row)
    assert (row.problem is None) if problem is None else str(row.problem).startswith(problem)


def test_pictures_lie_beside_their_file_or_in_the_folder_that_is_named(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "image": "b.png", "aux_crops": [], "rcnn_crops": ["c.png", 5], "id": null}\n')
    for image_dir, folder in ((None, tmp_path), ("pictures", Path("pictures"))):
        (row,) = file_rows([str(path)], image_dir).read()
        assert row.columns == {"text": "x", "image": folder / "b.png", "rcnn_crops": [folder / "c.png", 5]}


def test_files_folders_and_patterns_in_order(tmp_path):
    (tmp_path / "shards").mkdir()
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        (tmp_path / "shards" / name).write_text(json.dumps({"text": name}))
    (tmp_path / "z.txt").write_text("z\n")
    (tmp_path / "shards" / "notes.md").touch()

    def texts(*inputs):
        source = file_rows([str(tmp_path / name) for name in inputs])
        assert [row[:4] for row in source.read()] == [row[:4] for row in source.read()]  # anew each time
        return [row.columns["text"] for row in source.read()]

    assert texts("z.txt", "shards") == ["z", "a.jsonl", "b.jsonl", "c.jsonl"]
    assert texts("shards/[bc].jsonl", "shards/a.jsonl") == ["b.jsonl", "c.jsonl", "a.jsonl"]
    (tmp_path / "x[1].txt").write_text("a name like a pattern")
    assert texts("x[1].txt") == ["a name like a pattern"]
    with pytest.raises(ValueError, match=r"are named twice: .*a\.jsonl\. Name each of them once"):
        texts("shards", "shards/a*")
    with pytest.raises(FileNotFoundError, match=r"The pattern .*\*\.csv fits no file of rows"):
        texts("shards/*.csv")
    with pytest.raises(FileNotFoundError):
        texts("gone.jsonl")
    (tmp_path / "shards" / "crops.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds files of several endings: a\.jsonl, crops\.json\."):
        texts("shards")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no file of rows. Their names end in \.jsonl"):
        texts("empty")
    (tmp_path / "a.xml").write_text("<x/>")
    with pytest.raises(ValueError, match=r"a\.xml: expected a file ending in \.jsonl"):
        texts("a.xml")


def test_a_change_shows_in_the_content(tmp_path):
    path = tmp_path / "a.txt"

    def content():
        return file_rows([str(path)]).content

    path.write_text("Paris\n")
    first = content()
    assert content() == first
    path.write_text("Paris!\n")
    longer, times = content(), path.stat()
    path.write_text("Milan!\n")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len({first, longer, content()}) == 3
    texts = [single_row({"text": text}).content for text in ("a", "b", "a")]
    assert texts[0] == texts[2] != texts[1]
    splits = [Dataset.from_dict({"tokens": [[word]]}) for word in ("a", "b")]
    assert len({dataset_rows(rows, "x test").content for rows in splits}) == 2


def test_pictures_in_memory_are_told_apart_by_what_they_show():
    first, other = np.zeros((40, 40, 3), dtype=np.uint8), np.zeros((40, 40, 3), dtype=np.uint8)
    other[20, 20] = 255  # where `str` of an array writes three dots
    for convert in (Image.fromarray, np.copy):
        contents = [single_row({"text": "x", "image": convert(pixels)}).content for pixels in (first, first, other)]
        assert contents[0] == contents[1] != contents[2]


def test_no_more_rows_than_the_limit_are_read():
    endless = RowSource(lambda: (InputRow(f"row {number}", {"text": "x"}) for number in count()), "digest", ["a.txt"])
    limited = endless.first(3)
    assert [row.place for row in limited.read()] == ["row 0", "row 1", "row 2"] and limited.names == ["a.txt"]
    assert limited.content not in (endless.content, endless.first(4).content)
    assert len(list(islice(endless.first(None).read(), 5))) == 5
    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        endless.first(0)


def test_rows_of_a_data_set_have_places():
    text = {"text": "(Paris)", "tokens": ["(", "Paris", ")"], "offsets": [[0, 1], [1, 6], [6, 7]]}
    rows = Dataset.from_list([{"id": "7", **text, "ner_tags": [0, 1, 0]}])
    (row,) = dataset_rows(rows, "mine test").read()
    assert row[:4] == InputRow("mine test, row 0", {"id": "7", **text})[:4]


def test_relations_need_head_and_tail_of_a_data_set():
    entity = [{"start": 0, "end": 1}]
    rows = Dataset.from_dict({"tokens": [["Paris"]], "head": entity, "tail": entity})
    (row,) = dataset_rows(rows, "mine test", needed=("head", "tail")).read()
    assert row.columns == rows[0]
    with pytest.raises(ValueError, match=r"mine test has no columns head and tail.* It has tokens, head"):
        dataset_rows(rows.remove_columns("tail"), "mine test", needed=("head", "tail"))


def test_files_of_other_programs(tmp_path, monkeypatch):
    """Two tweets, not six lines; and the text of a task, with its picture."""
    (tmp_path / "a.txt").write_text("Ana\tB-person\nsang\tO\n\t\nin\tO\nOslo\tB-location\n")
    (tmp_path / "b.txt").write_text("Ana sang\n\nin Oslo\n")
    task = {"data": {"text": "Ana sang", "image": "/data/local-files/?d=b%20c.jpg"}}
    (tmp_path / "c.json").write_text(json.dumps([task, {"data": {"text": "x"}, "annotations": 5}]))
    said: list[str] = []
    monkeypatch.setattr(input_rows.logger, "warning", said.append)
    sources = [file_rows([str(tmp_path / name)]) for name in ("a.txt", "b.txt", "c.json")]
    assert len(said) == 1 and said[0].startswith(f"{tmp_path / 'a.txt'} is read as CoNLL")
    rows = [list(source.read()) for source in sources]
    assert [row.columns["tokens"] for row in rows[0]] == [["Ana", "sang"], ["in", "Oslo"]]
    assert [row.columns.get("text") for row in rows[1]] == ["Ana sang", "", "in Oslo"]
    (text, broken) = rows[2]
    assert text.columns["image"] == tmp_path / "b c.jpg" and text.pictures == {"image": "b c.jpg"}
    assert "the row is not as Label Studio writes it" in str(broken.problem)


def test_the_reported_conll_file(shared):
    folder = shared / "cases" / "07-conll-text"
    for name in ("train.txt", "train.conll"):
        assert len(list(file_rows([str(folder / name)]).read())) == 2


def test_a_picture_that_changed_shows_in_the_row(tmp_path):
    picture = tmp_path / "a.jpg"
    row = InputRow("a.jsonl:1", {"text": "Paris", "image": picture, "aux_crops": [str(picture), {"bytes": b"x"}]})
    before = row_digest(row)
    picture.write_bytes(b"one")
    first, times = row_digest(row), picture.stat()
    picture.write_bytes(b"two")
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len({before, first, row_digest(row)}) == 3
    assert row_digest(row) == row_digest(row._replace(place="b.jsonl:2"))
    assert row_digest(row) != row_digest(row._replace(columns=row.columns | {"text": "Milan"}))
    assert row_digest(row) != row_digest(row._replace(problem=Problem("no")))


def test_every_picture_is_missing(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "image": "1.jpg"}\n{"text": "b", "image": "2.jpg"}\n')
    with pytest.raises(FileNotFoundError) as error:
        file_rows([str(path)])
    assert f"missing (2), the first of them {tmp_path / '1.jpg'}. Name the folder" in str(error.value)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "2.jpg").touch()
    assert len(list(file_rows([str(path)], str(tmp_path / "photos")).read())) == 2


@pytest.mark.parametrize("address", ["https://t.co/a.jpg", "data:image/png;base64,iVBOR"])
def test_addresses_stay_as_they_are(tmp_path, address):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "a", "image": address}))
    (row,) = file_rows([str(path)]).read()
    assert row.columns["image"] == address
    with pytest.raises(FileNotFoundError, match="this is an address, and nothing is downloaded here"):
        file_rows([address])


def test_pictures_of_conll(tmp_path, monkeypatch):
    """Texts alone where there is no picture at all, an error where there are others, and any usual ending."""
    path = tmp_path / "a.conll"
    path.write_text("IMGID:1\nAna\tB-PER\nsang\tO\n\nIMGID:2\nBo\tB-PER\nsang\tO\n")
    said: list[str] = []
    monkeypatch.setattr(input_rows.logger, "warning", said.append)
    rows = list(file_rows([str(path)]).read())
    assert not any("image" in row.columns or row.pictures for row in rows) and len(said) == 1
    assert f"name pictures (IMGID), and none lies below {tmp_path}: the texts alone" in said[0]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "2.png").touch()
    with pytest.raises(FileNotFoundError, match=r"missing \(2\).* by --image_dir"):
        file_rows([str(path)])
    rows = list(file_rows([str(path)], str(tmp_path / "photos")).read())
    assert [row.columns["image"].name for row in rows] == ["1.jpg", "2.png"]
    assert [row.pictures for row in rows] == [{"image": "1.jpg"}, {"image": "2.png"}]


def test_contexts_are_handed_on(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "x", "context": ["a", {"kind": "ocr", "text": "b"}]}\n{"text": "y"}\n')
    (tmp_path / "b.csv").write_text("text,context\nx,a dog\n")
    rows = file_rows([str(tmp_path / name) for name in ("a.jsonl", "b.csv")]).read()
    assert [row.columns.get("context") for row in rows] == [["a", {"kind": "ocr", "text": "b"}], None, "a dog"]
    stored = Dataset.from_list([{"tokens": ["x"], "context": [{"kind": None, "text": "a"}], "other": 1}])
    (row,) = dataset_rows(stored, "mine").read()
    assert row.columns == {"tokens": ["x"], "context": [{"kind": None, "text": "a"}]}
