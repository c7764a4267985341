"""Tiny baselines with random weights, in each of which every parameter matters."""

import pytest
import torch
from transformers import CLIPImageProcessorPil

from modeling_ifaformer import BaselineConfig, BaselineForTokenClassification
from processing.features.tokenizer_training import make_word_tokenizer


TOWER = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
TEXT_CONFIG = {**TOWER, "vocab_size": 99, "max_position_embeddings": 50}
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
# Of both, pictures of 48 pixels become a grid of 3 x 3.
RESNET = {"embedding_size": 4, "hidden_sizes": [4, 8, 20], "depths": [1, 1, 1], "layer_type": "basic"}
VISION_CONFIGS = {
    "resnet": {"model_type": "resnet", **RESNET},
    "clip": {"model_type": "clip_vision_model", **TOWER, "image_size": 48, "patch_size": 16},
}
SIZES = {"co_attention_size": 10, "connection_layers": 2, "vision_stream_size": 12, "vision_stream_heads": 2}
SIZES |= {"vision_stream_intermediate_size": 14, "connection_size": 16, "connection_heads": 4, "word_size": 10}
SIZES |= {"byte_size": 6, "num_byte_filters": 5, "max_word_bytes": 6, "lstm_size": 7, "prefix_hidden_size": 11}


@pytest.fixture(scope="session")
def baseline_config():
    """`baseline_config("umt", field=value, ...)`."""

    def make(system, vision="resnet", **fields):
        towers = {"vocab_size": 99}
        if system != "cnn_bilstm":
            towers = {"text_config": TEXT_CONFIG, "vision_config": VISION_CONFIGS[vision], "num_aux_crops": 2}
        labels = {"id2label": dict(enumerate(LABELS))}
        sizes = {"image_size": 48, "rcnn_crop_size": 48}
        return BaselineConfig(**{"system": system, **sizes, **towers, **SIZES, **labels, **fields})

    return make


@pytest.fixture(scope="session")
def baseline(baseline_config):
    """`baseline("umt", field=value, ...)` -> the model in evaluation mode."""

    def make(*args, **fields):
        torch.manual_seed(0)
        model = BaselineForTokenClassification(baseline_config(*args, **fields)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            for module in model.modules():
                if isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
                    module.weight[module.padding_idx] = 0.0
        return model

    return make


@pytest.fixture(scope="session")
def baseline_processor(make_processor):
    """The processor of such a model for rows without crops."""

    def make(system):
        crops = {"num_aux_crops": 0, "num_rcnn_crops": 0, "aux_crop_size": 48, "rcnn_crop_size": 48}
        if system == "cnn_bilstm":
            words = make_word_tokenizer(["Jordan", "met", "Paris"])
            return make_processor(words, max_word_bytes=6, use_whole_image=False, **crops)
        processor = make_processor(**crops)
        processor.image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}
        )
        return processor

    return make


@pytest.fixture
def baseline_inputs():
    """Random inputs: three texts of 7, 5 and 2 tokens; one has a picture and a crop, one a crop, one nothing."""

    def make(system="umt", seed=0):
        generator = torch.Generator().manual_seed(seed)
        attention_mask = (torch.arange(7) < torch.tensor([7, 5, 2])[:, None]).long()
        crf_mask = attention_mask.bool().clone()
        crf_mask[0, 3] = False  # a hole: the second piece of a word
        inputs = {
            "input_ids": torch.randint(1, 90, (3, 7), generator=generator) * attention_mask,
            "attention_mask": attention_mask,
            "crf_mask": crf_mask,
        }
        if system == "cnn_bilstm":
            bytes_of_words = torch.randint(1, 257, (3, 7, 6), generator=generator)
            lengths = torch.randint(1, 7, (3, 7, 1), generator=generator)
            inputs["byte_ids"] = bytes_of_words * (torch.arange(6) < lengths) * attention_mask[..., None]
            return inputs
        return inputs | {
            "pixel_values": torch.randn(3, 3, 48, 48, generator=generator),
            "image_mask": torch.tensor([True, False, False]),
            "aux_pixel_values": torch.randn(3, 2, 3, 48, 48, generator=generator),
            "aux_crop_mask": torch.tensor([[True, False], [True, False], [False, False]]),
        }

    return make
