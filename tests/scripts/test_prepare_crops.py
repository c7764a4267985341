import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import fields
from importlib import import_module
from itertools import count
from pathlib import Path

import datasets
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from ifaformer_commands.data_options import DetectionArguments
from processing.crops import preparation as crop_preparation
from processing.detectors import ObjectDetector
from processing.images import load_image
from processing.labels import TWITTER_TAGS
from processing.object_proposals import ProposalOptions
from processing.phrases import label_phrases
from processing.rows.row_features import ner_features, re_features


def picture(seed, width=120, height=80):
    """A smooth picture, so that JPEG keeps its pixels nearly; another one for each seed."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encode(image, **kwargs):
    file = io.BytesIO()
    image.save(file, **{"format": "PNG", **kwargs})
    return file.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path):
    """
    Splits as `load_data` gives them: pictures as files and bytes, one in two rows, one turned by its EXIF tag, one
    absent, one missing, one damaged, one too small for any box; crops of their own, one of them damaged.
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
def prepare(monkeypatch, source, tiny_detector):
    """`prepare(folder, "--flag", ...)` runs the command in this process, over `source`, which may be replaced."""
    script = import_module("ifaformer_commands.prepare_crops")
    monkeypatch.setattr(script.CropArguments, "load", lambda self: (source, ""))

    def run(folder, *arguments, aux="grounding-dino", rcnn="rt_detr"):
        argv = ["prepare_crops.py", "--output_dir", str(folder), "--aux_threshold", "0.1", "--rcnn_threshold", "0.1"]
        argv += ["--batch_size", "2", "--rows_per_shard", "3"]
        for kind, name in (("aux", aux), ("rcnn", rcnn)):
            argv += [f"--{kind}_detector", str(tiny_detector(name))] if name else []
        monkeypatch.setattr(sys, "argv", [*argv, *map(str, arguments)])
        script.main()

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


READABLE = ["turned", "3", "3 again", "bytes", "4", "5", "6", "small", "7"]


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
        if row["id"] not in READABLE:
            assert row["image"] is None
            assert not any(row[f"{kind}_{what}"] for kind in ("aux", "rcnn") for what in ("crops", "objects"))
            continue
        stored, given = row["image"]["bytes"], original["image"]
        assert stored == (given["bytes"] or Path(given["path"]).read_bytes())
        pixels = np.asarray(load_image(stored)).astype(int)
        for kind, limit in (("aux", 3), ("rcnn", 3)):
            objects, crops = row[f"{kind}_objects"], row[f"{kind}_crops"]
            assert len(crops) == len(objects) <= limit
            assert len(objects) > 0 or row["id"] == "small"
            assert [o["score"] for o in objects] == sorted((o["score"] for o in objects), reverse=True)
            for detected, crop in zip(objects, crops, strict=True):
                xmin, ymin, xmax, ymax = detected["box"]
                part = pixels[int(ymin) : int(np.ceil(ymax)), int(xmin) : int(np.ceil(xmax))]
                cut = Image.open(io.BytesIO(crop["bytes"]))
                assert cut.format == "JPEG" and cut.size == part.shape[1::-1]
                assert np.abs(np.asarray(cut) - part).mean() < 4
    # The one picture of two rows was looked at once, with each detector.
    assert {name: (len(shown), len(set(shown))) for name, shown in looked_at.items()} == {
        "grounding-dino": (8, 8),
        "rt_detr": (8, 8),
    }


def test_summary(tmp_path, prepare, capsys):
    prepare(tmp_path / "out", "--contact_sheet_rows", 4)
    summary, rows = summary_of(tmp_path / "out"), stored_rows(tmp_path / "out")
    counts = summary["splits"]["train"]
    assert (counts["rows"], counts["pictures"], counts["pictures_unreadable"], counts["rows_without_picture"]) == (
        7,
        5,
        1,
        1,
    )
    assert summary["splits"]["test"]["pictures_without_aux_crops"] == 1  # the one that is too small
    for kind in ("aux", "rcnn"):
        total = sum(len(row[f"{kind}_objects"]) for split in rows.values() for row in split)
        assert total == sum(summary["labels"][kind].values())
        assert total == sum(split[f"{kind}_crops"] for split in summary["splits"].values())
    phrases = summary["settings"]["grounding"]["label set"]
    assert "a person" in phrases and set(summary["labels"]["aux"]) <= set(phrases)
    problems = {(item["split"], item["id"], item["column"]): item["reason"] for item in summary["unreadable"]}
    assert list(problems) == [("train", "damaged", "image"), ("validation", "missing", "image")]
    assert "cannot be decoded" in problems["train", "damaged", "image"]
    assert problems["validation", "missing", "image"].endswith("missing.jpg: no such file")
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 1000
    printed = capsys.readouterr().out
    assert "unreadable: validation missing image" in printed and "7 rows, 5 pictures" in printed
    assert str(tmp_path) not in json.dumps(summary), "a folder that may be published names this machine"


