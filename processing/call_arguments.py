"""What a processor may be made with; the arguments of its call that are the library's own, and what they change."""

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from transformers import BatchFeature
from transformers.processing_utils import ProcessingKwargs
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from .collator import IFAformerDataCollator, pad_tokens
from .context import pair_form
from .problems import check_at_least_one, shown
from .tokenizing import check_tokenizer, check_word_splitter, longest_text


LEAST = {"max_images": 1, "num_aux_crops": 0, "num_rcnn_crops": 0, "aux_crop_size": 1, "rcnn_crop_size": 1}


def check_fields(processor: Any) -> None:
    """A ValueError for a field that no processor can have, as a damaged processor_config.json may have it."""

    def check(name: str, can_be: bool, expected: str) -> None:
        if not can_be:
            raise ValueError(f"{name} must be {expected}, got {shown(getattr(processor, name))}.")

    numbers = ("max_length", "max_context_length", "max_pair_length", "max_word_bytes")
    check_at_least_one(**{name: getattr(processor, name) for name in numbers})
    for name, least in LEAST.items():
        number = getattr(processor, name)
        check(name, isinstance(number, int) and number >= least, f"a whole number of at least {least}")
    largest = processor.max_megapixels
    check("max_megapixels", isinstance(largest, int | float) and 0 < largest < math.inf, "a number above 0")
    for name in ("pad_to_max_length", "use_whole_image", "word_shapes"):
        check(name, isinstance(getattr(processor, name), bool), "true or false")
    for name in ("tags", "relations", "entity_markers"):
        names = getattr(processor, name)
        if name != "relations" or names is not None:
            is_list = isinstance(names, Sequence) and not isinstance(names, str)
            check(name, is_list and all(isinstance(item, str) for item in names), "a list of strings")
    markers = processor.entity_markers
    check("entity_markers", len(markers) == len(set(markers)) == 4, "four different strings")
    if processor.pad_to_max_length and processor.max_length is None:
        raise ValueError("pad_to_max_length=True needs a max_length.")
    if processor.relations is not None and processor.tags:
        raise ValueError("A processor has tags (entity recognition) or relations (relation extraction), not both.")
    check_word_splitter(processor.word_splitter)
    check_tokenizer(processor.tokenizer)
    if processor.max_context_length and processor.label_scheme == "deepke":
        raise ValueError(
            "With the label scheme deepke the CRF scores every token, and a context has no tags. Leave "
            "max_context_length out, or set label_scheme to word."
        )
    if processor.max_context_length and processor.tokenizer is not None:
        pair_form(processor.tokenizer)


class IFAformerTextKwargs(TypedDict, total=False):
    """The arguments of a call that are about texts, named as tokenizers name them. None counts as not given."""

    is_split_into_words: bool | None
    padding: bool | str | PaddingStrategy | None
    padding_side: str | None
    truncation: bool | str | TruncationStrategy | None
    max_length: int | None
    return_tensors: str | None


class IFAformerImagesKwargs(TypedDict, total=False):
    """The arguments of a call that are about pictures, named as image processors name them, but for the sizes."""

    resample: Any
    do_rescale: bool | None
    rescale_factor: float | None
    do_normalize: bool | None
    image_mean: list[float] | tuple[float, ...] | None
    image_std: list[float] | tuple[float, ...] | None
    return_tensors: str | None


class IFAformerProcessorKwargs(ProcessingKwargs, total=False):
    """The arguments of [`IFAformerProcessor.__call__`] beside the texts, the pictures and their labels."""

    # The library's types have more, which would have no effect here.
    text_kwargs: IFAformerTextKwargs  # type: ignore[misc]
    images_kwargs: IFAformerImagesKwargs  # type: ignore[misc]
    _defaults = {}  # type: ignore[misc]  # noqa: RUF012  (transformers 5.20 looks for it; annotated, it would be a key)


KINDS = ("text_kwargs", "images_kwargs", "common_kwargs")
NAMES = IFAformerTextKwargs.__annotations__ | IFAformerImagesKwargs.__annotations__


