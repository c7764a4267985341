import json

from processing.problems import Problem
from processing.rows.loading_report import AbsentPicture, LoadingReport, MovedSpan, SkippedRow, SplitReport


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
    assert len(report.summary(max_listed=30).split("\n")) == 34


def test_only_the_printed_report_names_the_file_that_holds_all_of_it():
    moved = [MovedSpan(f"tweets.jsonl:{i}", "Pari", "Paris") for i in range(30)]
    report = LoadingReport({"train": SplitReport(moved=moved)}, path="/my cache/loading_report.json")
    assert str(report).endswith("\nand 10 more, all of them in /my cache/loading_report.json, `moved`")
    assert report.summary().endswith("\nand 10 more")


def test_a_report_without_anything_to_tell_is_false():
    assert not LoadingReport()
    assert LoadingReport(notes=["text only"]) and LoadingReport({"train": SplitReport()})
