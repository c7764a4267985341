"""
The two towers of IFAformer: BERT and CLIP blocks whose attention takes a prefix of keys and values.

Modules and parameters carry the names of `BertModel` (also `RobertaModel`, `XLMRobertaModel`) and `CLIPVisionModel`,
so that weights move over by name. The towers hold no loop over layers: [`IFAformerModel`] runs them side by side.

Shapes: B batch_size, H num_heads, E head_dim, D = H * E hidden_size, T text length, V visual tokens, P prefix length.
Layers take (B, N, D), or packed tokens (N, D) with the [`PackedRows`] of their tower.
"""

from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import BertConfig, CLIPVisionConfig
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertIntermediate,
    BertOutput,
    BertPooler,
    BertPreTrainedModel,
    BertSelfAttention,
    BertSelfOutput,
)
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention, CLIPPreTrainedModel, CLIPVisionEmbeddings
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaEmbeddings
from transformers.utils import logging

from .configuration_ifaformer import IFAformerConfig
from .packing import PackedRows, PackedTokens, values_at_hand


logger = logging.get_logger(__name__)

KeyValues = tuple[torch.Tensor, torch.Tensor]  # before the heads are split: each (B, length, D), or packed

# The blocks of the three are the same; the embeddings differ in how positions are counted.
TEXT_EMBEDDINGS = {"bert": BertEmbeddings, "roberta": RobertaEmbeddings, "xlm-roberta": XLMRobertaEmbeddings}


