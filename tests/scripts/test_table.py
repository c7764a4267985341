"""table.py as a user runs it, on a few rows of data and tiny towers."""

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml
from PIL import Image


TIME_LIMIT = 300  # seconds; nothing takes that long
TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The file of a table on data of its own."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "tweets").mkdir()
    Image.new("RGB", (32, 32), "teal").save(folder / "tweets" / "a.png")
    row = {"tokens": ["Jordan", "met", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"], "image": "a.png"}
    for split in ("train", "validation", "test"):
        lines = [json.dumps({"id": f"{split}-{number}", **row}) for number in range(4)]
        (folder / "tweets" / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    common = {
        "dataset": str(folder / "tweets"),
        "text_config": TOWER,
        "vision_config": {**TOWER, "image_size": 32, "patch_size": 16},
        "num_train_epochs": 1,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
    }
    rows = {
        "ifaformer": {"name": "IFAformer", "options": {"num_aux_crops": 0, "num_rcnn_crops": 0}},
        "bert": {"name": "BERT-CRF", "options": {"text_attends_vision": False}},
        "mtb": {"name": "MTB", "options": {}, "needs": {"no/such/folder": "It needs MTB weights."}},
        "broken": {"name": "Broken", "options": {"text_model": "no/such/model"}},
    }
    content = {"title": "Tiny", "note": "Tiny towers.", "common": common, "rows": rows}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder / "tiny.yaml"


def test_rows_are_trained_kept_and_told(table, run_script, tmp_path):
    output = tmp_path / "out"
    options = ("--output_dir", output, "--cache_dir", tmp_path / "cache")

    def rows():
        return {row["key"]: row for row in json.loads((output / "table.json").read_text(encoding="utf-8"))["rows"]}

    printed = run_script("table.py", table, *options, "--rows", "bert").stdout
    assert "BERT-CRF ..." in printed and "IFAformer" not in printed
    assert list(rows()) == ["ifaformer", "bert", "mtb", "broken"]
    assert "Not run yet" in rows()["ifaformer"]["not_run"]
    model = output / "bert" / "run" / "seed-1" / "model.safetensors"
    before = model.stat().st_mtime_ns
    chosen = ("--rows", "mtb", "broken", "ifaformer")
    result = run_script("table.py", table, *options, *chosen, exit_code=1)
    assert "not run: It needs MTB weights." in result.stdout
    assert (
        result.stderr.splitlines()[-1].startswith("These rows ended with an error, which")
        and "broken." in result.stderr
    )
    found = rows()
    for key in ("ifaformer", "bert"):
        results = json.loads((output / key / "run" / "seed-1" / "results.json").read_text(encoding="utf-8"))
        assert (
            found[key]["word"]["f1"]["mean"] == results["test"]["f1"] == found[key]["published_protocol"]["f1"]["mean"]
        )
        assert found[key]["validation"]["f1"]["mean"] == results["validation"]["f1"]
        assert found[key]["seconds"] == results["train_seconds"]
        assert found[key]["parameters"] == results["num_parameters"]
    assert "word_shuffled" in found["ifaformer"] and "word_shuffled" not in found["bert"]
    assert found["bert"]["trained_parameters"] < found["bert"]["parameters"] < found["ifaformer"]["parameters"]
    assert "no/such/model" in found["broken"]["not_run"] and "train.log" in found["broken"]["not_run"]
    page = (output / "table.md").read_text(encoding="utf-8")
    assert "| IFAformer | whole picture |" in page and "| BERT-CRF | nothing |" in page
    assert "- MTB: It needs MTB weights." in page
    assert Image.open(output / "table.png").width > 500

    other = table.with_name("other.yaml")
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    content["rows"]["bert"]["options"]["learning_rate"] = 0.5
    other.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    said = run_script("table.py", other, *options, exit_code=1).stderr
    assert f"{output / 'bert'}: learning_rate: None before, 0.5 now" in said and "name another output folder" in said
    assert (output / "table.md").read_text(encoding="utf-8") == page
    run_script("table.py", table, *options, "--rows", "bert")
    assert rows()["bert"] == found["bert"] and model.stat().st_mtime_ns == before, "it is kept"


def test_a_table_that_is_killed_goes_on(table, repository, run_script, tmp_path):
    """The training that it runs saves its state and ends with it. The next call goes on from there, and keeps rows."""
    output, cache = tmp_path / "out", tmp_path / "cache"
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    content["rows"] = {"first": content["rows"]["bert"], "second": content["rows"]["ifaformer"]}
    content["rows"]["second"]["options"] |= {"num_train_epochs": 40, "save_total_limit": 1}
    file = table.with_name("long.yaml")
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    options = [str(file), "--output_dir", str(output), "--cache_dir", str(cache)]
    run_script("table.py", *options, "--rows", "first")
    first = (output / "first" / "run" / "seed-1" / "model.safetensors").stat().st_mtime_ns

    run, log = output / "second" / "run" / "seed-1", output / "second" / "train.log"
    process = subprocess.Popen([sys.executable, repository / "scripts" / "table.py", *options])
    try:
        end = time.monotonic() + TIME_LIMIT
        while not list(run.glob("checkpoint-*/trainer_state.json")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIME_LIMIT) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert "SIGTERM stopped the training after step" in log.read_text(encoding="utf-8")
    assert not (run / "results.json").exists()

    assert "F1" in run_script("table.py", *options).stdout
    assert "Going on from" in log.read_text(encoding="utf-8")
    rows = json.loads((output / "table.json").read_text(encoding="utf-8"))["rows"]
    assert [row["key"] for row in rows if "word" in row] == ["first", "second"]
    assert (output / "first" / "run" / "seed-1" / "model.safetensors").stat().st_mtime_ns == first, "it is kept"


def test_what_cannot_be_asked_for(table, run_script, tmp_path):
    for arguments, said in (
        ((), "Name the table, a YAML file or one of demo"),
        ((table, "--rows", "umtt"), "The table has no row umtt. Its rows are ifaformer, bert, mtb, broken."),
        ((table, "--seeds", "1", "1"), "--seeds must differ, got 1 1."),
        ((tmp_path / "none.yaml",), "none.yaml."),
    ):
        result = run_script("table.py", *arguments, "--output_dir", tmp_path / "out", exit_code=1)
        assert said in result.stderr and "Traceback" not in result.stderr