def test_a_finished_folder_stays_as_it_is(tmp_path, prepare, looked_at, capsys):
    folder = tmp_path / "out"
    prepare(folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    looked_at.clear()
    prepare(folder)
    assert "is finished: nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before
    assert not looked_at

    shutil.rmtree(folder / ".objects")  # as the documentation allows
    prepare(folder)
    assert not looked_at
    rows = stored_rows(folder)
    with pytest.raises(SystemExit, match=r"of other settings \(rcnn: .*'threshold': 1.0.* now\).*--overwrite"):
        prepare(folder, "--rcnn_threshold", 1)
    assert stored_rows(folder) == rows
    prepare(folder, "--rcnn_threshold", 1, "--overwrite")
    assert looked_at.pop("grounding-dino") and looked_at.pop("rt_detr")
    prepare(folder, "--rcnn_threshold", 0.2, "--overwrite")
    assert not looked_at["grounding-dino"] and looked_at["rt_detr"], "the aux objects are known"
    prepare(folder, "--rcnn_threshold", 1, "--overwrite")
    changed = stored_rows(folder)
    assert [row["aux_objects"] for row in changed["train"]] == [row["aux_objects"] for row in rows["train"]]
    assert not any(row["rcnn_objects"] for row in changed["train"])
    assert any(row["rcnn_objects"] for row in rows["train"])


def test_parquet_files_of_something_else_are_not_touched(tmp_path, prepare):
    other = tmp_path / "out" / "data" / "train-00000-of-00001.parquet"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"other")
    with pytest.raises(SystemExit, match="no record of how they were made"):
        prepare(tmp_path / "out")
    assert other.read_bytes() == b"other"


def test_own_crops_stay_without_a_detector(tmp_path, source, prepare):
    prepare(tmp_path / "out", aux=None)
    row = stored_rows(tmp_path / "out")["train"][0]
    original = source["train"][0]["aux_crops"]
    assert [crop["bytes"] for crop in row["aux_crops"]] == [
        original[0]["bytes"],
        Path(original[2]["path"]).read_bytes(),
    ]
    assert row["aux_objects"] == [] and row["rcnn_objects"]
    assert ("turned", "aux_crops") in [
        (item["id"], item["column"]) for item in summary_of(tmp_path / "out")["unreadable"]
    ]


def test_a_picture_that_vanishes_after_detection(tmp_path, source, prepare, monkeypatch):
    write_share = crop_preparation.write_share

    def vanish(*args):
        Path(source["validation"][1]["image"]["path"]).unlink()
        write_share(*args)

    monkeypatch.setattr(crop_preparation, "write_share", vanish)
    prepare(tmp_path / "out")
    row = stored_rows(tmp_path / "out")["validation"][1]
    assert (row["image"], row["aux_crops"], row["rcnn_objects"]) == (None, [], [])
    assert [item["id"] for item in summary_of(tmp_path / "out")["unreadable"]] == ["damaged", "missing", "5"]


