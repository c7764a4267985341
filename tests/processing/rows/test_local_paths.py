"""What is told of paths, which may be those of any machine."""

import pytest

from processing.rows.local_paths import is_path, real_path_below, without_folders


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/home/alice/img/1.jpg",
            "/gone/1.jpg",
            "/1.jpg",
            "~/img/1.jpg",
            "~alice/img/1.jpg",
            "file:///home/alice/1.jpg",
        ),
        *("C:\\Users\\alice\\1.jpg", "c:/Users/alice/1.jpg", "\\\\server\\share\\1.jpg", "//server/share/1.jpg"),
    ],
)
def test_paths_of_any_machine(path):
    assert is_path(path) and without_folders(path) == "1.jpg"


@pytest.mark.parametrize(
    "name", ["17_06_4705", "2014/03/1", "/m/0abc", "https://example.com/1.jpg", "t:1", "~5", "", "a b"]
)
def test_names_that_are_no_paths(name):
    assert not is_path(name) and without_folders(name) == name


def test_a_data_set_or_a_detector(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_folders("IDEA-Research/grounding-dino-tiny") == "IDEA-Research/grounding-dino-tiny"
    assert without_folders(str(tmp_path)) == without_folders(".") == tmp_path.name


def test_what_lies_below_a_folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "alias").symlink_to("data")
    assert real_path_below(tmp_path / "alias" / "1.jpg", tmp_path / "data") == str(tmp_path / "data" / "1.jpg")
    for outside in (tmp_path / "data", tmp_path / "data2" / "1.jpg", tmp_path / "data" / ".." / "1.jpg", "a\0b"):
        assert real_path_below(outside, tmp_path / "data") is None
