"""Bulk prediction as a library: results in order, runs that go on where they were, reports, pages and charts."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from modeling_ifaformer.prediction import bulk, windows
from modeling_ifaformer.prediction.bulk import BulkPrediction
from modeling_ifaformer.prediction.input_rows import InputRow, file_rows, single_row
from modeling_ifaformer.prediction.taggers import load_tagger
from processing.data import load_data
from processing.data.own.tables import read_table
from processing.jobs.processes import JobError


@pytest.fixture(scope="module")
def tagger(checkpoint):
    """A pipeline that takes every word for an entity."""
    tagger = load_tagger(checkpoint, device="cpu")
    with torch.no_grad():
        tagger.model.classifier.bias[1] += 1000
    return tagger


@pytest.fixture(scope="module")
def explaining_tagger(checkpoint):
    return load_tagger(checkpoint, device="cpu", explain="occlusion")


@pytest.fixture(scope="module")
def relation_tagger(relation_checkpoint):
    return load_tagger(relation_checkpoint, device="cpu")


@pytest.fixture
def tweets(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    rows = [
        {"text": "Jordan met <script>alert(1)</script>", "image": "a.png"},
        {"text": "Paris", "image": "a.png", "crops": {"rcnn_crops": [{"box": [5, 5, 60, 50], "label": "<b>dog</b>"}]}},
        {"text": 5},
        {"text": "Paris " * 3, "image": "gone.png"},
    ]
    (tmp_path / "tweets.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file_rows([str(tmp_path / "tweets.jsonl")])


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A file of 23 tweets of 1 to 9 words, three of them bad; with a batch size of 2, in windows of 4."""
    monkeypatch.setattr(windows, "WINDOW_BATCHES", 2)
    numbers = np.random.default_rng(0).integers(1, 10, 23)
    texts = [" ".join(["Jordan", "met", "Paris"][index % 3 :] * number) for index, number in enumerate(numbers)]
    lines = [json.dumps({"text": text}) for text in texts]
    lines[3], lines[4], lines[17] = "{", '{"text": ""}', '{"txt": "Jordan"}'
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(2)`: the next run ends when it has tagged two windows. `stop_after.tagged` counts windows."""
    tag_window = bulk.tag_window

    def stop(windows=10**9):
        stop.tagged = 0

        def tag(*arguments):
            if stop.tagged == windows:
                raise KeyboardInterrupt
            stop.tagged += 1
            return tag_window(*arguments)

        monkeypatch.setattr(bulk, "tag_window", tag)

    return stop


def results_of(prediction):
    results = []
    return results, prediction.hand_over(results.append)


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report_of(output):
    return json.loads(output.with_name(f"{output.name}.report.json").read_text(encoding="utf-8"))


def test_order_is_kept_and_problems_are_reported(tagger, tmp_path):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    rows = [
        {"text": "Jordan met New York! 😀", "image": "a.png", "aux_crops": ["a.png"]},
        {"tokens": ["Chelsea", "\u200d", "team"], "image": "broken.jpg"},
        {"text": ""},
        {"text": "\u200d\ufe0f"},
        {"text": "Paris", "image": "missing.jpg", "rcnn_crops": ["a.png"] * 4},
        {"text": "a long one " * 400},
        {"text": "Jordan met New York! 😀", "image": "a.png", "aux_crops": ["a.png"]},
    ]
    path = tmp_path / "tweets.jsonl"
    path.write_text("\n".join(["{", *map(json.dumps, rows)]) + "\n", encoding="utf-8")
    (unreadable, *results), report = results_of(BulkPrediction(file_rows([str(path)]), tagger, batch_size=3))
    assert unreadable["text"] is None and f"{path}:1: " in unreadable["problems"][0]
    assert len(results) == len(rows)
    for result, row in zip(results, rows, strict=True):
        assert result["text"] == row.get("text", " ".join(row.get("tokens", [])))
        for entity in result["entities"]:
            assert result["text"][entity["start"] : entity["end"]] == entity["word"]
            assert 0.9 < entity["score"] <= 1.000001
    assert [entity["word"] for entity in results[0]["entities"]] == ["Jordan", "met", "New", "York", "!", "😀"]
    assert results[0] == results[-1] and "problems" not in results[0]
    assert [bool(result["entities"]) for result in results] == [True, True, False, False, True, True, True]
    assert [len(result.get("problems", ())) for result in results] == [0, 1, 1, 1, 2, 0, 0]
    assert "broken.jpg" in results[1]["problems"][0] and "missing.jpg" in results[4]["problems"][0]
    assert (report.rows, report.tagged) == (8, 5)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_an_output_is_data_with_the_pictures_of_the_input(tagger, tmp_path, ending):
    """Paths are those of the input; pictures that the input holds as bytes have none."""
    (tmp_path / "photos").mkdir()
    for name in "abc":
        Image.new("RGB", (30, 30), "red").save(tmp_path / "photos" / f"{name}.png")
    data = (tmp_path / "photos" / "a.png").read_bytes()
    absolute = str(tmp_path / "photos" / "b.png")
    rows = [
        {"text": "Jordan", "image": {"path": "photos/a.png", "bytes": None}, "aux_crops": ["photos/c.png"]},
        {"text": "Jordan", "image": {"path": absolute, "bytes": None}, "aux_crops": []},
        {"text": "Jordan", "image": {"path": "a.png", "bytes": data}, "aux_crops": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tweets.parquet")
    output = tmp_path / f"out.{ending}"
    BulkPrediction(file_rows([str(tmp_path / "tweets.parquet")]), tagger).write_file(output)
    written = [row for _, row in read_table(output)]
    assert [row.get("image") for row in written] == ["photos/a.png", absolute, None]
    assert [row.get("aux_crops") for row in written] == [["photos/c.png"], None, None]
    learnt, report = load_data(str(output), cache_dir=str(tmp_path / "cache"))
    assert [row["image"] and row["image"]["path"] for row in learnt["train"]] == [
        str(tmp_path / "photos" / "a.png"),
        absolute,
        None,
    ]
    assert [len(row["aux_crops"]) for row in learnt["train"]] == [1, 0, 0] and not report.absent


def test_pictures_of_any_name_that_are_absent_are_one_kind_of_problem(tagger, tmp_path):
    names = ["my dog: best.jpg", "gone.png", "4 'got' 5: words lie at 6.jpg"]
    path = tmp_path / "tweets.jsonl"
    Image.new("RGB", (8, 8)).save(tmp_path / "there.png")
    path.write_text("\n".join(json.dumps({"text": "Jordan", "image": name}) for name in [*names, "there.png"]))
    _, report = results_of(BulkPrediction(file_rows([str(path)]), tagger))
    ((reason, number),) = report.problems.items()
    assert reason.startswith("image: ") and number == len(names) and not report.skipped
    assert all(name in example for name, example in zip(names, report.examples[reason], strict=True))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_killed_run_goes_on_to_the_same_bytes(tagger, many, stop_after, tmp_path, ending):
    page = tmp_path / "page.html"
    prediction = BulkPrediction(file_rows([str(many)]), tagger, batch_size=2, html=page, top_entities=3)
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    prediction.write_file(whole)
    first_page = page.read_bytes()
    page.unlink()
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        prediction.write_file(output)
    assert not output.exists() and not page.exists()
    stop_after()
    report = prediction.write_file(output)
    assert stop_after.tagged == 4 and report.rows_per_second > 0
    assert output.read_bytes() == whole.read_bytes() and page.read_bytes() == first_page
    reports = [report_of(path) for path in (whole, output)]
    for published in reports:
        assert published.pop("seconds") and published.pop("rows_per_second")
        published["checksums"] = [*published["checksums"].values()]  # without the names of the files
    assert reports[0] == reports[1]
    names = {"many.jsonl", "page.html", *(f"{path.name}{more}" for path in (whole, output) for more in MADE)}
    assert {path.name for path in tmp_path.iterdir()} == names


MADE = ("", ".report.json", ".top_entities.png")


@pytest.mark.parametrize("is_finished", [False, True])
def test_other_rows_another_model_or_other_options_are_refused(tagger, many, stop_after, tmp_path, is_finished):
    output, prediction = tmp_path / "out.jsonl", BulkPrediction(file_rows([str(many)]), tagger, batch_size=2)
    if is_finished:
        prediction.write_file(output)
    else:
        stop_after(2)
        with pytest.raises(KeyboardInterrupt):
            prediction.write_file(output)
        stop_after()
    with pytest.raises(JobError, match="batch_size: 2 before, 3 now"):
        replace(prediction, batch_size=3).write_file(output)
    bias = tagger.model.classifier.bias
    with torch.no_grad():
        bias[2] += 1
        with pytest.raises(JobError, match=r"\(other model_content\)"):
            prediction.write_file(output)
        bias[2] -= 1
    many.write_text(many.read_text() + "\n" + json.dumps({"text": "Paris"}))
    longer = replace(prediction, source=file_rows([str(many)]))
    with pytest.raises(JobError, match=r"\(other input_content\)"):
        longer.write_file(output)
    assert longer.write_file(output, overwrite=True).rows == len(lines_of(output)) == 24


def test_rows_that_changed_since_they_were_tagged_are_not_mixed_with_others(tagger, many, stop_after, tmp_path):
    """Also where size and time are as before."""
    pictures = [many.with_name(f"{row}.png") for row in range(12)]
    for path in pictures:
        Image.new("RGB", (8, 8)).save(path)
    many.write_text("\n".join(json.dumps({"text": f"Jordan {path.stem}", "image": path.name}) for path in pictures))
    output, prediction = tmp_path / "out.jsonl", BulkPrediction(file_rows([str(many)]), tagger, batch_size=2)
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        prediction.write_file(output)
    stop_after()

    def change(path, content):
        times = path.stat()
        before = path.read_bytes()
        path.write_bytes(content(before))
        assert path.stat().st_size == times.st_size
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return before

    picture = change(pictures[1], lambda before: before[:-1] + b"x")
    with pytest.raises(JobError, match=r"was begun from other rows: .*many\.jsonl:2 or their pictures have changed"):
        prediction.write_file(output)
    change(pictures[1], lambda before: picture)
    change(pictures[-1], lambda before: before[:-1] + b"x")  # It was not tagged yet.
    texts = change(many, lambda before: before.replace(b"Jordan 1", b"Jordan 7"))
    with pytest.raises(JobError, match="other input_content"):
        replace(prediction, source=file_rows([str(many)])).write_file(output)
    with pytest.raises(JobError, match=r"many\.jsonl:2"):  # the file changed after it was looked at
        prediction.write_file(output)
    change(many, lambda before: texts)
    assert prediction.write_file(output).rows == 12


def test_what_is_finished_or_of_unknown_origin_stays(tagger, stop_after, tmp_path):
    output, prediction = tmp_path / "out.jsonl", BulkPrediction(single_row({"text": "Jordan met Paris"}), tagger)
    output.write_text("mine")
    with pytest.raises(JobError, match="nothing says how it was made"):
        prediction.write_file(output)
    assert output.read_text() == "mine" and not list(tmp_path.glob("*.parts"))
    prediction.write_file(output, overwrite=True)
    stop_after()
    written = output.read_bytes()
    assert prediction.write_file(output) is None
    assert stop_after.tagged == 0 and output.read_bytes() == written
    prediction.write_file(output, overwrite=True)
    assert stop_after.tagged == 1


def test_what_is_read_is_not_overwritten(tagger, many):
    before = many.read_text()
    with pytest.raises(ValueError, match="would be one of the files that are read"):
        BulkPrediction(file_rows([str(many)]), tagger).write_file(many, overwrite=True)
    assert many.read_text() == before


def test_rows_are_read_no_sooner_than_the_window_before_was_handed_over(tagger, many):
    source, read, written = file_rows([str(many)]), [], []

    def counted():
        for row in source.read():
            read.append(row)
            assert len(read) - len(written) <= 4
            yield row

    BulkPrediction(replace(source, read=counted), tagger, batch_size=2).hand_over(written.append)
    assert len(read) == len(written) == 23


def test_a_file_that_is_damaged_further_on_ends_the_run_and_what_was_tagged_is_kept(tagger, many, tmp_path):
    source, output = file_rows([str(many)]), tmp_path / "out.jsonl"

    def damaged():
        for number, row in enumerate(source.read()):
            if number == 9:
                raise ValueError("many.jsonl is damaged.")
            yield row

    with pytest.raises(JobError, match=r"many\.jsonl is damaged\. What was tagged is kept\."):
        BulkPrediction(replace(source, read=damaged), tagger, batch_size=2).write_file(output)
    assert len(list(tmp_path.glob("out.jsonl.parts/*.jsonl"))) == 2
    with pytest.raises(JobError, match=r"many\.jsonl is damaged\.$"):  # nothing is kept of what is handed over
        BulkPrediction(replace(source, read=damaged), tagger, batch_size=2).hand_over(print)


def test_too_little_memory_says_what_to_do(tagger, monkeypatch, tmp_path):
    def tag(*arguments):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(bulk, "tag_window", tag)
    with pytest.raises(JobError, match=r"too little memory for 32 rows in a batch \(no room\)\. Give a smaller batch"):
        BulkPrediction(single_row({"text": "Paris"}), tagger).write_file(tmp_path / "out.jsonl")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_no_rows(tagger, tmp_path, ending):
    (tmp_path / "tweets.txt").touch()
    output = tmp_path / f"out.{ending}"
    report = BulkPrediction(file_rows([str(tmp_path / "tweets.txt")]), tagger, top_entities=3).write_file(output)
    assert report.rows == report_of(output)["rows"] == 0 and report.rows_per_second is None
    assert lines_of(output) == [] if ending == "jsonl" else pq.read_table(output).num_rows == 0


def test_report_and_chart(tagger, many, tmp_path):
    output = tmp_path / "out.jsonl"
    BulkPrediction(file_rows([str(many)]), tagger, batch_size=2, top_entities=2).write_file(output)
    report = report_of(output)
    assert (report["rows"], report["tagged"], report["without_entities"]) == (23, 20, 0)
    assert report["entities"]["MISC"] > 50 and list(report["top_entities"]["MISC"]) == ["Paris", "met"]
    examples = [example for problem in report["skipped"].values() for example in problem["examples"]]
    assert sorted(example.split(": ")[0] for example in examples) == [f"{many}:{line}" for line in (18, 4, 5)]
    assert set(report["seconds"]) == {"read", "process", "detect", "tag"} and report["rows_per_second"] > 0
    assert report["settings"]["batch_size"] == 2 and report["settings"]["input"] == [str(many)]
    assert Image.open(tmp_path / "out.jsonl.top_entities.png").format == "PNG"


def without_nulls(value):
    if isinstance(value, dict):
        return {name: without_nulls(part) for name, part in value.items() if part is not None}
    return [without_nulls(part) for part in value] if isinstance(value, list) else value


def test_a_page_and_parquet_of_entities_shares_boxes_and_problems(explaining_tagger, tweets, tmp_path):
    prediction = BulkPrediction(tweets, explaining_tagger, html=tmp_path / "page.html")
    results, _ = results_of(prediction)
    assert results[1]["crops"] == {"rcnn_crops": [{"label": "<b>dog</b>", "box": [5, 5, 60, 50]}]}
    sources = {share["source"] for result in results for entity in result["entities"] for share in entity["shares"]}
    assert sources >= {"text", "image"}
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<article") == 4 and "All 4 tweets." in page and "the wider a frame" in page
    assert (
        page.count("<image") == 2 and f"Tagged by {os.path.basename(explaining_tagger.model.name_or_path)} on" in page
    )
    assert (
        "<rect" in page
        and "image: there is no such file" in page
        and "gone.png" not in page
        and "tweets.jsonl:3: " in page
    )
    assert not re.search(r"<script|<b>dog|https?://(?!www\.w3\.org)", page)
    prediction.write_file(tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [without_nulls(row) for row in rows] == [without_nulls(dict(result)) for result in results]


def test_a_page_is_bounded_and_says_so(tagger, many, tmp_path):
    page = tmp_path / "page.html"
    for number in (5, 23):
        BulkPrediction(file_rows([str(many)]), tagger, batch_size=2, html=page, html_limit=number).hand_over(print)
        text = page.read_text(encoding="utf-8")
        assert text.count("<article") == number and f"{'All' if number == 23 else 'The first 5 of'} 23 tweets." in text


def test_options_out_of_range(tagger):
    source = single_row({"text": "Paris"})
    for name in ("batch_size", "html_limit", "top_entities"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            BulkPrediction(source, tagger, **{name: 0})


PAIRS = [
    {"id": 1, "text": "Jordan met Paris", "head": "Jordan", "tail": "Paris", "image": "a.png"},
    {"text": "Paris met Jordan in Paris", "head": "Jordan", "tail": "Paris"},
    {"text": "Jordan met New York", "head": [11, 19], "tail": {"start": 0, "end": 6}},
    {"tokens": ["Jordan", "met", "New", "York"], "head": [2, 4], "tail": "Jordan"},
    {"text": "Jordan met Paris"},
    {"text": "Jordan met", "head": "Jordan", "tail": "met", "image": "gone.png", "aux_crops": ["a.png"]},
]


def test_relations(relation_tagger, tweets, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, PAIRS)))
    prediction = BulkPrediction(file_rows([str(path)]), relation_tagger, batch_size=2, html=tmp_path / "page.html")
    output = tmp_path / "out.jsonl"
    prediction.write_file(output)
    results = lines_of(output)
    related = {"text", "relation", "score", "head", "tail"}
    untagged = {"text", "problems"}
    expected = [{"id", "image"} | related, untagged, related, related, untagged]
    expected.append({"problems", "image", "aux_crops"} | related)
    assert [set(result) for result in results] == expected
    assert results[0]["head"] == {"word": "Jordan", "start": 0, "end": 6}
    assert results[2]["head"] == results[3]["head"] == {"word": "New York", "start": 11, "end": 19}
    assert results[2]["score"] == pytest.approx(results[3]["score"], abs=1e-5)
    assert results[1]["problems"][0].startswith("tail: ") and "gone.png" in results[5]["problems"][0]
    relations = [result["relation"] for result in results if "relation" in result]
    report = report_of(output)
    assert report["relations"] == {name: relations.count(name) for name in relations}
    assert report["tagged"] == 4 and "entities" not in report and report["settings"]["task"] == "re"
    page = (tmp_path / "page.html").read_text()
    assert "<title>Relations</title>" in page and page.count("<small> head") == 4 and page.count("<article") == 6
    assert f"Tagged by {os.path.basename(relation_tagger.model.name_or_path)} on" in page
    prediction.write_file(tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    names = ("relation", "score", "head", "tail", "problems")
    assert [[row[name] for name in names] for row in rows] == [[line.get(name) for name in names] for line in results]
    assert [row["id"] for row in rows] == ["1", *[None] * 5] and "entities" not in rows[0]


def test_triples(checkpoint, relation_checkpoint, tweets, tmp_path):
    both = load_tagger(checkpoint, relation_model=relation_checkpoint, device="cpu")
    prediction = BulkPrediction(tweets, both, html=tmp_path / "page.html")
    report = prediction.write_file(tmp_path / "out.parquet")
    results, _ = results_of(prediction)
    relations = [relation for result in results for relation in result["relations"]]
    assert relations and results[2]["relations"] == [] and "None" not in {of["relation"] for of in relations}
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["relations"] for row in rows] == [result["relations"] for result in results]
    assert sum(report.relations.values()) == len(relations) and report.entities
    page = (tmp_path / "page.html").read_text()
    assert "<title>Entities and relations</title>" in page and page.count("<p><bdi>") == len(relations)
    alone, _ = results_of(replace(prediction, tagger=load_tagger(checkpoint, device="cpu")))
    assert [result["entities"] for result in alone] == [result["entities"] for result in results]


def test_ids_of_any_kind_are_kept(tagger, tmp_path):
    rows = [InputRow("a", {"id": np.datetime64("2020-01-01"), "text": "Paris"}), InputRow("b", {"text": "Jordan"})]
    source = replace(single_row({}), read=lambda: iter(rows))
    for ending in ("jsonl", "parquet"):
        BulkPrediction(source, tagger).write_file(tmp_path / f"out.{ending}")
    first, second = lines_of(tmp_path / "out.jsonl")
    assert first["id"] == "2020-01-01" and "id" not in second
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ["2020-01-01", None]
