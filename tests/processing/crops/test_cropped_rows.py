import io
from unittest.mock import ANY

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from processing.crops.cropped_rows import CropFinder, read_picture
from processing.images import DIRECTORY, EMPTY, NO_SUCH_FILE
from processing.jobs.processes import JobError
from processing.object_proposals import DetectedObject, ObjectDetector, ProposalOptions
from processing.problems import Problem
from processing.rows.row_features import ner_features, with_objects


def png(width=40, height=20):
    file = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 90, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def source(data=None, path=None):
    return {"bytes": data, "path": path and str(path)}


DOG = DetectedObject("dog", 0.5, (2.5, 0.0, 40.0, 20.0))
CAT = DetectedObject("cat", 0.25, (0.0, 0.0, 5.0, 5.0))


@pytest.fixture
def make_rows():
    """Rows of these pictures, or of these mappings of columns."""

    def make(*rows):
        encoded = datasets.Image(decode=False)
        features = with_objects(ner_features(["O"]))
        features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, [encoded], [encoded]
        defaults = {"tokens": ["a"], "ner_tags": [0], "image": None, "image_id": None}
        defaults |= {f"{kind}_{what}": [] for kind in ("aux", "rcnn") for what in ("crops", "objects")}
        rows = [{"id": str(index), **defaults, **row} for index, row in enumerate(rows)]
        return datasets.Dataset.from_list(rows, features=features)

    return make


@pytest.fixture
def shown(monkeypatch):
    """The batches of picture sizes that the detectors were shown, by detector; each finds a dog and a cat."""
    shown = {}

    class Detector:
        is_zero_shot = ANY  # either

        def __init__(self, name):
            self.name = name

        def detect(self, images, phrases=None, **options):
            shown.setdefault(self.name, []).append([image.size for image in images])
            return [[DOG, CAT][: options["max_objects"]] for _ in images]

    monkeypatch.setattr(ObjectDetector, "from_pretrained", lambda name, device: Detector(name))
    return shown


def make_finder(find_phrases=lambda texts: [["dog"]] * len(texts), batch_size=2, **options):
    return CropFinder(ProposalOptions(**options), find_phrases, batch_size, "cpu")


def stored(rows):
    """The rows with their pictures encoded."""
    encoded = datasets.Image(decode=False)
    for column, feature in (("image", encoded), ("aux_crops", [encoded]), ("rcnn_crops", [encoded])):
        rows = rows.cast_column(column, feature)
    return list(rows)


