"""The baselines: pictures as visual tokens, the encoder of a system, and the CRF of IFAformer."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import can_return_tuple

from .baseline_encoders import ENCODERS, WHOLE_PICTURE, VisualTokens, make_tower
from .configuration_baseline import BaselineConfig
from .crf import LinearChainCRF
from .model_inputs import check_texts, given_pictures, scored_mask, warn_of_unused, warn_without_labels
from .modeling_outputs import IFAformerTokenClassifierOutput
from .packing import PackedTokens
from .pretrained import IFAformerPreTrainedModel
from .text_windows import TextWindows, windows_of


def span_mixing(labels: list[str]) -> torch.Tensor:
    """
    (number of prefixes, number of labels): how the score of a prefix is shared out. Each prefix (`O`, `B`, `I`) goes
    to the labels that begin with it, in equal shares; a label without a dash is its own prefix.
    """
    prefixes = [label.partition("-")[0] for label in labels]
    has_prefix = torch.tensor([[other == prefix for other in prefixes] for prefix in dict.fromkeys(prefixes)])
    return has_prefix / has_prefix.sum(dim=1, keepdim=True)


def grid_boxes(height: int, width: int) -> torch.Tensor:
    """(height * width, 5): left, top, right, bottom and area of the cells of a grid, row by row, as fractions."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    sides = (column / width, row / height, (column + 1) / width, (row + 1) / height)
    return torch.stack([*sides, torch.full((height, width), 1 / (height * width))], dim=-1).flatten(0, 1)


