"""What tests of several rooms share: a tiny model and the pipeline around it, and a cache of the test itself."""

import datasets
import pytest
import torch
from transformers.utils import logging

from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerPipeline
from processing.labels import label_maps
from processing.problems import warn_once


@pytest.fixture
def make_model(make_config):
    def make(processor, **kwargs):
        torch.manual_seed(0)
        model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels), **kwargs))
        with torch.no_grad():
            model.classifier.weight.mul_(40)  # else all scores are nearly the same
        return model

    return make


@pytest.fixture
def tagger(make_model, make_processor):
    processor = make_processor()
    return IFAformerPipeline(make_model(processor), processor=processor, device="cpu")


@pytest.fixture
def warned_anew(caplog):
    """`caplog`, in which warnings that are given once a process are given whatever other tests did."""
    logging.warning_once.cache_clear()
    warn_once.cache_clear()
    return caplog


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """What is prepared is kept in a folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