def test_a_picture_replaced_by_a_smaller_one_after_detection(tmp_path, source, prepare, looked_at, monkeypatch):
    file, write_share = Path(source["validation"][1]["image"]["path"]), crop_preparation.write_share

    def replace(*args):
        file.write_bytes(encode(picture(5, 12, 9)))
        write_share(*args)

    with monkeypatch.context() as patch:
        patch.setattr(crop_preparation, "write_share", replace)
        prepare(tmp_path / "out")
    row = stored_rows(tmp_path / "out")["validation"][1]
    assert row["image"] is None
    assert not any(row[f"{kind}_{what}"] for kind in ("aux", "rcnn") for what in ("crops", "objects"))
    problems = {item["id"]: item["reason"] for item in summary_of(tmp_path / "out")["unreadable"]}
    assert list(problems) == ["damaged", "missing", "5"]
    assert problems["5"] == "5.png: changed since it was looked at: run again with --overwrite"

    looked_at.clear()
    prepare(tmp_path / "out", "--overwrite")
    assert stored_rows(tmp_path / "out")["validation"][1]["image"]["bytes"] == file.read_bytes()
    assert looked_at == {name: [picture(5, 12, 9).tobytes()] for name in ("grounding-dino", "rt_detr")}
    assert [item["id"] for item in summary_of(tmp_path / "out")["unreadable"]] == ["damaged", "missing"]


def test_no_objects_anywhere(tmp_path, prepare):
    prepare(tmp_path / "out", "--aux_threshold", 1, "--rcnn_threshold", 1)
    rows = stored_rows(tmp_path / "out")
    assert not any(row[f"{kind}_crops"] for split in rows.values() for row in split for kind in ("aux", "rcnn"))
    assert summary_of(tmp_path / "out")["labels"] == {"aux": {}, "rcnn": {}}
    assert (tmp_path / "out" / "contact_sheet.png").exists()


def test_phrases_given_and_limits(tmp_path, prepare):
    prepare(tmp_path / "out", "--phrases", "dog", "a car", "--max_aux_crops", 1, "--limit", 2, rcnn=None)
    rows = stored_rows(tmp_path / "out")
    assert [len(split) for split in rows.values()] == [2, 2, 2]
    objects = [row["aux_objects"] for split in rows.values() for row in split]
    assert {len(of_row) for of_row in objects} == {0, 1}
    assert {o["label"] for of_row in objects for o in of_row} <= {"dog", "a car"}


def test_owl_and_detr(tmp_path, prepare):
    prepare(tmp_path / "out", aux="owlv2", rcnn="detr")
    assert all(summary_of(tmp_path / "out")["labels"].values())


def test_relation_extraction(tmp_path, source, prepare, monkeypatch):
    script = import_module("ifaformer_commands.prepare_crops")
    features = re_features(["None", "/per/org/member_of", "/per/per/peer"])
    for column in ("image", "aux_crops", "rcnn_crops"):
        features[column] = source["test"].features[column]
    answer = {"head": {"name": "Jordan", "start": 0, "end": 1}, "tail": {"name": "6", "start": 2, "end": 3}}
    rows = [{**row, **answer, "relation": 1} for row in source["test"].remove_columns("ner_tags")]
    data = datasets.DatasetDict(test=datasets.Dataset.from_list(rows, features=datasets.Features(features)))
    monkeypatch.setattr(script.CropArguments, "load", lambda self: (data, ""))
    prepare(tmp_path / "out")
    loaded = datasets.load_dataset(str(tmp_path / "out"))["test"]
    assert loaded.features["relation"].names == ["None", "/per/org/member_of", "/per/per/peer"]
    assert [(row["head"], row["tail"], row["relation"]) for row in loaded] == [(*answer.values(), 1)] * 3
    assert summary_of(tmp_path / "out")["settings"]["grounding"]["label set"] == label_phrases(["PER", "ORG"])
    assert len(loaded[0]["aux_crops"]) == len(loaded[0]["aux_objects"]) > 0


class Killed(BaseException):
    pass


def test_interrupted_at_every_stage(tmp_path, prepare, looked_at, monkeypatch):
    """Runs that end at their 1st, 2nd, ... step to the disk: nothing is done twice, and the rows are the same."""
    prepare(tmp_path / "whole")
    expected = {name: sorted(shown) for name, shown in looked_at.items()}
    looked_at.clear()
    fsync = os.fsync
    for last_step in count(1):
        steps = count(1)

        def step(file, steps=steps, last_step=last_step):
            if next(steps) == last_step:
                raise Killed
            fsync(file)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", step)
            try:
                prepare(tmp_path / "parts", "--batch_size", 2)
                break
            except Killed:
                continue
    assert last_step > 6, "never interrupted"
    assert {name: sorted(shown) for name, shown in looked_at.items()} == expected
    assert stored_rows(tmp_path / "parts") == stored_rows(tmp_path / "whole")
    assert summary_of(tmp_path / "parts") == summary_of(tmp_path / "whole")
    assert not list((tmp_path / "parts").rglob("*.tmp"))