def test_rows_and_their_crops(make_rows, shown, tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    rows = make_rows({"image": source(path=tmp_path / "a.png")}, {}, {"image": source(png(50, 30))})
    progress = []
    cropped, record = make_finder(aux_detector="a", rcnn_detector="b", max_rcnn_crops=1).add_crops(
        rows, progress.append
    )
    first, second, third = stored(cropped)
    assert first["image"] == {"bytes": png(), "path": "a.png"} and third["image"]["bytes"] == png(50, 30)
    assert [found["label"] for found in first["aux_objects"]] == ["dog", "cat"]
    assert first["aux_objects"][0]["box"] == list(DOG.box)
    assert [crop["path"] for crop in first["aux_crops"]] == ["0_aux_0.jpg", "0_aux_1.jpg"]
    assert [Image.open(io.BytesIO(crop["bytes"])).size for crop in first["aux_crops"]] == [(38, 20), (5, 5)]
    assert len(first["rcnn_crops"]) == len(first["rcnn_objects"]) == 1
    assert second["image"] is None and not any(second[f"{kind}_crops"] for kind in ("aux", "rcnn"))
    assert shown == {"a": [[(40, 20), (50, 30)]], "b": [[(40, 20), (50, 30)]]} and progress == [2, 1]
    assert record == {
        "counts": {
            **{"rows": 3, "pictures": 2, "rows_without_picture": 1, "pictures_unreadable": 0},
            **{"aux_crops": 4, "pictures_without_aux_crops": 0, "rcnn_crops": 2, "pictures_without_rcnn_crops": 0},
        },
        "labels": {"aux": {"dog": 2, "cat": 2}, "rcnn": {"dog": 2}},
        "pictures": [0, 2],
        "unreadable": [],
    }


def test_pictures_that_cannot_be_read(make_rows, shown, tmp_path):
    (tmp_path / "damaged.png").write_bytes(png()[:50])
    rows = make_rows(
        {"image": source(path=tmp_path / "absent.png")},
        {"image": source(b"")},
        {"image": source(png())},
        {"image": source(path=tmp_path / "damaged.png")},
    )
    cropped, record = make_finder(aux_detector="a").add_crops(rows)
    assert [row["image"] is not None for row in stored(cropped)] == [False, False, True, False]
    assert [len(row["aux_objects"]) for row in stored(cropped)] == [0, 0, 2, 0]
    assert [(problem["id"], problem["column"]) for problem in record["unreadable"]] == [
        (row_id, "image") for row_id in "013"
    ]
    reasons = [problem["reason"] for problem in record["unreadable"]]
    assert reasons[0] == f"absent.png: {NO_SUCH_FILE}" and reasons[1] == f"bytes: {EMPTY}"
    assert str(tmp_path) not in reasons[2] and reasons[2].startswith("damaged.png: ")
    assert record["counts"]["pictures_unreadable"] == 3 and record["counts"]["rows_without_picture"] == 0
    assert shown == {"a": [[], [(40, 20)]]}


def test_a_picture_is_looked_at_once_for_all_rows_with_the_same_phrases(make_rows, shown):
    widths, texts = (40, 50, 40, 60, 40), ("a", "a", "a", "a", "b")
    rows = make_rows(*({"image": source(png(w)), "tokens": [text]} for w, text in zip(widths, texts, strict=True)))
    progress = []
    finder = make_finder(lambda texts: [[text] for text in texts], aux_detector="a")
    cropped, _ = finder.add_crops(rows, progress.append)
    assert shown == {"a": [[(40, 20), (50, 20)], [(60, 20), (40, 20)]]} and progress == [3, 2, 0]
    crops = [[crop["path"] for crop in row["aux_crops"]] for row in stored(cropped)]
    assert crops == [[f"{row}_aux_0.jpg", f"{row}_aux_1.jpg"] for row in range(5)]
    shown.clear()
    make_finder(None, rcnn_detector="a", batch_size=8).add_crops(rows)
    assert shown == {"a": [[(40, 20), (50, 20), (60, 20)]]}, "without phrases, a picture is one task"


def test_phrases_are_those_of_the_text_as_it_was_given(make_rows, shown):
    rows = make_rows({"image": source(png()), "tokens": ["a", "!"]}, {"image": source(png()), "tokens": ["b", "!"]})
    rows = rows.add_column("text", ["a!", None]).add_column("offsets", [[[0, 1], [1, 2]], []])
    seen = []
    cropped, _ = make_finder(lambda texts: seen.extend(texts) or [["dog"]] * 2, aux_detector="a").add_crops(rows)
    assert seen == ["a!", "b !"]
    assert (cropped["text"][:], cropped["offsets"][:]) == (["a!", None], [[[0, 1], [1, 2]], []])


def test_own_crops_and_their_objects(make_rows, shown):
    good, bad = source(png(4, 4)), source(b"x")
    objects = [DOG._asdict(), CAT._asdict()]
    rows = make_rows(
        {"rcnn_crops": [bad, good], "rcnn_objects": objects},
        {"rcnn_crops": [good], "rcnn_objects": objects},
        {"rcnn_crops": None, "rcnn_objects": None},
    )
    cropped, record = make_finder(aux_detector="a").add_crops(rows)
    first, second, third = stored(cropped)
    assert [(problem["id"], problem["column"]) for problem in record["unreadable"]] == [("0", "rcnn_crops")]
    assert [crop["bytes"] for crop in first["rcnn_crops"]] == [png(4, 4)]
    assert [found["label"] for found in first["rcnn_objects"]] == ["cat"]
    assert len(second["rcnn_crops"]) == 1 and second["rcnn_objects"] == [], "objects that are not those of the crops"
    assert third["rcnn_crops"] == third["rcnn_objects"] == []
    without_objects = rows.remove_columns(["aux_objects", "rcnn_objects"])
    cropped, _ = make_finder(aux_detector="a").add_crops(without_objects)
    assert [len(row["rcnn_crops"]) for row in cropped] == [1, 1, 0] and cropped[0]["rcnn_objects"] == []


def test_too_little_memory_for_a_batch(make_rows, shown, monkeypatch):
    finder = make_finder(aux_detector="a")

    def detect(*args, **kwargs):
        raise torch.OutOfMemoryError("no room")

    finder.proposer.propose = detect
    rows = make_rows(*({"image": source(png(width))} for width in (40, 50, 60)))
    with pytest.raises(JobError, match=r"for 2 pictures in a batch \(no room\)\. .* smaller batch_size"):
        finder.add_crops(rows)


def test_read_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    picture = read_picture(source(path=tmp_path / "a.png"))
    assert (picture.stored, picture.image.size) == ({"bytes": png(), "path": "a.png"}, (40, 20))
    assert read_picture(source(png())).stored == {"bytes": png(), "path": None}
    folder = read_picture(source(path=tmp_path))
    assert (folder.stored, folder.image, folder.problem) == (None, None, Problem(DIRECTORY))
    assert read_picture(source(b"")).problem == Problem(EMPTY)
