import os
from pathlib import Path

import pytest
import torch

from processing.data.archive import read_crop_names


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("was_run",)


class TestReadCropNames:
    def test_names(self, tmp_path):
        names = {"a.jpg": ["1.png", "2.png"], "b.jpg": [], 7: ["3.png"]}
        torch.save(names, tmp_path / "a.pth")
        assert read_crop_names(str(tmp_path / "a.pth")) == names

    def test_code_is_not_run(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        torch.save({"a.jpg": RunsCode()}, "a.pth")
        with pytest.raises(ValueError, match=r"because loading it would run code \(.*mkdir\)") as error:
            read_crop_names("a.pth")
        assert not Path("was_run").exists()
        assert str(error.value).startswith("a.pth was not loaded")
        assert "expected a dict of str (or row numbers) to list of str" in str(error.value)
        assert "weights_only" not in str(error.value)

    @pytest.mark.parametrize("new_format", [True, False], ids=["zip", "older pickle"])
    def test_damaged(self, tmp_path, new_format):
        path = tmp_path / "a.pth"
        torch.save({"a.jpg": ["1.png"]}, path, _use_new_zipfile_serialization=new_format)
        assert read_crop_names(str(path)) == {"a.jpg": ["1.png"]}
        data = path.read_bytes()
        for damaged in (b"no pickle", *(data[:size] for size in range(0, len(data) - 20, len(data) // 30))):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"a\.pth was not loaded, because .*damaged.*; expected a dict"):
                read_crop_names(str(path))

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            (["1.png"], "got list"),
            (torch.zeros(2), "got Tensor"),
            ({"a.jpg": "1.png"}, "got 'a.jpg': '1.png'"),
            ({"a.jpg": [1]}, r"got 'a.jpg': \[1\]"),
            ({1.5: ["1.png"]}, r"got 1.5: \['1.png'\]"),
        ],
    )
    def test_other_values(self, tmp_path, value, got):
        torch.save(value, tmp_path / "a.pth")
        with pytest.raises(
            ValueError, match=rf"a\.pth: expected a dict of str \(or row numbers\) to list of str, .*{got}"
        ):
            read_crop_names(str(tmp_path / "a.pth"))