def test_a_full_disk(tmp_path, prepare, looked_at, monkeypatch):
    prepare(tmp_path / "whole")
    shown = {name: len(images) for name, images in looked_at.items()}
    looked_at.clear()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (10, 3_000, 20_000):  # too little for the settings, for the objects, for the rows

        @contextmanager
        def writing(folder, limit=limit, original=crop_preparation.writing):
            with original(folder):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
                try:
                    yield
                finally:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

        with monkeypatch.context() as patch:
            patch.setattr(crop_preparation, "writing", writing)
            with pytest.raises(SystemExit, match=r"Cannot write .*File too large.*the same command goes on"):
                prepare(tmp_path / "full")
    assert not list((tmp_path / "full").rglob("*.tmp"))
    prepare(tmp_path / "full")
    assert stored_rows(tmp_path / "full") == stored_rows(tmp_path / "whole")
    # A batch of two that could not be recorded is looked at again, nothing else.
    assert all(shown[name] <= len(images) <= shown[name] + 4 for name, images in looked_at.items())


def test_output_folder_that_cannot_be(tmp_path, prepare):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SystemExit, match=r"Cannot write .*file"):
        prepare(tmp_path / "file")
    read_only = tmp_path / "read_only"
    read_only.mkdir(mode=0o500)
    if os.access(read_only, os.W_OK):
        pytest.skip("root may write anywhere")
    with pytest.raises(SystemExit, match=r"Cannot write .*Permission denied"):
        prepare(read_only / "out")


def test_another_run_at_work(tmp_path, prepare, looked_at):
    (tmp_path / "out" / ".objects").mkdir(parents=True)
    with FileLock(tmp_path / "out" / ".objects" / "lock"), pytest.raises(SystemExit, match="Another run is at work"):
        prepare(tmp_path / "out")
    assert not looked_at
    prepare(tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "detectors", "message"),
    [
        ((), {"aux": None, "rcnn": None}, "No detector: give --aux_detector"),
        ((), {"aux": "detr"}, r"--aux_detector expects a zero-shot detector .*got .*detr"),
        ((), {"rcnn": "owlv2"}, r"--rcnn_detector expects one of a closed set, got .*owlv2"),
        (("--iou_threshold", 2), {}, "--iou_threshold must be from 0 to 1, got 2.0"),
        (("--batch_size", 0), {}, "--batch_size must be at least 1, got 0"),
        (("--phrases", " .", ""), {}, "--phrases must name at least one"),
        (("--spacy_model", "en_none"), {}, "(pip install spacy|spacy download en_none)"),
        (("--aux_detector", "nobody/no-such-model"), {}, "nobody/no-such-model"),
    ],
)
def test_wrong_options(tmp_path, prepare, arguments, detectors, message):
    with pytest.raises(SystemExit, match=message):
        prepare(tmp_path / "out", *arguments, **detectors)
    assert not list((tmp_path / "out").rglob("*.parquet"))


