"""
What the towers of IFAformer have in common, whatever their family: attention with a prefix of keys and values, layers
that lend their own, pictures and crops as tokens, and how one tower lends to the other where they do not match.

A tower is a model of the library whose layers are taken apart at their attention (`LendingLayer`); modules and
parameters keep their names, so that weights move over by name. It holds no loop over layers: [`IFAformerModel`] runs
two towers side by side. Each family has a file of its own, such as `bert_tower.py`.

Shapes: B batch_size, H num_heads, E head_dim, D = H * E hidden_size, T text length, V visual tokens, P prefix length.
Layers take (B, N, D), or packed tokens (N, D) with the [`RowLengths`] of their tower.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from .configuration_ifaformer import NUM_WORD_SHAPES, IFAformerConfig
from .model_inputs import given_pictures
from .packing import Attended, PackedTokens, RowLengths, values_at_hand


# Before the heads are split: each (B, length, D), or packed
KeyValues = tuple[torch.Tensor, torch.Tensor]
Projections = tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]


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


def local_mask(length: int, prefix_length: int, window: int, like: torch.Tensor) -> torch.Tensor | None:
    """
    The additive mask (1, 1, length, prefix_length + length) of a local layer: each query attends to the whole prefix,
    and of its own tower to positions at most `window` away. None where these are all.
    """
    if length <= window + 1:
        return None
    positions = torch.arange(length, device=like.device)
    is_near = (positions - positions[:, None]).abs() <= window
    mask = (~is_near).to(like.dtype) * torch.finfo(like.dtype).min
    return nn.functional.pad(mask, (prefix_length, 0))[None, None]


def prefix_attention(
    module: nn.Module,
    query: torch.Tensor,
    key_values: KeyValues,
    prefix_key_values: Sequence[torch.Tensor],
    attended: Attended,
    dropout: float,
    window: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """
    Attention over `[prefix ; own]` keys and values with the kernel the configuration names.

    Args:
        module: the attention of the library's layer, for its configuration.
        query: (B, N, D), or packed.
        key_values: own ones, each (B, N, D), or packed.
        prefix_key_values: the other tower's, each (B, P, D), or packed; empty without a prefix.
        attended: additive mask (B, 1, 1, P + N), or None for all; for packed tokens the lengths of their rows.
        window: how far from a query its own tower's keys may be, see [`local_mask`]; None for any distance.

    Returns:
        As `query`, and the weights (B, H, N, P + N), which only the eager kernel gives, and not for packed tokens.
    """
    config: Any = module.config
    num_heads = config.num_attention_heads
    if not query.numel():  # Kernels refuse a batch without a single visual token. Gradients are zero, not None.
        weights = None
        if config._attn_implementation == "eager" and not isinstance(attended, RowLengths):
            weights = query.new_zeros(query.shape[0], num_heads, 0, sum(of.shape[1] for of in prefix_key_values[:1]))
        return query + sum(states.sum() for states in (*key_values, *prefix_key_values)), weights
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
        if window is not None:
            near = local_mask(query.shape[2], key.shape[2] - query.shape[2], window, query)
            attended = near if attended is None else attended if near is None else torch.minimum(attended, near)
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
    outputs = []
    for of_row in zip(rows_of(query, attended.own), keys, values, strict=True):
        length, number = of_row[0].shape[2], of_row[1].shape[2]
        if length:  # kernels refuse a row without a query
            near = None if window is None else local_mask(length, number - length, window, query)
            outputs.append(attend(*of_row, near)[0])
    # (1, length, H, E) of each row -> (N, D)
    return torch.cat(outputs, dim=1).squeeze(0).flatten(1), None


class LendingLayer(nn.Module):
    """
    A mixin that takes a layer of the library apart at its attention, which then has a prefix, and that returns the
    layer's own keys and values. It stands in front of the library's class, whose `forward` it replaces.
    """

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        """
        Queries, keys and values, each in the shape of the states, before any rotation. Queries are None where keys and
        values alone are wanted, which is asked of vision towers.
        """
        raise NotImplementedError

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        """The layer's output, of its input and of the outputs of its heads side by side."""
        raise NotImplementedError

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        """The library's attention module, and the dropout of its weights."""
        raise NotImplementedError

    def input_norm(self) -> nn.Module:
        """The norm in front of the attention of a vision tower."""
        raise NotImplementedError

    def behind_key_values(self) -> list[nn.Module]:
        """What has no part in the layer's keys and values."""
        raise NotImplementedError

    def attend(
        self,
        hidden_states: torch.Tensor,
        attended: Attended,
        *prefix_key_values: torch.Tensor,
        rotary: Sequence[torch.Tensor] = (),
        window: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """
        The heads' outputs side by side, own keys and values, and the weights. `rotary` are the cosines and sines of
        rotary positions (Su et al., 2021; [arXiv 2104.09864](https://arxiv.org/abs/2104.09864)), each (..., N, E).
        """
        query, key, value = self.project(hidden_states)
        assert query is not None
        own_key = key
        if rotary:  # What is lent is lent before rotation, and read without.
            heads = (states.unflatten(-1, (-1, rotary[0].shape[-1])) for states in (query, key))  # (..., N, H, E)
            query, own_key = (of.flatten(-2) for of in apply_rotary_pos_emb(*heads, *rotary, unsqueeze_dim=-2))
        module, dropout = self.attention_and_dropout()
        context, weights = prefix_attention(
            module, query, (own_key, value), prefix_key_values, attended, dropout, window
        )
        return context, key, value, weights

    def forward(
        self,
        hidden_states: torch.Tensor,
        attended: Attended,
        *prefix_key_values: torch.Tensor,
        key_values_only: bool = False,
        norm_only: bool = False,
        **positions: Any,
    ) -> Any:
        """
        No tensor that needs a gradient comes or goes in a tuple of its own: reentrant checkpointing does not look into
        those.

        Args:
            hidden_states, attended, prefix_key_values: as [`prefix_attention`] takes them.
            key_values_only: whether only keys and values are wanted; the first and the last result are then None.
            norm_only: whether only the input norm of the states is wanted, which is then the only result.
            positions: what the tower's `layer_positions` gives for this layer.

        Returns:
            The layer's output, its own keys and values before any prefix and any rotation, and the weights.
        """
        if norm_only:
            return self.input_norm()(hidden_states)
        if key_values_only:
            _, key, value = self.project(hidden_states, key_values_only=True)
            return None, key, value, None
        context, key, value, weights = self.attend(hidden_states, attended, *prefix_key_values, **positions)
        return self.finish(hidden_states, context), key, value, weights


class Tower:
    """
    A mixin in front of a model of the library, whose layers become lending layers. `forward` only embeds,
    [`IFAformerModel`] does the rest.
    """

    layer_class: type[LendingLayer]
    embeddings: Any
    layers: Any  # the list of the library's model, which some families hold elsewhere
    _supports_flash_attn = False
    _supports_flex_attn = False
    _can_record_outputs: Any = None

    def take_layers_apart(self) -> None:
        """Make the layers of the library lending ones. New ones would draw random numbers once more."""
        for layer in self.layers:
            layer.__class__ = self.layer_class
        for part in self.modules():  # type: ignore[attr-defined]
            if isinstance(part, PreTrainedModel):
                part._can_record_outputs = None  # its own loop over the layers is not run


class WordShapeEmbedding(nn.Embedding):
    """
    Embeddings of shapes of words, which begin at zero: at first nothing changes. They are `SCALE` times the weights,
    so that with the small learning rate of a pretrained tower they are learnt in some hundred steps.
    """

    SCALE = 10.0

    def forward(self, shape_ids: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.SCALE * super().forward(shape_ids)


def add_word_shapes(embeddings: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """
    A hook in front of a tower's embeddings, which adds the embeddings of words' shapes to those of tokens. All of them
    are tables of one module, which sharding and device maps leave together.
    """
    shape_ids, ids = kwargs.pop("word_shape_ids"), kwargs.get("input_ids")
    words = kwargs.get("inputs_embeds")
    if words is None:
        table = embeddings.tok_embeddings if hasattr(embeddings, "tok_embeddings") else embeddings.word_embeddings
        words = table(ids)
    kwargs["inputs_embeds"] = words + embeddings.word_shape_embeddings(shape_ids)
    # RoBERTa counts positions by its ids. DistilBERT would look these up in the place of what is given.
    if not hasattr(embeddings, "create_position_ids_from_input_ids"):
        kwargs["input_ids"] = None
    return args, kwargs


class TextTower(Tower):
    """A text tower. The library's model embeds token ids or takes embeddings of words."""

    input_modalities: Any = ("text",)  # the library declares `str | list[str]` and sets tuples

    def add_word_shapes(self) -> None:
        """Let the tower take `word_shape_ids`, for which it gets a [`WordShapeEmbedding`]."""
        words: Any = self.get_input_embeddings()  # type: ignore[attr-defined]
        self.embeddings.word_shape_embeddings = WordShapeEmbedding(NUM_WORD_SHAPES, words.embedding_dim)
        self.embeddings.register_forward_pre_hook(add_word_shapes, with_kwargs=True)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[misc]
        if isinstance(module, WordShapeEmbedding):
            init.zeros_(module.weight)

    def forward(
        self,
        input_ids: torch.LongTensor | None,
        token_type_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor | None,
        **word_shape_ids: torch.Tensor,
    ) -> torch.Tensor:
        """
        Embeddings (B, T, D). Families without segments do not look at `token_type_ids`. `word_shape_ids` are given
        after `add_word_shapes` alone.
        """
        return self.embeddings(input_ids=input_ids, inputs_embeds=inputs_embeds, **word_shape_ids)

    def layer_positions(
        self, hidden_states: torch.Tensor, pack: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[dict[str, Any]]:
        """
        Of each layer what its `forward` takes about positions, for embeddings (B, T, D); `pack` makes (B, T, E) the
        layout of the tokens.
        """
        return [{}] * len(self.layers)

    def end(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """What stands behind the last layer."""
        return hidden_states

    def unused(self) -> list[Any]:
        """Modules and parameters of the library's model that reach none of ours' heads."""
        return []


class VisionTower(Tower):
    """A vision tower, whose embeddings are [`PictureEmbeddings`]."""

    main_input_name = "pixel_values"
    input_modalities: Any = ("image",)

    def forward(self, *pictures: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual tokens (B, V, D), and which of them are real (B, V), of what [`PictureEmbeddings`] takes."""
        return self.embeddings(*pictures)

    def lend_embeddings(self, tokens: torch.Tensor) -> torch.Tensor:
        """
        What stands in for keys and values at the first layer: the input norm of the first block of the tokens, whose
        own scale may be any.
        """
        return self.layers[0](tokens, None, norm_only=True)

    def lending_norm(self) -> nn.Module | None:
        """The norm that `lend_embeddings` needs, where it needs one."""
        return self.layers[0].input_norm()

    def unused(self) -> list[Any]:
        """Modules and parameters of the library's model that lend nothing."""
        raise NotImplementedError


class LibraryVisionTower(VisionTower):
    """
    A vision tower that is a whole model of the library, whose layers are taken apart, and whose embeddings become
    [`PictureEmbeddings`].
    """

    embeddings_class: type["PictureEmbeddings"]

    def __init__(self, config: Any, crop_positions: dict[str, int], **options: Any):
        super().__init__(config, **options)  # type: ignore[call-arg]  # of the library's model
        self.take_layers_apart()
        self.embeddings.__class__ = self.embeddings_class
        self.embeddings.prepare(crop_positions)


class PatchConvolution(nn.Conv2d):
    """A convolution whose patches do not overlap, as one matrix product."""

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        """(B, 3, S, S) -> (B, D, S / patch_size, S / patch_size)."""
        size = self.kernel_size[0]
        # What is left beside the last whole patch is not looked at.
        height, width = (side // size * size for side in pixel_values.shape[-2:])
        pixel_values = pixel_values[..., :height, :width]
        # (B, 3, rows, size, columns, size) -> (B, rows, columns, 3 * size^2)
        patches = pixel_values.to(self.weight.dtype).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3)
        return nn.functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class PictureEmbeddings(nn.Module):
    """
    A mixin in front of a family's embeddings: `[class ; whole-image patches ; aux crops ; rcnn crops]`, where a family
    may have no class token. Crops share the tower's patch convolution and have position embeddings of their own, one
    per crop and patch, crops in order, patches row-major; where a text may have several pictures, one per patch. All
    whole pictures have the tower's own positions.
    """

    def prepare(self, crop_positions: dict[str, int]) -> None:
        """Make the embeddings of crops, as many as each kind has tokens, and the patches a matrix product."""
        # A new module would draw random numbers, so that a seed would give other weights than before.
        self.patch_convolution().__class__ = PatchConvolution
        for kind, number in crop_positions.items():
            positions = nn.Embedding(number, self.patch_convolution().out_channels) if number else None
            setattr(self, f"{kind}_position_embedding", positions)

    def patch_convolution(self) -> nn.Conv2d:
        """The convolution that embeds patches."""
        raise NotImplementedError

    def class_tokens(self, is_deepke: bool) -> torch.Tensor:
        """(1, number of class tokens, D), with their positions, which the published code leaves out."""
        raise NotImplementedError

    def picture_positions(self, size: int) -> torch.Tensor:
        """(1, (size / patch_size)^2, D) for the patches of a whole picture, row-major."""
        raise NotImplementedError

    def end(self, tokens: torch.Tensor) -> torch.Tensor:
        """What stands behind the embeddings."""
        return tokens

    def embed_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, (S / patch_size)^2, D), row-major, without positions."""
        return self.patch_convolution()(pixel_values).flatten(2).transpose(1, 2)

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
        return patches.unflatten(2, (-1, self.patch_convolution().out_channels)).flatten(1, 2)

    def forward(
        self,
        config: IFAformerConfig,
        batch_size: int,
        pixel_values: torch.Tensor | None,
        image_mask: torch.Tensor | None,
        crops: dict[str, tuple[torch.Tensor | None, torch.Tensor | None]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Visual tokens (B, V, D), and which of them are real (B, V)."""
        deepke, channels, whole_size = (
            config.attention_variant == "deepke",
            self.patch_convolution().in_channels,
            config.picture_size,
        )
        class_tokens = self.class_tokens(deepke).expand(batch_size, -1, -1)
        tokens = [class_tokens]
        real = [class_tokens.new_ones(class_tokens.shape[:2], dtype=torch.bool)]
        picture_shape = (channels, whole_size, whole_size)
        given = given_pictures(config, batch_size, pixel_values, image_mask, crops, picture_shape)
        for kind in ("whole", "aux", "rcnn"):
            is_whole = kind == "whole"
            embedding = None if is_whole else getattr(self, f"{kind}_position_embedding")
            if kind in given:
                pixels, mask = given[kind]
            elif (is_whole or embedding is not None) and (self.training or (deepke and not is_whole)):
                # Processes that train together wait for a gradient of every weight. Without pictures it is zero.
                size: Any = whole_size if is_whole else getattr(config, f"{kind}_crop_size")
                pixels = class_tokens.new_zeros(batch_size, 0, channels, size, size)
                mask = class_tokens.new_ones(batch_size, 0, dtype=torch.bool)
            else:
                continue
            if deepke and not is_whole:  # Absent crops are zero images there, attended to like any other.
                absent = getattr(config, f"num_{kind}_crops") - pixels.shape[1]
                pixels = nn.functional.pad(pixels * mask[:, :, None, None, None], [0] * 7 + [absent])
                mask = mask.new_ones(pixels.shape[:2])
            patches = self.embed_pictures(pixels, mask)
            if embedding is None:
                positions = self.picture_positions(pixels.shape[-1]).repeat(1, pixels.shape[1], 1)
            else:
                numbers = torch.arange(patches.shape[1], device=patches.device)
                positions = embedding(numbers % embedding.num_embeddings)
            tokens.append(patches + positions)
            real.append(mask.repeat_interleave(patches.shape[1] // max(mask.shape[1], 1), dim=1))
        return self.end(torch.cat(tokens, dim=1)), torch.cat(real, dim=1)


class ScalingLinear(nn.Linear):
    """A linear layer without bias that keeps the scale: its weights begin with a deviation of in_features ** -0.5."""

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features, bias=False)


class LentProjection(nn.Module):
    """
    Linear layers that bring what a tower lends to the width of the tower that borrows.

    Args:
        lender, borrower: the widths.
    """

    def __init__(self, lender: int, borrower: int):
        super().__init__()
        self.key, self.value = ScalingLinear(lender, borrower), ScalingLinear(lender, borrower)

    def forward(self, key: torch.Tensor, value: torch.Tensor) -> KeyValues:
        return self.key(key), self.value(value)


def lent_projections(lender: int, borrower: int, number: int) -> nn.ModuleList | None:
    """
    One [`LentProjection`] for each of the layers that borrow, since the keys of two layers have nothing in common;
    None where the widths are equal.
    """
    return None if lender == borrower else nn.ModuleList(LentProjection(lender, borrower) for _ in range(number))
