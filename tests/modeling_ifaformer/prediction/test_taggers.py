"""Seconds by stage."""

from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from modeling_ifaformer import IFAformerForTokenClassification
from processing.labels import label_maps


def test_each_stage_has_its_seconds(make_config, make_processor, tiny_detector, monkeypatch):
    timed_pipeline = import_module("modeling_ifaformer.prediction.taggers")
    processor = make_processor()
    model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
    tagger = timed_pipeline.TimedPipeline(model, processor=processor, rcnn_detector=tiny_detector("detr"))
    now = iter(range(1000))
    monkeypatch.setattr(timed_pipeline.time, "perf_counter", lambda: next(now))
    row = {"text": "Jordan met Paris", "image": Image.fromarray(np.zeros((90, 90, 3), dtype=np.uint8))}
    tagger([row] * 3, batch_size=2)
    # three rows and two batches to process; two batches to look at; the model and the entities of two batches
    assert tagger.seconds == {"process": 5, "detect": 2, "tag": 4}
    with pytest.raises(ValueError, match="Row 0"):
        tagger([{"text": ""}])
    assert tagger.seconds["process"] == 6


def test_the_clocks_of_the_pipeline_for_relations(relation_checkpoint, monkeypatch):
    timed_pipeline = import_module("modeling_ifaformer.prediction.taggers")
    model, processor = import_module("modeling_ifaformer.checkpoints.trained").load_checkpoint(relation_checkpoint)
    tagger = timed_pipeline.TimedRelationPipeline(model, processor=processor, device="cpu")
    now = iter(range(1000))
    monkeypatch.setattr(timed_pipeline.time, "perf_counter", lambda: next(now))
    results = tagger([{"text": "Jordan met Paris", "head": "Jordan", "tail": "Paris"}] * 3, batch_size=2)
    assert all(result["relation"] and result["head"]["word"] == "Jordan" for result in results)
    assert tagger.seconds == {"process": 5, "tag": 4}