@dataclass
class CallSettings:
    """
    What the arguments of a call ask for.

    Attributes:
        processor: a copy of the one that is called, with the settings of this call.
        collator: makes the batch.
        is_split_into_words: whether the texts are words. None decides by their form.
        padding: None pads tensors alone.
        return_tensors: `"pt"`, `"np"` or None.
    """

    processor: Any
    collator: IFAformerDataCollator
    is_split_into_words: bool | None
    padding: PaddingStrategy | None
    return_tensors: str | None

    def output(self, data: dict[str, list], number: int) -> BatchFeature:
        """
        What a call gives for the features of `number` examples. Texts of different lengths that make a tensor, but are
        not to be padded, are a ValueError.
        """
        features = [{name: values[row] for name, values in data.items()} for row in range(number)]
        if self.return_tensors is None:
            if self.padding not in (None, PaddingStrategy.DO_NOT_PAD):
                collator = self.collator
                padded = pad_tokens(features, collator.pad_token_id, collator.padding_side, collator.max_length)
                data = data | {name: values.tolist() for name, values in padded.items()}
            return BatchFeature(data)
        lengths = {len(ids) for ids in data["input_ids"]}
        if self.padding == PaddingStrategy.DO_NOT_PAD and len(lengths) > 1:
            raise ValueError(f"Texts of {sorted(lengths)} tokens make no tensor with padding=False.")
        batch = self.collator(features)
        return BatchFeature(batch if self.return_tensors == "pt" else {name: batch[name].numpy() for name in batch})


def call_settings(processor: Any, arguments: Mapping[str, Any]) -> CallSettings:
    """The settings of a call of the processor. Arguments that are unknown, given twice or wrong are a ValueError."""
    nested = {kind: arguments[kind] or {} for kind in KINDS if kind in arguments}
    given = {*arguments, *(name for of_kind in nested.values() for name in of_kind)}
    unknown = sorted(given.difference(NAMES, KINDS))
    if unknown:
        raise ValueError(f"Unknown arguments {unknown}; beside its own, a call takes {', '.join(sorted(NAMES))}.")
    merged = processor._merge_kwargs(IFAformerProcessorKwargs, **{**arguments, **nested})
    of_text, of_images = (
        {name: value for name, value in merged[kind].items() if value is not None} for kind in KINDS[:2]
    )
    return_tensors = of_text.get("return_tensors")
    if return_tensors not in (None, "pt", "np"):
        raise ValueError(f"return_tensors must be 'pt', 'np' or None, got {return_tensors!r}.")
    side = of_text.get("padding_side", processor.tokenizer.padding_side)
    if side not in ("left", "right"):
        raise ValueError(f"padding_side must be 'left' or 'right', got {side!r}.")
    changed = copy(processor)
    changed.image_processor = copy(processor.image_processor)
    for name in of_images.keys() - {"return_tensors"}:
        setattr(changed.image_processor, name, of_images[name])
    padding, cut_length, padded_length = _lengths(processor, of_text)
    changed.max_length = cut_length
    collator = replace(changed.data_collator, max_length=padded_length, padding_side=side)
    return CallSettings(changed, collator, of_text.get("is_split_into_words"), padding, return_tensors)


def _lengths(processor: Any, of_text: dict[str, Any]) -> tuple[PaddingStrategy | None, int | None, int | None]:
    """How texts are padded, the length at which they are cut, and the length to which they are padded."""
    defaults = {"max_length": processor.max_length}
    of_tokenizer = processor.tokenizer.init_kwargs
    if of_tokenizer.get("padding") is not None:  # It was made to pad, perhaps to a length of its own.
        defaults["padding"] = of_tokenizer["padding"]
        defaults["max_length"] = processor.max_length or of_tokenizer.get("max_length")
    of_text = defaults | of_text
    padding = _strategy(PaddingStrategy, of_text.get("padding"), "longest", "do_not_pad")
    truncation = _strategy(TruncationStrategy, of_text.get("truncation"), "longest_first", "do_not_truncate")
    cuts = truncation != TruncationStrategy.DO_NOT_TRUNCATE
    to_length = padding == PaddingStrategy.MAX_LENGTH or (padding is None and processor.pad_to_max_length)
    max_length = of_text["max_length"]
    if max_length is None and (to_length or (truncation and cuts)):
        max_length = longest_text(processor.tokenizer)
        if max_length is None and to_length:
            raise ValueError("padding='max_length' needs a max_length, which the tokenizer does not know either.")
    check_at_least_one(max_length=max_length)
    return padding, max_length if cuts else None, max_length if to_length else None


def _strategy(strategies: Any, given: Any, of_true: str, of_false: str) -> Any:
    """One of the library's strategies, which may be given by name, or as a bool; None where nothing is given."""
    return None if given is None else strategies({True: of_true, False: of_false}.get(given, given))