def picture_pyramid(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    """
    What HVPNeT sees of pictures: the states of each stage of a ResNet, (N, channels, height, width), averaged in 2 x 2
    places. (N, 4 C), C the channels of all stages: channel by channel the four places. As published, a last row or
    column that is odd is left out.
    """
    pooled = []
    for states in stages:
        height, width = (max(1, size - size % 2) for size in states.shape[2:])
        pooled.append(nn.functional.adaptive_avg_pool2d(states[..., :height, :width], 2))
    return torch.cat(pooled, dim=1).flatten(1)


class BaselineForTokenClassification(IFAformerPreTrainedModel):
    """
    One of the systems that IFAformer is compared with, with a linear layer and a linear-chain CRF: multimodal named
    entity recognition. `config.system` says which.
    """

    config: BaselineConfig  # type: ignore[assignment]
    config_class = BaselineConfig  # type: ignore[assignment]
    base_model_prefix = ""
    _keep_in_fp32_modules_strict = ["crf"]  # noqa: RUF012
    auto_map = {  # noqa: RUF012
        "AutoConfig": "configuration_baseline.BaselineConfig",
        "AutoModelForTokenClassification": "modeling_baseline.BaselineForTokenClassification",
    }
    custom_pipelines = {  # noqa: RUF012  (its code comes with the processor)
        "multimodal-token-classification": {
            "impl": "pipeline_ifaformer.IFAformerPipeline",
            "pt": ["AutoModelForTokenClassification"],
        }
    }

    span_mixing: torch.Tensor
    span_crf: LinearChainCRF

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        assert config.id2label is not None  # the library fills in the label maps
        labels = list(config.id2label.values())
        self.encoder: Any = ENCODERS[config.system](config)
        self.vision_model: Any = None
        if config.text_attends_vision:
            self.vision_model = make_tower(config.vision_config)
        dropout = {"umt": 0.0, "cnn_bilstm": config.lstm_dropout}.get(config.system, 0.1)
        self.dropout = nn.Dropout(dropout if config.classifier_dropout is None else config.classifier_dropout)
        self.classifier = nn.Linear(self.encoder.output_size, len(labels))
        self.crf = LinearChainCRF(len(labels), config)
        if self.encoder.span_size is not None:
            mixing = span_mixing(labels)
            self.register_buffer("span_mixing", mixing, persistent=False)
            self.span_classifier = nn.Linear(self.encoder.span_size, len(mixing))
            self.span_crf = LinearChainCRF(len(mixing))
            self._keep_in_fp32_modules_strict = ["crf", "span_crf"]
        self.supports_gradient_checkpointing = config.text_attends_vision  # An LSTM has no layers to checkpoint.
        self.post_init()

    def initialize_weights(self):
        # In a model that is not its own the library leaves out modules without parameters of their own, such as CLIP's
        # attention, whose projections would then not begin as in CLIP where a checkpoint lacks them.
        for tower in self.towers().values():
            if tower is not self.encoder:
                tower.initialize_weights()
        super().initialize_weights()

    @torch.no_grad()
    def _init_weights(self, module):
        if self.config.system == "cnn_bilstm" and isinstance(module, nn.Embedding):  # as published
            bound = (3 / module.embedding_dim) ** 0.5
            init.uniform_(module.weight, -bound, bound)
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
            return
        if isinstance(module, nn.Conv1d | nn.LSTM):  # as torch makes them
            inputs = module.hidden_size if isinstance(module, nn.LSTM) else module.weight[0].numel()
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5)
            return
        super()._init_weights(module)
        if module is self and hasattr(self, "span_mixing"):
            init.copy_(self.span_mixing, span_mixing(list(self.config.id2label.values())))

    @classmethod
    def from_vision_text_pretrained(cls, *args, output_loading_info: bool = False, **kwargs):
        """
        As [`IFAformerPreTrainedModel.from_vision_text_pretrained`], for the fields of [`BaselineConfig`]. What
        VisualBERT has beside BERT begins as the published code begins it.
        """
        model, info = super().from_vision_text_pretrained(*args, output_loading_info=True, **kwargs)
        missing = info.get("text", {}).get("missing_keys", ())
        if "embeddings.visual_position_embeddings.weight" in missing:
            model.encoder.copy_text_embeddings()
        return (model, info) if output_loading_info else model

    def towers(self) -> dict[str, Any]:
        if self.vision_model is None:
            return {"text": self.encoder}
        return {"text": self.encoder.text_model, "vision": self.vision_model}

    def fusion(self) -> nn.Module | None:
        return None if self.vision_model is None else self.encoder

    def get_input_embeddings(self):
        return self.towers()["text"].get_input_embeddings()

    def set_input_embeddings(self, value):
        self.towers()["text"].set_input_embeddings(value)

    def train(self, mode: bool = True):
        """As in `nn.Module`, but that a frozen vision tower stays in evaluation mode: its BatchNorm would drift."""
        super().train(mode)
        if self.vision_model is not None and self.config.freeze_vision:
            self.vision_model.eval()
        return self

    def _freeze_what_reaches_no_loss(self) -> None:
        unused, vision = self.encoder.unused(), self.vision_model
        if vision is not None:
            looks_at_pictures = self.config.system != "vilbert" or self.config.connection_layers > 0
            if self.config.freeze_vision or not looks_at_pictures:
                unused.append(vision)
            elif hasattr(vision, "post_layernorm"):  # CLIP's, of the pooled output alone
                unused.append(vision.post_layernorm)
        for module in unused:
            module.requires_grad_(False)

    def see(
        self,
        batch_size: int,
        pixel_values: torch.Tensor | None,
        image_mask: torch.Tensor | None,
        crops: Mapping[str, tuple[torch.Tensor | None, torch.Tensor | None]],
    ) -> VisualTokens:
        """
        The visual tokens of a batch: a grid of the whole picture, row by row, and behind it one token a crop, the mean
        of the crop's grid; for `hvpnet` one token a picture or crop. Real pictures alone go through the vision tower.
        A row that has none gets one token of zeros, in the box of the whole picture: no attention is over nothing, and
        the row does not depend on others.

        Args:
            pixel_values, image_mask: as for [`forward`].
            crops: by kind, `"aux"` and `"rcnn"`, the pixels and mask, as for [`forward`].
        """
        config: Any = self.config
        size = (config.vision_config.num_channels, config.image_size, config.image_size)
        given = given_pictures(config, batch_size, pixel_values, image_mask, crops, size)
        if not given:
            return self._nothing_seen(batch_size)
        number = given["whole"][0].shape[1] if "whole" in given else 0  # of whole pictures in a row, which come first
        pixels, real = (torch.cat(parts, dim=1) for parts in zip(*given.values(), strict=True))
        grids = self._grids(pixels, real)
        if grids is None:
            return self._nothing_seen(batch_size)

        boxes = grid_boxes(*grids.shape[2:4]).to(grids)
        grids = grids.flatten(2, 3)  # (B, N, cells, C)
        whole, others = grids[:, :number], grids[:, number:]
        states = torch.cat([whole.flatten(1, 2), others.mean(dim=2)], dim=1)  # (B, V, C)
        real = torch.cat([real[:, :number].repeat_interleave(len(boxes), dim=1), real[:, number:]], dim=1)
        boxes = torch.cat([boxes.repeat(number, 1), boxes.new_zeros(others.shape[1], 5)])
        # The first token of a row without pictures, which is zeros by now
        stands_in = ~real.any(dim=1, keepdim=True) & (torch.arange(real.shape[1], device=real.device) == 0)  # (B, V)
        boxes = torch.where(stands_in[..., None], boxes.new_tensor(WHOLE_PICTURE), boxes)
        return VisualTokens(states, real | stands_in, boxes)

    def _grids(self, pixels: torch.Tensor, real: torch.Tensor) -> torch.Tensor | None:
        """(B, N, 3, S, S) -> (B, N, h, w, C), zeros where nothing is `real` (B, N). None where nothing is at all."""
        is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        trains_statistics = self.vision_model.training and self.config.vision_config.model_type == "resnet"
        if not is_traced or trains_statistics:
            return self._grids_of_real(pixels, real)
        # Shapes must not depend on values.
        grids = self._grid(pixels.flatten(0, 1)).unflatten(0, real.shape)
        return grids * real[..., None, None, None]

    @torch.compiler.disable(reason="BatchNorm in training mode must not see absent pictures (freeze_vision is false).")
    def _grids_of_real(self, pixels: torch.Tensor, real: torch.Tensor) -> torch.Tensor | None:
        """As `_grids`. What is not real does not go through the tower."""
        tokens = PackedTokens(real)
        if not len(tokens.positions):
            return None
        grids = self._grid(pixels.flatten(0, 1).index_select(0, tokens.positions))  # (real ones, h, w, C)
        return tokens.unpack(grids.flatten(1)).unflatten(2, grids.shape[1:])

    def _grid(self, pixels: torch.Tensor) -> torch.Tensor:
        """(N, 3, S, S) -> (N, h, w, C). For `hvpnet` a grid of one cell, see [`picture_pyramid`]."""
        pixels = pixels.to(self.vision_model.dtype)
        if self.config.system == "hvpnet":
            stages = self.vision_model(pixels, output_hidden_states=True).hidden_states[1:]  # without the embeddings
            return picture_pyramid(stages)[:, None, None]
        states = self.vision_model(pixels).last_hidden_state
        if states.dim() == 4:  # a ResNet's (N, C, h, w)
            return states.permute(0, 2, 3, 1)
        side = self.config.image_size // self.config.vision_config.patch_size
        return states[:, 1:].unflatten(1, (side, side))  # without the class token

    def _nothing_seen(self, batch_size: int) -> VisualTokens:
        states = self.classifier.weight.new_zeros(batch_size, 1, self.config.vision_width)
        if self.training and not self.config.freeze_vision:
            # Processes that train together wait for a gradient of every weight. Without pictures it is zero.
            used = [parameter for parameter in self.vision_model.parameters() if parameter.requires_grad]
            states = states + 0.0 * torch.stack([parameter.sum() for parameter in used]).sum()
        boxes = states.new_tensor(WHOLE_PICTURE).expand(batch_size, 1, 5)
        return VisualTokens(states, states.new_ones(batch_size, 1, dtype=torch.bool), boxes)

    def _of_windows(
        self, windows: TextWindows, text: Mapping[str, Any], seen: Mapping[str, torch.Tensor]
    ) -> list[torch.Tensor | None]:
        """States and span states of texts that are read in windows, each with what is seen beside its text."""
        parts = []
        for part in windows.parts({**text, **seen}):
            visual = VisualTokens(**{name: part.pop(name) for name in seen}) if seen else None
            parts.append(self.encoder(part, visual))
        return [None if of[0] is None else windows.merge(torch.cat(of)) for of in zip(*parts, strict=True)]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.LongTensor | None = None,
        byte_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_mask: torch.BoolTensor | None = None,
        aux_pixel_values: torch.Tensor | None = None,
        aux_crop_mask: torch.BoolTensor | None = None,
        rcnn_pixel_values: torch.Tensor | None = None,
        rcnn_crop_mask: torch.BoolTensor | None = None,
        crf_mask: torch.BoolTensor | None = None,
        labels: torch.LongTensor | None = None,
        **kwargs,
    ) -> IFAformerTokenClassifierOutput:
        """
        Args:
            byte_ids (`torch.Tensor` of shape `(batch_size, seq_length, max_word_bytes)`, *optional*):
                For `cnn_bilstm`: of each token the bytes of its word plus 1, 0 for padding.

        The other arguments are those of [`IFAformerForTokenClassification.forward`], but for `inputs_embeds`; pictures
        and crops are all `image_size` pixels wide. Hidden states and attentions are not returned, and a warning tells
        of what else is given and not used.

        Raises:
            ValueError: for pixels or masks of the wrong shape; more crops than configured; a text without a single
                token; and as the CRF.
        """
        warn_without_labels(self.training, labels)
        check_texts(input_ids.shape, attention_mask, None)
        text = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        visual, unused = None, {"byte_ids": byte_ids}
        if self.config.system == "cnn_bilstm":
            text |= unused
            unused = {"pixel_values": pixel_values, "aux_pixel_values": aux_pixel_values}
            unused["rcnn_pixel_values"] = rcnn_pixel_values
        else:
            crops = {"aux": (aux_pixel_values, aux_crop_mask), "rcnn": (rcnn_pixel_values, rcnn_crop_mask)}
            visual = self.see(input_ids.shape[0], pixel_values, image_mask, crops)
        warn_of_unused(self.config.system, {**unused, **kwargs})
        windows = windows_of(self.config, text)
        if windows is None:
            states, span_states = self.encoder(text, visual)
        else:
            seen = {} if visual is None else visual._asdict()
            states, span_states = self._of_windows(windows, text, seen)
        logits = self.classifier(self.dropout(states))  # (B, T, num_labels)
        scored = scored_mask(self.config, logits, attention_mask, crf_mask, labels)
        span_logits = None
        if span_states is not None:
            span_logits = self.span_classifier(span_states)  # (B, T, number of prefixes)
            share = self.config.span_share
            logits = (1 - share) * logits + share * (span_logits @ self.span_mixing.to(span_logits))
        loss = None if labels is None else -self.crf(logits, labels, scored).mean()
        if labels is not None and span_logits is not None:
            prefix_of_label = self.span_mixing.argmax(dim=0)
            prefixes = prefix_of_label[labels.clamp(min=0)].masked_fill(labels < 0, -100)
            loss = loss - self.config.span_loss_weight * self.span_crf(span_logits, prefixes, scored).mean()
        return IFAformerTokenClassifierOutput(
            loss=loss, logits=logits, tag_ids=None if self.training else self.crf.viterbi_decode(logits, scored)
        )


__all__ = ["BaselineForTokenClassification"]
