"""
The graph of a model: text and pictures in, logits out. One graph serves every batch size, text length and number of
pictures and crops, none included. The CRF is no part of it, for Viterbi would make the length a constant.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from transformers.exporters import OnnxConfig, OnnxExporter

from modeling_ifaformer.towers import WordShapeEmbedding
from processing.columns import CROP_KINDS


# A size of 0 or 1 in the sample would be burnt in, and so would be two sizes that are equal.
BATCH_SIZE, SEQ_LENGTH, NUM_IMAGES, NUM_CROPS = 2, 9, 5, {"aux": 4, "rcnn": 3}
# An upper bound of the sample's number would make it a constant too. What is too many is the processor's to refuse.
ANY_NUMBER = 16


class GraphOfModel(torch.nn.Module):
    """A mixin in front of a model's class, whose `forward` gives logits alone, of what a graph is fed."""

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """`logits` (batch_size, seq_length, num_tags), or (batch_size, number of relations)."""
        model: Any = self
        if hasattr(model, "crf"):
            hidden_states = model.ifaformer(**inputs, output_pooled=False, return_dict=True).last_hidden_state
            return {"logits": model.classifier(hidden_states)}
        return {"logits": super().forward(**inputs, return_dict=True).logits}


def check_exportable(model: Any, processor: Any) -> None:
    """Raise a ValueError for a model that no graph of this kind can stand for."""
    config = model.config
    if not hasattr(model, "ifaformer"):
        raise ValueError(f"Only IFAformer models are exported, and this one is a {type(model).__name__}.")
    if config.attention_variant == "deepke":
        raise ValueError(
            "The attention variant deepke depends on the length to which texts are padded, and a graph is for every "
            "length. Train the variant corrected."
        )
    if not processor.tokenizer.is_fast:
        raise ValueError(
            f"The tokenizer ({type(processor.tokenizer).__name__}) is written in Python, and exported models have "
            "only the library tokenizers. Train with a text tower that has a tokenizer.json."
        )


def graph_inputs(config: Any, names: list[str]) -> dict[str, Sequence[int | None]]:
    """
    The inputs of the graph, name -> shape with None for any size, of a model whose tokenizer gives `names`. A model
    whose text does not attend to pictures has none of them.
    """
    inputs: dict[str, Sequence[int | None]] = {"input_ids": [None, None], "attention_mask": [None, None]}
    if "token_type_ids" in names and hasattr(config.text_config, "type_vocab_size"):
        inputs["token_type_ids"] = [None, None]
    if config.word_shapes:
        inputs["word_shape_ids"] = [None, None]
    if not config.text_attends_vision:
        return inputs
    if config.use_whole_image:
        inputs["pixel_values"] = [None, None, 3, config.picture_size, config.picture_size]
        inputs["image_mask"] = [None, None]
    for kind in CROP_KINDS:
        if getattr(config, f"num_{kind}_crops"):
            size = getattr(config, f"{kind}_crop_size")
            inputs |= {f"{kind}_pixel_values": [None, None, 3, size, size], f"{kind}_crop_mask": [None, None]}
    return inputs


def sample_batch(
    config: Any,
    inputs: Mapping[str, Sequence[int | None]],
    batch_size: int = BATCH_SIZE,
    seq_length: int = SEQ_LENGTH,
    num_images: int = NUM_IMAGES,
    num_crops: Mapping[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """A random batch of these sizes with padding and absent pictures, the same each time."""
    generator = torch.Generator().manual_seed(0)
    numbers = {"pixel_values": num_images, "image_mask": num_images}
    for kind in CROP_KINDS:
        numbers |= dict.fromkeys((f"{kind}_pixel_values", f"{kind}_crop_mask"), (num_crops or NUM_CROPS)[kind])
    batch = {}
    for name, shape in inputs.items():
        sides: Any = [batch_size, numbers.get(name, seq_length), *shape[2:]]
        if name.endswith("pixel_values"):
            batch[name] = torch.randn(*sides, generator=generator)
        elif name in numbers:
            batch[name] = torch.ones(*sides, dtype=torch.bool)
            batch[name][-1, sides[1] // 2 :] = False
        elif name == "input_ids":
            batch[name] = torch.randint(1, config.text_config.vocab_size, sides, generator=generator)
        else:
            batch[name] = torch.full(sides, int(name == "attention_mask"))
    markers = [config.head_marker_token_id, config.tail_marker_token_id]
    if None not in markers:  # each of the two exactly once
        ids = batch["input_ids"]
        other = next(number for number in range(1, config.text_config.vocab_size) if number not in markers)
        for marker, place in zip(markers, (0, seq_length - 2), strict=True):
            ids[ids == marker] = other
            ids[:, place] = marker
    elif seq_length > 1:
        batch["attention_mask"][0, -1] = 0
    return batch


def write_onnx(model: Any, inputs: Mapping[str, Sequence[int | None]], file: Path) -> None:
    """
    Write the graph of a model, and its weights beside it as `FILE.data`.

    Args:
        model: on the CPU, in float32 and in evaluation mode.
        inputs: as [`graph_inputs`] gives them.
    """
    with traced(model), scales_folded(model), quiet():
        sample: Any = sample_batch(model.config, inputs)
        exported = OnnxExporter().export(model, sample, OnnxConfig(dynamic=True))
        OnnxExporter.save_program(exported.program, file)


@contextmanager
def traced(model: Any) -> Iterator[None]:
    """While this is open, the model is a [`GraphOfModel`] that takes any number of pictures."""
    own_class, number = type(model), model.config.max_images
    model.__class__ = type(own_class.__name__, (GraphOfModel, own_class), {})
    model.config.max_images = ANY_NUMBER
    try:
        yield
    finally:
        model.__class__, model.config.max_images = own_class, number
        vars(model).pop("forward", None)  # which the exporter leaves there


@contextmanager
def scales_folded(model: Any) -> Iterator[None]:
    """
    While this is open, the scale of word shapes is in their weights: OpenVINO 2026.4 compiles no 8-bit graph in which
    an embedding is multiplied.
    """
    scaled: list[Any] = [module for module in model.modules() if isinstance(module, WordShapeEmbedding)]
    weights = [module.weight.data for module in scaled]
    for module in scaled:
        module.__class__, module.weight.data = torch.nn.Embedding, module.SCALE * module.weight.data
    try:
        yield
    finally:
        for module, weight in zip(scaled, weights, strict=True):
            module.__class__, module.weight.data = WordShapeEmbedding, weight


@contextmanager
def quiet() -> Iterator[None]:
    """While this is open, nothing is shown of what the exporters print and of warnings that no user can act upon."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