def split_heads(hidden_states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(B, N, D) -> (B, H, N, E)."""
    return hidden_states.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def mix_positions(hidden_states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """
    (B, N, D) -> (B, N, D) whose heads are the memory of the input re-read as (B, H, N, E), without the transpose that
    belongs there: what the published code does to the embeddings at layer 0.
    """
    batch_size, length, _ = hidden_states.shape
    return hidden_states.reshape(batch_size, num_heads, length, -1).transpose(1, 2).flatten(2)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    # (B, H, N, E) x (B, H, E, P + N) -> (B, H, N, P + N)
    attention_weights = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        attention_weights = attention_weights + attention_mask
    attention_weights = nn.functional.softmax(attention_weights, dim=-1, dtype=torch.float32).to(query.dtype)
    attention_weights = nn.functional.dropout(attention_weights, p=dropout, training=module.training)
    # (B, H, N, E) -> (B, N, H, E)
    attention_output = torch.matmul(attention_weights, value).transpose(1, 2).contiguous()
    return attention_output, attention_weights


def prefix_attention(
    module: BertSelfAttention | CLIPAttention,
    query: torch.Tensor,
    key_values: KeyValues,
    prefix_key_values: KeyValues | None,
    attention_mask: torch.Tensor | None,
    dropout: float,
    num_heads: int,
    packed_rows: PackedRows | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Attention over `[prefix ; own]` keys and values with the kernel the configuration names.

    Args:
        query: (B, N, D), or packed.
        key_values: own ones, each (B, N, D), or packed.
        prefix_key_values: the other tower's, each (B, P, D), or packed, or None.
        attention_mask: additive, (B, 1, 1, P + N), or None. Packed tokens need none.

    Returns:
        As `query`, and the weights (B, H, N, P + N), which only the eager kernel gives, and not for packed tokens.
    """
    attention_function = ALL_ATTENTION_FUNCTIONS.get_interface(
        module.config._attn_implementation, eager_attention_forward
    )
    attend = partial(
        attention_function,
        module,
        scaling=(query.shape[-1] // num_heads) ** -0.5,
        dropout=dropout if module.training else 0.0,
    )
    prefix = prefix_key_values or ()
    if packed_rows is None:
        if prefix:
            key_values = torch.cat([prefix[0], key_values[0]], dim=1), torch.cat([prefix[1], key_values[1]], dim=1)
        query, key, value = (split_heads(states, num_heads) for states in (query, *key_values))
        attention_output, attention_weights = attend(query, key, value, attention_mask)
        return attention_output.flatten(2), attention_weights
    query, key, value, *prefix_heads = (
        split_heads(packed.unsqueeze(0), num_heads) for packed in (query, *key_values, *prefix)
    )
    prefix_key, prefix_value = prefix_heads or (None, None)
    rows = zip(
        packed_rows.own(query),
        packed_rows.with_prefix(prefix_key, key),
        packed_rows.with_prefix(prefix_value, value),
        strict=True,
    )
    # (1, length, H, E) of each row -> (N, D)
    return torch.cat([attend(*row, None)[0] for row in rows], dim=1).squeeze(0).flatten(1), None


class IFAformerTextSelfAttention(BertSelfAttention):
    """BERT's self-attention with a prefix. Also returns its own keys and values."""

    def forward(self, hidden_states, attention_mask=None, prefix_key_values=None, packed_rows=None):
        query, key_values = self.query(hidden_states), (self.key(hidden_states), self.value(hidden_states))
        dropout, num_heads = self.dropout.p, self.num_attention_heads
        attention_output, attention_weights = prefix_attention(
            self, query, key_values, prefix_key_values, attention_mask, dropout, num_heads, packed_rows
        )
        return attention_output, attention_weights, key_values


class IFAformerTextLayer(GradientCheckpointingLayer):
    """BERT's post-LayerNorm block. Also returns its own keys and values, before any prefix."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = nn.ModuleDict({"self": IFAformerTextSelfAttention(config), "output": BertSelfOutput(config)})
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        prefix_key_values: KeyValues | None = None,
        packed_rows: PackedRows | None = None,
    ) -> tuple[torch.Tensor, KeyValues, torch.Tensor | None]:
        attention_output, attention_weights, key_values = self.attention["self"](
            hidden_states, attention_mask, prefix_key_values, packed_rows
        )
        attention_output = self.attention["output"](attention_output, hidden_states)
        hidden_states = self.output(self.intermediate(attention_output), attention_output)
        return hidden_states, key_values, attention_weights


class IFAformerTextModel(BertPreTrainedModel):
    """
    The text tower: `BertModel`'s modules and parameter names. `forward` only embeds, [`IFAformerModel`] does the rest.
    """

    config: BertConfig
    input_modalities: Any = ("text",)  # the library declares `str | list[str]` and sets tuples
    _input_embed_layer = "word_embeddings"
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_record_outputs: Any = None

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.embeddings = TEXT_EMBEDDINGS[config.model_type](config)
        layers = nn.ModuleList([IFAformerTextLayer(config) for _ in range(config.num_hidden_layers)])
        self.encoder = nn.ModuleDict({"layer": layers})  # by the name that BERT's weights have
        self.pooler = BertPooler(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (RobertaEmbeddings, XLMRobertaEmbeddings)):  # BertEmbeddings is the parent's case
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
            init.zeros_(module.token_type_ids)

    def forward(self, input_ids: torch.LongTensor, token_type_ids: torch.LongTensor | None = None) -> torch.Tensor:
        """Embeddings (B, T, D)."""
        return self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)


class IFAformerVisionEmbeddings(CLIPVisionEmbeddings):
    """
    The embeddings of the vision tower: `[class ; whole-image patches ; aux crops ; rcnn crops]`. Crops share CLIP's
    patch convolution and have position embeddings of their own, one per crop and patch, crops in order, patches
    row-major.
    """

    def __init__(self, config: CLIPVisionConfig, num_aux_positions: int, num_rcnn_positions: int):
        super().__init__(config)
        self.aux_position_embedding = nn.Embedding(num_aux_positions, self.embed_dim) if num_aux_positions else None
        self.rcnn_position_embedding = nn.Embedding(num_rcnn_positions, self.embed_dim) if num_rcnn_positions else None

    def embed_class(self, batch_size: int, with_position: bool) -> torch.Tensor:
        """(B, 1, D)."""
        embedding: torch.Tensor = self.class_embedding
        if with_position:
            embedding = embedding + self.position_embedding.weight[0]
        return embedding.expand(batch_size, 1, -1)

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        (B, 3, S, S) -> (B, (S / patch_size)^2, D), row-major, without positions: CLIP's convolution, whose patches do
        not overlap, as one matrix product.
        """
        weight = self.patch_embedding.weight
        size = weight.shape[-1]
        # (B, 3, rows, size, columns, size) -> (B, rows * columns, 3 * size^2)
        patches = pixel_values.to(weight.dtype).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return nn.functional.linear(patches, weight.flatten(1))

    def embed_whole_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, num_patches, D)."""
        return self.embed_patches(pixel_values) + self.position_embedding.weight[1:]

    def embed_crops(
        self,
        crop_pixel_values: torch.Tensor,
        crop_mask: torch.Tensor | None,
        position_embedding: nn.Embedding,
        all_positions: bool = False,
    ) -> torch.Tensor:
        """
        (B, N, 3, S, S) -> (B, N * (S / patch_size)^2, D), with the first N crops' positions. Crops that `crop_mask`
        (B, N) calls absent may be left out of the computation. With `all_positions` the crops that are missing follow
        as zero images, which the bias-free convolution maps to zero.
        """
        batch_size, num_crops = crop_pixel_values.shape[:2]
        num_patches = (crop_pixel_values.shape[-1] // self.patch_embedding.weight.shape[-1]) ** 2
        crops = crop_pixel_values.flatten(0, 1)
        if crop_mask is not None and values_at_hand(crop_mask):
            real = PackedTokens(crop_mask.bool())
            # one "token" a crop: its pixels, then its patches
            patches = real.unpack(self.embed_patches(crops.index_select(0, real.positions)).flatten(1))
        else:
            patches = self.embed_patches(crops)
        patches = patches.reshape(batch_size, num_crops * num_patches, self.embed_dim)
        if all_positions:
            patches = nn.functional.pad(patches, (0, 0, 0, position_embedding.num_embeddings - patches.shape[1]))
        return patches + position_embedding.weight[: patches.shape[1]]

    def forward(self, *args, **kwargs):
        raise TypeError("Call the embed_* methods; which of them apply is the model's configuration.")


class IFAformerVisionAttention(CLIPAttention):
    """CLIP's self-attention with a prefix. Also returns its own keys and values."""

    def forward(
        self, hidden_states, attention_mask=None, prefix_key_values=None, packed_rows=None, key_values_only=False
    ):
        key_values = self.k_proj(hidden_states), self.v_proj(hidden_states)
        if key_values_only:
            return None, None, key_values
        query = self.q_proj(hidden_states)
        attention_output, attention_weights = prefix_attention(
            self, query, key_values, prefix_key_values, attention_mask, self.dropout, self.num_heads, packed_rows
        )
        return self.out_proj(attention_output), attention_weights, key_values


class QuickGELU(nn.Module):
    """CLIP's `x * sigmoid(1.702 x)`, written so that it goes over the memory less often, forwards and backwards."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(1.702 * hidden_states).div_(1.702)


class IFAformerVisionLayer(GradientCheckpointingLayer):
    """CLIP's pre-LayerNorm block. Also returns its own keys and values, before any prefix."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.self_attn = IFAformerVisionAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = CLIPMLP(config)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        prefix_key_values: KeyValues | None = None,
        packed_rows: PackedRows | None = None,
        key_values_only: bool = False,
    ) -> tuple[torch.Tensor | None, KeyValues, torch.Tensor | None]:
        attention_output, attention_weights, key_values = self.self_attn(
            self.layer_norm1(hidden_states), attention_mask, prefix_key_values, packed_rows, key_values_only
        )
        if key_values_only:
            return None, key_values, None
        hidden_states = hidden_states + attention_output
        hidden_states = hidden_states + self.mlp(self.layer_norm2(hidden_states))
        return hidden_states, key_values, attention_weights


