"""Features of single examples -> padded, stacked batches with masks of what is absent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .columns import PIXEL_MASKS


# CLIP's, as transformers has them
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

TOKEN_PADDING = {
    "attention_mask": 0,
    "token_type_ids": 0,
    "byte_ids": 0,
    "word_shape_ids": 0,
    "crf_mask": False,
    "context_mask": False,
    "labels": -100,
}


def pad_tokens(
    features: list[dict[str, Any]], pad_token_id: int, padding_side: str = "right", max_length: int | None = None
) -> dict[str, np.ndarray]:
    """
    Token-level lists as arrays `(batch_size, seq_length)`, `byte_ids` with a third dimension, padded to the longest,
    or to `max_length` if given. A text that is longer, and features without `input_ids`, are a ValueError.
    """
    if "input_ids" not in features[0]:
        raise ValueError(f"Features need input_ids, as IFAformerProcessor returns them; got {sorted(features[0])}.")
    longest = max(len(feature["input_ids"]) for feature in features)
    if max_length is not None and longest > max_length:
        raise ValueError(f"A text of {longest} tokens cannot be padded to max_length={max_length}; truncate it first.")
    seq_length = max_length or longest
    batch = {}
    for name, pad_value in {"input_ids": pad_token_id, **TOKEN_PADDING}.items():
        if name not in features[0] or np.ndim(features[0][name]) == 0:  # a relation is one label, not one a token
            continue
        rows = []
        for feature in features:
            row = np.asarray(feature[name])
            padding = np.full((seq_length - len(row), *row.shape[1:]), pad_value, dtype=row.dtype)
            rows.append(np.concatenate([row, padding] if padding_side == "right" else [padding, row]))
        batch[name] = np.stack(rows)
    return batch


def _pixels(values: Any) -> np.ndarray | None:
    """Integers as uint8, all else as float32: nested lists too, which is what a stored data set gives back."""
    if values is None:
        return None
    pixels = np.asarray(values)
    return pixels.astype(np.uint8 if pixels.dtype.kind in "iu" else np.float32, copy=False)


def stack_images(features: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """
    Pictures and crops as arrays, zeros and a False in the mask for what is absent. A kind that a whole batch lacks is
    left out, so that the model spends nothing on it. `pixel_values` are (batch_size, 3, height, width), their
    `image_mask` (batch_size,); pixels of crops (batch_size, most crops in the batch, 3, size, size), their masks
    (batch_size, most crops), and those of pictures likewise where rows have lists of them.
    """
    batch = {}
    for name, mask_name in PIXEL_MASKS.items():
        rows = [_pixels(feature.get(name)) for feature in features]
        is_single = name == "pixel_values" and any(of_row is not None and of_row.ndim == 3 for of_row in rows)
        if is_single:  # as a list of at most one
            rows = [image if image is None else image[None] for image in rows]
        if len({of_row.ndim for of_row in rows if of_row is not None}) > 1:
            raise ValueError(
                "Some rows have one picture as pixel_values and others a list: they are features of processors with "
                "different max_images. Prepare all of them with one processor."
            )
        numbers = [0 if of_row is None else len(of_row) for of_row in rows]
        example = next((of_row for of_row, number in zip(rows, numbers, strict=True) if number), None)
        if example is None:
            continue
        stacked = np.zeros((len(rows), max(numbers), *example.shape[1:]), dtype=example.dtype)
        for row, (of_row, number) in enumerate(zip(rows, numbers, strict=True)):
            if number:
                stacked[row, :number] = of_row
        mask = np.arange(max(numbers)) < np.array(numbers)[:, None]
        batch[name], batch[mask_name] = (stacked[:, 0], mask[:, 0]) if is_single else (stacked, mask)
    return batch


@dataclass
class IFAformerDataCollator:
    """
    A collator for a `Trainer` or `DataLoader`: it makes batches of the features of single examples, which
    [`IFAformerProcessor`] and [`prepare_features`] give. `processor.data_collator` is the one that fits a processor.

    Args:
        pad_token_id: the tokenizer's.
        padding_side: the tokenizer's.
        max_length: every batch is padded to this length, as the `deepke` attention variant needs it; None pads to the
            longest text of the batch.
        normalize_pixels: whether pixels that are integers (0 to 255) are made float32 and normalised here. With False
            they stay as they are, for [`normalized`] to be called where the batch has been moved to its device.
        keep_context_mask: whether batches have `context_mask` (batch_size, seq_length), True for the tokens of a
            context. No model takes it: a Trainer uses it to leave contexts out.
        pixel_scale, image_mean, image_std: as the image processor has them. A pixel becomes
            (pixel * pixel_scale - mean) / std, by channel.
    """

    pad_token_id: int = 0
    padding_side: str = "right"
    max_length: int | None = None
    normalize_pixels: bool = True
    keep_context_mask: bool = False
    pixel_scale: float = 1 / 255
    image_mean: Sequence[float] = CLIP_MEAN
    image_std: Sequence[float] = CLIP_STD

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of tensors."""
        import torch  # not needed for arrays

        batch = {name: torch.from_numpy(values) for name, values in self.stacked(features).items()}
        return self.normalized(batch) if self.normalize_pixels else batch

    def arrays(self, features: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """The same batch as NumPy arrays, for which torch need not be there."""
        batch = self.stacked(features)
        return self.normalized(batch) if self.normalize_pixels else batch

    def stacked(self, features: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        """The batch as arrays, with pixels as they are."""
        batch = pad_tokens(features, self.pad_token_id, self.padding_side, self.max_length)
        if not self.keep_context_mask:
            batch.pop("context_mask", None)
        batch.update(stack_images(features))
        if "labels" in features[0] and "labels" not in batch:  # one label an example: relations
            batch["labels"] = np.array([int(feature["labels"]) for feature in features])
        return batch

    def normalized(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """
        A collated batch of tensors or arrays with its uint8 pixels `(..., 3, height, width)` made float32 and
        normalised, tensors on the device they are on. Absent pictures and crops are zeros. Pixels that are floats are
        left as they are.
        """
        batch = dict(batch)
        # (x * scale - mean) / std as one factor and one shift: the memory is gone over twice
        factor = np.array([self.pixel_scale / std for std in self.image_std], np.float32)[:, None, None]
        shift = np.array([m / std for m, std in zip(self.image_mean, self.image_std, strict=True)], np.float32)
        shift = shift[:, None, None]
        for name, mask_name in PIXEL_MASKS.items():
            pixels: Any = batch.get(name)
            mask: Any = batch.get(mask_name)
            if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8:
                pixels = pixels.astype(np.float32)
                pixels *= factor
                pixels -= shift
                pixels[~mask] = 0.0
                batch[name] = pixels
            elif pixels is not None and str(pixels.dtype) == "torch.uint8":
                pixels = pixels.float()
                pixels.mul_(pixels.new_tensor(factor)).sub_(pixels.new_tensor(shift))
                batch[name] = pixels.masked_fill_(~mask[..., None, None, None], 0.0)
        return batch
