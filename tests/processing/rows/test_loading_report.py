import json

from processing.rows.loading_report import (
    AbsentPicture,
    LoadingReport,
    MovedSpan,
    SkippedRow,
    SplitReport,
    without_path,
)


def test_to_and_from_dict():
    absent = [AbsentPicture(f"train-{i}", f"{i}.jpg", "no such file") for i in range(30)]
    skipped = [SkippedRow("tweets.jsonl:3", "no JSON")]
    moved = [MovedSpan("tweets.jsonl:4", "Pari", "Paris")]
    report = LoadingReport({"train": SplitReport(absent=absent, skipped=skipped, moved=moved)}, ["a note"])
    report.splits["train"].counts["images_missing"] = 30
    copy = LoadingReport.from_dict(json.loads(json.dumps(report.to_dict())))
    assert copy == report
    assert copy.absent[29].reason == "no such file"
    lines = str(report).split("\n")
    assert lines[:3] == ["train: 30 images missing", "a note", "train-0: 0.jpg: no such file"]
    assert len(lines) == 25 and lines[22].startswith("and 10 more")
    assert lines[23:] == ["tweets.jsonl:3: skipped: no JSON", "tweets.jsonl:4: 'Pari' became 'Paris'"]
    assert len(report.summary(max_listed=30).split("\n")) == 34


def test_the_file_that_holds_what_is_not_listed():
    moved = [MovedSpan(f"tweets.jsonl:{i}", "Pari", "Paris") for i in range(3)]
    report = LoadingReport({"train": SplitReport(moved=moved)})
    text = report.summary(max_listed=1, path="/my cache/loading_report.json")
    assert text.endswith("\nand 2 more, all of them in /my cache/loading_report.json, `moved`")
    assert without_path(text).endswith(" became 'Paris'\nand 2 more")
    assert without_path(report.summary()) == report.summary()
