"""The processor of an exported model: the one that was saved, read without transformers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import Encoding, Tokenizer

from ..base_processor import BaseProcessor


class ExportedProcessor(BaseProcessor):
    """
    A processor from the files of an exported folder.

    Args:
        folder: with `processor_config.json` and `tokenizer.json`, as the library's processor saves them.
        facts: what the export noted of the tokenizer and the image processor, see `export_facts`.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]):
        fields = json.loads((folder / "processor_config.json").read_bytes())
        for name in BaseProcessor.__annotations__:
            if name in fields:
                setattr(self, name, fields[name])
        self.tokenizer = ExportedTokenizer(folder / "tokenizer.json", facts["tokenizer"])
        self.image_processor = ExportedImageProcessor(facts["image_processor"])
        self.max_length = facts["max_length"]


class ExportedTokenizer:
    """A fast tokenizer with as much of the library's interface as [`BaseProcessor`] uses."""

    is_fast = True

    def __init__(self, file: Path, facts: Mapping[str, Any]):
        self.backend_tokenizer = Tokenizer.from_file(str(file))
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.no_truncation()
        self.pad_token_id: int = facts["pad_token_id"]
        self.unk_token_id: int | None = facts["unk_token_id"]
        self.padding_side: str = facts["padding_side"]
        self.model_max_length: int = facts["model_max_length"]
        self.model_input_names: list[str] = facts["model_input_names"]
        self.all_special_ids: list[int] = facts["all_special_ids"]

    def __len__(self) -> int:
        return self.backend_tokenizer.get_vocab_size()

    def __call__(self, text: Sequence[Any], text_pair: Any = None, **options: Any) -> "Encodings":
        """Words of one text, with a second one where it is given, or of several texts; other options are ignored."""
        if isinstance(text[0] if text else "", str):
            encoding = self.backend_tokenizer.encode(text, text_pair, is_pretokenized=True)
            return Encodings([encoding], is_batch=False)
        return Encodings(self.backend_tokenizer.encode_batch(list(text), is_pretokenized=True), is_batch=True)

    def convert_tokens_to_ids(self, tokens: Sequence[str]) -> list[int | None]:
        return [self.backend_tokenizer.token_to_id(token) for token in tokens]

    def get_added_vocab(self) -> dict[str, int]:
        return {token.content: number for number, token in self.backend_tokenizer.get_added_tokens_decoder().items()}


class Encodings:
    """What [`ExportedTokenizer`] gives, with as much of the library's `BatchEncoding` as is used."""

    def __init__(self, encodings: Sequence[Encoding], is_batch: bool):
        self.encodings, self.is_batch = encodings, is_batch

    def __getitem__(self, name: str) -> Any:
        values = [encoding.ids if name == "input_ids" else encoding.type_ids for encoding in self.encodings]
        return values if self.is_batch else values[0]

    def word_ids(self, row: int = 0) -> list[int | None]:
        return self.encodings[row].word_ids

    def sequence_ids(self, row: int = 0) -> list[int | None]:
        return self.encodings[row].sequence_ids


class ExportedImageProcessor:
    """
    An image processor that resizes a picture, by Pillow, and cuts out its middle: what those of CLIP, SigLIP, ViT and
    DINOv2 do. The export compares its pixels with those of the model's own.
    """

    do_resize: bool
    do_center_crop: bool
    size: dict[str, int]
    crop_size: dict[str, int]
    resample: int | None
    do_rescale: bool
    rescale_factor: float
    do_normalize: bool
    image_mean: list[float] | None
    image_std: list[float] | None

    def __init__(self, fields: Mapping[str, Any]):
        vars(self).update(fields)

    def __call__(
        self, image: Image.Image, size: Mapping[str, int], crop_size: Mapping[str, int], **options: Any
    ) -> dict[str, list[np.ndarray]]:
        """
        Of an RGB picture `pixel_values`, a list of one uint8 array (3, height, width). `size` has `shortest_edge`, or
        `height` and `width`; `crop_size` has the latter. Other options have no effect.
        """
        if self.do_resize:
            if "shortest_edge" in size:
                shortest, longest = sorted(image.size)
                edge = size["shortest_edge"]
                long_edge = int(edge * longest / shortest)
                across, down = (edge, long_edge) if image.width <= image.height else (long_edge, edge)
            else:
                across, down = size["width"], size["height"]
            image = image.resize((across, down), self.resample)
        if self.do_center_crop:
            left, upper = (image.width - crop_size["width"]) // 2, (image.height - crop_size["height"]) // 2
            image = image.crop((left, upper, left + crop_size["width"], upper + crop_size["height"]))
        return {"pixel_values": [np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))]}


IMAGE_FIELDS = tuple(ExportedImageProcessor.__annotations__)
TOKENIZER_FIELDS = (
    "pad_token_id",
    "unk_token_id",
    "padding_side",
    "model_max_length",
    "model_input_names",
    "all_special_ids",
)


def export_facts(processor: Any) -> dict[str, Any]:
    """
    What [`ExportedProcessor`] must know of a processor of the library that its saved files do not say plainly.
    """
    images = processor.image_processor
    of_images: dict[str, Any] = {name: getattr(images, name, None) for name in IMAGE_FIELDS}
    for name in ("size", "crop_size"):
        sides = dict(of_images[name] or {}).items()
        of_images[name] = {side: number for side, number in sides if number is not None}
    for name in ("image_mean", "image_std"):
        of_images[name] = None if of_images[name] is None else list(of_images[name])
    if of_images["resample"] is not None:
        of_images["resample"] = int(of_images["resample"])
    return {
        "max_length": processor.max_length,
        "tokenizer": {name: getattr(processor.tokenizer, name) for name in TOKENIZER_FIELDS},
        "image_processor": of_images,
    }
