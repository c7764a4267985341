"""predict.py: what its options say, what it prints, and how it ends. test_bulk.py tests the prediction itself."""

import csv
import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from ifaformer_commands import predict
from modeling_ifaformer.prediction import windows
from processing.explanations import METHODS
from processing.pipeline_rows import CROP_CHOICES
from processing.rows.row_features import re_features


@pytest.fixture
def run(checkpoint, monkeypatch, capsys):
    """`run("--flag", ...)` -> what the command prints on stdout and stderr, in this process."""

    def run(*arguments):
        usual = {"--model": checkpoint, "--device": "cpu"}
        flags = [*(part for name in usual.keys() - {*arguments} for part in (name, usual[name])), *arguments]
        monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, flags)])
        capsys.readouterr()
        predict.main()
        return capsys.readouterr()

    return run


@pytest.fixture
def predicted(run, tmp_path):
    """`predicted("--flag", ...)` -> the lines written."""

    def predicted(*arguments):
        run("--output", tmp_path / "out.jsonl", "--overwrite", *arguments)
        return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]

    return predicted


@pytest.fixture
def tweets(tmp_path):
    path = tmp_path / "tweets.txt"
    path.write_text("Jordan met Paris\n\nParis met Jordan 😀\n", encoding="utf-8")
    return path


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_file_for_an_annotation_tool(run, tmp_path):
    """Of a CoNLL file; asked for again, for another tool, nothing is tagged."""
    (tmp_path / "tweets.conll").write_text("Ana\tB-person\nsang\tO\n\t\nin\tO\nOslo\tB-location\n")
    flags = ("--input", tmp_path / "tweets.conll", "--output", tmp_path / "out.jsonl", "--least_certain", 1)
    assert run(*flags).out.endswith(f"{tmp_path / 'out.jsonl'}.least_certain.jsonl is for annotation.\n")
    path = tmp_path / "out.jsonl.doccano.jsonl"
    assert run(*flags, "--to", "doccano").out.splitlines()[-1] == f"{path} is for annotation."
    assert json.loads(path.read_text())["text"] in ("Ana sang", "in Oslo")
    with pytest.raises(SystemExit, match="--to and --least_certain write a file beside the output"):
        run("--text", "x", "--to", "doccano")
    with pytest.raises(SystemExit, match="least_certain must be at least 1"):
        run(*flags[:-1], 0)


def test_one_text_with_its_picture_is_printed_and_explained(run, picture):
    flags = ("--text", "Jordan met Paris", "--image", picture, "--rcnn_crops", picture, picture)
    printed = run(*flags, "--explain", "occlusion", "--top_entities", 1)
    (line,) = map(json.loads, printed.out.splitlines())
    assert line["text"] == "Jordan met Paris" and line["entities"]
    sources = [share["source"] for share in line["entities"][0]["shares"]]
    assert sources == ["text", "image", "rcnn_crops 0", "rcnn_crops 1"]
    assert "1 rows, 1 tagged" in printed.err and ": Paris 1" in printed.err
    (line,) = map(json.loads, run(*flags, "--crops", "none", "--explain", "attention").out.splitlines())
    assert [share["source"] for share in line["entities"][0]["shares"]] == ["text", "image"]


def test_files_are_read_and_a_report_is_printed(run, tweets, tmp_path):
    output = tmp_path / "out.jsonl"
    flags = ("--input", tweets, "--output", output, "--html", tmp_path / "page.html", "--html_limit", 2)
    printed = run(*flags, "--top_entities", 2).out
    results = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [result["text"] for result in results] == ["Jordan met Paris", "", "Paris met Jordan 😀"]
    assert (
        printed.startswith("3 rows, 2 tagged") and f"{tweets}:2: text: " in printed and " rows a second\n" in printed
    )
    assert ": Paris 2" in printed
    assert printed.endswith(f"{output} is finished; {output}.report.json has the counts.\n")
    assert "The first 2 of 3 tweets." in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert (tmp_path / "out.jsonl.top_entities.png").exists()
    printed = run(*flags, "--top_entities", 2).out
    assert printed == f"{output} is finished: nothing to do. --overwrite makes it anew.\n"
    with pytest.raises(
        SystemExit, match=r"top_entities: 2 before, None now\)\. .* or replace this one \(--overwrite true\)"
    ):
        run(*flags)


