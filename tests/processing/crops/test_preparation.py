import io
import json
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from processing.crops import preparation as crop_preparation
from processing.crops.preparation import CropOptions, load_rows, make_plan, prepare_crops
from processing.detectors import ObjectDetector
from processing.jobs.processes import JobError
from processing.rows.row_features import ner_features


@pytest.fixture
def data():
    """Three rows, the last of them in a split of its own."""
    encoded = datasets.Image(decode=False)
    features = ner_features(["O", "B-PER"])
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, [encoded], [encoded]
    rows = []
    for index in range(3):
        small = Image.fromarray(np.random.default_rng(index).integers(0, 256, (6, 9, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((120, 80), Image.Resampling.BICUBIC).save(file, "PNG")
        row = {"id": str(index), "image_id": str(index), "tokens": ["a"], "ner_tags": [1]}
        rows.append({**row, "image": {"bytes": file.getvalue(), "path": None}, "aux_crops": [], "rcnn_crops": []})
    parts = {"train": rows[:2], "test": rows[2:]}
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(of_split, features=features) for split, of_split in parts.items()}
    )


@pytest.fixture
def load(data):
    return lambda: (data, "")


@pytest.fixture
def options(tiny_detector):
    return CropOptions(aux_detector=str(tiny_detector("grounding-dino")), aux_threshold=0.1, spacy_model="none")


def test_prepare_crops(tmp_path, options, load, data, capsys):
    summary = prepare_crops(options, tmp_path / "out", lambda: (data, "1 row left out"), "mine")
    assert summary == json.loads((tmp_path / "out" / "crops.json").read_bytes())
    assert summary["settings"]["dataset"] == "mine" and summary["settings"]["rcnn"] == "the data set's own"
    assert {split: counts["rows"] for split, counts in summary["splits"].items()} == {"train": 2, "test": 1}
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"]["id"][:] == ["2"] and loaded["test"][0]["aux_crops"]
    printed = capsys.readouterr()
    assert not printed.out, "what to say of the summary is the command's business"
    assert printed.err.startswith("1 row left out\naux: 3 pictures to look at\n")

    assert prepare_crops(options, str(tmp_path / "out"), load, "mine") is None
    assert not capsys.readouterr().err


@pytest.mark.parametrize("change", ["a row more", "another text", "another picture", "other crops of its own"])
def test_other_data_of_the_same_name_are_not_taken_for_finished(tmp_path, options, load, data, change):
    prepare_crops(options, tmp_path / "out", load, "a/mine")
    rows = data["train"].to_list()
    if change == "a row more":
        rows.append({**rows[0], "id": "more"})
    elif change == "another text":
        rows[0]["tokens"] = ["b"]
    elif change == "another picture":
        rows[0]["image"] = rows[1]["image"]
    else:
        rows[0]["rcnn_crops"] = [rows[0]["image"]]
    train = datasets.Dataset.from_list(rows, features=data["train"].features)
    other = datasets.DatasetDict(train=train, test=data["test"])
    part = "rows" if change in ("a row more", "another text") else "pictures"
    with pytest.raises(JobError, match=rf"another data set .*\(.*other {part}.*\).*--overwrite"):
        prepare_crops(options, tmp_path / "out", lambda: (other, ""), "a/mine")
    assert prepare_crops(options, tmp_path / "out", load, "a/mine") is None, "what was there has changed"


def test_errors_of_the_user(tmp_path, options, load, monkeypatch):
    with pytest.raises(ValueError, match="No detector"):
        prepare_crops(CropOptions(), tmp_path / "out", load, "mine")
    with pytest.raises(JobError, match="--aux_detector no/such-model: "):
        prepare_crops(replace(options, aux_detector="no/such-model"), tmp_path / "out", load, "mine")
    with (
        FileLock(tmp_path / "out" / ".objects" / "lock"),
        pytest.raises(JobError, match="Another run is at work"),
    ):
        prepare_crops(options, tmp_path / "out", load, "mine")

    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectDetector, "detect", out_of_memory)
        with pytest.raises(JobError, match=r"2 pictures in a batch: .* smaller --batch_size; .* \(no room\)"):
            prepare_crops(options, tmp_path / "out", load, "mine")
    assert prepare_crops(options, tmp_path / "out", load, "mine"), "the lock is left behind"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aux_detector": None}, "No detector: give --aux_detector, --rcnn_detector or both"),
        ({"rcnn_threshold": -0.1}, "--rcnn_threshold must be from 0 to 1, got -0.1"),
        ({"limit": 0}, "--limit must be at least 1, got 0"),
        ({"phrases": []}, "--phrases must name at least one"),
    ],
)
def test_check(changes, message):
    options = CropOptions(aux_detector="a")
    options.check()
    with pytest.raises(ValueError, match=message):
        replace(options, **changes).check()


def test_settings_know_what_a_detector_is(options, tiny_detector):
    assert list(options.detectors) == ["aux"] and options.max_crops("aux") == 3
    assert options.settings("demo")["aux"]["threshold"] == options.threshold("aux") == 0.1
    wrong = CropOptions(rcnn_detector=options.aux_detector)
    with pytest.raises(ValueError, match=r"--rcnn_detector expects one of a closed set, got .*grounding-dino"):
        wrong.settings("demo")


def test_load_rows(data, load):
    assert load_rows(CropOptions(), load) == (data, "")
    limited, _ = load_rows(CropOptions(limit=1), load)
    assert {split: rows["id"][:] for split, rows in limited.items()} == {"train": ["0"], "test": ["2"]}


def test_a_plan_leaves_out_what_is_known(tmp_path, options, load, monkeypatch):
    options = replace(options, batch_size=1)
    (tmp_path / ".objects").mkdir()
    plan, _ = make_plan(options, tmp_path, load, "mine")
    assert [[task.row for task in batch] for batch in plan.batches["aux"]] == [[0], [1], [0]]
    assert (plan.numbers, plan.known) == ({"train": 1, "test": 1}, {"aux": 0})

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(crop_preparation, "write_share", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_crops(options, tmp_path, load, "mine")
    plan, _ = make_plan(options, tmp_path, load, "mine")
    assert (plan.batches, plan.known, len(plan.shards)) == ({"aux": []}, {"aux": 3}, 2)
