"""IFAformer configuration: two tower configurations, what the vision tower sees, and who attends to whom."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


ATTENTION_VARIANTS = ("corrected", "deepke", "mkgformer")
LABEL_SCHEMES = ("word", "deepke")
NUM_WORD_SHAPES = 10  # as the processor counts them, see `word_shape`
MAX_CROP_POSITIONS = 2**16  # of a kind of crop; each has an embedding
BERT_MODEL_TYPES = ("bert", "roberta", "xlm-roberta")
TEXT_MODEL_TYPES = (*BERT_MODEL_TYPES, "electra", "distilbert", "modernbert")
VISION_MODEL_TYPES = ("clip_vision_model", "siglip_vision_model", "vit", "dinov2")
CROP_SIZES = {"aux": 128, "rcnn": 64}  # nearest to which crops are, in whole patches


@contextmanager
def configuration_errors() -> Iterator[None]:
    """The library's own errors about a configuration become ValueErrors, whose message is one sentence."""
    try:
        yield
    except StrictDataclassError as error:
        raise ValueError(str(error.__cause__ or error)) from error


def label_maps_of(id2label: dict | None, label2id: dict | None) -> dict[str, dict]:
    """Both maps where at least one is given, else nothing. A ValueError where they disagree."""
    if id2label is None and label2id is None:
        return {}
    if id2label is None:
        id2label = {index: label for label, index in (label2id or {}).items()}
    id2label = {int(index): label for index, label in id2label.items()}
    inverse = {label: index for index, label in id2label.items()}
    if label2id is not None and len(inverse) == len(id2label) and inverse != label2id:
        only_one = set(inverse.items()) ^ set(label2id.items())
        raise ValueError(f"id2label and label2id disagree on {sorted(only_one, key=str)}.")
    return {"id2label": id2label, "label2id": inverse}


