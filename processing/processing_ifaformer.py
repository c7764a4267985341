"""IFAformer's processor: text, labels, pictures and crops in, model inputs out; what a model found, in words."""

import os
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from transformers import AutoTokenizer, BatchFeature, PreTrainedConfig
from transformers.processing_utils import ProcessorMixin, Unpack
from transformers.utils import logging

from .call_arguments import IFAformerProcessorKwargs, call_settings, check_fields
from .collator import IFAformerDataCollator
from .columns import CROP_KINDS, PICTURE_COLUMNS, PIXEL_MASKS
from .context import add_contexts, context_features, pair_form, read_contexts
from .entity_markers import encode_marked, mark_texts
from .images import MAX_MEGAPIXELS, image_processor_of, picture_size, resized_pictures
from .labels import (
    TWITTER_TAGS,
    align_labels,
    answers_of,
    check_labels,
    decode_entities,
    find_negative,
    label_maps,
    scheme_labels,
    scored_positions,
    word_scores,
    word_tags,
)
from .pipeline_ifaformer import IFAformerPipeline  # noqa: F401  (its file travels with this one)
from .problems import Problem
from .relation_pipeline import IFAformerRelationPipeline  # noqa: F401  (likewise)
from .tokenizing import (
    EncodedText,
    batched_text,
    encode_words,
    longest_text,
    per_text,
    readable,
    separate_words,
    to_words,
    token_features,
    tower_config,
)


logger = logging.get_logger(__name__)

# Options of the processor that are fields of the model's configuration too, under the same names. The two must agree.
PICTURE_FIELDS = (
    "use_whole_image",
    "max_images",
    "num_aux_crops",
    "aux_crop_size",
    "num_rcnn_crops",
    "rcnn_crop_size",
)
SHARED_FIELDS = ("label_scheme", "word_shapes", *PICTURE_FIELDS)
NO_CONTEXT_IN_DEEPKE = (
    "The attention variant deepke pads all texts to one length, on which its results depend, and reads no context: "
    "leave max_context_length out."
)
CROP_SIZES = {"aux_crop_size": 128, "rcnn_crop_size": 64}  # the usual ones


