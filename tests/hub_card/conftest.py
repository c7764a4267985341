"""What the tests of the Space share: its page as a module, and a tiny checkpoint that it can load."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def space_app():
    """`hub_card/space/app.py`, which no package holds."""
    path = Path(__file__).resolve().parents[2] / "hub_card" / "space" / "app.py"
    spec = importlib.util.spec_from_file_location("space_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def checkpoint(make_config, make_processor, tmp_path_factory):
    """Folder of a tiny model with random weights."""
    import torch

    from modeling_ifaformer import IFAformerForTokenClassification
    from processing.labels import label_maps

    folder = tmp_path_factory.mktemp("checkpoint")
    processor = make_processor()
    torch.manual_seed(0)
    model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels)))
    with torch.no_grad():
        model.classifier.weight.mul_(40)  # else nothing is an entity, or all is
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)
