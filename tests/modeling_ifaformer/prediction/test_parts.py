"""Parts of an output; what predict.py does with them as a whole is in test_predict.py."""

import json
from importlib import import_module

import pyarrow.parquet as pq
import pytest

from processing.jobs.processes import JobError
from processing.tagged_text import TaggedText


@pytest.fixture
def parts_class():
    return import_module("modeling_ifaformer.prediction.parts").Parts


def result(text="Paris", **rest):
    return TaggedText(text=text, entities=[], **rest)


def test_an_output_that_is_being_made_is_left_alone(parts_class, tmp_path):
    first, second = (parts_class(tmp_path / "out.jsonl") for _ in range(2))
    assert first.claim({"a": 1}, overwrite=False) == set()
    for overwrite in (False, True):
        with pytest.raises(JobError, match="Another run is at work on"):
            second.claim({"a": 1}, overwrite)
    first.remove()
    assert second.claim({"a": 1}, overwrite=False) == set()


def test_parts_that_are_there_are_done(parts_class, tmp_path):
    parts = parts_class(tmp_path / "out.jsonl")
    parts.claim({"a": (1, 2)}, overwrite=False)
    parts.write(2, [result("two")], {})
    parts.write(0, [result("zero", id=1), result("and one")], {"of": "zero"})
    parts._lock.release()
    again = parts_class(tmp_path / "out.jsonl")
    assert again.claim({"a": [1, 2]}, overwrite=False) == {0, 2}
    again.write(1, [], {})
    again.merge(3)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["zero", "and one", "two"] and lines[0]["id"] == 1
    assert list(again.records(1)) == [{"of": "zero"}]
    again._lock.release()
    other = parts_class(tmp_path / "out.jsonl")
    with pytest.raises(JobError, match=r"\(a: \[1, 2\] before, 3 now\)"):
        other.claim({"a": 3}, overwrite=False)
    assert other.claim({"a": 3}, overwrite=True) == set()
    assert not (tmp_path / "out.jsonl").exists()


def test_parts_of_unknown_settings_are_not_gone_on_with(parts_class, tmp_path):
    parts = parts_class(tmp_path / "out.jsonl")
    parts.claim({"a": 1}, overwrite=False)
    parts.write(0, [result()], {})
    parts._lock.release()
    (parts.folder / "settings.json").unlink()  # a kill while an output was being cleared away
    assert parts_class(tmp_path / "out.jsonl").claim({"a": 1}, overwrite=False) == set()
    assert not list(parts.folder.glob("0*"))


def test_other_outputs_are_left_alone(parts_class, tmp_path):
    (tmp_path / ".other.jsonl.7.tmp").touch()
    (tmp_path / ".o[u]t.jsonl.7.tmp").touch()
    parts_class(tmp_path / "o[u]t.jsonl").claim({}, overwrite=False)
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".other.jsonl.7.tmp"]


def test_what_parquet_cannot_hold_is_said_at_once(parts_class, tmp_path):
    parts = parts_class(tmp_path / "out.parquet")
    parts.claim({}, overwrite=False)
    crops = {"aux_crops": [{"box": [1.0, 2.0, 3.0, 4.0], "score": "high"}]}
    with pytest.raises(JobError, match=r"Parquet cannot hold .*--output out\.jsonl"):
        parts.write(0, [result(crops=crops)], {})
    parts.write(0, [result(id=5)], {})
    parts.merge(1)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == [
        {"id": "5", "text": "Paris", "entities": [], "crops": None, "problems": None}
    ]
