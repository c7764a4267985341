"""
The two towers of IFAformer: BERT and CLIP blocks whose attention takes a prefix of keys and values.

Modules and parameters carry the names of `BertModel` (also `RobertaModel`, `XLMRobertaModel`) and `CLIPVisionModel`,
so that weights move over by name. The towers hold no loop over layers: [`IFAformerModel`] runs them side by side.

Shapes: B batch_size, H num_heads, E head_dim, D = H * E hidden_size, T text length, V visual tokens, P prefix length.
Layers take (B, N, D), or packed tokens (N, D) with the [`RowLengths`] of their tower.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from transformers import BertConfig, CLIPVisionConfig
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertIntermediate,
    BertLayer,
    BertPooler,
    BertPreTrainedModel,
)
from transformers.models.clip.modeling_clip import (
    CLIPEncoderLayer,
    CLIPPreTrainedModel,
    CLIPVisionEmbeddings,
    eager_attention_forward,
)
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaEmbeddings
from transformers.utils import logging

from .configuration_ifaformer import IFAformerConfig
from .crf import without_autocast
from .model_inputs import given_pictures
from .packing import Attended, PackedTokens, RowLengths, values_at_hand


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


def prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key_values: KeyValues,
    prefix_key_values: Sequence[torch.Tensor],
    attended: Attended,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Attention over `[prefix ; own]` keys and values with the kernel the configuration names.

    Args:
        module: BERT's or CLIP's attention, for its configuration.
        query: (B, N, D), or packed.
        key_values: own ones, each (B, N, D), or packed.
        prefix_key_values: the other tower's, each (B, P, D), or packed; empty without a prefix.
        attended: additive mask (B, 1, 1, P + N), or None for all; for packed tokens the lengths of their rows.

    Returns:
        As `query`, and the weights (B, H, N, P + N), which only the eager kernel gives, and not for packed tokens.
    """
    config = cast(BertConfig | CLIPVisionConfig, module.config)
    num_heads = config.num_attention_heads
    attend = partial(
        ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward),
        module,
        scaling=(query.shape[-1] // num_heads) ** -0.5,
        dropout=dropout if module.training else 0.0,
        is_causal=False,
    )
    if not isinstance(attended, RowLengths):
        if prefix_key_values:
            key, value = (torch.cat(pair, dim=1) for pair in zip(prefix_key_values, key_values, strict=True))
            key_values = key, value
        query, key, value = (split_heads(states, num_heads) for states in (query, *key_values))
        attention_output, attention_weights = attend(query, key, value, attended)
        return attention_output.flatten(2), attention_weights

    def rows_of(packed: torch.Tensor, lengths: list[int]) -> Sequence[torch.Tensor]:
        """(N, D) -> (1, H, length, E) of each row."""
        return split_heads(packed.unsqueeze(0), num_heads).split(lengths, dim=2)

    keys, values = (rows_of(states, attended.own) for states in key_values)
    if prefix_key_values:
        prefix_keys, prefix_values = (rows_of(states, attended.prefix) for states in prefix_key_values)
        keys = [torch.cat(pair, dim=2) for pair in zip(prefix_keys, keys, strict=True)]
        values = [torch.cat(pair, dim=2) for pair in zip(prefix_values, values, strict=True)]
    rows = zip(rows_of(query, attended.own), keys, values, strict=True)
    # (1, length, H, E) of each row -> (N, D)
    return torch.cat([attend(*row, None)[0] for row in rows], dim=1).squeeze(0).flatten(1), None


