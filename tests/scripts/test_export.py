"""The command that exports a model."""

import json
from types import SimpleNamespace

import torch

from ifaformer_commands import export, predict
from modeling_ifaformer.exporting import LEAST_AGREEMENT, PRECISIONS


def test_export_and_predict(run_script, checkpoint, tmp_path):
    tweets = tmp_path / "tweets.txt"
    tweets.write_text("Jordan met Paris\nChelsea in New York City\n")
    output = tmp_path / "exported"
    done = run_script("export.py", "--model", checkpoint, "--output", output, "--input", tweets)
    assert "In float32, 100.00 % of the answers on 2 rows are those of the model" in done.stdout
    found = []
    for model in (checkpoint, output):
        done = run_script("predict.py", "--model", model, "--input", tweets, "--device", "cpu")
        found.append([json.loads(line) for line in done.stdout.splitlines()])
    expected, exported = found
    assert [[of["word"] for of in row["entities"]] for row in exported] == [
        [of["word"] for of in row["entities"]] for row in expected
    ]


def test_what_is_missing_or_given_twice(run_script, checkpoint, tmp_path):
    done = run_script("export.py", "--model", checkpoint, exit_code=1)
    assert "Name the model and the output" in done.stderr
    arguments = ["--model", checkpoint, "--output", tmp_path / "exported"]
    done = run_script("export.py", *arguments, "--precision", "int8", exit_code=1)
    assert "Name data on which they are compared" in done.stderr
    done = run_script("export.py", *arguments, "--input", "a.txt", "--dataset", "demo", exit_code=1)
    assert "Give one of --input and --dataset, got both" in done.stderr


def test_an_exported_model_runs_on_the_cpu_of_a_machine_with_an_accelerator(exported, monkeypatch, capsys):
    state = SimpleNamespace(
        device=torch.device("cuda:0"), num_processes=1, is_main_process=True, destroy_process_group=lambda: None
    )
    monkeypatch.setattr("processing.jobs.processes.process_state", lambda cpu: state)
    monkeypatch.setattr("sys.argv", ["predict.py", "--model", exported, "--text", "Jordan met Paris"])
    predict.main()
    assert json.loads(capsys.readouterr().out)["text"] == "Jordan met Paris"


def test_the_choices_are_those_of_the_room():
    assert tuple(PRECISIONS) == export.FORMATS
    assert {name for of_format in PRECISIONS.values() for name in of_format} == set(export.PRECISIONS)
    assert export.ExportArguments().least_agreement == LEAST_AGREEMENT
