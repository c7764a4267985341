import json
import shutil

import pytest
from PIL import Image, ImageDraw, ImageFont

from processing.contexts import ContextOptions, preparation, prepare_contexts
from processing.contexts.readers import OCR_FAILED
from processing.data import load_data
from processing.jobs.processes import JobError
from processing.problems import Problem


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def source(tmp_path):
    """Rows of one's own: a picture in two rows, one with letters, one damaged, one row without; and a context."""
    folder = tmp_path / "own"
    folder.mkdir()
    sign = Image.new("RGB", (420, 120), "white")
    ImageDraw.Draw(sign).text((20, 30), "OPEN DAY", fill="black", font=ImageFont.load_default(40))
    sign.save(folder / "sign.png")
    Image.new("RGB", (60, 40), "blue").save(folder / "blue.png")
    (folder / "damaged.png").write_bytes(b"no picture")
    rows = [
        {"id": "a", "image": "sign.png"},
        {"id": "b", "image": "blue.png", "context": ["known", {"kind": "knowledge", "text": "a player"}]},
        {"id": "c", "image": "damaged.png"},
        {"id": "d"},
        {"id": "e", "image": "sign.png"},
    ]
    text = {"text": "Jordan met Paris", "spans": [{"start": 0, "end": 6, "label": "PER"}]}
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(text | row) + "\n" for row in rows))
    return load_data(str(folder))[0]


def read(folder):
    data, _ = load_data(str(folder))
    return {row["id"]: [(part["kind"], part["text"]) for part in row["context"]] for row in data["train"]}, data


def test_captions_stand_behind_what_rows_have(source, tiny_captioner, tmp_path, monkeypatch):
    options = ContextOptions(caption_model=str(tiny_captioner("git")), max_caption_tokens=8)
    summary = prepare_contexts(source, tmp_path / "out", options, name="own", batch_size=2, rows_per_shard=3)
    counts = {"rows": 5, "pictures": 3, "pictures_unreadable": 1, "caption": 3, "rows_with_context": 3}
    assert summary["splits"] == {"train": counts, "validation": counts}
    assert [(item["split"], item["id"], item["column"]) for item in summary["unreadable"]] == [
        ("train", "c", "image"),
        ("validation", "c", "image"),
    ]
    contexts, data = read(tmp_path / "out")
    (caption,) = contexts["a"]
    assert caption[0] == "caption" and caption[1] and contexts["e"] == [caption]
    assert contexts["b"][:2] == [(None, "known"), ("knowledge", "a player")] and len(contexts["b"]) == 3
    assert contexts["c"] == contexts["d"] == []
    assert [row["image"] is None for row in data["train"]] == [False, False, True, True, False]
    assert data["train"]["text"][:] == source["train"]["text"][:]

    # It is finished, and nothing is loaded again; other settings are refused.
    monkeypatch.setattr(preparation, "Captioner", None)
    again = {"name": "own", "rows_per_shard": 3}
    assert prepare_contexts(source, tmp_path / "out", options, **again) is None
    other = ContextOptions(caption_model=options.caption_model, max_caption_tokens=9)
    with pytest.raises(JobError, match=r"was made from other data or with other settings \(captions: "):
        prepare_contexts(source, tmp_path / "out", other, **again)


def test_a_model_that_is_not_there(source, tmp_path):
    options = ContextOptions(caption_model=str(tmp_path / "nosuch"))
    with pytest.raises(JobError, match=r"caption_model .*nosuch"):
        prepare_contexts(source, tmp_path / "out", options, name="own")


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_letters(source, tmp_path):
    summary = prepare_contexts(source, tmp_path / "out", ContextOptions(ocr=True), name="own")
    assert summary["splits"]["train"]["ocr"] == 2
    contexts, _ = read(tmp_path / "out")
    assert contexts["a"] == contexts["e"] == [("ocr", "OPEN DAY")] and len(contexts["b"]) == 2


def test_letters_that_cannot_be_read_are_told(source, tmp_path, monkeypatch):
    class Failing:
        version, languages = "5", ["eng"]

        def __init__(self, *options):
            pass

        def __call__(self, images):
            return [Problem(OCR_FAILED, "image", details="(TimeoutExpired)")] * len(images)

    monkeypatch.setattr(preparation, "LetterReader", Failing)
    summary = prepare_contexts(source, tmp_path / "out", ContextOptions(ocr=True), name="own")
    told = [item for item in summary["unreadable"] if OCR_FAILED in item["reason"]]
    assert {item["id"] for item in told} == {"a", "b", "e"} and summary["splits"]["train"]["ocr"] == 0


def test_each_of_several_pictures_is_read(tmp_path, monkeypatch):
    class Naming:
        version, languages = "5", ["eng"]

        def __init__(self, *options):
            pass

        def __call__(self, images):
            return [f"{image.width} wide" for image in images]

    monkeypatch.setattr(preparation, "LetterReader", Naming)
    folder = tmp_path / "own"
    folder.mkdir()
    for width in (10, 20):
        Image.new("RGB", (width, 9)).save(folder / f"{width}.png")
    (folder / "damaged.png").write_bytes(b"no picture")
    row = {"text": "Jordan met Paris", "spans": [], "aux_crops": ["10.png"]}
    row["aux_objects"] = [{"label": "dog", "score": None, "box": [0, 0, 9, 9], "image": 2}]
    rows = [{**row, "id": "a", "image": ["20.png", "damaged.png", "10.png"]}, {**row, "id": "b", "image": "20.png"}]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = load_data(str(folder))[0]
    summary = prepare_contexts(source, tmp_path / "out", ContextOptions(ocr=True), name="own")
    contexts, data = read(tmp_path / "out")
    assert contexts == {"a": [("ocr", "20 wide"), ("ocr", "10 wide")], "b": [("ocr", "20 wide")]}
    assert [len(row["image"]) for row in data["train"]] == [2, 1]
    assert [row["aux_objects"][0]["image"] for row in data["train"]] == [1, 2]
    counts = summary["splits"]["train"]
    assert (counts["pictures"], counts["pictures_unreadable"], counts["ocr"]) == (3, 1, 3)
