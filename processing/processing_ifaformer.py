"""IFAformer's processor: text, labels, pictures and crops in, model inputs out; what a model found, in words."""

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from transformers import AutoTokenizer, BatchFeature, PreTrainedConfig
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin, Unpack
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from .base_processor import BaseProcessor
from .collator import IFAformerDataCollator, pad_tokens
from .images import MAX_MEGAPIXELS, image_processor_of
from .labels import TWITTER_TAGS, answers_of
from .pipeline_ifaformer import IFAformerPipeline  # noqa: F401  (its file travels with this one)
from .problems import check_at_least_one
from .tokenizing import batched_text, longest_text, per_text, readable, separate_words, to_words, tower_config


CROP_SIZES = {"aux_crop_size": 128, "rcnn_crop_size": 64}  # the usual ones


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
        return BatchFeature(self.collator(features) if self.return_tensors == "pt" else self.collator.arrays(features))


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


class IFAformerProcessor(BaseProcessor, ProcessorMixin):
    """
    The processor of IFAformer: a tokenizer, and the image processor of a vision tower that is called with three sizes.

    Args:
        image_processor (`CLIPImageProcessor`, or one that makes squares of one size): for whole pictures; crops go
            through it with their own size.
        tokenizer (`PreTrainedTokenizerBase`): of the text tower.
        tags (`list[str]`, *optional*): tags of words in id order. Defaults to Twitter's nine.
        relations (`list[str]`, *optional*): relations in id order. With them the processor is one for relation
            extraction: every text has a head and a tail entity, and words have no tags.
        negative_relation (`str`, *optional*): the relation of pairs between which none holds. Defaults to `None` in
            quotes, as MNRE calls it, where that is among the relations.
        max_length (`int`, *optional*): longest text in tokens; longer ones are cut. None cuts nothing: a model for
            entities reads long texts in windows. With `relations` and the `word` scheme the part around the two
            entities is kept, see [`context_window`].
        pad_to_max_length (`bool`, defaults to `False`): pad every batch to `max_length`, as the `deepke` attention
            variant needs, rather than to its longest text.
        label_scheme, max_images, num_aux_crops, aux_crop_size, num_rcnn_crops, rcnn_crop_size, use_whole_image:
            as in [`IFAformerConfig`].
        entity_markers (`list[str]`, *optional*): the four tokens around head and tail entity. Defaults to
            `<s> </s> <o> </o>`; a tokenizer that uses these itself (RoBERTa's) needs others.
        word_splitter (`str`, defaults to `"unicode"`): how texts become words, see [`split_words`]. A processor that
            was saved before there was a choice has `"bert"`.
        max_megapixels (`float`, defaults to 25): the largest picture in millions of pixels, see [`load_image`].
        max_word_bytes (`int`, *optional*): the model also takes so many bytes of each token's word, as `byte_ids`.
        word_shapes (`bool`, defaults to `False`): the model also takes the [`word_shape`] of each token's word.
        max_context_length (`int`, *optional*): how many tokens of a context, such as a caption of the picture, are
            read behind a text, see [`add_contexts`]. With None, or 0, contexts are not looked at.
        max_pair_length (`int`, *optional*): the longest text together with its context, in tokens: the context has
            the room that the text leaves. Texts themselves may be longer. By default it is `max_length`, or what the
            tokenizer is made for.

    Raises:
        ValueError: for a field of the wrong type or out of range, where `pad_to_max_length` lacks a `max_length`, the
            tokenizer has no vocabulary or no padding token, or is one of bytes (RoBERTa's) that was loaded without
            `add_prefix_space=True`, tags or relations are not distinct or both are given, the negative relation is
            none of the relations, or contexts are read with the label scheme `deepke` or a tokenizer that puts nothing
            between two texts.
    """

    valid_processor_kwargs: Any = IFAformerProcessorKwargs  # `Any`: the library declares its own

    def __init__(
        self,
        image_processor=None,
        tokenizer=None,
        label_scheme: str = "word",
        tags: Sequence[str] | None = None,
        relations: Sequence[str] | None = None,
        negative_relation: str | None = None,
        max_length: int | None = None,
        pad_to_max_length: bool = False,
        num_aux_crops: int = 3,
        aux_crop_size: int = CROP_SIZES["aux_crop_size"],
        num_rcnn_crops: int = 3,
        rcnn_crop_size: int = CROP_SIZES["rcnn_crop_size"],
        use_whole_image: bool = True,
        entity_markers: Sequence[str] | None = None,
        word_splitter: str = "unicode",
        max_megapixels: float = MAX_MEGAPIXELS,
        max_word_bytes: int | None = None,
        word_shapes: bool = False,
        max_images: int = 1,
        max_context_length: int | None = None,
        max_pair_length: int | None = None,
        **kwargs,
    ):
        self.label_scheme, self.word_splitter, self.use_whole_image = label_scheme, word_splitter, use_whole_image
        self.max_images, self.num_aux_crops, self.aux_crop_size = max_images, num_aux_crops, aux_crop_size
        self.num_rcnn_crops, self.rcnn_crop_size = num_rcnn_crops, rcnn_crop_size
        self.max_length, self.pad_to_max_length, self.max_megapixels = max_length, pad_to_max_length, max_megapixels
        default_tags = TWITTER_TAGS if relations is None else []
        self.relations, self.tags = relations, default_tags if tags is None else tags
        self.entity_markers = ("<s>", "</s>", "<o>", "</o>") if entity_markers is None else entity_markers
        self.tokenizer, self.max_word_bytes, self.word_shapes = tokenizer, max_word_bytes, word_shapes
        self.max_context_length, self.max_pair_length = max_context_length or None, max_pair_length
        self.negative_relation = negative_relation
        self.check()
        super().__init__(image_processor, tokenizer, **kwargs)

    @classmethod
    def from_args_and_dict(cls, args, processor_dict: dict[str, Any], **kwargs):
        """As in `ProcessorMixin`, for processors that were saved before there was a choice of word splitters too."""
        made = super().from_args_and_dict(args, {"word_splitter": "bert", **processor_dict}, **kwargs)
        if "auto_map" in processor_dict:  # of all fields that were saved, the library restores all but this one
            processor = made[0] if isinstance(made, tuple) else made
            processor.auto_map = processor_dict["auto_map"]
        return made

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in `ProcessorMixin`. The tokenizer's own files say its class, so that nothing asks for the model's."""
        kwargs.setdefault("config", PreTrainedConfig())
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_vision_text_pretrained(
        cls,
        vision_model: str | os.PathLike | None = None,
        text_model: str | os.PathLike | None = None,
        dataset: Any = None,
        *,
        image_processor: Any = None,
        tokenizer: Any = None,
        **options: Any,
    ) -> "IFAformerProcessor":
        """
        A new processor for the checkpoints that the two towers of a new model start from. The model that belongs to it
        is `model_class.from_vision_text_pretrained(vision_model, text_model, **processor.config_fields)`.

        Args:
            vision_model: checkpoint of a vision tower, Hub name or folder, whose image processor is taken, or CLIP's
                one in the size that its configuration names.
            text_model: checkpoint of a text tower, Hub name or folder, whose tokenizer is taken.
            dataset: rows as `load_data` gives them, or its splits. The processor gets their tags or their relations;
                with relations, the entity markers are added to the tokenizer.
            image_processor, tokenizer: win over those of the checkpoints, which may then be left out.
            **options: of the constructor. With relations, `max_length` defaults to the longest text that the tokenizer
                and the text checkpoint are both made for. With None, nothing is cut. Sizes of crops default to whole
                patches of the vision checkpoint, those nearest to 128 and 64.

        Raises:
            ValueError: for a part that neither a checkpoint nor an argument gives, a data set without a column
                `ner_tags` or `relation` of class labels, and as the constructor.
            OSError: for a checkpoint that is not there.
        """
        if image_processor is None:
            if vision_model is None:
                raise ValueError("The processor needs an image processor: give vision_model or image_processor.")
            image_processor = image_processor_of(vision_model)
        text_config = None if text_model is None else tower_config(text_model, "text_config")
        if tokenizer is None:
            if text_model is None:
                raise ValueError("The processor needs a tokenizer: give text_model or tokenizer.")
            # RoBERTa's tokenizers take words only with this option. BERT's do not know it, others have no such option.
            tokenizer = AutoTokenizer.from_pretrained(text_model, config=text_config, add_prefix_space=True)
            separate_words(tokenizer)
        patch_size = (
            1 if vision_model is None else getattr(tower_config(vision_model, "vision_config"), "patch_size", 1)
        )
        for name, size in CROP_SIZES.items():
            if options.get(name) is None:  # as the model's configuration has it
                options[name] = max(1, round(size / patch_size)) * patch_size
        if dataset is not None:
            options |= answers_of(dataset)
        if options.get("relations") is not None:
            options.setdefault("max_length", longest_text(tokenizer, text_config))
        if options.get("max_context_length"):
            options.setdefault("max_pair_length", longest_text(tokenizer, text_config))
        processor = cls(image_processor, tokenizer, **options)
        if processor.relations is not None:
            processor.add_entity_markers()
        return processor

    def __call__(
        self,
        text: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        images: Any = None,
        aux_crops: Any = None,
        rcnn_crops: Any = None,
        word_labels: Any = None,
        heads: Any = None,
        tails: Any = None,
        context: Any = None,
        **kwargs: Unpack[IFAformerProcessorKwargs],
    ) -> BatchFeature:
        """
        Prepare one example or a batch.

        Args:
            text: a string, a list of strings, a list of words (with `is_split_into_words=True`), or a list of lists of
                words.
            images: one picture an example, None where there is none: what [`load_image`] takes. A list of pictures an
                example with `max_images` above 1: `images=[a, b]` beside one text, `images=[[a, b], [c]]` beside two.
            aux_crops, rcnn_crops: a list of crops an example, empty or None where there are none. Those of several
                pictures are one list.
            word_labels: a tag or tag id of each word.
            heads, tails: with `relations`, head and tail entity of each example: dicts with `start` and `end`, word
                indices, end exclusive. The text gets entity markers around them.
            context: with `max_context_length`, what is read behind each text: a text, or a list of texts and of dicts
                with `text` and `kind` ("caption", "ocr", ...); None where there is none.
            is_split_into_words: whether `text` holds words. None takes a list of lists for words, all else for texts.
            return_tensors: `"pt"` or `"np"` gives the batch that a model takes. None gives lists with an entry an
                example and pixels as uint8, for [`IFAformerDataCollator`], which pads, stacks and normalises.
            max_length, truncation: texts are cut at `max_length`, by default the processor's, but with
                `truncation=False`.
            padding, padding_side: as of a tokenizer. By default tensors alone are padded.
            resample, do_rescale, rescale_factor, do_normalize, image_mean, image_std: in place of the image
                processor's. All but `resample` have an effect on tensors alone.
            text_kwargs, images_kwargs, common_kwargs: dicts of the arguments above.

        Raises:
            ValueError: for a text without a token, labels that are unknown or not one a word, entities outside the
                text or without room in `max_length`, what is no context, too many crops, arguments of different batch
                sizes, an unknown argument or one of the other task.
            ImageError: for a picture that cannot be used, with the number of its example.
        """
        call = call_settings(self, kwargs)
        if text is None:
            raise ValueError("text is needed: IFAformer tags a text, with or without pictures.")
        texts, is_split, is_single = batched_text(text, call.is_split_into_words)
        pictures = {"images": images, "aux_crops": aux_crops, "rcnn_crops": rcnn_crops}
        of_text = {"word_labels": word_labels, "heads": heads, "tails": tails, "context": context}
        given = per_text(texts, is_single, pictures | of_text)
        pictures = {"image" if name == "images" else name: given[name] for name in pictures.keys() & given.keys()}
        data = call.processor._texts(texts, is_split, given) | call.processor.encode_pictures(pictures)
        return call.output(data, len(texts))

    def _texts(self, texts: list, is_split: bool, given: Mapping[str, list]) -> dict[str, list]:
        if self.relations is None:
            if not given.keys().isdisjoint(("heads", "tails")):
                raise ValueError("heads and tails are for relation extraction: give the processor its relations.")
            encoded = self.with_contexts(self.encode_text(texts, is_split), given.get("context"))
            return self.text_features(encoded, given.get("word_labels"))
        if "word_labels" in given:
            raise ValueError("word_labels are for entity recognition; this processor has relations.")
        if not {"heads", "tails"} <= given.keys():
            raise ValueError("heads and tails are needed: this processor has relations, each between two entities.")
        words = [words for _, words, _ in to_words(texts, is_split, self.word_splitter)]
        encoded = readable(self.tokenize_pairs(words, given["heads"], given["tails"]))
        return self.text_features(self.with_contexts(encoded, given.get("context")))


__all__ = ["IFAformerProcessor"]
