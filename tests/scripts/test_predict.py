"""predict.py: what it reads and writes, that a killed run goes on, and its pages, crops and explanations."""

import csv
import json
import re
import shutil
from importlib import import_module

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from PIL import Image

from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerPipeline
from processing.labels import label_maps
from processing.rows.row_features import re_features


@pytest.fixture
def checkpoint(make_config, make_processor, tmp_path):
    torch.manual_seed(0)
    processor = make_processor()
    model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
    with torch.no_grad():
        model.classifier.bias[1] += 100  # tags everything
    IFAformerPipeline(model, processor=processor).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def run_predict(checkpoint, monkeypatch):
    """`run_predict("--flag", ...)`, in this process."""

    def run(*arguments):
        flags = ("--model", checkpoint, "--device", "cpu", *arguments)
        monkeypatch.setattr("sys.argv", ["predict.py", *map(str, flags)])
        import_module("ifaformer_commands.predict").main()

    return run


@pytest.fixture
def predict(run_predict, tmp_path):
    """`predict("--flag", ...)` -> the lines written."""

    def run(*arguments):
        output = tmp_path / "out.jsonl"
        run_predict("--output", output, *arguments)
        return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]

    return run


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
    return tmp_path / "tweets.jsonl"


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A file of 23 tweets of 1 to 9 words, three of them bad; with --batch_size 2 in windows of 4."""
    monkeypatch.setattr(import_module("modeling_ifaformer.prediction.windows"), "WINDOW_BATCHES", 2)
    numbers = np.random.default_rng(0).integers(1, 10, 23)
    texts = [" ".join(["Jordan", "met", "Paris"][index % 3 :] * number) for index, number in enumerate(numbers)]
    lines = [json.dumps({"text": text}) for text in texts]
    lines[3], lines[4], lines[17] = "{", '{"text": ""}', '{"txt": "Jordan"}'
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(2)`: the next run ends when it has tagged two windows; the number it tagged is kept in `tagged`."""
    predict_script = import_module("ifaformer_commands.predict")
    tag_window = predict_script.tag_window

    def stop(windows=10**9):
        stop.tagged = 0

        def tag(*arguments):
            if stop.tagged == windows:
                raise KeyboardInterrupt
            stop.tagged += 1
            return tag_window(*arguments)

        monkeypatch.setattr(predict_script, "tag_window", tag)

    return stop


def test_order_is_kept_and_problems_are_reported(predict, tmp_path):
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
    path.write_text("\n".join(["{", *(json.dumps(row) for row in rows)]) + "\n", encoding="utf-8")
    unreadable, *results = predict("--input", path, "--batch_size", 3)
    assert unreadable["text"] is None and f"{path}:1: " in unreadable["problems"][0]
    assert len(results) == len(rows)
    for result, row in zip(results, rows, strict=True):
        assert result["text"] == row.get("text", " ".join(row.get("tokens", [])))
        for entity in result["entities"]:
            assert result["text"][entity["start"] : entity["end"]] == entity["word"]
            assert 0.9 < entity["score"] <= 1.000001
    assert [entity["word"] for entity in results[0]["entities"]] == ["Jordan", "met", "New", "York", "!", "😀"]
    assert results[0] == results[-1]
    assert "problems" not in results[0]
    expected = {
        1: "broken.jpg",
        2: "empty",
        3: "the tokenizer keeps nothing of it",
        4: "missing.jpg",
        5: "words are cut off",
    }
    for index, problem in expected.items():
        assert any(problem in text for text in results[index]["problems"]), results[index]
    assert any("4 crops, the model takes the first 2" in text for text in results[4]["problems"])
    assert not results[2]["entities"] and results[4]["entities"]