def test_csv_pictures_of_another_folder_and_a_limit(predicted, picture, tmp_path):
    (tmp_path / "rows").mkdir()
    with open(tmp_path / "rows" / "tweets.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows(
            [("text", "image", "aux_crops"), ("Jordan, met\nParis", "a.png", "a.png;a.png"), ("x", "", "")]
        )
    [result] = predicted("--input", tmp_path / "rows" / "tweets.csv", "--image_dir", tmp_path, "--limit", 1)
    assert result["text"] == "Jordan, met\nParis" and "problems" not in result


def test_two_processes_write_what_one_does(run, checkpoint, run_script, tmp_path):
    (tmp_path / "tweets.txt").write_text("".join(f"Jordan met {'Paris ' * (i % 7)}\n" for i in range(150)))
    flags = ("--input", tmp_path / "tweets.txt", "--batch_size", 1)
    assert windows.WINDOW_BATCHES < 75  # so that each process has a window
    run(*flags, "--output", tmp_path / "one.jsonl")
    run_script("predict.py", "--model", checkpoint, *flags, "--output", tmp_path / "two.jsonl", processes=2)
    one, two = ([json.loads(line) for line in (tmp_path / f"{name}.jsonl").open()] for name in ("one", "two"))
    assert len(one) == 150
    for mine, other in zip(one, two, strict=True):
        for entity in mine["entities"]:  # each process of several computes with fewer threads
            entity["score"] = pytest.approx(entity["score"], abs=1e-5)
        assert other == mine
    one, two = (json.loads((tmp_path / f"{name}.jsonl.report.json").read_text()) for name in ("one", "two"))
    assert one["entities"] == two["entities"] and one["tagged"] == two["tagged"] == 150
    assert not list(tmp_path.glob("*.parts"))


