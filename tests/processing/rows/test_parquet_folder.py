import os
import subprocess
import sys

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from processing.jobs.atomic_files import remove_unfinished, replacing
from processing.rows.parquet_folder import shard_path, write_shard
from processing.rows.row_features import ner_features, with_objects


pytestmark = pytest.mark.usefixtures("cache")


FEATURES = with_objects(ner_features(["O", "B-PER", "I-PER"]))


@pytest.fixture
def rows(tmp_path):
    """Pictures as files and as bytes, absent ones, empty lists."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("one", "two", "three")]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    detected = {"label": "dog", "score": 0.5, "box": [0.0, 1.0, 5.0, 6.5]}
    base = {"image_id": "x", "tokens": ["Jordan", "!"], "ner_tags": [1, 0], "rcnn_crops": [], "rcnn_objects": []}
    one, two = ({"path": str(path), "bytes": None} for path in paths[:2])
    own_bytes = {"bytes": paths[2].read_bytes(), "path": None}
    return paths, [
        {**base, "id": "a", "image": one, "aux_crops": [two], "aux_objects": [detected]},
        {**base, "id": "b", "image": None, "aux_crops": [], "aux_objects": []},
        {
            **base,
            "id": "c",
            "image": own_bytes,
            "aux_crops": [own_bytes, one],
            "aux_objects": [detected] * 2,
        },
    ]


def pixels(row):
    return [np.asarray(picture).tolist() for picture in (row["image"], *row["aux_crops"]) if picture is not None]


def test_rows_and_features_come_back_without_the_picture_files(tmp_path, rows):
    paths, rows = rows
    dataset = datasets.Dataset.from_list(rows, features=FEATURES)
    expected = [pixels(row) for row in dataset]
    folder = tmp_path / "folder"
    write_shard(dataset.select([0, 1]), shard_path(folder, "train", 0, 2))
    write_shard(dataset.select([2]), shard_path(folder, "train", 1, 2))
    write_shard(dataset.select([1]), shard_path(folder, "validation", 0, 1))
    (folder / "crops.json").write_text("{}")
    Image.new("RGB", (5, 5)).save(folder / "contact_sheet.png")
    for path in paths:
        path.unlink()

    loaded = datasets.load_dataset(str(folder))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 3, "validation": 1}
    assert loaded["train"].features == FEATURES
    streamed = datasets.load_dataset(str(folder), streaming=True)["train"]
    for found in (list(loaded["train"]), list(streamed)):
        assert [pixels(row) for row in found] == expected
        for row, original in zip(found, rows, strict=True):
            names = set(row) - {"image", "aux_crops"}
            assert {name: row[name] for name in names} == {name: original[name] for name in names}


def test_memory_does_not_grow_with_the_shard(tmp_path, repository):
    program = """
import os, resource, sys
from pathlib import Path
import datasets
from processing.rows.parquet_folder import shard_path, write_shard
from processing.rows import ner_features

folder = Path(sys.argv[1])
rows = []
for index in range(75):
    path = folder / f"{index}.png"
    path.write_bytes(os.urandom(1 << 20))
    row = {"id": str(index), "image_id": "x", "tokens": ["a"], "ner_tags": [0], "aux_crops": []}
    picture = {"path": str(path), "bytes": None}
    rows.append({**row, "image": picture, "rcnn_crops": [picture]})
dataset = datasets.Dataset.from_list(rows, features=ner_features(["O"]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_shard(dataset, shard_path(folder / "out", "train", 0, 1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True, timeout=120)
    path = shard_path(tmp_path / "out", "train", 0, 1)
    assert path.stat().st_size > 150 << 20
    growth = int(result.stdout) << 10  # of KiB
    assert growth < 120 << 20, f"{growth >> 20} MiB for {path.stat().st_size >> 20}"
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_row_groups > 5 and sum(len(batch) for batch in file.iter_batches()) == 75


def test_no_rows(tmp_path, rows):
    dataset = datasets.Dataset.from_list(rows[1], features=FEATURES)
    write_shard(dataset.select([]), tmp_path / "none.parquet")
    with pq.ParquetFile(tmp_path / "none.parquet") as file:
        assert file.metadata.num_rows == 0
        assert datasets.Features.from_arrow_schema(file.schema_arrow) == FEATURES


def test_picture_bytes_are_those_of_the_file(tmp_path, rows):
    paths, rows = rows
    write_shard(datasets.Dataset.from_list(rows, features=FEATURES), shard_path(tmp_path / "folder", "train", 0, 1))
    loaded = datasets.load_dataset(str(tmp_path / "folder"), split="train")
    stored = loaded.cast_column("image", datasets.Image(decode=False))[0]["image"]
    assert stored["bytes"] == paths[0].read_bytes()
    assert stored["path"] == "one.png"


def test_shard_path(tmp_path):
    assert shard_path(tmp_path, "train", 3, 12) == tmp_path / "data" / "train-00003-of-00012.parquet"


def test_a_missing_picture_leaves_no_shard(tmp_path, rows):
    paths, rows = rows
    dataset = datasets.Dataset.from_list(rows, features=FEATURES)
    paths[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"one\.png"):
        write_shard(dataset, shard_path(tmp_path / "folder", "train", 0, 1))
    assert not list((tmp_path / "folder").rglob("*.parquet"))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_while_writing_leaves_what_was_there(tmp_path, rows, monkeypatch, step):
    path = shard_path(tmp_path / "folder", "train", 0, 1)
    dataset = datasets.Dataset.from_list(rows[1], features=FEATURES)
    write_shard(dataset.select([1]), path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space left"):
            write_shard(dataset, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    write_shard(dataset, path)
    assert path.read_bytes() != before


def test_a_file_appears_only_when_complete(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write(b"half")
        assert not path.exists()
        (temporary,) = tmp_path.iterdir()
        assert temporary.name.startswith(".")  # readers of the folder pass it over
    assert path.read_bytes() == b"half"


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = shard_path(tmp_path, "train", 0, 1)
    path.parent.mkdir()
    left = path.with_name(f".{path.name}.4711.tmp")
    for name in (left, path, path.with_name("notes.tmp")):
        name.write_bytes(b"x")
    remove_unfinished(path.parent)
    assert sorted(os.listdir(path.parent)) == ["notes.tmp", path.name]
