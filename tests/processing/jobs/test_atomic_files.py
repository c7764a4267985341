import datetime
import errno
import json
import os

import pytest

from processing.jobs.atomic_files import read_json, remove_unfinished, replacing, write_json


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


@pytest.mark.skipif(os.name != "posix", reason="only POSIX has named pipes")
def test_what_is_no_regular_file_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with replacing(pipe) as file:
        file.write(b"through")
    assert os.read(reader, 100) == b"through" and pipe.is_fifo()
    os.close(reader)


def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '.*/file'"), replacing(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_what_was_cut_off_is_named(tmp_path):
    path = tmp_path / "file.json"
    write_json({"a": [1]}, path)
    assert read_json(path) == {"a": [1]}
    for content in (path.read_bytes()[:-5], b"", b"[1]", b"null", b"\xff", b"[" * 10**5):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"file\.json is damaged: expected a JSON object"):
            read_json(path)


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
