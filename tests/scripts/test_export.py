"""The command that exports a model."""

import json


def test_export_and_predict(run_script, checkpoint, tmp_path):
    tweets = tmp_path / "tweets.txt"
    tweets.write_text("Jordan met Paris\nChelsea in New York City\n")
    output = tmp_path / "exported"
    done = run_script("export.py", "--model", checkpoint, "--output", output, "--input", tweets)
    assert "On 2 rows 100.00 % of the answers are those of the model" in done.stdout
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
