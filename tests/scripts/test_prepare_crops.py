"""prepare_crops.py as a command: what it prints, and that a killed run goes on. Its work is in test_preparation.py."""

import json
import os
import signal
import sys
from dataclasses import fields

import datasets
import numpy as np
import pytest
from PIL import Image

from ifaformer_commands import prepare_crops
from ifaformer_commands.options.data_options import DetectionArguments
from processing.object_proposals import ProposalOptions


@pytest.fixture
def archive(tmp_path):
    """The options for an archive of twelve tweets with pictures."""
    folder = tmp_path / "twitter2017"
    pictures = folder / "twitter2017_images"
    pictures.mkdir(parents=True)
    for index in range(12):
        small = np.random.default_rng(index).integers(0, 256, (6, 9, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((60 + 10 * index, 80), Image.Resampling.BICUBIC)
        picture.save(pictures / f"{index}.jpg")
    for name, indices in (("train", range(7)), ("valid", range(7, 9)), ("test", range(9, 12))):
        text = "".join(f"IMGID:{index}\nParis\tB-LOC\n{index}\tO\n\n" for index in indices)
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return "--dataset", "twitter2017", "--data_dir", folder, "--cache_dir", tmp_path / "cache"


@pytest.fixture
def detectors(tiny_detector):
    return (
        *("--aux_detector", tiny_detector("grounding-dino"), "--rcnn_detector", tiny_detector("detr")),
        *("--aux_threshold", "0.1", "--rcnn_threshold", "0.1", "--spacy_model", "none"),
    )


def test_a_package_that_a_detector_needs_is_named_in_the_last_line(monkeypatch, archive, tmp_path):
    def needs_timm(*arguments, **options):
        raise ImportError("This detector requires the timm library.")

    monkeypatch.setattr("processing.crops.prepare_crops", needs_timm)
    flags = ("--output_dir", tmp_path / "out", *archive, "--aux_detector", "a")
    monkeypatch.setattr("sys.argv", ["prepare_crops.py", *map(str, flags)])
    with pytest.raises(SystemExit, match=r"^This detector requires the timm library\.$"):
        prepare_crops.main()


def test_what_is_printed(run_script, archive, detectors, tmp_path):
    out = tmp_path / "out"
    command = ("prepare_crops.py", *archive, *detectors, "--limit", "2", "--output_dir", out)
    lines = run_script(*command).stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:5]] == ["train", "validation", "test", "aux labels", "rcnn labels"]
    assert lines[0].startswith("train: 2 rows, 2 pictures, 0 rows without picture, 0 pictures unreadable, ")
    assert lines[-1] == f"{out} is finished: data/, contact_sheet.png, crops.json"
    lines = run_script(*command).stdout.splitlines()
    assert lines[-1] == f"{out} is finished: nothing to do. --overwrite makes it anew."
    damaged = archive[3] / "twitter2017_images" / "7.jpg"
    status = damaged.stat()
    damaged.write_bytes(b"x" * status.st_size)
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))  # so that the rows in the cache are still used
    lines = run_script(*command, "--overwrite").stdout.splitlines()
    assert [line for line in lines if line.startswith("unreadable: validation ") and " image: 7.jpg: " in line]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output_dir", "out", "--iou_threshold", "2"], "iou_threshold must be from 0 to 1, got 2.0"),
        (["--output_dir", "out"], "There is no detector. Name an aux_detector, an rcnn_detector or both."),
        (["--aux_detector", "a"], "Name the folder for the rows, for example --output_dir crops/twitter2017."),
        (["--output_dir", "out", "--aux_detector", "no/model"], "aux_detector no/model: "),
    ],
)
def test_wrong_options(run_script, archive, tmp_path, options, message):
    result = run_script("prepare_crops.py", *archive, *options, cwd=tmp_path, exit_code=1)
    assert message in result.stderr and "Traceback" not in result.stderr


