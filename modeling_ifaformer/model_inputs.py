"""What every model checks of its inputs, and which positions its CRF scores where nothing is said of that."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.utils import logging

from .configuration_ifaformer import TaggerConfig
from .packing import values_at_hand


logger = logging.get_logger(__name__)


def check_texts(text_shape: Sequence[int], attention_mask: torch.Tensor | None, max_length: int | None) -> None:
    """
    Check the shape (batch_size, seq_length) of texts and their mask (batch_size, seq_length).

    Raises:
        ValueError: for texts longer than `max_length`, a mask of another shape, and a text without a single token.
    """
    if max_length is not None and text_shape[1] > max_length:
        raise ValueError(
            f"The text has {text_shape[1]} tokens, the text tower has positions for {max_length}. Give the processor "
            "a smaller max_length (it truncates and counts what is lost)."
        )
    if attention_mask is None:
        return
    if tuple(attention_mask.shape) != tuple(text_shape):
        raise ValueError(
            f"attention_mask must have the shape of input_ids, {tuple(text_shape)}, got {tuple(attention_mask.shape)}."
        )
    if values_at_hand(attention_mask) and not attention_mask.any(dim=1).all():
        empty = (~attention_mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(f"attention_mask is all zeros in rows {empty}: every text needs at least one token.")


def given_pictures(
    config: TaggerConfig,
    batch_size: int,
    pixel_values: torch.Tensor | None,
    image_mask: torch.Tensor | None,
    crops: Mapping[str, tuple[torch.Tensor | None, torch.Tensor | None]],
    picture_shape: Sequence[int],
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """
    The pictures that a batch has and a model looks at, and which of them are real.

    Args:
        pixel_values, image_mask: whole pictures (batch_size, channels, height, width) and their mask (batch_size,), or
            several of each text (batch_size, number, channels, height, width) and their mask (batch_size, number).
        crops: by kind, `"aux"` and `"rcnn"`, pixels (batch_size, number, channels, size, size) and mask
            (batch_size, number). Masks that are None are all real.
        picture_shape: channels, height and width of a whole picture.

    Returns:
        By kind, `"whole"` and those of crops, pixels (batch_size, number, channels, height, width) and bool
        (batch_size, number). Without the kinds that are not there.

    Raises:
        ValueError: as [`check_pictures`], and for more pictures or crops than configured.
    """
    given = {}
    if pixel_values is not None and config.use_whole_image:
        if pixel_values.dim() == len(picture_shape) + 2:
            check_number("pixel_values", pixel_values.shape[1], "pictures a text", config.max_images)
            shape = (batch_size, pixel_values.shape[1])
            check_pictures("pixel_values", pixel_values, "image_mask", image_mask, shape, picture_shape)
            given["whole"] = pixel_values, image_mask
        else:
            check_pictures("pixel_values", pixel_values, "image_mask", image_mask, (batch_size,), picture_shape)
            given["whole"] = pixel_values[:, None], None if image_mask is None else image_mask[:, None]
    elif pixel_values is not None and not torch.compiler.is_compiling():
        logger.warning_once("pixel_values are not looked at: the configuration has use_whole_image=False.")
    for kind, (pixels, mask) in crops.items():
        if pixels is not None and pixels.shape[1] > 0:
            check_crops(kind, pixels, mask, batch_size, config, picture_shape[0])
            given[kind] = pixels, mask
    return {
        kind: (pixels, pixels.new_ones(pixels.shape[:2], dtype=torch.bool) if mask is None else mask.bool())
        for kind, (pixels, mask) in given.items()
    }


def check_number(name: str, number: int, of_what: str, most: int) -> None:
    """Raise a ValueError for more pictures or crops in an input than configured."""
    if number > most:
        raise ValueError(f"{name} holds {number} {of_what}, the configuration allows {most}.")


def check_pictures(
    name: str,
    pixels: torch.Tensor,
    mask_name: str,
    mask: torch.Tensor | None,
    shape: Sequence[int | str],
    picture_shape: Sequence[int],
) -> None:
    """
    Raise a ValueError for pictures or crops that are not of `shape` (rows, and of crops their number) and
    `picture_shape` (channels, height, width), for a mask that is not of `shape`, and for uint8 pixels.
    """
    expected = (*shape, *picture_shape)
    if pixels.dtype == torch.uint8:
        raise ValueError(
            f"{name} holds uint8 pixels. The processor's data_collator normalises them, and so does its "
            "normalized(batch)."
        )
    if tuple(pixels.shape) != expected:
        raise ValueError(f"{name} must have shape {expected}, got {tuple(pixels.shape)}.")
    if mask is not None and tuple(mask.shape) != tuple(shape):
        raise ValueError(f"{mask_name} must have shape {tuple(shape)}, got {tuple(mask.shape)}.")


def check_crops(
    kind: str, pixels: torch.Tensor, mask: torch.Tensor | None, batch_size: int, config: TaggerConfig, channels: int
) -> None:
    """The same for the crops of a kind, `"aux"` or `"rcnn"`, (batch_size, number of crops, channels, size, size)."""
    number, size = pixels.shape[1], getattr(config, f"{kind}_crop_size")
    name, most = f"{kind}_pixel_values", getattr(config, f"num_{kind}_crops") * config.max_images
    if pixels.dim() == 5:
        check_number(name, number, "crops a picture" if config.max_images == 1 else "crops a text", most)
    shape = (batch_size, number if pixels.dim() == 5 else "number of crops")
    check_pictures(name, pixels, f"{kind}_crop_mask", mask, shape, (channels, size, size))


def scored_mask(
    config: TaggerConfig,
    logits: torch.Tensor,
    attention_mask: torch.Tensor | None,
    crf_mask: torch.Tensor | None,
    labels: torch.Tensor | None,
) -> torch.Tensor:
    """
    The positions (batch_size, seq_length) that the CRF scores: `crf_mask`, else those with a label, else in the
    `deepke` scheme every token. In the `word` scheme a ValueError says that the mask is needed.
    """
    if crf_mask is not None:
        return crf_mask
    if labels is not None:
        return labels != -100
    if config.label_scheme == "deepke":
        return logits.new_ones(logits.shape[:2]).bool() if attention_mask is None else attention_mask.bool()
    raise ValueError(
        "Neither crf_mask nor labels were given, so the first token of each word is unknown "
        "(label_scheme='word'). Pass the crf_mask that the processor returns. In a pipeline, the task is "
        "multimodal-token-classification."
    )


def warn_without_labels(is_training: bool, labels: torch.Tensor | None) -> None:
    """Say once that a model in training mode gets no labels, and so computes no loss of its CRF."""
    if is_training and labels is None and not torch.compiler.is_compiling():
        logger.warning_once(
            "The model is in training mode and gets no labels, so that it computes no loss of its CRF. A Trainer "
            "with label_smoothing_factor or compute_loss_func keeps them from it: its loss then trains the "
            "classifier alone."
        )


def warn_of_unused(system: str, inputs: Mapping[str, Any]) -> None:
    """Say once which of these inputs of a baseline are given, and so are without effect."""
    names = [name for name, value in inputs.items() if value is not None and value is not False]
    if names and not torch.compiler.is_compiling():
        logger.warning_once(
            f"The system {system} does not use {', '.join(names)}. Baselines return neither hidden states nor "
            "attentions."
        )