class IFAformerTextLayer(BertLayer):
    """
    BERT's post-LayerNorm block with a prefix. Also returns its own keys and values, before any prefix. No tensor comes
    or goes in a tuple of its own: reentrant checkpointing does not look into those.
    """

    def attend(
        self, hidden_states: torch.Tensor, attended: Attended, *prefix_key_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The heads' outputs side by side, own keys and values, and the weights."""
        attention = self.attention.self
        key_values = attention.key(hidden_states), attention.value(hidden_states)
        context, attention_weights = prefix_attention(
            attention, attention.query(hidden_states), key_values, prefix_key_values, attended, attention.dropout.p
        )
        return context, *key_values, attention_weights

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, attended: Attended, *prefix_key_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        context, *others = self.attend(hidden_states, attended, *prefix_key_values)
        attention_output = self.attention.output(context, hidden_states)
        return self.feed_forward_chunk(attention_output), *others


class FusedIntermediate(BertIntermediate):
    """The first half of BERT's feed-forward network, with a second input, which has a linear layer of its own."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.fusion_dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden_states: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        if seen is None:
            return super().forward(hidden_states)
        return self.intermediate_act_fn(self.dense(hidden_states) + self.fusion_dense(seen))


class FusedTextLayer(IFAformerTextLayer):
    """
    The upper text layers of MKGformer (Chen et al., SIGIR 2022; code: zjunlp/MKGformer). With c the outputs of the
    heads side by side, before their linear layer, a BERT's attention output, v the states of the vision layer of the
    same depth, and W linear layers:

        seen = softmax(c v^T) v;  states = BERT's output layer of activation(W a + W seen) and a

    without heads and without a scale, as published. There absent crops count as well, here what is real alone.
    """

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.intermediate = FusedIntermediate(config)

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, attended: Attended, *visual: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """
        `visual` is empty for the text alone. Of padded rows it is the vision tower's states (B, V, D) and which of
        them are real (B, V), of packed ones the states.
        """
        context, *others = self.attend(hidden_states, attended)
        attention_output = self.attention.output(context, hidden_states)
        seen = None
        if visual and isinstance(attended, RowLengths):
            rows = zip(context.split(attended.own), visual[0].split(attended.prefix), strict=True)
            seen = torch.cat([look_at(row, states) for row, states in rows])
        elif visual:
            seen = look_at(context, *visual)
        return self.output(self.intermediate(attention_output, seen), attention_output), *others


def look_at(queries: torch.Tensor, states: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
    """
    For queries (..., N, D) the mean (..., N, D) of the `states` (..., V, D) that are `real` (..., V), of all
    without it, weighted by the softmax of query and state.
    """
    # Without a scale the scores are large, too large for half precision.
    precise = torch.promote_types(states.dtype, torch.float32)
    with without_autocast(states.device):
        scores = queries.to(precise) @ states.to(precise).mT
    if real is not None:
        scores = scores.masked_fill(~real.unsqueeze(-2), -torch.inf)
    return scores.softmax(dim=-1).to(states.dtype) @ states


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

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True, num_fused_layers: int = 0):
        super().__init__(config)
        self.embeddings = TEXT_EMBEDDINGS[config.model_type](config)
        kinds: list[type[IFAformerTextLayer]] = [IFAformerTextLayer] * (config.num_hidden_layers - num_fused_layers)
        kinds += [FusedTextLayer] * num_fused_layers
        layers = nn.ModuleList([kind(config) for kind in kinds])
        self.encoder = nn.ModuleDict({"layer": layers})  # by the name that BERT's weights have
        self.pooler: Any = BertPooler(config) if add_pooling_layer else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (RobertaEmbeddings, XLMRobertaEmbeddings)):  # BertEmbeddings is the parent's case
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
            init.zeros_(module.token_type_ids)

    def forward(
        self,
        input_ids: torch.LongTensor | None,
        token_type_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor | None,
    ) -> torch.Tensor:
        """Embeddings (B, T, D)."""
        return self.embeddings(input_ids=input_ids, token_type_ids=token_type_ids, inputs_embeds=inputs_embeds)


class PatchConvolution(nn.Conv2d):
    """CLIP's patch convolution, whose patches do not overlap, as one matrix product."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(B, 3, S, S) -> (B, D, S / patch_size, S / patch_size)."""
        size = self.kernel_size[0]
        # (B, 3, rows, size, columns, size) -> (B, rows, columns, 3 * size^2)
        patches = pixel_values.to(self.weight.dtype).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return nn.functional.linear(patches, self.weight.flatten(1)).permute(0, 3, 1, 2)


class IFAformerVisionEmbeddings(CLIPVisionEmbeddings):
    """
    The embeddings of the vision tower: `[class ; whole-image patches ; aux crops ; rcnn crops]`. Crops share CLIP's
    patch convolution and have position embeddings of their own, one per crop and patch, crops in order, patches
    row-major.
    """

    def __init__(self, config: CLIPVisionConfig, crop_positions: dict[str, int]):
        super().__init__(config)
        # A new module would draw random numbers, so that a seed would give other weights than before.
        self.patch_embedding.__class__ = PatchConvolution
        for kind, number in crop_positions.items():
            setattr(self, f"{kind}_position_embedding", nn.Embedding(number, self.embed_dim) if number else None)

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, (S / patch_size)^2, D), row-major, without positions."""
        return self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)

    def embed_pictures(self, pixel_values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        N pictures or crops a row (B, N, 3, S, S) -> (B, N * (S / patch_size)^2, D), without positions. Those that
        `mask` (B, N) calls absent may be left out of the computation.
        """
        pictures = pixel_values.flatten(0, 1)
        if not values_at_hand(mask) or mask.all():
            return self.embed_patches(pictures).unflatten(0, mask.shape).flatten(1, 2)
        real = PackedTokens(mask)
        # one "token" a picture: its pixels, then its patches
        patches = real.unpack(self.embed_patches(pictures.index_select(0, real.positions)).flatten(1))
        return patches.unflatten(2, (-1, self.embed_dim)).flatten(1, 2)

    def forward(  # type: ignore[override]
        self,
        config: IFAformerConfig,
        batch_size: int,
        pixel_values: torch.Tensor | None,
        image_mask: torch.Tensor | None,
        crops: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual tokens (B, V, D), and which of them are real (B, V)."""
        deepke = config.attention_variant == "deepke"
        class_token = self.class_embedding.expand(batch_size, 1, -1)
        tokens = [class_token if deepke else class_token + self.position_embedding(self.position_ids[:, :1])]
        real = [class_token.new_ones(batch_size, 1, dtype=torch.bool)]
        picture_shape: Any = (self.config.num_channels, self.image_size, self.image_size)
        given = given_pictures(config, batch_size, pixel_values, image_mask, crops, picture_shape)
        for kind in ("whole", "aux", "rcnn"):
            is_whole = kind == "whole"
            embedding = self.position_embedding if is_whole else getattr(self, f"{kind}_position_embedding")
            if kind in given:
                pixels, mask = given[kind]
            elif embedding is not None and (self.training or (deepke and not is_whole)):
                # Processes that train together wait for a gradient of every weight. Without pictures it is zero.
                size: Any = self.image_size if is_whole else getattr(config, f"{kind}_crop_size")
                pixels = class_token.new_zeros(batch_size, 0, self.config.num_channels, size, size)
                mask = class_token.new_ones(batch_size, 0, dtype=torch.bool)
            else:
                continue
            if deepke and not is_whole:  # Absent crops are zero images there, attended to like any other.
                absent = getattr(config, f"num_{kind}_crops") - pixels.shape[1]
                pixels = nn.functional.pad(pixels * mask[:, :, None, None, None], [0] * 7 + [absent])
                mask = mask.new_ones(pixels.shape[:2])
            patches = self.embed_pictures(pixels, mask)
            first = 1 if is_whole else 0  # Position 0 is that of the class token.
            tokens.append(patches + embedding(torch.arange(first, first + patches.shape[1], device=patches.device)))
            real.append(mask.repeat_interleave(patches.shape[1] // max(mask.shape[1], 1), dim=1))
        return torch.cat(tokens, dim=1), torch.cat(real, dim=1)


class QuickGELU(nn.Module):
    """CLIP's `x * sigmoid(1.702 x)`, written so that it goes over the memory less often, forwards and backwards."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(1.702 * hidden_states).div_(1.702)


class IFAformerVisionLayer(CLIPEncoderLayer):
    """CLIP's pre-LayerNorm block with a prefix. Takes and returns what [`IFAformerTextLayer`] does."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        attended: Attended,
        *prefix_key_values: torch.Tensor,
        key_values_only: bool = False,
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        attention, normalized = self.self_attn, self.layer_norm1(hidden_states)
        key_values = attention.k_proj(normalized), attention.v_proj(normalized)
        if key_values_only:
            return None, *key_values, None
        attention_output, attention_weights = prefix_attention(
            attention, attention.q_proj(normalized), key_values, prefix_key_values, attended, attention.dropout or 0.0
        )
        hidden_states = hidden_states + attention.out_proj(attention_output)
        hidden_states = hidden_states + self.mlp(self.layer_norm2(hidden_states))
        return hidden_states, *key_values, attention_weights


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

    def __init__(self, config: CLIPVisionConfig, crop_positions: dict[str, int]):
        super().__init__(config)
        self.embeddings = IFAformerVisionEmbeddings(config, crop_positions)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        layers = nn.ModuleList([IFAformerVisionLayer(config) for _ in range(config.num_hidden_layers)])
        self.encoder = nn.ModuleDict({"layers": layers})  # by the name that CLIP's weights have
        # Reaches no output; held so that CLIP's weights load and save in full.
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def forward(self, *pictures: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Visual tokens (B, V, D) after CLIP's pre-LayerNorm, and which of them are real (B, V), of what
        [`IFAformerVisionEmbeddings`] takes.
        """
        tokens, real = self.embeddings(*pictures)
        return self.pre_layrnorm(tokens), real
