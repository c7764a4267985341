"""What a processor does with texts, pictures and answers, whoever made its tokenizer and its image processor."""

import logging
import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from .collator import IFAformerDataCollator
from .columns import CROP_KINDS, PICTURE_COLUMNS, PIXEL_MASKS
from .context import add_contexts, context_features, pair_form, read_contexts
from .entity_markers import encode_marked, mark_texts
from .images import picture_size, resized_pictures
from .labels import (
    align_labels,
    check_labels,
    decode_entities,
    find_negative,
    label_maps,
    scheme_labels,
    scored_positions,
    word_scores,
    word_tags,
)
from .problems import Problem, check_at_least_one, shown, warn_once
from .tokenizing import (
    EncodedText,
    batched_text,
    check_tokenizer,
    check_word_splitter,
    encode_words,
    longest_text,
    readable,
    to_words,
    token_features,
)


logger = logging.getLogger(__name__)

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
LEAST = {"max_images": 1, "num_aux_crops": 0, "num_rcnn_crops": 0, "aux_crop_size": 1, "rcnn_crop_size": 1}


class BaseProcessor:
    """
    A mixin with all of a processor that needs neither torch nor transformers. [`IFAformerProcessor`] is one of the
    library, and [`ExportedProcessor`] reads what that has saved where the library is not installed.
    """

    tokenizer: Any
    image_processor: Any
    label_scheme: str
    word_splitter: str
    tags: Sequence[str]
    relations: Sequence[str] | None
    negative_relation: str | None
    entity_markers: Sequence[str]
    max_length: int | None
    pad_to_max_length: bool
    max_megapixels: float
    max_word_bytes: int | None
    word_shapes: bool
    use_whole_image: bool
    max_images: int
    num_aux_crops: int
    num_rcnn_crops: int
    aux_crop_size: int
    rcnn_crop_size: int
    max_context_length: int | None
    max_pair_length: int | None

    def check(self) -> None:
        """Check the fields, and make lists of those that may be other sequences; raises as [`IFAformerProcessor`]."""
        check_fields(self)
        self.relations = None if self.relations is None else list(self.relations)
        self.tags, self.entity_markers = list(self.tags), list(self.entity_markers)
        self.negative_relation = find_negative(self.relations or [], self.negative_relation)
        check_labels(self.tags, self.relations, self.label_scheme)

    @property
    def labels(self) -> list[str]:
        """The model's labels in id order: the relations, or the tags in this processor's label scheme."""
        if self.relations is not None:
            return list(self.relations)
        return scheme_labels(self.tags, self.label_scheme)

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

    def for_model_of(self, config: Any) -> Self:
        """
        This processor, or a copy that cuts texts as a model of that configuration needs it: for relations, and in the
        `deepke` variant, to what the text tower takes. Other models for entities read longer texts in windows, and
        contexts within one window. A model that can read no contexts, where the processor does, is a ValueError.
        """
        if self.max_context_length:
            return self._for_pairs_of(config)._for_texts_of(config)
        return self._for_texts_of(config)

    def _for_pairs_of(self, config: Any) -> Self:
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

    def _for_texts_of(self, config: Any) -> Self:
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
            warn_once(logger, "Contexts are not looked at, since the processor has no max_context_length.")
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
        logits = logits.detach().float().cpu().numpy() if hasattr(logits, "detach") else np.asarray(logits)
        number = len(self.relations)
        if logits.ndim != 2 or logits.shape[1] != number:
            raise ValueError(f"logits must be of shape (batch_size, {number}), got {tuple(logits.shape)}.")
        odds = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float32)
        probabilities = odds / odds.sum(axis=1, keepdims=True)
        best = np.where(allowed, probabilities, -1).argmax(axis=1)
        answers = zip(best.tolist(), probabilities[np.arange(len(best)), best].tolist(), strict=True)
        return [{"relation": self.relations[index], "score": score} for index, score in answers]


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
