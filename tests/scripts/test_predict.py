"""Pages, crops and explanations of predict.py; what it shares with the other commands is in test_end_to_end.py."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerPipeline
from processing.labels import label_maps


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
def predict(checkpoint, script_module, monkeypatch, tmp_path):
    """`predict("--flag", ...)` -> the lines written."""

    def run(*arguments):
        output = tmp_path / "out.jsonl"
        flags = ("--model", checkpoint, "--output", output, "--device", "cpu", *arguments)
        monkeypatch.setattr("sys.argv", ["predict.py", *map(str, flags)])
        script_module("predict").main()
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
    assert all("crops" not in result for result in predict("--input", tweets, *detectors, "--crops", "none")[:1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--crops", "some"), "--crops must be one of auto, none, got 'some'"),
        (("--explain", "magic"), "--explain must be one of attention, occlusion, got 'magic'"),
        (("--html_limit", 0), "--html_limit must be at least 1, got 0"),
        (("--aux_threshold", 2), "--aux_threshold must be from 0 to 1, got 2"),
        (("--html", "nodir/x.html"), "nodir/x.html cannot be written"),
    ],
)
def test_options_that_cannot_be(predict, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        predict("--text", "Jordan", *arguments)
    assert message in str(stopped.value)
