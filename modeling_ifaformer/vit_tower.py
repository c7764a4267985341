"""The vision towers of ViT (Dosovitskiy et al., 2021) and DINOv2 (Oquab et al., 2023)."""

from typing import Any

import torch
from torch import nn
from transformers import Dinov2Model, ViTModel
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings, Dinov2Layer
from transformers.models.vit.modeling_vit import ViTEmbeddings, ViTLayer

from .towers import LendingLayer, LibraryVisionTower, PictureEmbeddings, Projections


class ClassAndPatches(PictureEmbeddings):
    """A class token and learnt positions, which are interpolated for pictures of another size."""

    cls_token: Any
    position_embeddings: Any
    patch_embeddings: Any
    dropout: Any
    interpolate_pos_encoding: Any

    def patch_convolution(self) -> nn.Conv2d:
        return self.patch_embeddings.projection

    def class_tokens(self, is_deepke: bool) -> torch.Tensor:
        return self.cls_token + self.position_embeddings[:, :1]

    def picture_positions(self, size: int) -> torch.Tensor:
        patch_size = self.patch_convolution().kernel_size[0]
        shape = (1, (size // patch_size) ** 2 + 1, self.cls_token.shape[-1])  # of which the library looks at alone
        return self.interpolate_pos_encoding(self.cls_token.new_empty(()).expand(shape), size, size)[:, 1:]

    def end(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.dropout(tokens)


class IFAformerViTEmbeddings(ClassAndPatches, ViTEmbeddings):  # type: ignore[misc]
    """Those of ViT."""


class IFAformerDinov2Embeddings(ClassAndPatches, Dinov2Embeddings):  # type: ignore[misc]
    """Those of DINOv2."""


class ViTAttentionLayer(LendingLayer):
    """What the attention of both has in common."""

    attention: Any

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        own, normalized = self.attention, self.input_norm()(hidden_states)
        query = None if key_values_only else own.q_proj(normalized)
        return query, own.k_proj(normalized), own.v_proj(normalized)

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        return self.attention, self.attention.attention_dropout


class IFAformerViTLayer(ViTAttentionLayer, ViTLayer):  # type: ignore[misc]
    """ViT's pre-LayerNorm block."""

    def input_norm(self) -> nn.Module:
        return self.layernorm_before

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        hidden_states = self.dropout(self.attention.o_proj(attention_output)) + hidden_states
        return self.dropout(self.mlp(self.layernorm_after(hidden_states))) + hidden_states

    def behind_key_values(self) -> list[nn.Module]:
        return [self.attention.q_proj, self.attention.o_proj, self.layernorm_after, self.mlp]


class IFAformerDinov2Layer(ViTAttentionLayer, Dinov2Layer):  # type: ignore[misc]
    """DINOv2's pre-LayerNorm block, whose branches are scaled and may be dropped."""

    def input_norm(self) -> nn.Module:
        return self.norm1

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        seen = self.layer_scale1(self.attention.o_proj(attention_output))
        hidden_states = self.drop_path(seen) + hidden_states
        return self.drop_path(self.layer_scale2(self.mlp(self.norm2(hidden_states)))) + hidden_states

    def behind_key_values(self) -> list[nn.Module]:
        scales = [self.layer_scale1, self.layer_scale2]
        return [self.attention.q_proj, self.attention.o_proj, self.norm2, self.mlp, *scales]


class IFAformerViTModel(LibraryVisionTower, ViTModel):
    """The modules and parameter names of `ViTModel`, with crops and without a pooler."""

    layer_class = IFAformerViTLayer
    embeddings_class = IFAformerViTEmbeddings

    def __init__(self, config: Any, crop_positions: dict[str, int]):
        super().__init__(config, crop_positions, add_pooling_layer=False)

    def unused(self) -> list[Any]:
        return [self.layernorm]


class IFAformerDinov2Model(LibraryVisionTower, Dinov2Model):
    """The modules and parameter names of `Dinov2Model`, with crops."""

    layer_class = IFAformerDinov2Layer
    embeddings_class = IFAformerDinov2Embeddings

    @property
    def layers(self) -> Any:
        return self.encoder.layer

    def unused(self) -> list[Any]:
        mask_token = self.embeddings.mask_token
        return [self.layernorm, *([mask_token] if mask_token is not None else [])]
