import datetime
import json

import pytest

from processing.jobs.atomic_files import remove_unfinished, replacing, write_json


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"] and path.read_text() == "before"
    with replacing(path) as file:
        file.write(b"after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"


def test_what_a_kill_left_is_removed_by_name(tmp_path):
    for name in (".a.7.tmp", ".b[1].7.tmp", ".b1.7.tmp", "c.tmp"):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path, "b[1]")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.7.tmp", ".b1.7.tmp", "c.tmp"]
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["c.tmp"]


def test_json_of_values_that_json_does_not_know(tmp_path):
    write_json({"ä": datetime.date(2026, 1, 2), "name": "x\udcff"}, tmp_path / "file.json")
    assert json.loads((tmp_path / "file.json").read_bytes()) == {"ä": "2026-01-02", "name": "x?"}
