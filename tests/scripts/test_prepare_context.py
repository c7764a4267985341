"""prepare_context.py as a command. Its work is in test_preparation.py of the contexts."""

import json

import pytest
from PIL import Image

from ifaformer_commands import prepare_context


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    Image.new("RGB", (60, 40), "blue").save(folder / "blue.png")
    row = {"text": "Jordan met Paris", "spans": [{"start": 0, "end": 6, "label": "PER"}], "image": "blue.png"}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    return "--dataset", folder, "--cache_dir", tmp_path / "cache"


def test_what_is_printed_and_read_again(run_script, own, tiny_captioner, tmp_path):
    out = tmp_path / "out"
    command = ("prepare_context.py", *own, "--caption_model", tiny_captioner("git"), "--output_dir", out)
    lines = run_script(*command).stdout.splitlines()
    assert lines == [
        "train: 1 rows, 1 pictures, 0 pictures unreadable, 1 caption, 1 rows with context",
        f"{out} is finished: data/, contexts.json",
    ]
    assert run_script(*command).stdout.splitlines() == [
        f"{out} is finished: nothing to do. --overwrite makes it anew."
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "Name the folder for the rows"),
        (("--output_dir", "out"), "Name a caption_model, set ocr to true, or both"),
    ],
)
def test_what_is_missing(monkeypatch, own, flags, message):
    monkeypatch.setattr("sys.argv", ["prepare_context.py", *map(str, own), *flags])
    with pytest.raises(SystemExit, match=message):
        prepare_context.main()