class IFAformerVisionModel(CLIPPreTrainedModel):
    """
    The vision tower: `CLIPVisionModel`'s modules and parameter names, with crops. `forward` only embeds,
    [`IFAformerModel`] does the rest.
    """

    config: CLIPVisionConfig  # type: ignore[assignment]  # the library's class says CLIPConfig, for vision models too
    main_input_name = "pixel_values"
    input_modalities: Any = ("image",)
    _input_embed_layer = "patch_embedding"
    _no_split_modules = ["IFAformerVisionLayer"]  # noqa: RUF012
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_record_outputs: Any = None

    def __init__(self, config: CLIPVisionConfig, num_aux_positions: int, num_rcnn_positions: int):
        super().__init__(config)
        self.embeddings = IFAformerVisionEmbeddings(config, num_aux_positions, num_rcnn_positions)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        layers = nn.ModuleList([IFAformerVisionLayer(config) for _ in range(config.num_hidden_layers)])
        self.encoder = nn.ModuleDict({"layers": layers})  # by the name that CLIP's weights have
        # Reaches no output; held so that CLIP's weights load and save in full.
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def forward(
        self,
        config: IFAformerConfig,
        batch_size: int,
        pixel_values: torch.Tensor | None,
        image_mask: torch.Tensor | None,
        crops: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Visual tokens (B, V, D) after CLIP's pre-LayerNorm, and which of them are real (B, V), None for all."""
        embeddings, image_size = self.embeddings, cast(int, self.config.image_size)
        deepke = config.attention_variant == "deepke"
        parts = [embeddings.embed_class(batch_size, with_position=not deepke)]
        masks: list[torch.Tensor | None] = [None]
        if pixel_values is not None and not config.use_whole_image:
            if not torch.compiler.is_compiling():
                logger.warning_once("pixel_values are not looked at: the configuration has use_whole_image=False.")
        elif pixel_values is not None:
            self._check("pixel_values", pixel_values, "image_mask", image_mask, [batch_size], image_size)
            parts.append(embeddings.embed_whole_image(pixel_values))
            masks.append(None if image_mask is None else image_mask[:, None])

        for kind, (pixels, mask) in crops.items():
            max_number, size = getattr(config, f"num_{kind}_crops"), getattr(config, f"{kind}_crop_size")
            if pixels is not None and pixels.shape[1] > 0:
                number: Any = pixels.shape[1] if pixels.dim() == 5 else "number of crops"
                name = f"{kind}_pixel_values"
                self._check(name, pixels, f"{kind}_crop_mask", mask, [batch_size, number], size, max_number)
            elif deepke and max_number > 0:
                pixels, mask = parts[0].new_zeros(batch_size, 0, self.config.num_channels, size, size), None
            else:
                continue
            if deepke and mask is not None:  # Absent crops are zero images there, attended to like any other.
                pixels, mask = pixels * mask[:, :, None, None, None], None
            positions = getattr(embeddings, f"{kind}_position_embedding")
            parts.append(embeddings.embed_crops(pixels, mask, positions, all_positions=deepke))
            masks.append(mask)

        hidden_states = self.pre_layrnorm(torch.cat(parts, dim=1))
        if all(mask is None for mask in masks):
            return hidden_states, None
        # One entry a picture or crop becomes one a token: (B, N) -> (B, tokens of the part)
        visual_mask = [
            hidden_states.new_ones(batch_size, part.shape[1], dtype=torch.bool)
            if mask is None
            else mask.bool().repeat_interleave(part.shape[1] // mask.shape[1], dim=1)
            for part, mask in zip(parts, masks, strict=True)
        ]
        return hidden_states, torch.cat(visual_mask, dim=1)

    def _check(self, name, pixels, mask_name, mask, shape: list[Any], size: int, max_number: int = 1) -> None:
        expected = (*shape, self.config.num_channels, size, size)
        if pixels.dtype == torch.uint8:
            raise ValueError(
                f"{name} holds uint8 pixels. The processor's data_collator normalises them, and so does its "
                "normalize_pixels(batch)."
            )
        if tuple(pixels.shape) != expected:
            raise ValueError(f"{name} must have shape {expected}, got {tuple(pixels.shape)}.")
        if len(shape) == 2 and shape[1] > max_number:
            raise ValueError(f"{name} holds {shape[1]} crops a picture, the configuration allows {max_number}.")
        if mask is not None and tuple(mask.shape) != tuple(shape):
            raise ValueError(f"{mask_name} must have shape {tuple(shape)}, got {tuple(mask.shape)}.")