KILL_AT_STEP = """
import os, runpy, signal, sys
step, fsync = 0, os.fsync
def count(file):
    global step
    step += 1
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)
os.fsync = count
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_kill_and_go_on(tmp_path, repository, tiny_detector, monkeypatch):
    """
    kill -9 among the objects, with a line cut off, and two processes go on; kill -9 among the rows, and one goes on. A
    picture is looked at once, and the rows are those of one process that was not interrupted.
    """
    archive = tmp_path / "twitter2017"
    (archive / "twitter2017_images").mkdir(parents=True)
    for index in range(12):
        picture(index, 60 + 10 * index).save(archive / "twitter2017_images" / f"{index}.jpg")
    for name, indices in (("train", range(7)), ("valid", range(7, 9)), ("test", range(9, 12))):
        text = "".join(f"IMGID:{index}\nParis\tB-LOC\n{index}\tO\n\n" for index in indices)
        (archive / f"{name}.txt").write_text(text, encoding="utf-8")
    options = ["--dataset", "twitter2017", "--data_dir", str(archive), "--cache_dir", str(tmp_path / "cache")]
    options += ["--aux_detector", str(tiny_detector("grounding-dino")), "--rcnn_detector", str(tiny_detector("detr"))]
    options += ["--rcnn_threshold", "0.1", "--batch_size", "2", "--rows_per_shard", "2", "--output_dir"]
    script = str(repository / "scripts" / "prepare_crops.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def run(*command):
        command = [sys.executable, *command]
        return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def run_here(folder):
        monkeypatch.setattr(sys, "argv", [script, *options, str(folder)])
        import_module("ifaformer_commands.prepare_crops").main()

    def looked_at(folder):
        """The pictures recorded for each detector."""
        keys = {}
        for path in sorted(folder.glob(".objects/*/rank-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                if line.endswith(b"]]"):
                    keys.setdefault(path.parent.name, []).extend(key for key, _, _ in json.loads(line))
        return {name: sorted(of_detector) for name, of_detector in keys.items()}

    among_objects, among_rows, whole = (tmp_path / name for name in ("among_objects", "among_rows", "whole"))
    # Steps to the disk: two for the settings, one for each of 7 batches of each detector, two for each of 7 shards.
    result = run("-c", KILL_AT_STEP.format(step=2 + 3), script, *options, among_objects)
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    (log,) = among_objects.glob(".objects/*/rank-0.jsonl")
    known = log.read_bytes()
    assert known.count(b"\n") == 3 and not (among_objects / "data").exists()
    log.write_bytes(known + known[:50])
    result = run(
        *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"), script, *options, among_objects
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert log.read_bytes().startswith(known)
    assert len(list(among_objects.glob(".objects/*/rank-1.jsonl"))) == 2, "the second process did nothing"

    result = run("-c", KILL_AT_STEP.format(step=2 + 7 + 7 + 3), script, *options, among_rows)
    assert result.returncode == -signal.SIGKILL, result.stderr[-3000:]
    shards = {path: path.stat().st_mtime_ns for path in among_rows.glob("data/*.parquet")}
    assert len(shards) == 1 and list(among_rows.rglob("*.tmp"))
    run_here(among_rows)
    assert {path: path.stat().st_mtime_ns for path in shards} == shards, "a shard was written again"

    run_here(whole)
    expected = looked_at(whole)
    assert [len(set(of_detector)) for of_detector in expected.values()] == [12, 12]
    for folder in (among_objects, among_rows):
        assert looked_at(folder) == expected, "a picture was looked at again, or not at all"
        assert not list(folder.rglob("*.tmp"))
        assert stored_rows(folder) == stored_rows(whole)
        assert summary_of(folder) == summary_of(whole)
        assert (folder / "contact_sheet.png").read_bytes() == (whole / "contact_sheet.png").read_bytes()


def test_real_pictures(tmp_path, shared, tiny_detector, monkeypatch):
    options = ["--dataset", "twitter2017", "--data_dir", str(shared / "data/sample/twitter2017"), "--limit", "2"]
    options += ["--cache_dir", str(tmp_path / "cache"), "--output_dir", str(tmp_path / "out")]
    options += ["--aux_detector", str(tiny_detector("owlv2")), "--rcnn_detector", str(tiny_detector("rt_detr"))]
    monkeypatch.setattr(sys, "argv", ["prepare_crops.py", *options, "--aux_threshold", "0.1"])
    import_module("ifaformer_commands.prepare_crops").main()
    rows = stored_rows(tmp_path / "out")
    assert [len(split) for split in rows.values()] == [2, 2, 2]
    assert all(row["image"] is not None and row["aux_crops"] for split in rows.values() for row in split)


def test_the_command_has_the_options_and_defaults_of_the_room():
    ours, theirs = fields(DetectionArguments), fields(ProposalOptions)
    assert [(option.name, option.default) for option in ours] == [(option.name, option.default) for option in theirs]
    arguments = DetectionArguments(aux_detector="a", phrases=["dog"], max_rcnn_crops=2)
    assert arguments.proposal_options() == ProposalOptions(aux_detector="a", phrases=["dog"], max_rcnn_crops=2)


def test_an_option_out_of_range_ends_the_command():
    with pytest.raises(SystemExit, match="iou_threshold must be from 0 to 1, got 2"):
        DetectionArguments(iou_threshold=2).proposal_options()
