"""Crops for a whole data set. The rows and their crops are in test_cropped_rows.py, kills in test_prepare_crops.py."""

import io
import json
import os
import resource
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import datasets
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from processing.crops import preparation, prepare_crops
from processing.images import NO_SUCH_FILE, load_image
from processing.jobs import output_folder
from processing.jobs.processes import JobError
from processing.labels import TWITTER_TAGS
from processing.object_proposals import ObjectDetector, ProposalOptions, label_phrases
from processing.rows.row_features import ner_features, re_features


pytestmark = pytest.mark.usefixtures("cache")


def picture(seed, width=120, height=80):
    """A smooth picture, so that JPEG keeps its pixels nearly; another one for each seed."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encode(image, **kwargs):
    file = io.BytesIO()
    image.save(file, **{"format": "PNG", **kwargs})
    return file.getvalue()


@pytest.fixture
def source(tmp_path):
    """
    Splits as `load_data` gives them: pictures as files and bytes, one in two rows, one turned by its EXIF tag, one
    absent, one missing, one damaged, one too small for any box; crops of their own, one of them missing.
    """
    folder = tmp_path / "pictures"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    (folder / "turned.jpg").write_bytes(encode(picture(1), format="JPEG", exif=turned))
    (folder / "damaged.jpg").write_bytes(encode(picture(2), format="JPEG")[:300])
    for seed in range(3, 8):
        (folder / f"{seed}.png").write_bytes(encode(picture(seed, 100 + 10 * seed)))

    def file(name):
        return {"path": str(folder / name), "bytes": None}

    def row(row_id, image, aux_crops=()):
        tokens = ["Jordan", "met", row_id]
        answer = {"tokens": tokens, "ner_tags": [3, 0, 0]}
        return {"id": row_id, "image_id": row_id, **answer, "image": image, "aux_crops": aux_crops, "rcnn_crops": []}

    own_crop = {"path": None, "bytes": encode(picture(9, 20, 10))}
    splits = {
        "train": [
            row("turned", file("turned.jpg"), [own_crop, file("no_crop.jpg"), file("3.png")]),
            row("absent", None),
            row("damaged", file("damaged.jpg")),
            row("3", file("3.png")),
            row("3 again", file("3.png")),
            row("bytes", {"path": None, "bytes": encode(picture(8))}),
            row("4", file("4.png")),
        ],
        "validation": [row("missing", file("missing.jpg")), row("5", file("5.png"))],
        "test": [
            row("6", file("6.png")),
            row("small", {"path": None, "bytes": encode(picture(0, 3, 2))}),
            row("7", file("7.png")),
        ],
    }
    encoded = datasets.Image(decode=False)
    features = ner_features(TWITTER_TAGS)
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, [encoded], [encoded]
    return datasets.DatasetDict(
        {name: datasets.Dataset.from_list(rows, features=datasets.Features(features)) for name, rows in splits.items()}
    )


@pytest.fixture
def prepare(source, tiny_detector):
    """`prepare(folder, option=value, ...)` calls `prepare_crops`; detectors by model type, None for none."""

    def run(folder, data=None, name="mine", aux="grounding-dino", rcnn="rt_detr", **options):
        detectors = {"aux_detector": aux, "rcnn_detector": rcnn}
        proposals = {kind: str(tiny_detector(model)) for kind, model in detectors.items() if model}
        proposals |= {"aux_threshold": 0.1, "rcnn_threshold": 0.1, "spacy_model": "none"}
        names = ProposalOptions.__dataclass_fields__
        proposals |= {option: options.pop(option) for option in list(options) if option in names}
        options = {"batch_size": 2, "rows_per_shard": 3, **options}
        return prepare_crops(data or source, folder, ProposalOptions(**proposals), name=name, **options)

    return run


@pytest.fixture
def looked_at(monkeypatch):
    """The pictures that detectors were shown, by model type."""
    shown = {}
    detect = ObjectDetector.detect

    def counting(self, images, *args, **kwargs):
        shown.setdefault(self.model.config.model_type, []).extend(image.tobytes() for image in images)
        return detect(self, images, *args, **kwargs)

    monkeypatch.setattr(ObjectDetector, "detect", counting)
    return shown


def stored_rows(folder):
    """Splits -> rows, pictures as they are stored."""
    data = datasets.load_dataset(str(folder))
    encoded = datasets.Image(decode=False)
    for column, feature in (("image", encoded), ("aux_crops", [encoded]), ("rcnn_crops", [encoded])):
        data = data.cast_column(column, feature)
    return {name: list(split) for name, split in data.items()}


def summary_of(folder):
    return json.loads((folder / "crops.json").read_text(encoding="utf-8"))


def files_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_rows(tmp_path, source, prepare, looked_at):
    prepare(tmp_path / "out")
    rows = stored_rows(tmp_path / "out")
    originals = {row["id"]: row for split in source.values() for row in split}
    assert {name: [row["id"] for row in split] for name, split in rows.items()} == {
        name: split["id"][:] for name, split in source.items()
    }
    for row in (row for split in rows.values() for row in split):
        original = originals[row["id"]]
        assert (row["tokens"], row["ner_tags"]) == (original["tokens"], original["ner_tags"])
        if row["id"] in ("absent", "damaged", "missing"):
            assert row["image"] is None
            assert not any(row[f"{kind}_{what}"] for kind in ("aux", "rcnn") for what in ("crops", "objects"))
            continue
        stored, given = row["image"]["bytes"], original["image"]
        assert stored == (given["bytes"] or Path(given["path"]).read_bytes())
        pixels = np.asarray(load_image(stored)).astype(int)
        for kind in ("aux", "rcnn"):
            objects, crops = row[f"{kind}_objects"], row[f"{kind}_crops"]
            assert len(crops) == len(objects) <= 3
            assert len(objects) > 0 or row["id"] == "small"
            assert [o["score"] for o in objects] == sorted((o["score"] for o in objects), reverse=True)
            for detected, crop in zip(objects, crops, strict=True):
                xmin, ymin, xmax, ymax = detected["box"]
                part = pixels[int(ymin) : int(np.ceil(ymax)), int(xmin) : int(np.ceil(xmax))]
                cut = Image.open(io.BytesIO(crop["bytes"]))
                assert cut.format == "JPEG" and cut.size == part.shape[1::-1]
                assert np.abs(np.asarray(cut) - part).mean() < 4
    # The one picture of two rows of a file was looked at once, with each detector.
    assert {name: (len(shown), len(set(shown))) for name, shown in looked_at.items()} == {
        "grounding-dino": (8, 8),
        "rt_detr": (8, 8),
    }


def test_summary(tmp_path, source, prepare):
    source["unused"] = source["test"].select([])
    (tmp_path / "mine").mkdir()
    folder = tmp_path / "out"
    summary = prepare(folder, contact_sheet_rows=4, name=str(tmp_path / "mine"))
    assert summary == summary_of(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["contact_sheet.png", "crops.json", "data"]
    assert [path.name for path in sorted((folder / "data").glob("train*"))] == [
        f"train-0000{index}-of-00003.parquet" for index in range(3)
    ]
    assert {split: counts["rows"] for split, counts in summary["splits"].items()} == {
        **{"train": 7, "validation": 2, "test": 3, "unused": 0}
    }
    counts = summary["splits"]["train"]
    assert (counts["pictures"], counts["pictures_unreadable"], counts["rows_without_picture"]) == (5, 1, 1)
    assert summary["splits"]["test"]["pictures_without_aux_crops"] == 1  # the one that is too small
    rows = stored_rows(folder)
    for kind in ("aux", "rcnn"):
        total = sum(len(row[f"{kind}_objects"]) for split in rows.values() for row in split)
        frequencies = list(summary["labels"][kind].values())
        assert total == sum(frequencies) and frequencies == sorted(frequencies, reverse=True)
        assert total == sum(split.get(f"{kind}_crops", 0) for split in summary["splits"].values())
    settings = summary["settings"]
    assert settings["dataset"] == "mine" and settings["aux"]["threshold"] == 0.1
    assert "a person" in settings["phrases"]["label set"]
    assert set(summary["labels"]["aux"]) <= set(settings["phrases"]["label set"])
    problems = {(item["split"], item["id"], item["column"]): item["reason"] for item in summary["unreadable"]}
    assert list(problems) == [("train", "damaged", "image"), ("validation", "missing", "image")]
    assert problems["validation", "missing", "image"] == f"missing.jpg: {NO_SUCH_FILE}"
    with Image.open(folder / "contact_sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 1000
    assert str(tmp_path) not in json.dumps(summary), "a folder that may be published names this machine"


def test_a_finished_folder_stays_as_it_is(tmp_path, prepare, looked_at):
    folder = tmp_path / "out"
    prepare(folder)
    before, rows = files_of(folder), stored_rows(folder)
    looked_at.clear()
    assert prepare(folder, batch_size=1) is None
    with pytest.raises(
        JobError,
        match=r"with other settings \(rcnn: .*'threshold': 1.0.* now\)\. .*or replace this one \(--overwrite true\)",
    ):
        prepare(folder, rcnn_threshold=1.0)
    assert files_of(folder) == before and not looked_at
    prepare(folder, rcnn_threshold=1.0, overwrite=True)
    changed = stored_rows(folder)
    assert not any(row["rcnn_objects"] for row in changed["train"])
    assert [row["aux_objects"] for row in changed["train"]] == [row["aux_objects"] for row in rows["train"]]


@pytest.mark.parametrize(
    "change", ["a row more", "another text", "another picture", "other crops of its own", "another content"]
)
def test_other_data_of_the_same_name_are_not_taken_for_finished(tmp_path, prepare, source, change):
    prepare(tmp_path / "out", aux=None, name="a/mine", limit=2)
    rows = source["train"].to_list()[:2]
    if change == "a row more":
        rows.insert(0, {**rows[0], "id": "more"})
    elif change == "another text":
        rows[0]["tokens"] = ["b"]
    elif change == "another picture":
        rows[0]["image"] = source["test"][0]["image"]
    elif change == "another content":  # of the same size and time
        path = Path(rows[0]["image"]["path"])
        content, times = path.read_bytes(), path.stat()
        path.write_bytes(content[:-1] + b"x")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    else:
        rows[0]["aux_crops"] = [rows[0]["image"]]
    train = datasets.Dataset.from_list(rows, features=source["train"].features)
    other = datasets.DatasetDict({**source, "train": train})
    part = "rows" if change in ("a row more", "another text") else "pictures"
    with pytest.raises(
        JobError, match=rf"made from other data .*\(.*other {part}.*\)\. .*or replace this one \(--overwrite true\)"
    ):
        prepare(tmp_path / "out", other, aux=None, name="a/mine", limit=2)
    if change == "another content":
        path.write_bytes(content)
    assert prepare(tmp_path / "out", aux=None, name="a/mine", limit=2) is None, "what was there has changed"


def test_parquet_files_of_something_else_are_not_touched(tmp_path, prepare):
    other = tmp_path / "out" / "data" / "train-00000-of-00001.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    with pytest.raises(JobError, match="nothing says how it was made"):
        prepare(tmp_path / "out")
    assert other.read_bytes() == b"other"


def test_own_crops_stay_without_a_detector(tmp_path, source, prepare):
    summary = prepare(tmp_path / "out", aux=None)
    row = stored_rows(tmp_path / "out")["train"][0]
    original = source["train"][0]["aux_crops"]
    assert [crop["bytes"] for crop in row["aux_crops"]] == [
        original[0]["bytes"],
        Path(original[2]["path"]).read_bytes(),
    ]
    assert row["aux_objects"] == [] and row["rcnn_objects"]
    problem = {"id": "turned", "column": "aux_crops", "reason": f"no_crop.jpg: {NO_SUCH_FILE}"}
    assert {"split": "train", **problem} in summary["unreadable"]
    assert (summary["settings"]["aux"], summary["settings"]["phrases"]) == ("the data set's own", None)


def test_no_objects_and_no_pictures(tmp_path, source, prepare):
    summary = prepare(tmp_path / "out", aux_threshold=1.0, rcnn_threshold=1.0)
    assert summary["labels"] == {"aux": {}, "rcnn": {}}
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    without = datasets.DatasetDict(train=source["train"].select([1, 2]))
    summary = prepare(tmp_path / "out", without, overwrite=True)
    assert summary["splits"]["train"]["pictures"] == 0
    assert not (tmp_path / "out" / "contact_sheet.png").exists()


def test_phrases_given_and_limits(tmp_path, prepare):
    prepare(tmp_path / "out", phrases=["dog", "a car"], max_aux_crops=1, limit=2, rcnn=None)
    rows = stored_rows(tmp_path / "out")
    assert [len(split) for split in rows.values()] == [2, 2, 2]
    objects = [row["aux_objects"] for split in rows.values() for row in split]
    assert {len(of_row) for of_row in objects} == {0, 1}
    assert {o["label"] for of_row in objects for o in of_row} <= {"dog", "a car"}


def test_owl_and_detr(tmp_path, prepare):
    assert all(prepare(tmp_path / "out", aux="owlv2", rcnn="detr")["labels"].values())


def test_relation_extraction(tmp_path, source, prepare):
    features = re_features(["None", "/per/org/member_of", "/per/per/peer"])
    for column in ("image", "aux_crops", "rcnn_crops"):
        features[column] = source["test"].features[column]
    answer = {"head": {"name": "Jordan", "start": 0, "end": 1}, "tail": {"name": "6", "start": 2, "end": 3}}
    rows = [{**row, **answer, "relation": 1} for row in source["test"].remove_columns("ner_tags")]
    data = datasets.DatasetDict(test=datasets.Dataset.from_list(rows, features=datasets.Features(features)))
    summary = prepare(tmp_path / "out", data)
    loaded = datasets.load_dataset(str(tmp_path / "out"))["test"]
    assert loaded.features["relation"].names == ["None", "/per/org/member_of", "/per/per/peer"]
    assert [(row["head"], row["tail"], row["relation"]) for row in loaded] == [(*answer.values(), 1)] * 3
    assert summary["settings"]["phrases"]["label set"] == label_phrases(["PER", "ORG"])
    assert len(loaded[0]["aux_crops"]) == len(loaded[0]["aux_objects"]) > 0


class Killed(BaseException):
    pass


def test_interrupted_at_every_step(tmp_path, prepare, looked_at, monkeypatch):
    """Runs that end at their 1st, 2nd, ... step to the disk: no part is made again, and the rows are the same."""
    options = {"aux": None, "rcnn": "detr", "limit": 4}
    prepare(tmp_path / "whole", **options)
    expected = {name: sorted(shown) for name, shown in looked_at.items()}
    looked_at.clear()
    fsync = os.fsync
    for last_step in count(1):
        steps = count(1)

        def step(file, steps=steps, last_step=last_step):
            if next(steps) == last_step:
                raise Killed
            fsync(file)

        recorded = {path.stem for path in (tmp_path / "parts").rglob("*.record")}
        before = {path: time for path, time in files_of(tmp_path / "parts" / "data").items() if path.stem in recorded}
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", step)
            try:
                prepare(tmp_path / "parts", **options)
                break
            except Killed:
                continue
            finally:
                assert before.items() <= files_of(tmp_path / "parts" / "data").items()
    assert last_step > 6, "never interrupted"
    assert {name: sorted(set(shown)) for name, shown in looked_at.items()} == expected
    assert stored_rows(tmp_path / "parts") == stored_rows(tmp_path / "whole")
    assert summary_of(tmp_path / "parts") == summary_of(tmp_path / "whole")
    assert not list((tmp_path / "parts").rglob("*.tmp"))


def test_a_full_disk(tmp_path, prepare, monkeypatch):
    options = {"aux": None, "rcnn": "detr", "limit": 4}
    prepare(tmp_path / "whole", **options)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (10, 20_000):  # too little for the settings, for the rows

        @contextmanager
        def writing(folder, limit=limit, original=output_folder.writing):
            with original(folder):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
                try:
                    yield
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        with monkeypatch.context() as patch:
            patch.setattr(output_folder, "writing", writing)
            patch.setattr(preparation, "writing", writing)
            with pytest.raises(JobError, match=r"Cannot write .*File too large.*the same command goes on"):
                prepare(tmp_path / "full", **options)
    assert not list((tmp_path / "full").rglob("*.tmp"))
    prepare(tmp_path / "full", **options)
    assert stored_rows(tmp_path / "full") == stored_rows(tmp_path / "whole")


def test_a_folder_that_cannot_be_written(tmp_path, prepare):
    (tmp_path / "file").write_text("x")
    with pytest.raises(JobError, match=r"Cannot write .*file"):
        prepare(tmp_path / "file")
    read_only = tmp_path / "read_only"
    read_only.mkdir(mode=0o500)
    if os.access(read_only, os.W_OK):
        pytest.skip("root may write anywhere")
    with pytest.raises(JobError, match=r"Cannot write .*Permission denied"):
        prepare(read_only / "out")


def test_another_run_at_work(tmp_path, prepare, looked_at):
    (tmp_path / "out" / ".parts").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".parts" / "lock"), pytest.raises(JobError, match="Another run is at work"):
        prepare(tmp_path / "out")
    assert not looked_at
    assert prepare(tmp_path / "out", limit=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"aux": None, "rcnn": None}, ValueError, r"There is no detector\. Name an aux_detector"),
        ({"iou_threshold": 2.0}, ValueError, r"iou_threshold must be from 0 to 1, got 2\.0"),
        ({"phrases": [" .", ""]}, ValueError, "phrases must name at least one"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"rows_per_shard": 0}, ValueError, "rows_per_shard must be at least 1, got 0"),
        ({"limit": 0}, ValueError, "limit must be at least 1, got 0"),
        ({"contact_sheet_rows": -1}, ValueError, "contact_sheet_rows must be at least 0, got -1"),
        ({"aux": "detr"}, JobError, r"aux_detector expects a zero-shot detector .*got .*detr"),
        ({"rcnn": "owlv2"}, JobError, r"rcnn_detector expects one of a closed set, got .*owlv2"),
        ({"spacy_model": "en_none"}, JobError, "(pip install spacy|spacy download en_none)"),
        ({"aux_detector": "nobody/no-such-model"}, JobError, "aux_detector nobody/no-such-model: "),
    ],
)
def test_wrong_options(tmp_path, prepare, options, error, message):
    with pytest.raises(error, match=message):
        prepare(tmp_path / "out", **options)
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_labels_that_name_no_types(tmp_path, source, prepare):
    features = datasets.Features({**source["test"].features, "ner_tags": ner_features(["O"])["ner_tags"]})
    rows = [{**row, "ner_tags": [0, 0, 0]} for row in source["test"]]
    data = datasets.DatasetDict(test=datasets.Dataset.from_list(rows, features=features))
    with pytest.raises(JobError, match="The labels name no entity types: say what to look for by phrases"):
        prepare(tmp_path / "out", data)