# The file `killed.py`: prepare_crops.py, killed at its n-th step to the disk.
KILLED = """
import os, signal, sys
from ifaformer_commands import prepare_crops
step, last_step, fsync = 0, int(sys.argv.pop(1)), os.fsync
def count(file):
    global step
    step += 1
    if step == last_step:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)
os.fsync = count
prepare_crops.main()
"""


def test_kill_and_go_on(finish, run_script, archive, detectors, tmp_path):
    """
    A run is killed in the middle of a file and two processes go on with it. What was there stays, and the rows are
    those of one process that was not interrupted.
    """
    (tmp_path / "killed.py").write_text(KILLED)
    options = (*archive, *detectors, "--batch_size", "2", "--rows_per_shard", "2", "--output_dir")
    run_script("prepare_crops.py", *options, tmp_path / "whole")
    parts = tmp_path / "parts"
    # Steps to the disk: two for the settings, two for each file and two for its record.
    finish([sys.executable, tmp_path / "killed.py", 2 + 4 + 1, *options, parts], exit_code=-signal.SIGKILL)
    shards = {path: path.stat().st_mtime_ns for path in parts.glob("data/*.parquet")}
    assert len(shards) == 1 and list(parts.rglob("*.tmp")) and not (parts / "crops.json").exists()
    run_script("prepare_crops.py", *options, parts, processes=2)
    assert {path: path.stat().st_mtime_ns for path in shards} == shards, "a finished file was written again"
    assert not list(parts.rglob("*.tmp")) and not (parts / ".parts").exists()
    summaries = [json.loads((folder / "crops.json").read_bytes()) for folder in (parts, tmp_path / "whole")]
    assert summaries[0] == summaries[1]
    rows, expected = (stored_rows(folder, tmp_path) for folder in (parts, tmp_path / "whole"))
    assert len(rows) == 12 and any(row["aux_objects"] for row in rows)
    for row, of_whole in zip(rows, expected, strict=True):
        # Another number of threads gives a detector other last digits.
        for objects in ("aux_objects", "rcnn_objects"):
            for ours, theirs in zip(row.pop(objects), of_whole.pop(objects), strict=True):
                assert ours["label"] == theirs["label"]
                assert ours["box"] == pytest.approx(theirs["box"], abs=0.01)
        for crops in ("aux_crops", "rcnn_crops"):
            assert [crop["path"] for crop in row.pop(crops)] == [crop["path"] for crop in of_whole.pop(crops)]
        assert row == of_whole


def stored_rows(folder, tmp_path):
    data = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    encoded = datasets.Image(decode=False)
    for column, feature in (("image", encoded), ("aux_crops", [encoded]), ("rcnn_crops", [encoded])):
        data = data.cast_column(column, feature)
    return [row for split in data.values() for row in split]


def test_real_pictures(run_script, shared, tiny_detector, tmp_path):
    run_script(
        *("prepare_crops.py", "--dataset", "twitter2017", "--data_dir", shared / "data/sample/twitter2017"),
        *("--limit", "2", "--cache_dir", tmp_path / "cache", "--output_dir", tmp_path / "out"),
        *("--aux_detector", tiny_detector("owlv2"), "--rcnn_detector", tiny_detector("rt_detr")),
        *("--aux_threshold", "0.1"),
    )
    rows = stored_rows(tmp_path / "out", tmp_path)
    assert len(rows) == 6 and all(row["image"] is not None and row["aux_crops"] for row in rows)


def test_the_command_has_the_options_and_defaults_of_the_room():
    ours, theirs = fields(DetectionArguments), fields(ProposalOptions)
    assert [option.name for option in ours] == [option.name for option in theirs]
    assert DetectionArguments().proposal_options() == ProposalOptions()
    arguments = DetectionArguments(aux_detector="a", phrases=["dog"], max_rcnn_crops=2)
    assert arguments.proposal_options() == ProposalOptions(aux_detector="a", phrases=["dog"], max_rcnn_crops=2)