@strict
class TaggerConfig(PreTrainedConfig):
    """
    What the configurations of all models share: the two towers, the labels, and what the processor must agree with.
    The fields are described in [`IFAformerConfig`].
    """

    text_config: PreTrainedConfig | dict | None = None
    vision_config: PreTrainedConfig | dict | None = None
    label_scheme: str = "word"
    max_images: int = 1
    num_aux_crops: int = 3
    aux_crop_size: int | None = None
    num_rcnn_crops: int = 3
    rcnn_crop_size: int | None = None
    image_size: int | None = None
    use_whole_image: bool | None = None
    word_shapes: bool = False
    text_window: int | None = None
    classifier_dropout: float | int | None = None
    initializer_range: float = 0.02
    # Not `temperature`, which the library takes for a setting of text generation and may refuse to save.
    calibration_temperature: float | int = 1.0
    thresholds: dict | None = None

    def __post_init__(self, **kwargs):
        for name, labels in label_maps_of(self.id2label, self.label2id).items():
            setattr(self, name, labels)
        vocab_size = kwargs.pop("vocab_size", None)
        super().__post_init__(**kwargs)
        if vocab_size is not None:
            self.text_config.vocab_size = max(vocab_size, self.text_config.vocab_size)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in `PreTrainedConfig`; what is given here is checked too, and not only when the result is saved."""
        labels = label_maps_of(kwargs.get("id2label"), kwargs.get("label2id"))
        loaded = super().from_dict(config_dict, **{**kwargs, **labels})
        (loaded[0] if isinstance(loaded, tuple) else loaded).validate()
        return loaded

    def to_dict(self) -> dict[str, Any]:
        """As in `PreTrainedConfig`, with the `label2id` of this `id2label`, which scripts may have set alone."""
        return super().to_dict() | label_maps_of(self.id2label, None)

    @classmethod
    def from_vision_text_pretrained(
        cls,
        vision_model: str | os.PathLike | None = None,
        text_model: str | os.PathLike | None = None,
        *,
        vision_config: PreTrainedConfig | dict | None = None,
        text_config: PreTrainedConfig | dict | None = None,
        **fields: Any,
    ) -> Self:
        """
        The configuration of a new model whose towers start from checkpoints. No weight is read.

        Args:
            vision_model, text_model: as for [`IFAformerPreTrainedModel.from_vision_text_pretrained`].
            vision_config, text_config: configuration of a tower that has no checkpoint.
            **fields: fields of this class.

        Raises:
            ValueError: where a tower has both a checkpoint and a configuration, and for all that this class refuses,
                such as towers that do not match.
            OSError: for a checkpoint that is not there.
        """
        configs = {"vision": vision_config, "text": text_config}
        for tower, checkpoint in (("vision", vision_model), ("text", text_model)):
            if checkpoint is None:
                continue
            if configs[tower] is not None:
                raise ValueError(f"Got a checkpoint and a {tower}_config for the {tower} tower; pass one of the two.")
            with configuration_errors():
                config = AutoConfig.from_pretrained(checkpoint)
            configs[tower] = getattr(config, f"{tower}_config", config)
        with configuration_errors():
            return cls(vision_config=configs["vision"], text_config=configs["text"], **fields)

    @property
    def picture_size(self) -> int:
        """Height and width of whole pictures in pixels."""
        return self.vision_config.image_size if self.image_size is None else self.image_size

    @property
    def max_text_length(self) -> int | None:
        """
        Longest text in tokens that the text tower takes; RoBERTa's positions start behind the padding index. None
        without a text tower.
        """
        text = self.text_config
        if getattr(text, "max_position_embeddings", None) is None:
            return None
        is_roberta = text.model_type in ("roberta", "xlm-roberta")
        return text.max_position_embeddings - (text.pad_token_id + 1 if is_roberta else 0)

    @property
    def window_length(self) -> int | None:
        """How many tokens of a text a model for entities reads at once; None where it reads no windows."""
        if getattr(self, "attention_variant", None) == "deepke":  # which pads all texts to one length
            return None
        return self.max_text_length if self.text_window is None else self.text_window

    def _shared_problems(self):
        if self.max_images < 1:
            yield f"max_images must be 1 or more, got {self.max_images}."
        if not 0 < self.calibration_temperature < math.inf:
            yield f"calibration_temperature must be a number above 0, got {self.calibration_temperature}."
        window = self.text_window
        longest = None if window is None else self.max_text_length
        if window is not None and not 3 <= window <= (window if longest is None else longest):
            limit = "at least 3" if longest is None else f"between 3 and {longest}"
            yield f"text_window must be {limit} tokens, got {window}."
        if self.id2label is None:
            return
        if len(set(self.id2label.values())) != len(self.id2label):
            yield f"id2label must name each label once, got {list(self.id2label.values())}."
        if sorted(int(index) for index in self.id2label) != list(range(len(self.id2label))):
            yield f"id2label must number its labels 0..{len(self.id2label) - 1}, got {sorted(self.id2label)}."


@strict
class IFAformerConfig(TaggerConfig):
    """
    Configuration of the IFAformer models ([arXiv 2211.07504](https://arxiv.org/abs/2211.07504)).

    Args:
        text_config (`BertConfig`, `RobertaConfig`, `XLMRobertaConfig`, `ElectraConfig`, `DistilBertConfig`,
            `ModernBertConfig` or `dict`, *optional*):
            The text tower. Defaults to BERT-base.
        vision_config (`CLIPVisionConfig`, `SiglipVisionConfig`, `ViTConfig`, `Dinov2Config` or `dict`, *optional*):
            The vision tower. Defaults to CLIP ViT-B/32. Where its width is not the text tower's, learnt projections
            ([`LentProjection`]) bring what one tower lends to the width of the other. The variants `"deepke"` and
            `"mkgformer"` need a BERT or RoBERTa and a CLIP of the same width, depth and number of heads.
        layer_map (`list[int]`, *optional*):
            Of each text layer the vision layer whose keys and values it reads, counted from 0, never a lower one than
            the text layer below. Defaults to an even distribution in which the last reads from the last. The first
            text layer reads the visual embeddings, whatever the map says. Each vision layer reads the text layer that
            came before it. Vision layers above the last of the map are not run.
        image_size (`int`, *optional*):
            Height and width of whole pictures in pixels, a multiple of the vision tower's patch size. Defaults to the
            size that the vision tower was made for; for another one its positions are interpolated, which CLIP's are
            not.
        attention_variant (`str`, defaults to `"corrected"`):
            `"corrected"` is what the paper describes; `"deepke"` reproduces the published code to the last digit, for
            checkpoints trained with it. `"mkgformer"` is MKGformer
            ([arXiv 2205.02357](https://arxiv.org/abs/2205.02357)), see [`FusedTextLayer`]: its towers meet in the
            upper third of the layers, rounded up.
        label_scheme (`str`, defaults to `"word"`):
            `"word"`: the CRF scores the first token of each word. `"deepke"`: it scores every token, `[CLS]` and
            `[SEP]` included, over the published 13 labels.
        max_images (`int`, defaults to 1):
            Most pictures of a text. Where it is above 1, neither the pictures nor the crops of a kind have an order:
            each crop has the positions that the first one has in a model of one picture.
        num_aux_crops, num_rcnn_crops (`int`, default to 3):
            Most crops of each kind in a picture: from visual grounding, and from an object detector. 0 leaves the
            kind out.
        aux_crop_size, rcnn_crop_size (`int`, *optional*):
            Height and width of a crop in pixels, a multiple of the vision tower's patch size. Default to those nearest
            to 128 and 64: these themselves for patches of 16 or 32 pixels, 126 and 70 for patches of 14.
        use_whole_image (`bool`, *optional*):
            Whether the patches of the whole picture are embedded too. Defaults to `True`, and to `False` in the
            `"deepke"` variant, which knows no other value.
        word_shapes (`bool`, defaults to `False`):
            Whether the model is also told the shape of each word, such as lower case, capitals or digits, which the
            tokens of an uncased text tower do not show. The learnt embedding of the shape is added to that of the
            token. It begins at zero.
        text_window (`int`, *optional*):
            How many tokens of a text a model for entities reads at once. Longer texts are read in windows that overlap
            by half, see [`TextWindows`]. Defaults to `max_text_length`.
        text_attends_vision, vision_attends_text (`bool`, default to `True`):
            The two directions of fusion. Without the first the output depends on the text alone, and the vision tower
            does not run.
        classifier_dropout (`float`, *optional*): Defaults to the published 0.1 for tokens and 0.5 for relations.
        head_marker_token_id, tail_marker_token_id (`int`, *optional*):
            Ids of the tokens that open the head and the tail entity; relation extraction only.
        initializer_range (`float`, defaults to 0.02): Standard deviation for new weights of the heads.
        calibration_temperature (`float`, defaults to 1.0):
            What the scores of tags and of relations are divided by before they become probabilities: the temperature
            of [Guo et al., 2017](https://arxiv.org/abs/1706.04599), which `train.py` fits on the validation split. The
            loss is that of these probabilities. A run that `train.py` begins with the model has 1 until it ends.
        thresholds (`dict`, *optional*):
            By entity type, the score below which an entity is left out where a pipeline has `threshold="best"`:
            `train.py` chooses those with the best F1 on the validation split. None of its own for a type that is
            absent.
        vocab_size (`int`, *optional*):
            Entries of the processor's tokenizer. `text_config.vocab_size` is raised to it where it is less, as it is
            where entity markers were added.
        num_labels, id2label, label2id (*optional*):
            As in every configuration of the library: `num_labels` makes `LABEL_0`, `LABEL_1`, ... where `id2label` has
            another length. One map alone, here or in `from_pretrained`, makes the other, and so does an `id2label`
            that is set later, when the configuration is saved.

    Raises:
        StrictDataclassClassValidationError: where a tower is of an unknown type, the variant's towers or the layer map
            do not match, a crop is no multiple of the patch size, or an option has an unknown value. All that is wrong
            is in one message.
        StrictDataclassFieldValidationError: for a value of the wrong type.
        ValueError: for an `id2label` and a `label2id` that disagree.
    """

    model_type = "ifaformer"
    sub_configs_defaults = {  # noqa: RUF012  (a class attribute of the library's, annotated it would become a field)
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="clip_vision_model"),
    }
    keys_to_ignore_at_inference = [  # noqa: RUF012
        "hidden_states",
        "attentions",
        "image_hidden_states",
        "image_attentions",
    ]

    attention_variant: str = "corrected"
    text_attends_vision: bool = True
    vision_attends_text: bool = True
    layer_map: list[int] | None = None
    head_marker_token_id: int | None = None
    tail_marker_token_id: int | None = None

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        for kind, size in CROP_SIZES.items():
            if getattr(self, f"{kind}_crop_size") is None:
                patch_size = getattr(self.vision_config, "patch_size", 1)
                setattr(self, f"{kind}_crop_size", max(1, round(size / patch_size)) * patch_size)
        if self.use_whole_image is None:
            self.use_whole_image = self.attention_variant != "deepke"

    @property
    def num_fused_layers(self) -> int:
        """In how many of the upper layers the towers meet."""
        layers = self.text_config.num_hidden_layers
        return math.ceil(layers / 3) if self.attention_variant == "mkgformer" else layers

    @property
    def lending_layers(self) -> list[int]:
        """Of each text layer the vision layer that lends to it: the `layer_map`."""
        if self.layer_map is not None and self.text_attends_vision:
            return self.layer_map
        text, vision = self.text_config.num_hidden_layers, self.vision_config.num_hidden_layers
        return [-(-(layer + 1) * vision // text) - 1 for layer in range(text)]

    def num_crop_positions(self, kind: str) -> int:
        """
        Positions of the crops of a kind, `"aux"` or `"rcnn"`: crops times patches per crop, or the patches of one crop
        where a text has several pictures.
        """
        patches = getattr(self, f"{kind}_crop_size") // self.vision_config.patch_size
        number = getattr(self, f"num_{kind}_crops")
        return (number if self.max_images == 1 else min(number, 1)) * patches**2

    def validate_architecture(self):
        """Part of the library's `validate`: runs at construction and before saving."""
        problems = [*self._shared_problems(), *self._option_problems(), *self._tower_problems()]
        problems += self._crop_problems()
        if problems:
            raise ValueError("IFAformerConfig: " + " ".join(problems))

    def _option_problems(self):
        for name, known in (("attention_variant", ATTENTION_VARIANTS), ("label_scheme", LABEL_SCHEMES)):
            if getattr(self, name) not in known:
                yield f"{name} must be one of {known}, got {getattr(self, name)!r}."
        if self.attention_variant == "deepke" and self.use_whole_image:
            yield (
                "attention_variant='deepke' never embeds the whole image; set use_whole_image=False or use the "
                "'corrected' variant."
            )
        if self.attention_variant == "deepke" and self.max_images != 1:
            yield f"attention_variant='deepke' reads one picture; max_images must be 1, got {self.max_images}."
        if self.attention_variant == "deepke" and self.text_window is not None:
            yield "attention_variant='deepke' pads all texts to one length, and has no text_window."

    def _tower_problems(self):
        text, vision = self.text_config, self.vision_config
        if text.model_type not in TEXT_MODEL_TYPES:
            yield f"text_config must be of a type in {TEXT_MODEL_TYPES}, got {text.model_type!r}."
        if vision.model_type not in VISION_MODEL_TYPES:
            yield (
                f"vision_config must be of a type in {VISION_MODEL_TYPES}, got {vision.model_type!r}; of a whole CLIP "
                "or SigLIP model pass its .vision_config."
            )
            return
        for name, tower in (("text", text), ("vision", vision)):
            if name == "text" and text.model_type not in TEXT_MODEL_TYPES:
                continue
            if tower.hidden_size % tower.num_attention_heads:
                yield (
                    f"hidden_size ({tower.hidden_size}) of the {name} tower must be a multiple of its "
                    f"num_attention_heads ({tower.num_attention_heads})."
                )
        if getattr(vision, "drop_path_rate", 0.0):
            yield (
                f"drop_path_rate of the vision tower must be 0, got {vision.drop_path_rate}: tokens of several rows "
                "are computed side by side, so that rows cannot be dropped."
            )
        if self.attention_variant in ("deepke", "mkgformer"):
            yield from self._matching_problems(text, vision)
        elif text.model_type in TEXT_MODEL_TYPES and self.layer_map is not None and self.text_attends_vision:
            yield from self._layer_map_problems(text.num_hidden_layers, vision.num_hidden_layers)

    def _matching_problems(self, text, vision):
        """Of the variants that are those of one pair of towers."""
        variant = self.attention_variant
        if (text.model_type, vision.model_type) not in [(kind, "clip_vision_model") for kind in BERT_MODEL_TYPES]:
            yield (
                f"attention_variant={variant!r} needs a text tower of a type in {BERT_MODEL_TYPES} and a CLIP, got "
                f"{text.model_type!r} and {vision.model_type!r}."
            )
        agree = ("hidden_size", "num_attention_heads", "num_hidden_layers") if self.text_attends_vision else ()
        for name in agree:
            text_value, vision_value = getattr(text, name, None), getattr(vision, name)
            if text_value != vision_value:
                yield (
                    f"For attention_variant={variant!r} the towers must agree on {name}: the text tower has "
                    f"{text_value}, the vision tower {vision_value}."
                )
        if self.layer_map is not None:
            yield f"attention_variant={variant!r} has no layer_map, got {self.layer_map}."

    def _layer_map_problems(self, text_depth, vision_depth):
        is_even = all(lower <= upper for lower, upper in zip(self.layer_map, self.layer_map[1:], strict=False))
        in_range = all(0 <= layer < vision_depth for layer in self.layer_map)
        if len(self.layer_map) != text_depth or not (is_even and in_range):
            yield (
                f"layer_map must have a vision layer, from 0 to {vision_depth - 1}, for each of the {text_depth} text "
                f"layers, none lower than the one before; got {self.layer_map}."
            )

    def _crop_problems(self):
        patch_size = getattr(self.vision_config, "patch_size", None)

        def near(size: int) -> str:
            """The two multiples next to a size."""
            lower = size // patch_size * patch_size
            return f", such as {lower} or {lower + patch_size}" if lower > 0 else f", such as {patch_size}"

        size, whole_size = self.image_size, getattr(self.vision_config, "image_size", None)
        if patch_size and size is not None and size != whole_size:
            if self.vision_config.model_type == "clip_vision_model":
                yield f"image_size must be that of the CLIP tower ({whole_size}), got {size}."
            elif size < patch_size or size % patch_size:
                yield f"image_size ({size}) must be a multiple of the patch size ({patch_size}){near(size)}."
        for kind in CROP_SIZES:
            number, size = getattr(self, f"num_{kind}_crops"), getattr(self, f"{kind}_crop_size")
            if number < 0:
                yield f"num_{kind}_crops must be 0 or more, got {number}."
            if patch_size and number > 0 and (size < patch_size or size % patch_size):
                yield f"{kind}_crop_size ({size}) must be a multiple of the patch size ({patch_size}){near(size)}."
            elif patch_size and self.num_crop_positions(kind) > MAX_CROP_POSITIONS:
                yield (
                    f"num_{kind}_crops ({number}) of {kind}_crop_size ({size}) have {self.num_crop_positions(kind)} "
                    f"patches, and at most {MAX_CROP_POSITIONS} are possible."
                )


__all__ = ["IFAformerConfig"]
