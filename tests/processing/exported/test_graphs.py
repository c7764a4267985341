"""Graphs in onnxruntime and OpenVINO."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from processing.exported import load_exported
from processing.exported.graphs import OPENERS, Graph


INPUTS = {"input_ids": [None, None], "attention_mask": [None, None]}


def test_a_backend_that_is_not_there(exported, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="backend must be one of onnxruntime, openvino, got 'tensorrt'"):
        load_exported(exported, backend="tensorrt")
    with pytest.raises(ValueError, match="holds no graph"):
        Graph(tmp_path, INPUTS)
    (tmp_path / "model.xml").touch()
    with pytest.raises(ValueError, match=r"holds no graph for onnxruntime: model\.onnx is needed"):
        Graph(tmp_path, INPUTS, "onnxruntime")

    def absent(*arguments):
        raise ImportError

    for name in OPENERS:
        monkeypatch.setitem(OPENERS, name, absent)
    with pytest.raises(ImportError, match=r"needs onnxruntime or openvino: pip install onnxruntime\."):
        load_exported(exported)


def test_both_backends_read_one_file_and_give_the_same(exported):
    one, other = (load_exported(exported, backend=backend, num_threads=1) for backend in OPENERS)
    rows = ["Jordan met Paris", {"text": "Chelsea in New York City", "image": np.zeros((30, 20, 3), np.uint8)}]
    logits = [tagger.graph(tagger.read(rows)[1]) for tagger in (one, other)]
    np.testing.assert_allclose(*logits, atol=1e-4)
    assert one.graph.backend == "onnxruntime" and other.graph.backend == "openvino"


def test_what_a_batch_lacks_is_fed_as_nothing(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    tagger = load_exported(folder)
    _, batch = tagger.read(["Jordan met Paris", "Chelsea"])
    fed = tagger.graph.feed(batch)
    assert fed.keys() == tagger.graph.inputs.keys()
    assert fed["pixel_values"].shape == (2, 0, 3, 24, 24) and fed["image_mask"].shape == (2, 0)
    assert Path(tagger.name_or_path) == folder
