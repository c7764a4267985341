import pytest

from processing.crops.records import Records, recorded_objects
from processing.detectors import DetectedObject


def test_processes_write_files_of_their_own_and_read_all(tmp_path):
    assert list(Records.read(tmp_path / "absent")) == []
    for process, record in ((1, ["b"]), (0, ["ä\n"]), (1, {"c": 0.1})):
        Records(tmp_path / "records", process).append(record)
    assert list(Records.read(tmp_path / "records")) == [["ä\n"], ["b"], {"c": 0.1}]


@pytest.mark.parametrize("length", range(10))
def test_a_line_that_a_kill_cut_off(tmp_path, length):
    records = Records(tmp_path, 0)
    records.append("first")
    whole = records.path.read_bytes()
    records.append("lost")
    records.path.write_bytes(records.path.read_bytes()[: len(whole) + length])
    before = list(Records.read(tmp_path))
    assert before in (["first"], ["first", "lost"])
    records.append("last")
    assert list(Records.read(tmp_path)) == [*before, "last"]


def test_recorded_objects(tmp_path):
    detected = DetectedObject("dog", 0.25, (0.0, 1.5, 2.0, 3.0))
    Records(tmp_path, 0).append([("a", [detected], None), ("b", None, "no such file"), ("c", None, "empty")])
    Records(tmp_path, 1).append([("b", [], None)])
    # A picture that was read later on is no longer unreadable.
    assert recorded_objects(tmp_path) == ({"a": [detected], "b": []}, {"c": "empty"})