def test_data_sets_keep_their_ids(predicted, run, tmp_path):
    rows = [{"id": name, "tokens": ["Jordan", "met", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"]} for name in "abc"]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = ("--dataset", tmp_path / "test.jsonl", "--cache_dir", tmp_path / "cache", "--limit", 2)
    results = predicted(*flags)
    assert [result["id"] for result in results] == ["a", "b"] and all(result["entities"] for result in results)
    run(*flags, "--output", tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["id"], row["entities"]) for row in rows] == [(row["id"], row["entities"]) for row in results]
    with pytest.raises(SystemExit, match="split must be one of test, got 'train'"):
        run(*flags, "--split", "train")


def test_detectors_propose_crops(run, picture, tiny_detector):
    detectors = ("--aux_detector", tiny_detector("owlv2"), "--aux_threshold", 0.01, "--spacy_model", "none")
    (line,) = map(json.loads, run("--text", "Jordan met Paris", "--image", picture, *detectors).out.splitlines())
    assert len(line["crops"]["aux_crops"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--crops", "some"), "--crops must be one of auto, none, got 'some'"),
        (("--explain", "magic"), "--explain must be one of attention, occlusion, got 'magic'"),
    ],
)
def test_choices(run, capsys, arguments, message):
    with pytest.raises(SystemExit):
        run("--text", "Jordan", *arguments)
    assert message in capsys.readouterr().err


def test_a_threshold(run, predicted, tweets, tmp_path):
    scores = [entity["score"] for row in predicted("--input", tweets) for entity in row["entities"]]
    kept = [score for score in scores if score >= 0.5]
    for threshold in ("0.5", json.dumps(dict.fromkeys(("PER", "LOC", "ORG", "MISC"), 0.5))):
        rows = predicted("--input", tweets, "--threshold", threshold)
        assert [entity["score"] for row in rows for entity in row["entities"]] == kept != scores
    summary = run("--input", tweets, "--output", tmp_path / "out.jsonl", "--overwrite", "--threshold", "0.5").out
    assert "left out, with a score below the threshold: " in summary
    assert sum(json.loads((tmp_path / "out.jsonl.report.json").read_text())["left_out"].values()) == (
        len(scores) - len(kept)
    )
    for threshold, message in (("best", "the configuration of this model has none"), ("high", "got 'high'")):
        with pytest.raises(SystemExit, match=message):
            run("--input", tweets, "--threshold", threshold)


def test_choices_are_those_of_the_rooms():
    options = predict.PredictionArguments.__dataclass_fields__
    assert set(options["explain"].metadata["choices"]) == set(METHODS)
    assert set(options["crops"].metadata["choices"]) == set(CROP_CHOICES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--html_limit", 0), "html_limit must be at least 1, got 0"),
        (("--batch_size", 0), "batch_size must be at least 1, got 0"),
        (("--top_entities", 0), "top_entities must be at least 1, got 0"),
        (("--limit", 0), "limit must be at least 1, got 0"),
        (("--aux_threshold", 2), "aux_threshold must be from 0 to 1, got 2"),
        (("--html", "nodir/x.html"), "nodir/x.html cannot be written"),
        (("--output", "x.csv"), "must end in .jsonl, .json, .parquet, got 'x.csv'"),
        (("--model", "gone"), "gone: there is no such folder"),
        (("--model", "none"), "Name the model"),
        (("--task", "re"), "is an entity model"),
    ],
)
def test_options_that_cannot_be(run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run("--text", "Jordan", *arguments)
    assert message in str(stopped.value)


def test_ranges_are_checked_before_a_model_is_loaded(run):
    for name in ("html_limit", "batch_size", "top_entities", "limit"):
        with pytest.raises(SystemExit, match=f"{name} must be at least 1, got 0"):
            run("--model", "gone", "--text", "Jordan", f"--{name}", 0)


def test_inputs_that_cannot_be(run, tweets, tmp_path):
    (tmp_path / "bad.xml").touch()
    for arguments, message in [
        ((), "Give exactly one of --text, --input, --dataset, got none."),
        (("--text", "Jordan", "--input", tweets), "--dataset, got --text and --input."),
        (("--text", "Jordan", "--dataset", "demo", "--input", tweets), "got --text and --input and --dataset."),
        (("--input", tweets, "--image", "a.png"), "--image can be used only with --text, got --input."),
        (("--dataset", "demo", "--aux_crops", "a", "--rcnn_crops", "b"), "--aux_crops, --rcnn_crops can be used only"),
        (("--input", tweets, "--device", "foo"), "--device must be a device of this machine (cpu"),
        (("--input", tmp_path / "gone.jsonl"), "gone.jsonl"),
        (("--input", tmp_path / "bad.xml"), "bad.xml: expected a file ending in"),
        (("--input", tmp_path / "*.txt", "--output", tmp_path / "b.txt"), "must end in .jsonl"),
        (("--input", tmp_path / "*.*", "--output", tmp_path / "b.jsonl"), "would be one of the files that are read"),
        (("--dataset", tmp_path / "b.jsonl", "--output", tmp_path / "b.jsonl"), "would be one of the files"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            run(*arguments)
        assert message in str(stopped.value)


def test_where_no_row_can_be_used_the_command_fails(run, tmp_path, capsys):
    (tmp_path / "tweets.csv").write_text("tweet\nJordan\n")
    for arguments in ((), ("--output", tmp_path / "out.jsonl")):
        with pytest.raises(SystemExit, match="None of the 1 rows could be used"):
            run("--input", tmp_path / "tweets.csv", *arguments)
        printed = capsys.readouterr()
        assert "tweets.csv:2: " in (printed.out if arguments else printed.err)


def test_relations_of_csv_and_of_the_command_line(run, predicted, relation_checkpoint, tmp_path):
    (tmp_path / "pairs.csv").write_text("text,head,tail\nJordan met New York,New York,Jordan\nJordan met,,met\n")
    first, second = predicted("--model", relation_checkpoint, "--input", tmp_path / "pairs.csv")
    assert first["head"] == {"word": "New York", "start": 11, "end": 19}
    assert second["problems"][0].startswith("head: ") and "relation" not in second
    pair = ("--text", first["text"], "--head", "New York", "--tail", "Jordan")
    (line,) = run("--model", relation_checkpoint, *pair).out.splitlines()
    assert json.loads(line) == {**first, "score": pytest.approx(first["score"], abs=1e-5)}


def test_relations_of_a_data_set(predicted, run, relation_checkpoint, tmp_path):
    entities = {"head": {"name": "York", "start": 2, "end": 3}, "tail": {"name": "Jordan", "start": 0, "end": 1}}
    row = {"image_id": "", "tokens": ["Jordan", "met", "York"], **entities, "relation": 0, "image": None}
    rows = [{**row, "id": name, "aux_crops": [], "rcnn_crops": []} for name in "abc"]
    (tmp_path / "mine").mkdir()
    Dataset.from_list(rows, features=re_features(["None"])).to_parquet(tmp_path / "mine" / "test.parquet")
    flags = ("--model", relation_checkpoint, "--cache_dir", tmp_path / "cache", "--limit", 2)
    results = predicted(*flags, "--dataset", tmp_path / "mine")
    assert [result["id"] for result in results] == ["a", "b"] and all(result["relation"] for result in results)
    assert results[0]["head"] == {"word": "York", "start": 11, "end": 15}
    (tmp_path / "tags.jsonl").write_text(json.dumps({"tokens": ["Jordan"], "ner_tags": ["B-PER"]}))
    with pytest.raises(SystemExit, match=r"tags.jsonl train has no columns head and tail"):
        run(*flags, "--dataset", tmp_path / "tags.jsonl", "--split", "train")


def test_triples(run, relation_checkpoint):
    printed = run("--text", "Jordan met Paris in New York", "--relation_model", relation_checkpoint)
    (line,) = map(json.loads, printed.out.splitlines())
    assert line["relations"] and {"head", "tail", "relation", "score"} == set(line["relations"][0])


def test_types_that_relations_allow(run, relation_checkpoint, tmp_path):
    """Nothing is found where none is allowed. They are compared when an output is gone on with."""
    (tmp_path / "tweets.txt").write_text("Jordan met Paris in New York")
    (tmp_path / "none.json").write_text('{"<b>peer": [], "/per/loc/in": []}')
    (tmp_path / "every.json").write_text("{}")
    flags = ("--input", tmp_path / "tweets.txt", "--relation_model", relation_checkpoint)
    flags += ("--output", tmp_path / "out.jsonl", "--relation_types")
    run(*flags, tmp_path / "none.json")
    assert json.loads((tmp_path / "out.jsonl").read_text())["relations"] == []
    assert "is finished: nothing to do" in run(*flags, tmp_path / "none.json").out
    with pytest.raises(SystemExit, match=r"with other settings \(other relation_types\)"):
        run(*flags, tmp_path / "every.json")
    run(*flags, tmp_path / "every.json", "--overwrite")
    assert json.loads((tmp_path / "out.jsonl").read_text())["relations"]
    (tmp_path / "every.json").write_text('{"friend": []}')
    with pytest.raises(
        SystemExit, match=r"every\.json names the relation 'friend', but the model knows only None, <b>"
    ):
        run(*flags, tmp_path / "every.json", "--overwrite")


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("re", ("--text", "x", "--head", "x", "--tail", "y", "--explain", "attention"), "--explain works only for"),
        ("re", ("--input", "gone.jsonl", "--top_entities", 3), "--top_entities works only for entity models; "),
        ("re", ("--input", "gone.jsonl", "--relation_model", "re"), "--relation_model works only for entity models"),
        ("re", ("--input", "gone.jsonl", "--relation_types", "a.json"), "--relation_types works only for entity mod"),
        ("ner", ("--input", "gone.jsonl", "--relation_types", "a.json"), "Name one: --relation_model"),
        ("re", ("--text", "Jordan met Paris", "--head", "Jordan"), "Name two entities of the --text"),
        ("re", ("--input", "a.jsonl", "--head", "Jordan"), "work only with a --text and a relation model"),
        ("ner", ("--text", "Jordan met Paris", "--head", "Jordan"), "work only with a --text and a relation model"),
    ],
)
def test_options_of_another_task_are_refused_before_rows_are_read(
    run, checkpoint, relation_checkpoint, model, arguments, message
):
    with pytest.raises(SystemExit, match=message):
        run("--model", {"re": relation_checkpoint, "ner": checkpoint}[model], *arguments)


def test_help_shows_examples_as_they_are_written(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    shown = capsys.readouterr().out
    assert '\n    python scripts/predict.py --model runs/demo --text "Jordan was great tonight"' in shown
    assert "(default: 32)" in shown
