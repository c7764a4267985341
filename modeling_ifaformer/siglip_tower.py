"""The vision tower of SigLIP (Zhai et al., 2023), and of the checkpoints of SigLIP 2 with one picture size."""

from typing import Any

import torch
from torch import nn
from transformers import SiglipVisionModel
from transformers.models.siglip.modeling_siglip import SiglipEncoderLayer, SiglipVisionEmbeddings

from .clip_tower import CLIPLendingLayer
from .towers import LibraryVisionTower, PictureEmbeddings


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


class IFAformerSiglipLayer(CLIPLendingLayer, SiglipEncoderLayer):  # type: ignore[misc]
    """SigLIP's pre-LayerNorm block."""


class IFAformerSiglipModel(LibraryVisionTower, SiglipVisionModel):
    """The modules and parameter names of `SiglipVisionModel`, with crops."""

    layer_class = IFAformerSiglipLayer
    embeddings_class = IFAformerSiglipEmbeddings

    @property
    def layers(self) -> Any:
        return self.encoder.layers

    def unused(self) -> list[Any]:
        return [self.post_layernorm, *([self.head] if self.use_head else [])]