class IFAformerProcessor(ProcessorMixin):
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
        check_fields(self)
        self.relations = None if relations is None else list(relations)
        self.tags, self.entity_markers = list(self.tags), list(self.entity_markers)
        self.negative_relation = find_negative(self.relations or [], negative_relation)
        check_labels(self.tags, self.relations, label_scheme)
        super().__init__(image_processor, tokenizer, **kwargs)

    @property
    def labels(self) -> list[str]:
        """The model's labels in id order: the relations, or the tags in this processor's label scheme."""
        if self.relations is not None:
            return list(self.relations)
        return scheme_labels(self.tags, self.label_scheme)

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

    @property
    def config_fields(self) -> dict[str, Any]:
        """
        All that the configuration of this processor's model must have from it, as arguments of [`IFAformerConfig`]:
        `SHARED_FIELDS`, `image_size` where it takes whole pictures, `id2label`, `label2id`, `vocab_size`, and with
        relations the ids of the two opening markers.
        """
        fields = {name: getattr(self, name) for name in SHARED_FIELDS} | label_maps(self.labels)
        if self.relations is not None:
            fields["head_marker_token_id"], _, fields["tail_marker_token_id"], _ = self.marker_ids
        if self.use_whole_image:
            fields["image_size"] = picture_size(self.image_processor)
        of_bytes = {} if self.max_word_bytes is None else {"max_word_bytes": self.max_word_bytes}
        return fields | of_bytes | {"vocab_size": len(self.tokenizer)}

    def for_model_of(self, config: Any) -> "IFAformerProcessor":
        """
        This processor, or a copy that cuts texts as a model of that configuration needs it: for relations, and in the
        `deepke` variant, to what the text tower takes. Other models for entities read longer texts in windows, and
        contexts within one window. A model that can read no contexts, where the processor does, is a ValueError.
        """
        if self.max_context_length:
            return self._for_pairs_of(config)._for_texts_of(config)
        return self._for_texts_of(config)

    def _for_pairs_of(self, config: Any) -> "IFAformerProcessor":
        if getattr(config, "attention_variant", None) == "deepke":
            raise ValueError(NO_CONTEXT_IN_DEEPKE)
        segments = getattr(config.text_config, "type_vocab_size", None)
        segment = pair_form(self.tokenizer).segment if "token_type_ids" in self.tokenizer.model_input_names else 0
        if segments is not None and segment >= segments:
            raise ValueError(
                f"A context stands in a second segment, and the text tower has {segments} (type_vocab_size). Leave "
                "max_context_length out, or give the tower another one."
            )
        limits = [self.max_pair_length, getattr(config, "window_length", None) or config.max_text_length]
        fitting = copy(self)
        fitting.max_pair_length = min([limit for limit in limits if limit is not None], default=None)
        return fitting

    def _for_texts_of(self, config: Any) -> "IFAformerProcessor":
        longest, limit = config.max_text_length, self.max_length
        # The code that a checkpoint brings may be that of before, which has no windows.
        has_windows = self.relations is None and getattr(config, "window_length", None) is not None
        if has_windows or longest is None or (limit is not None and limit <= longest):
            return self
        fitting = copy(self)
        fitting.max_length = longest
        return fitting

    def check_config(self, config: Any) -> None:
        """Check that this processor fits a model of that configuration; a ValueError names all differences."""
        kept_apart = ("id2label", "label2id", "vocab_size")
        ours = {name: value for name, value in self.config_fields.items() if name not in kept_apart}
        # A checkpoint may bring the code of before, whose configuration lacks these, and has no picture_size.
        absent = {"word_shapes": False, "max_images": 1}
        theirs = {name: getattr(config, name, absent.get(name)) for name in ours}
        if "image_size" in ours:
            theirs["image_size"] = getattr(config, "picture_size", ours["image_size"])
        ours["labels"], theirs["labels"] = self.labels, list(config.id2label.values())
        different = [
            f"{name} is {value} in the processor, {theirs[name]} in the configuration"
            for name, value in ours.items()
            if theirs[name] != value
        ]
        if len(self.tokenizer) > (embedded := config.get_text_config().vocab_size):
            different.append(f"the tokenizer has {len(self.tokenizer)} entries and the model embeds {embedded}")
        if different:
            raise ValueError(
                f"Processor and model configuration differ: {'; '.join(different)}. Load the processor with the "
                "model's fields, as in from_pretrained(folder, tags=[...]), or the model with processor.config_fields."
            )

    @property
    def model_input_names(self) -> list[str]:
        text = [*self.tokenizer.model_input_names, *(["crf_mask"] if self.relations is None else [])]
        text += ["byte_ids"] if self.max_word_bytes is not None else []
        text += ["word_shape_ids"] if self.word_shapes else []
        taken = zip(PIXEL_MASKS.items(), self.picture_limits.values(), strict=True)
        return [*text, *(name for names, number in taken if number for name in names)]

    @property
    def picture_limits(self) -> dict[str, int]:
        """How many pictures of a row the model takes, by column; of crops those of all its pictures together."""
        crops = {f"{kind}_crops": getattr(self, f"num_{kind}_crops") * self.max_images for kind in CROP_KINDS}
        return {"image": self.max_images if self.use_whole_image else 0, **crops}

    @property
    def pixel_shapes(self) -> dict[str, tuple[int, int, int]]:
        """(3, height, width) of a picture or crop in each of the model's inputs."""
        sizes = {"pixel_values": picture_size(self.image_processor)}
        sizes |= {f"{kind}_pixel_values": getattr(self, f"{kind}_crop_size") for kind in CROP_KINDS}
        return {name: (3, size, size) for name, size in sizes.items()}

    @property
    def pixel_settings(self) -> dict[str, Any]:
        """All that decides the uint8 pixels of a row's pictures. Normalisation, which is a batch's, is no part."""
        names = ("resample", "do_resize", "do_center_crop", "do_convert_rgb", "default_to_square")
        return {
            "image_processor": type(self.image_processor).__name__,
            **{name: str(getattr(self.image_processor, name, None)) for name in names},
            "pixel_shapes": self.pixel_shapes,
            **{name: getattr(self, name) for name in (*PICTURE_FIELDS, "max_megapixels")},
        }

    @property
    def data_collator(self) -> IFAformerDataCollator:
        """The collator that pads and normalises as this processor does."""
        images = self.image_processor
        return IFAformerDataCollator(
            pad_token_id=self.tokenizer.pad_token_id,
            padding_side=self.tokenizer.padding_side,
            max_length=self.max_length if self.pad_to_max_length else None,
            pixel_scale=images.rescale_factor if images.do_rescale else 1.0,
            image_mean=images.image_mean if images.do_normalize else (0.0, 0.0, 0.0),
            image_std=images.image_std if images.do_normalize else (1.0, 1.0, 1.0),
        )

    def add_entity_markers(self) -> list[int]:
        """
        Make the four entity markers tokens of the tokenizer and return their ids. The model's embeddings must be
        resized to `len(tokenizer)` with it. A ValueError names the markers that the tokenizer uses for something else.
        """
        taken = set(self.entity_markers) & set(self.tokenizer.special_tokens_map.values())
        if taken:
            raise ValueError(
                f"The tokenizer uses {sorted(taken)} itself. Give the processor other entity_markers, for example "
                "['<head>', '</head>', '<tail>', '</tail>']."
            )
        self.tokenizer.add_tokens(self.entity_markers, special_tokens=True)
        return self.marker_ids

    @property
    def marker_ids(self) -> list[int]:
        """Token ids of the four entity markers."""
        return self.tokenizer.convert_tokens_to_ids(self.entity_markers)

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

    def encode_text(self, texts: Sequence[Any], is_split_into_words: bool = False) -> list[EncodedText]:
        """
        Texts, split into words unless they are (see [`split_words`]), with their tokens. A text that gives no token is
        a ProblemError with its number.
        """
        words = to_words(texts, is_split_into_words, self.word_splitter)
        return readable(encode_words(self.tokenizer, words, self.max_length))

    def tokenize_pairs(self, texts: Sequence[Sequence[str]], heads: list, tails: list) -> list[EncodedText]:
        """
        Texts as words with markers around their two entities, which are words too, and with their tokens, cut as
        `max_length` asks, or with the problem of those that a relation model cannot be given. An entity that is no
        span of words is a ProblemError with the number of its text.
        """
        marked = mark_texts(texts, heads, tails, self.entity_markers, self.label_scheme)
        return encode_marked(self.tokenizer, marked, self.entity_markers, self.label_scheme, self.max_length)

    def with_contexts(self, encoded: list[EncodedText], contexts: Sequence[Any] | None) -> list[EncodedText]:
        """
        Texts with their contexts behind them, see [`add_contexts`], where `max_context_length` says that contexts are
        read. What is no context is a ProblemError with the number of its text.
        """
        if contexts is None or not any(contexts):
            return encoded
        if not self.max_context_length:
            logger.warning_once("Contexts are not looked at, since the processor has no max_context_length.")
            return encoded
        limits = (self.max_length, self.max_pair_length, longest_text(self.tokenizer))
        longest = min([limit for limit in limits if limit is not None], default=None)
        reserved = [] if self.relations is None else self.marker_ids
        settings = (self.max_context_length, longest, reserved, self.word_splitter)
        return add_contexts(self.tokenizer, encoded, read_contexts(contexts), *settings)

    def text_features(
        self, encoded: list[EncodedText], word_labels: Sequence[Sequence[int | str]] | None = None
    ) -> dict[str, list]:
        """
        Ids, masks and, with a tag or tag id of each word, labels: a list with an entry for each text. Labels that are
        unknown or not one a word are a ValueError with the number of the text.
        """
        markers = () if self.relations is None else self.entity_markers
        data = token_features(self.tokenizer, encoded, self.max_word_bytes, self.word_shapes, markers)
        if self.max_context_length:
            data |= context_features(self.tokenizer, encoded)
        if self.relations is None:
            data["crf_mask"] = [scored_positions(example.word_ids, self.label_scheme) for example in encoded]
        if word_labels is not None:
            data["labels"] = []
            for row, (example, of_words) in enumerate(zip(encoded, word_labels, strict=True)):
                try:
                    labels = align_labels(of_words, example.words, example.word_ids, self.tags, self.label_scheme)
                except ValueError as error:
                    raise ValueError(f"Text {row} ({example.text!r:.80}): {error}") from error
                data["labels"].append(labels)
        return data

    def encode_pictures(
        self, pictures: Mapping[str, list], problems: list[tuple[int, Problem]] | None = None
    ) -> dict[str, list]:
        """
        uint8 pixels of the pictures of several rows, by column, a list with an entry a row: (3, height, width) or None
        of `image`, (number, 3, size, size) of crops, and of `image` too where `max_images` is above 1. More than the
        model takes are a ValueError; a picture that cannot
        be used is an ImageError, with the number of its row. If `problems` are given, such a picture counts as absent,
        and the number of its row and its problem are added there.
        """
        data: dict[str, list] = {}
        for column, (name, (_, size, _)) in zip(PICTURE_COLUMNS, self.pixel_shapes.items(), strict=True):
            number = self.picture_limits[column]
            if column in pictures and number:
                settings = (column, number, size, self.max_megapixels)
                pixels = resized_pictures(self.image_processor, pictures[column], *settings, problems)
                is_single = column == "image" and self.max_images == 1
                data[name] = [of[0] if len(of) else None for of in pixels] if is_single else pixels
        return data

    def post_process_entities(
        self,
        tag_ids: Any,
        text: str | Sequence[str] | Sequence[Sequence[str]],
        scores: Any = None,
        is_split_into_words: bool | None = None,
    ) -> list[list[dict]]:
        """
        The entities of each text, a list as [`decode_entities`] gives it. For a processor with relations a ValueError.

        Args:
            tag_ids: the model's `tag_ids` for these texts, (batch_size, seq_length).
            text, is_split_into_words: what was given to the processor.
            scores: (batch_size, seq_length), the probability of each tag, for example the CRF's marginals.
        """
        if self.relations is not None:
            raise ValueError("This processor has relations: give the logits to post_process_relations().")
        texts, is_split, _ = batched_text(text, is_split_into_words)
        return [
            self.entities_of(example, tag_ids[row], None if scores is None else scores[row])
            for row, example in enumerate(self.encode_text(texts, is_split))
        ]

    def entities_of(self, example: EncodedText, tag_ids: Sequence[int], scores: Any = None) -> list[dict]:
        """The entities of a text from the tag ids of its tokens and the probability of each."""
        tags = word_tags(tag_ids, example.word_ids, len(example.words), dict(enumerate(self.labels)))
        if scores is not None:
            scores = word_scores(scores, example.word_ids, len(example.words))
        return decode_entities(example.text, example.offsets, tags, scores)

    def post_process_relations(self, logits: Any, allowed: Any = True) -> list[dict[str, Any]]:
        """
        The most probable relation of each text: dicts with `relation`, its name, and `score`, its softmax probability
        among all. `logits` are the model's, a tensor or array (batch_size, number of relations). `allowed`, bools
        of that shape, says which relations may be taken, at least one in each row. For logits of another shape, and
        for a processor without relations, a ValueError.
        """
        if self.relations is None:
            raise ValueError("This processor has no relations: give the tag ids to post_process_entities().")
        logits, number = torch.as_tensor(logits), len(self.relations)
        if logits.ndim != 2 or logits.shape[1] != number:
            raise ValueError(f"logits must be of shape (batch_size, {number}), got {tuple(logits.shape)}.")
        probabilities = logits.float().softmax(dim=-1)
        best = probabilities.masked_fill(~torch.as_tensor(allowed, device=logits.device), -1).max(dim=-1)
        answers = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [{"relation": self.relations[index], "score": score} for index, score in answers]


__all__ = ["IFAformerProcessor"]
