import io

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image

from processing.crops.cut_rows import shard_with_crops
from processing.crops.records import Records
from processing.crops.summary import draw_sheet, stored_row, summarise
from processing.detectors import DetectedObject
from processing.rows.parquet_folder import shard_path, write_shard
from processing.rows.row_features import ner_features


NUMBERS = {"train": 2, "test": 0}


@pytest.fixture
def folder(tmp_path):
    """Two shards of two rows: the first with two objects, the second without a picture, the last with none found."""
    encoded = datasets.Image(decode=False)
    features = ner_features(["O"])
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, [encoded], [encoded]
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    picture = {"bytes": file.getvalue(), "path": None}
    rows = [
        {"id": str(index), "image_id": str(index), "tokens": ["a", str(index)], "ner_tags": [0, 0], "image": image}
        | {"aux_crops": [], "rcnn_crops": []}
        for index, image in enumerate([{**picture, "path": "0.png"}, None, {**picture, "path": "2.png"}, None])
    ]
    dataset = datasets.Dataset.from_list(rows, features=features)
    objects = [DetectedObject("dog", 0.5, (0.0, 0.0, 9.0, 9.0)), DetectedObject("cat", 0.5, (0.0, 0.0, 9.0, 9.0))]
    for index in range(2):
        found = [{"aux": (objects if index == 0 else [], None)}, {"aux": ([], None)}]
        shard, _ = shard_with_crops(dataset.select(range(2 * index, 2 * index + 2)), found)
        write_shard(shard, shard_path(tmp_path, "train", index, 2))
    return tmp_path


def test_summarise(folder):
    records = Records(folder / ".objects" / "unreadable", 0)
    records.append([["train", "3", "image", "3.png: empty"], ["train", "0", "image", "0.png: empty"]])
    records.append([["train", "3", "image", "3.png: empty"]])  # a shard that was written twice
    summary, pictures = summarise(folder, NUMBERS)
    assert pictures == [("train", 0, 0), ("train", 1, 0)]
    assert summary["splits"]["train"] == {
        **{"rows": 4, "pictures": 2, "rows_without_picture": 1, "pictures_unreadable": 1},
        **{"aux_crops": 2, "pictures_without_aux_crops": 1, "rcnn_crops": 0, "pictures_without_rcnn_crops": 2},
    }
    assert summary["splits"]["test"]["rows"] == 0
    assert summary["labels"] == {"aux": {"dog": 1, "cat": 1}, "rcnn": {}}
    problem = {"split": "train", "id": "3", "column": "image", "reason": "3.png: empty"}
    assert summary["unreadable"] == [problem], "the picture of row 0 was read later on"


def test_draw_sheet(folder):
    _, pictures = summarise(folder, NUMBERS)
    sheets = {rows: draw_sheet(folder, NUMBERS, pictures, rows, 0, "title") for rows in (0, 1, 12)}
    assert sheets[0] is None and sheets[1].width < sheets[12].width
    assert draw_sheet(folder, NUMBERS, [], 12, 0, "title") is None


def test_stored_row_reads_across_row_groups(folder):
    path = shard_path(folder, "train", 0, 2)
    table = pq.read_table(path)
    pq.write_table(table, path, row_group_size=1)
    assert [stored_row(path, index)["id"] for index in range(2)] == ["0", "1"]
    with pytest.raises(IndexError, match="no such row"):
        stored_row(path, 2)
