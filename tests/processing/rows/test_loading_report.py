import errno
import json
import os

from processing.problems import Problem
from processing.rows.loading_report import AbsentPicture, LoadingReport, MovedSpan, SkippedRow, SplitReport
from processing.rows.picture_files import PictureFolder, PictureReader


def test_to_and_from_dict():
    absent = [AbsentPicture(f"train-{i}", f"{i}.jpg", Problem("no such file")) for i in range(30)]
    skipped = [SkippedRow("tweets.jsonl:3", Problem("must be a string", "id", details="(got 5)"))]
    moved = [MovedSpan("tweets.jsonl:4", "Pari", "Paris")]
    report = LoadingReport({"train": SplitReport(absent=absent, skipped=skipped, moved=moved)}, ["a note"])
    report.splits["train"].counts["images_missing"] = 30
    copy = LoadingReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert copy == report
    assert copy.skipped[0].problem.column == "id"
    lines = str(report).split("\n")
    assert lines[:3] == ["train: 30 images missing", "a note", "train-0: 0.jpg: no such file"]
    assert len(lines) == 25 and lines[22] == "and 10 more"
    assert lines[23:] == [
        "tweets.jsonl:3: skipped: id: must be a string (got 5)",
        "tweets.jsonl:4: 'Pari' became 'Paris'",
    ]
    assert report.published().split("\n")[22:] == [
        "and 10 more",
        "tweets.jsonl:3: skipped: id: must be a string",
        "tweets.jsonl:4: the characters of an entity are not whole words, and it was given whole ones",
    ]


def test_only_the_printed_report_names_the_file_that_holds_all_of_it():
    moved = [MovedSpan(f"tweets.jsonl:{i}", "Pari", "Paris") for i in range(30)]
    report = LoadingReport({"train": SplitReport(moved=moved)}, path="/my {cache}/loading_report.json")
    assert str(report).endswith("\nand 10 more, all of them in /my {cache}/loading_report.json, `moved`")
    assert report.published().endswith("\nand 10 more")


def test_what_is_published_has_no_value_of_a_row_and_no_path(tmp_path):
    secret = "my password is hunter2"
    absent = [
        AbsentPicture("t1", secret, Problem("no such file", "aux_crops", 2, f"({secret})")),
        AbsentPicture(str(tmp_path / "t2"), str(tmp_path / "t2.png"), Problem("no such file", "image")),
    ]
    skipped = [SkippedRow("tweets.jsonl:3", Problem("must be a string", "text", details=f"(got {secret!r})"))]
    report = LoadingReport(
        {"train": SplitReport(absent=absent, skipped=skipped, moved=[MovedSpan("a:1", secret, "")])}
    )
    assert str(report).count(secret) == 4
    published = report.published()
    assert secret not in published and str(tmp_path) not in published
    assert (
        "t1: aux_crops 2: no such file\nt2: image: no such file\ntweets.jsonl:3: skipped: text: must be" in published
    )


def test_a_name_can_neither_break_nor_turn_the_lines():
    absent = [AbsentPicture("a\nb\u202e\x1b[31m\ud800", "x", Problem("no such file", "image"))]
    report = LoadingReport({"train": SplitReport(absent=absent)})
    assert report.published().split("\n")[1:] == [r"a\nb\u202e\x1b[31m\ud800: image: no such file"]


def test_a_report_without_anything_to_tell_is_false():
    assert not LoadingReport()
    assert LoadingReport(notes=["text only"]) and LoadingReport({"train": SplitReport()})


def test_a_picture_that_may_not_be_read_is_reported_without_its_local_path(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("processing.images.open", refuse, raising=False)
    report = SplitReport()
    folder = PictureFolder(str(tmp_path), str(tmp_path))
    limits = {"aux_crops": 0, "rcnn_crops": 0}
    reader = PictureReader(str(tmp_path), {"image": folder}, limits, report, verify=True)
    assert reader.read("train-0", {"image": "a.jpg"})[0]["image"] is None
    report = LoadingReport({"train": report})
    assert (
        "train-0: image: a.jpg: " in str(report)
        and "Permission denied" in str(report)
        and str(tmp_path) not in str(report)
    )
    assert report.published().splitlines()[1].startswith("train-0: image: ") and "a.jpg" not in report.published()
