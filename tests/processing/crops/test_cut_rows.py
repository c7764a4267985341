import io

import datasets
import numpy as np
import pytest
from PIL import Image

from processing.crops import cut_rows as crop_rows
from processing.crops.cut_rows import picture_or_reason, row_with_crops, shard_with_crops
from processing.detectors import DetectedObject
from processing.rows.row_features import ner_features


def png(width=40, height=20):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def make_row(image, **own):
    return {"id": "1", "image_id": "1", "tokens": ["a"], "ner_tags": [0], "image": image} | {
        "aux_crops": [],
        "rcnn_crops": [],
        **own,
    }


DOG = DetectedObject("dog", 0.5, (2.5, 0.0, 40.0, 20.0))
CAT = DetectedObject("cat", 0.25, (0.0, 0.0, 5.0, 5.0))


def test_a_row_and_its_crops(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    given = make_row({"bytes": None, "path": str(tmp_path / "a.png")})
    row, problems = row_with_crops(given, {"aux": ([DOG, CAT], None), "rcnn": ([], None)})
    assert not problems and row["image"] == {"bytes": png(), "path": "a.png"}
    assert [o["label"] for o in row["aux_objects"]] == ["dog", "cat"] and row["aux_objects"][0]["box"] == DOG.box
    assert [crop["path"] for crop in row["aux_crops"]] == ["1_aux_0.jpg", "1_aux_1.jpg"]
    assert [Image.open(io.BytesIO(crop["bytes"])).size for crop in row["aux_crops"]] == [(38, 20), (5, 5)]
    assert row["rcnn_crops"] == row["rcnn_objects"] == []
    assert given["image"]["bytes"] is None and "aux_objects" not in given, "the row given changed"


@pytest.mark.parametrize("size", [(39, 20), (40, 19), (2, 2), (3, 20), (1, 1)])
@pytest.mark.parametrize("kind", ["aux", "rcnn"])
def test_a_picture_smaller_than_the_one_that_was_looked_at(tmp_path, size, kind):
    (tmp_path / "a.png").write_bytes(png(*size))
    found = {"aux": ([CAT], None), "rcnn": ([CAT], None)} | {kind: ([DOG], None)}
    row, problems = row_with_crops(make_row({"bytes": None, "path": str(tmp_path / "a.png")}), found)
    assert problems == [("image", "a.png: changed since it was looked at: run again with --overwrite")]
    assert row["image"] is None
    assert not any(row[f"{kind}_{what}"] for kind in ("aux", "rcnn") for what in ("crops", "objects"))


def test_pictures_that_cannot_be_read(tmp_path):
    absent = {"bytes": None, "path": str(tmp_path / "absent.png")}
    row, problems = row_with_crops(make_row(absent), {"aux": ([DOG], None)})
    assert problems == [("image", "absent.png: No such file or directory")] and row["image"] is None
    assert row["aux_crops"] == row["aux_objects"] == []
    _, problems = row_with_crops(make_row({"bytes": png(), "path": None}), {"aux": ([], "bytes: empty (0 bytes)")})
    assert problems == [("image", "bytes: empty (0 bytes)")], "what was found out stays"
    assert picture_or_reason(absent) == "absent.png: no such file"
    assert picture_or_reason({"bytes": png(), "path": None}).size == (40, 20)


def test_own_crops_and_their_objects(tmp_path):
    good, bad = {"bytes": png(4, 4), "path": None}, {"bytes": b"x", "path": None}
    own = {"rcnn_crops": [bad, good], "rcnn_objects": [DOG._asdict(), CAT._asdict()]}
    row, problems = row_with_crops(make_row(None, **own), {"aux": ([], None)})
    assert [column for column, _ in problems] == ["rcnn_crops"]
    assert (row["rcnn_crops"], row["rcnn_objects"]) == ([good], [CAT._asdict()])
    row, _ = row_with_crops(make_row(None, rcnn_crops=[good], rcnn_objects=own["rcnn_objects"]), {})
    assert (row["rcnn_crops"], row["rcnn_objects"]) == ([good], []), "objects that are not those of the crops"


def test_shards_in_parts_are_the_same(monkeypatch):
    encoded = datasets.Image(decode=False)
    features = ner_features(["O"])
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, [encoded], [encoded]
    rows = [{**make_row({"bytes": png(40 + index), "path": None}), "id": str(index)} for index in range(5)]
    rows[3]["image"] = {"bytes": b"x", "path": None}
    dataset = datasets.Dataset.from_list(rows, features=features)
    found = [{"aux": ([DOG] * (index % 3), None)} for index in range(5)]
    whole, problems = shard_with_crops(dataset, found)
    assert whole["id"][:] == dataset["id"][:] and [len(objects) for objects in whole["aux_objects"]] == [0, 1, 2, 0, 1]
    assert [problem[:2] for problem in problems] == [["3", "image"]]
    monkeypatch.setattr(crop_rows, "ROWS_AT_ONCE", 2)
    parts, same_problems = shard_with_crops(dataset, found)
    assert (parts.data.to_pylist(), same_problems) == (whole.data.to_pylist(), problems)
    assert parts.features == whole.features
