"""The configuration of the baselines: the systems that IFAformer is compared with."""

import dataclasses
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, VisualBertConfig
from transformers.configuration_utils import SubConfigSpec

from .configuration_ifaformer import BERT_MODEL_TYPES, LABEL_SCHEMES, TaggerConfig


SYSTEMS = ("cnn_bilstm", "co_attention", "visual_bert", "vilbert", "umt", "hvpnet")
CO_ATTENTION_VARIANTS = ("published", "corrected")
VISION_MODEL_TYPES = ("resnet", "clip_vision_model")
RESNET_50 = {"model_type": "resnet", "depths": [3, 4, 6, 3]}
RESNET_152 = {"model_type": "resnet", "depths": [3, 8, 36, 3]}
IMAGE_SIZE = 224  # of a ResNet, which takes any
SIZES = (  # that must be 1 or more
    *("image_size", "co_attention_size", "vision_stream_size", "vision_stream_heads", "connection_heads"),
    *("vision_stream_intermediate_size", "connection_size", "prefix_hidden_size", "vocab_size", "word_size"),
    *("byte_size", "num_byte_filters", "byte_filter_width", "max_word_bytes", "lstm_size"),
)


@strict
class BaselineConfig(TaggerConfig):
    """
    Configuration of [`BaselineForTokenClassification`].

    Args:
        system (`str`): One of `"cnn_bilstm"`, `"co_attention"`, `"visual_bert"`, `"vilbert"`, `"umt"`, `"hvpnet"`.
        text_config (`BertConfig`, `RobertaConfig`, `XLMRobertaConfig`, `VisualBertConfig` or `dict`, *optional*):
            The text tower. Defaults to BERT-base. For `visual_bert` a BERT's becomes a `VisualBertConfig`, whose
            `visual_embedding_dim` is the width of the vision tower. `cnn_bilstm` has none.
        vision_config (`ResNetConfig`, `CLIPVisionConfig` or `dict`, *optional*):
            The vision tower. Defaults to ResNet-152, and to ResNet-50 for `hvpnet`, which takes ResNets alone.
            `cnn_bilstm` has none.
        image_size (`int`, *optional*):
            Height and width of pictures and crops in pixels. Defaults to 224 for a ResNet. For CLIP it is the tower's.
        freeze_vision (`bool`, defaults to `True`):
            Whether the vision tower stays as it is: it gets no gradients and is always in evaluation mode.
        label_scheme, use_whole_image, max_images, text_window, initializer_range, calibration_temperature, thresholds,
        vocab_size, id2label, label2id:
            As in [`IFAformerConfig`].
        num_aux_crops, num_rcnn_crops (`int`, default to 0):
            Most crops of each kind in a picture. Each crop is one visual token behind those of the whole picture.
            `hvpnet` was published with 3 aux crops.
        aux_crop_size, rcnn_crop_size (`int`, *optional*): As `image_size`.
        classifier_dropout (`float`, *optional*):
            Defaults to the published 0.0 for `umt`, to `lstm_dropout` for `cnn_bilstm`, and to 0.1 for the others.
        co_attention_size (`int`, defaults to 200): Width of the attentions and gates of `co_attention`.
        co_attention_variant (`str`, defaults to `"published"`):
            In the published attention all words of a tweet get the same weights. `"corrected"` adds the terms of word
            and region inside the tanh.
        connection_layers (`int`, defaults to 6): How many of the upper text layers of `vilbert` follow a connection.
        vision_stream_size, vision_stream_heads, vision_stream_intermediate_size (`int`, default to 1024, 8, 1024):
            Sizes of the vision stream of `vilbert`.
        connection_size, connection_heads (`int`, default to 1024 and 8): Sizes of the connections of `vilbert`.
        span_loss_weight (`float`, defaults to 0.5): Weight of the loss of the span branch of `umt`.
        span_share (`float`, defaults to 0.5): Share of the span branch in the emissions of `umt`.
        prefix_hidden_size (`int`, defaults to 800):
            Width of the hidden layer of `hvpnet` between a picture and its keys and values.
        word_size, byte_size, num_byte_filters, byte_filter_width, max_word_bytes, lstm_size, lstm_dropout:
            Of `cnn_bilstm`: widths of the embeddings of words (200) and bytes (30), number (30) and width (3) of the
            filters over the bytes of a word, most bytes of a word (30), width of each direction of the LSTM (200), and
            dropout (0.5).

    Raises:
        StrictDataclassClassValidationError: for towers or options that are not those of a system. All that is wrong is
            in one message.
        StrictDataclassFieldValidationError: for a value of the wrong type.
        ValueError: for an `id2label` and a `label2id` that disagree.
    """

    model_type = "ifaformer_baseline"
    has_no_defaults_at_init = True
    sub_configs_defaults = {  # noqa: RUF012  (a class attribute of the library's, annotated it would become a field)
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True),
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="resnet", optional=True),
    }

    system: str
    freeze_vision: bool = True
    num_aux_crops: int = 0
    num_rcnn_crops: int = 0
    co_attention_size: int = 200
    co_attention_variant: str = "published"
    connection_layers: int = 6
    vision_stream_size: int = 1024
    vision_stream_heads: int = 8
    vision_stream_intermediate_size: int = 1024
    connection_size: int = 1024
    connection_heads: int = 8
    span_loss_weight: float | int = 0.5
    span_share: float | int = 0.5
    prefix_hidden_size: int = 800
    vocab_size: int | None = None
    word_size: int = 200
    byte_size: int = 30
    num_byte_filters: int = 30
    byte_filter_width: int = 3
    max_word_bytes: int = 30
    lstm_size: int = 200
    lstm_dropout: float | int = 0.5

    def __post_init__(self, **kwargs):
        if self.text_attends_vision:  # all of these have two towers
            self.text_config = {} if self.text_config is None else self.text_config
            if self.vision_config is None:
                self.vision_config = RESNET_50 if self.system == "hvpnet" else RESNET_152
            kwargs["vocab_size"], self.vocab_size = self.vocab_size, None
        given = self.text_config
        super().__post_init__(**kwargs)
        if self.image_size is None:
            self.image_size = getattr(self.vision_config, "image_size", IMAGE_SIZE)
        self.aux_crop_size, self.rcnn_crop_size = (
            self.image_size if size is None else size for size in (self.aux_crop_size, self.rcnn_crop_size)
        )
        if self.use_whole_image is None:
            self.use_whole_image = self.text_attends_vision
        if self.system == "visual_bert" and not any(self._tower_problems()):
            self.text_config = self._visual_bert_config(given)

    def _visual_bert_config(self, given: Any) -> Any:
        """The text tower's configuration as one of VisualBERT, which has BERT's fields and three of its own."""
        names = {field.name for field in dataclasses.fields(VisualBertConfig)} & vars(self.text_config).keys()
        fields: dict[str, Any] = {name: getattr(self.text_config, name) for name in names}
        fields["visual_embedding_dim"] = self.vision_width
        # The library's default of the padding index is that of no published VisualBERT, all of which have BERT's.
        if isinstance(given, VisualBertConfig):
            is_default = given.pad_token_id == VisualBertConfig.pad_token_id
        else:
            is_default = self.text_config.model_type == "visual_bert" and "pad_token_id" not in given
        if is_default:
            fields["pad_token_id"] = 0
        config = VisualBertConfig(**fields)
        config._name_or_path = self.text_config._name_or_path
        config._attn_implementation = self.text_config._attn_implementation
        return config

    @property
    def text_attends_vision(self) -> bool:
        """Whether pictures reach the output."""
        return self.system != "cnn_bilstm"

    @property
    def vision_width(self) -> int:
        """The width of a visual token. One of `hvpnet` is a picture, in 2 x 2 places of each stage of the ResNet."""
        vision: Any = self.vision_config
        if self.system == "hvpnet":
            return 4 * sum(vision.hidden_sizes)
        return vision.hidden_sizes[-1] if vision.model_type == "resnet" else vision.hidden_size

    def validate_architecture(self):
        """Part of the library's `validate`: runs at construction and before saving."""
        problems = [*self._option_problems(), *self._tower_problems(), *self._shared_problems()]
        if problems:
            raise ValueError("BaselineConfig: " + " ".join(problems))

    def _option_problems(self):
        known = {"system": SYSTEMS, "label_scheme": LABEL_SCHEMES, "co_attention_variant": CO_ATTENTION_VARIANTS}
        for name, values in known.items():
            if getattr(self, name) not in values:
                yield f"{name} must be one of {values}, got {getattr(self, name)!r}."
        if self.word_shapes:
            yield "word_shapes is a field of IFAformer, and a baseline has no embedding of them."
        for name in SIZES:
            size = getattr(self, name)
            if size is not None and size < 1:
                yield f"{name} must be 1 or more, got {size}."
        if self.span_loss_weight < 0:
            yield f"span_loss_weight must be 0 or more, got {self.span_loss_weight}."
        for name in ("span_share", "lstm_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name} must be between 0 and 1, got {getattr(self, name)}."
        for size, heads in (("vision_stream_size", "vision_stream_heads"), ("connection_size", "connection_heads")):
            if getattr(self, heads) > 0 and getattr(self, size) % getattr(self, heads):
                yield f"{size} ({getattr(self, size)}) must be a multiple of {heads} ({getattr(self, heads)})."
        for kind in ("aux", "rcnn"):
            number, size = getattr(self, f"num_{kind}_crops"), getattr(self, f"{kind}_crop_size")
            if number < 0:
                yield f"num_{kind}_crops must be 0 or more, got {number}."
            if number > 0 and size != self.image_size:
                yield f"{kind}_crop_size must be image_size ({self.image_size}) in a baseline, got {size}."

    def _tower_problems(self):
        text, vision = self.text_config, self.vision_config
        if not self.text_attends_vision:
            if text is not None or vision is not None:
                yield f"{self.system} has no towers: leave out text_config and vision_config."
            return
        types = ("bert", "visual_bert") if self.system == "visual_bert" else BERT_MODEL_TYPES
        if text.model_type not in types:
            yield f"text_config of {self.system} must be of a type in {types}, got {text.model_type!r}."
        elif self.system == "vilbert" and not 0 <= self.connection_layers <= text.num_hidden_layers:
            yield (
                f"connection_layers must be between 0 and the number of text layers ({text.num_hidden_layers}), got "
                f"{self.connection_layers}."
            )
        types = ("resnet",) if self.system == "hvpnet" else VISION_MODEL_TYPES
        if vision.model_type not in types:
            yield (
                f"vision_config of {self.system} must be of a type in {types}, got {vision.model_type!r}; of a whole "
                "CLIP model pass its .vision_config."
            )
        elif vision.model_type == "clip_vision_model" and vision.image_size != self.image_size:
            yield f"image_size must be that of the CLIP tower ({vision.image_size}), got {self.image_size}."


__all__ = ["BaselineConfig"]
