"""The vision tower of SigLIP (Zhai et al., 2023), and of the checkpoints of SigLIP 2 with one picture size."""

from typing import Any

import torch
from torch import nn
from transformers import SiglipVisionModel
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer, SiglipVisionEmbeddings

from .towers import LendingLayer, PictureEmbeddings, Projections, VisionTower


class IFAformerSiglipEmbeddings(PictureEmbeddings, SiglipVisionEmbeddings):  # type: ignore[misc]
    """SigLIP's learnt positions, without a class token."""

    def patch_convolution(self) -> nn.Conv2d:
        return self.patch_embedding

    def class_tokens(self, is_deepke: bool) -> torch.Tensor:
        return self.position_embedding(self.position_ids[:, :0])

    def picture_positions(self, size: int) -> torch.Tensor:
        num_patches = (size // self.patch_convolution().kernel_size[0]) ** 2
        shape = (1, num_patches, self.embed_dim)  # of which the library looks at alone
        return self.interpolate_pos_encoding(self.position_embedding.weight.new_empty(()).expand(shape), size, size)


class IFAformerSiglipLayer(LendingLayer, SiglipEncoderLayer):  # type: ignore[misc]
    """SigLIP's pre-LayerNorm block."""

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        own, normalized = self.self_attn, self.layer_norm1(hidden_states)
        query = None if key_values_only else own.q_proj(normalized)
        return query, own.k_proj(normalized), own.v_proj(normalized)

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.self_attn.out_proj(attention_output)
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        return self.self_attn, self.self_attn.dropout

    def input_norm(self) -> nn.Module:
        return self.layer_norm1

    def behind_key_values(self) -> list[nn.Module]:
        return [self.self_attn.q_proj, self.self_attn.out_proj, self.layer_norm2, self.mlp]


class IFAformerSiglipModel(VisionTower, SiglipVisionModel):
    """The modules and parameter names of `SiglipVisionModel`, with crops."""

    layer_class = IFAformerSiglipLayer
    embeddings_class = IFAformerSiglipEmbeddings

    def __init__(self, config: Any, crop_positions: dict[str, int]):
        super().__init__(config)
        self.take_layers_apart()
        self.add_crops(crop_positions)

    @property
    def layers(self) -> Any:
        return self.encoder.layers

    def unused(self) -> list[Any]:
        return [self.post_layernorm, *([self.head] if self.use_head else [])]