def test_csv_and_plain_text(predict, tmp_path):
    Image.new("RGB", (30, 30), "red").save(tmp_path / "a.png")
    with open(tmp_path / "tweets.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "tokens", "image", "aux_crops"))
        writer.writerow(("Jordan, met\nParis", "", "a.png", "a.png;a.png"))
    [result] = predict("--input", tmp_path / "tweets.csv")
    assert result["text"] == "Jordan, met\nParis" and "problems" not in result
    (tmp_path / "tweets.txt").write_text("Jordan\nParis met\n", encoding="utf-8")
    results = predict("--input", tmp_path / "tweets.txt", "--limit", "1", "--overwrite")
    assert [result["text"] for result in results] == ["Jordan"]


def test_without_an_output_lines_are_printed(run_predict, many, capsys):
    run_predict("--input", many, "--batch_size", 2, "--top_entities", 1)
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert len(lines) == 23 and lines[3]["problems"] and lines[5]["entities"]
    assert "23 rows, 20 tagged" in printed.err and "MISC: " in printed.err


def test_two_processes_write_what_one_does(predict, checkpoint, run_script, tmp_path):
    (tmp_path / "tweets.txt").write_text("".join(f"Jordan met {'Paris ' * (i % 7)}\n" for i in range(150)))
    predict("--input", tmp_path / "tweets.txt", "--batch_size", 1)
    flags = ("--model", checkpoint, "--input", tmp_path / "tweets.txt", "--batch_size", 1)
    run_script("predict.py", *flags, "--output", tmp_path / "two.jsonl", processes=2)
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()
    one, two = (json.loads((tmp_path / f"{name}.jsonl.report.json").read_text()) for name in ("out", "two"))
    assert one["entities"] == two["entities"] and one["tagged"] == two["tagged"] == 150
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_killed_run_goes_on_to_the_same_bytes(run_predict, many, stop_after, tmp_path, ending):
    flags = ("--input", many, "--batch_size", 2, "--html", tmp_path / "page.html", "--top_entities", 3)
    whole, output = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    run_predict(*flags, "--output", whole)
    page = (tmp_path / "page.html").read_bytes()
    (tmp_path / "page.html").unlink()
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        run_predict(*flags, "--output", output)
    assert not output.exists()
    parts = tmp_path / f"out.{ending}.parts"
    (parts / f".0000002.{ending}.4.tmp").write_bytes(b"half a")  # what a kill leaves in the middle of a window
    (parts / "0000002.json").write_text("{}")
    (tmp_path / f".out.{ending}.4.tmp").write_bytes(b"half an out")
    stop_after()
    run_predict(*flags, "--output", output)
    assert stop_after.tagged == 4
    assert output.read_bytes() == whole.read_bytes() and (tmp_path / "page.html").read_bytes() == page
    reports = [json.loads((tmp_path / f"{name}.{ending}.report.json").read_text()) for name in ("whole", "out")]
    for report in reports:
        assert report.pop("seconds") and report.pop("rows_per_second")
    assert reports[0] == reports[1]
    assert not parts.exists() and not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("is_finished", [False, True])
def test_another_input_model_or_option_is_refused(predict, many, stop_after, checkpoint, is_finished):
    def run(*flags):
        return predict("--input", many, "--batch_size", 2, *flags)

    if not is_finished:
        stop_after(2)
        with pytest.raises(KeyboardInterrupt):
            run()
        stop_after()
    else:
        run()
    with pytest.raises(SystemExit, match="batch_size: 2 before, 3 now"):
        run("--batch_size", 3)
    weights = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(weights[:-1] + b"\1")
    with pytest.raises(SystemExit, match=r"\(other model_content\)"):
        run()
    (checkpoint / "model.safetensors").write_bytes(weights)
    assert len(run()) == 23
    many.write_text(many.read_text() + "\n" + json.dumps({"text": "Paris"}))
    with pytest.raises(SystemExit, match=r"\(other input_content\)"):
        run()
    assert len(run("--overwrite")) == 24


def test_what_is_finished_or_of_unknown_origin_stays(predict, many, stop_after, tmp_path, capsys):
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(SystemExit, match="no record of how it was made"):
        predict("--input", many)
    assert (tmp_path / "out.jsonl").read_text() == "mine" and not list(tmp_path.glob("*.parts"))
    (tmp_path / "out.jsonl").unlink()
    predict("--input", many)
    stop_after()
    written = (tmp_path / "out.jsonl").stat().st_mtime_ns
    predict("--input", many)
    assert "is finished: nothing to do" in capsys.readouterr().out
    assert stop_after.tagged == 0 and (tmp_path / "out.jsonl").stat().st_mtime_ns == written
    predict("--input", many, "--overwrite")
    assert stop_after.tagged == 1


@pytest.mark.parametrize("flag", ["--input", "--dataset"])
def test_what_is_read_is_not_overwritten(predict, many, tmp_path, flag):
    many.rename(tmp_path / "out.jsonl")
    text = (tmp_path / "out.jsonl").read_text()
    with pytest.raises(SystemExit, match="would be one of the files that are read"):
        predict(flag, tmp_path / "out.jsonl", "--overwrite")
    assert (tmp_path / "out.jsonl").read_text() == text


def test_rows_are_read_no_sooner_than_the_window_before_is_written(predict, many, monkeypatch):
    rows_module, parts_class = (
        import_module("modeling_ifaformer.prediction.input_rows"),
        import_module("modeling_ifaformer.prediction.parts").Parts,
    )
    read, written = 0, 0
    file_rows, write = rows_module.file_rows, parts_class.write

    def counted(*arguments):
        nonlocal read
        for row in file_rows(*arguments):
            read += 1
            assert read - written <= 4
            yield row

    def counted_write(self, index, results, record):
        nonlocal written
        write(self, index, results, record)
        written += len(results)

    monkeypatch.setattr(rows_module, "file_rows", counted)
    monkeypatch.setattr(parts_class, "write", counted_write)
    predict("--input", many, "--batch_size", 2)
    assert read == written == 23


def test_no_rows(predict, tmp_path, run_predict):
    (tmp_path / "tweets.txt").touch()
    assert predict("--input", tmp_path / "tweets.txt", "--top_entities", 3) == []
    assert json.loads((tmp_path / "out.jsonl.report.json").read_text())["rows"] == 0
    run_predict("--input", tmp_path / "tweets.txt", "--output", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_report_and_chart(predict, many, tmp_path, capsys):
    predict("--input", many, "--batch_size", 2, "--top_entities", 2)
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert (report["rows"], report["tagged"], report["without_entities"]) == (23, 20, 0)
    assert report["entities"]["MISC"] > 50 and list(report["top_entities"]["MISC"]) == ["Paris", "met"]
    examples = [example for finding in report["skipped"].values() for example in finding["examples"]]
    assert sorted(example.split(": ")[0] for example in examples) == [f"{many}:{line}" for line in (18, 4, 5)]
    assert set(report["seconds"]) == {"read", "process", "tag"} and report["rows_per_second"] > 0
    assert "23 rows, 20 tagged, 0 of them without entities" in printed and "MISC: Paris " in printed
    assert Image.open(tmp_path / "out.jsonl.top_entities.png").format == "PNG"


def test_data_sets_keep_their_ids(predict, run_predict, tmp_path):
    rows = [{"id": name, "tokens": ["Jordan", "met", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"]} for name in "abc"]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = ("--dataset", tmp_path / "test.jsonl", "--cache_dir", tmp_path / "cache", "--limit", 2)
    results = predict(*flags)
    assert [result["id"] for result in results] == ["a", "b"] and all(result["entities"] for result in results)
    run_predict(*flags, "--output", tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["id"], row["entities"]) for row in rows] == [(row["id"], row["entities"]) for row in results]


def test_parquet_holds_shares_crops_and_problems(predict, run_predict, tweets, tmp_path):
    flags = ("--input", tweets, "--explain", "occlusion")
    lines = predict(*flags)
    run_predict(*flags, "--output", tmp_path / "out.parquet")

    def without_nulls(value):
        if isinstance(value, dict):
            return {name: without_nulls(part) for name, part in value.items() if part is not None}
        return [without_nulls(part) for part in value] if isinstance(value, list) else value

    rows = [without_nulls(row) for row in pq.read_table(tmp_path / "out.parquet").to_pylist()]
    assert rows == [without_nulls(line) for line in lines]


def test_a_page_of_entities_pictures_and_boxes(predict, tweets, tmp_path):
    results = predict("--input", tweets, "--explain", "occlusion", "--html", tmp_path / "report.html")
    assert [len(result["entities"]) > 0 for result in results] == [True, True, False, True]
    assert results[1]["crops"] == {"rcnn_crops": [{"label": "<b>dog</b>", "box": [5, 5, 60, 50]}]}
    sources = [share["source"] for share in results[1]["entities"][0]["shares"]]
    assert sources == ["text", "image", "rcnn_crops 0"]
    whole = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert whole.count("<article>") == 4 and "4 tweets. The line of a box" in whole
    assert "<rect" in whole and "gone.png: no such file" in whole and "expected text to be a string" in whole
    assert not re.search(r"<script|<b>dog|https?://(?!www\.w3\.org)", whole)


def test_a_page_is_bounded_and_says_so(predict, tweets, tmp_path):
    predict("--input", tweets, "--html", tmp_path / "report.html", "--html_limit", 2)
    whole = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert whole.count("<article>") == 2 and "The first 2 of 4 tweets." in whole


def test_detectors_propose_crops(predict, tweets, tiny_detector):
    detectors = ("--aux_detector", tiny_detector("owlv2"), "--aux_threshold", 0.01, "--spacy_model", "none")
    first, second, *_ = predict("--input", tweets, *detectors)
    assert len(first["crops"]["aux_crops"]) == 3 and list(second["crops"]) == ["rcnn_crops"]
    without = predict("--input", tweets, *detectors, "--crops", "none", "--overwrite")
    assert "crops" not in without[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--crops", "some"), "--crops must be one of auto, none, got 'some'"),
        (("--explain", "magic"), "--explain must be one of attention, occlusion, got 'magic'"),
        (("--html_limit", 0), "--html_limit must be at least 1, got 0"),
        (("--aux_threshold", 2), "--aux_threshold must be from 0 to 1, got 2"),
        (("--html", "nodir/x.html"), "nodir/x.html cannot be written"),
        (("--batch_size", 0), "--batch_size must be at least 1, got 0"),
        (("--top_entities", 0), "--top_entities must be at least 1, got 0"),
        (("--output", "x.csv"), "--output must end in .jsonl, .json, .parquet, got 'x.csv'"),
        (("--input", "gone.jsonl"), "gone.jsonl"),
        (("--input", "bad.tsv"), "bad.tsv: expected a file ending in"),
    ],
)
def test_options_that_cannot_be(predict, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.tsv").touch()
    text = () if arguments[0] == "--input" else ("--text", "Jordan")
    with pytest.raises(SystemExit) as stopped:
        predict(*text, *arguments)
    assert message in str(stopped.value)


def test_where_no_row_can_be_used_the_command_fails(predict, run_predict, tmp_path, capsys):
    (tmp_path / "tweets.csv").write_text("tweet\nJordan\n")
    with pytest.raises(SystemExit, match="None of the 1 rows could be used"):
        predict("--input", tmp_path / "tweets.csv")
    with pytest.raises(SystemExit, match="None of the 1 rows could be used"):
        run_predict("--input", tmp_path / "tweets.csv")
    assert "expected a column text" in capsys.readouterr().err


def test_help_shows_examples_as_they_are_written(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["predict.py", "--help"])
    with pytest.raises(SystemExit):
        import_module("ifaformer_commands.predict").main()
    shown = capsys.readouterr().out
    assert '\n    python scripts/predict.py --model runs/demo --text "Jordan was great tonight"' in shown
    assert "(default: 32)" in shown


PAIRS = [
    {"id": 1, "text": "Jordan met Paris", "head": "Jordan", "tail": "Paris", "image": "a.png"},
    {"text": "Paris met Jordan in Paris", "head": "Jordan", "tail": "Paris"},
    {"text": "Jordan met New York", "head": [11, 19], "tail": {"start": 0, "end": 6}},
    {"tokens": ["Jordan", "met", "New", "York"], "head": [2, 4], "tail": "Jordan"},
    {"text": "Jordan met Paris"},
    {"text": "Jordan met", "head": "Jordan", "tail": "met", "image": "gone.png", "aux_crops": ["a.png"]},
]


@pytest.fixture
def pairs(tweets):
    """A file of rows for relations: two that cannot be used, and one without its picture."""
    path = tweets.with_name("pairs.jsonl")
    path.write_text("\n".join(map(json.dumps, PAIRS)))
    return path


def test_a_checkpoint_of_relations(predict, relation_checkpoint, pairs, tmp_path, capsys):
    flags = ("--model", relation_checkpoint, "--batch_size", 2, "--html", tmp_path / "page.html")
    results = predict(*flags, "--input", pairs)
    related = {"text", "relation", "score", "head", "tail"}
    expected = [{"id"} | related, {"text", "problems"}, related, related, {"text", "problems"}, related | {"problems"}]
    assert [set(result) for result in results] == expected
    assert results[0]["head"] == {"word": "Jordan", "start": 0, "end": 6}
    assert results[2]["head"] == results[3]["head"] == {"word": "New York", "start": 11, "end": 19}
    assert results[2]["score"] == pytest.approx(results[3]["score"], abs=1e-5)
    assert "'Paris' occurs 2 times" in results[1]["problems"][0] and "gone.png" in results[5]["problems"][0]
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    relations = [result["relation"] for result in results if "relation" in result]
    assert report["relations"] == {name: relations.count(name) for name in relations}
    assert report["tagged"] == 4 and "entities" not in report and report["settings"]["task"] == "re"
    assert "6 rows, 4 tagged\nrelations: " in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert f"<title>Relations by {relation_checkpoint.rpartition('/')[2]}</title>" in page
    assert page.count("<small>head") == 4 and page.count("<article>") == 6 and "<b>peer" not in page


def test_relations_of_csv_and_of_the_command_line(predict, run_predict, relation_checkpoint, pairs, tmp_path, capsys):
    (tmp_path / "pairs.csv").write_text("text,head,tail\nJordan met New York,New York,Jordan\nJordan met,,met\n")
    first, second = predict("--model", relation_checkpoint, "--input", tmp_path / "pairs.csv")
    assert first["head"] == {"word": "New York", "start": 11, "end": 19}
    assert second["problems"][0].startswith("head: expected (start, end) in characters") and "relation" not in second
    capsys.readouterr()
    pair = ("--text", first["text"], "--head", "New York", "--tail", "Jordan")
    run_predict("--model", relation_checkpoint, *pair)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {**first, "score": pytest.approx(first["score"], abs=1e-5)}


def test_relations_of_a_data_set(predict, relation_checkpoint, tmp_path):
    entities = {"head": {"name": "York", "start": 2, "end": 3}, "tail": {"name": "Jordan", "start": 0, "end": 1}}
    row = {"image_id": "", "tokens": ["Jordan", "met", "York"], **entities, "relation": 0, "image": None}
    rows = [{**row, "id": name, "aux_crops": [], "rcnn_crops": []} for name in "abc"]
    (tmp_path / "mine").mkdir()
    Dataset.from_list(rows, features=re_features(["None"])).to_parquet(tmp_path / "mine" / "test.parquet")
    flags = ("--dataset", tmp_path / "mine", "--cache_dir", tmp_path / "cache", "--limit", 2)
    results = predict("--model", relation_checkpoint, *flags)
    assert [result["id"] for result in results] == ["a", "b"] and all(result["relation"] for result in results)
    assert results[0]["head"] == {"word": "York", "start": 11, "end": 15}
    (tmp_path / "tags.jsonl").write_text(json.dumps({"tokens": ["Jordan"], "ner_tags": ["B-PER"]}))
    with pytest.raises(SystemExit, match=r"has no head and tail, but .*: the model is for relations"):
        predict("--model", relation_checkpoint, *flags, "--dataset", tmp_path / "tags.jsonl", "--split", "train")


def test_parquet_holds_relations(predict, run_predict, relation_checkpoint, pairs, tmp_path):
    flags = ("--model", relation_checkpoint, "--input", pairs)
    lines = predict(*flags)
    run_predict(*flags, "--output", tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    names = ("relation", "score", "head", "tail", "problems")
    assert [[row[name] for name in names] for row in rows] == [[line.get(name) for name in names] for line in lines]
    assert [row["id"] for row in rows] == ["1", *[None] * 5] and "entities" not in rows[0]


def test_a_killed_run_of_relations_goes_on_to_the_same_bytes(
    run_predict, relation_checkpoint, many, stop_after, tmp_path
):
    rows = [
        {"text": f"{'met ' * number}Jordan in Paris", "head": "Jordan", "tail": "Paris" if number % 5 else "Rome"}
        for number in range(23)
    ]
    many.write_text("\n".join(map(json.dumps, rows)))
    flags = ("--model", relation_checkpoint, "--input", many, "--batch_size", 2)
    run_predict(*flags, "--output", tmp_path / "whole.jsonl")
    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        run_predict(*flags, "--output", tmp_path / "out.jsonl")
    stop_after()
    run_predict(*flags, "--output", tmp_path / "out.jsonl")
    assert stop_after.tagged == 4
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [result["text"] for result in results] == [row["text"] for row in rows]


def test_triples(predict, run_predict, relation_checkpoint, tweets, tmp_path, capsys):
    flags = ("--input", tweets, "--relation_model", relation_checkpoint)
    results = predict(*flags, "--html", tmp_path / "page.html")
    relations = [relation for result in results for relation in result["relations"]]
    assert relations and results[2]["relations"] == [] and "None" not in {of["relation"] for of in relations}
    assert [result["entities"] for result in results] == [
        result["entities"] for result in predict("--input", tweets, "--overwrite")
    ]
    run_predict(*flags, "--output", tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["relations"] for row in rows] == [result["relations"] for result in results]
    report = json.loads((tmp_path / "out.parquet.report.json").read_text())
    assert sum(report["relations"].values()) == len(relations) and report["entities"]
    page = (tmp_path / "page.html").read_text()
    assert "<title>Entities and relations by model</title>" in page and page.count("<p><bdi>") == len(relations)
    with pytest.raises(SystemExit, match="relation_model: None before, "):
        predict("--input", tweets, "--relation_model", relation_checkpoint)


def test_another_model_of_relations_is_another_run(predict, relation_checkpoint, tweets, tmp_path):
    copy = tmp_path / "relations"
    shutil.copytree(relation_checkpoint, copy)
    predict("--input", tweets, "--relation_model", copy)
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(SystemExit, match=r"\(other relation_model_content\)"):
        predict("--input", tweets, "--relation_model", copy)


@pytest.mark.parametrize("flag", ["--explain", "--top_entities"])
def test_what_is_of_entities_is_refused_before_rows_are_read(predict, relation_checkpoint, tmp_path, flag):
    value = {"--explain": "attention", "--top_entities": 3}[flag]
    with pytest.raises(SystemExit, match=f"{flag}: of entities, and .* is of relations"):
        predict("--model", relation_checkpoint, "--input", tmp_path / "gone.jsonl", flag, value)
