"""The vision tower of CLIP (Radford et al., 2021)."""

from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPPreTrainedModel, CLIPVisionEmbeddings

from .towers import LendingLayer, PictureEmbeddings, Projections, VisionTower


class IFAformerVisionEmbeddings(PictureEmbeddings, CLIPVisionEmbeddings):  # type: ignore[misc]
    """CLIP's class token and learnt positions."""

    def __init__(self, config: CLIPVisionConfig, crop_positions: dict[str, int]):
        super().__init__(config)
        self.prepare(crop_positions)

    def patch_convolution(self) -> nn.Conv2d:
        return self.patch_embedding

    def class_tokens(self, is_deepke: bool) -> torch.Tensor:
        token = self.class_embedding.expand(1, 1, -1)
        return token if is_deepke else token + self.position_embedding(self.position_ids[:, :1])

    def picture_positions(self, size: int) -> torch.Tensor:
        return self.position_embedding(self.position_ids[:, 1:])


class QuickGELU(nn.Module):
    """CLIP's `x * sigmoid(1.702 x)`, written so that it goes over the memory less often, forwards and backwards."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(1.702 * hidden_states).div_(1.702)


class CLIPLendingLayer(LendingLayer):
    """The pre-LayerNorm block of CLIP, which is also SigLIP's."""

    layer_norm1: Any
    self_attn: Any
    layer_norm2: Any
    mlp: Any

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        own, normalized = self.self_attn, self.layer_norm1(hidden_states)
        # In this order, which decides how gradients are rounded: trainings are what they were.
        key, value = own.k_proj(normalized), own.v_proj(normalized)
        return None if key_values_only else own.q_proj(normalized), key, value

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.self_attn.out_proj(attention_output)
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        return self.self_attn, self.self_attn.dropout or 0.0

    def input_norm(self) -> nn.Module:
        return self.layer_norm1

    def behind_key_values(self) -> list[nn.Module]:
        return [self.self_attn.q_proj, self.self_attn.out_proj, self.layer_norm2, self.mlp]


class IFAformerVisionLayer(CLIPLendingLayer, CLIPEncoderLayer):  # type: ignore[misc]
    """CLIP's block, with a faster activation."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        if config.hidden_act == "quick_gelu":
            self.mlp.activation_fn = QuickGELU()


class IFAformerVisionModel(VisionTower, CLIPPreTrainedModel):
    """The modules and parameter names of `CLIPVisionModel`, with crops."""

    config: CLIPVisionConfig  # type: ignore[assignment]  # the library's class says CLIPConfig, for vision models too
    _input_embed_layer = "patch_embedding"

    def __init__(self, config: CLIPVisionConfig, crop_positions: dict[str, int]):
        super().__init__(config)
        self.embeddings = IFAformerVisionEmbeddings(config, crop_positions)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        layers = nn.ModuleList([IFAformerVisionLayer(config) for _ in range(config.num_hidden_layers)])
        self.encoder = nn.ModuleDict({"layers": layers})  # by the name that CLIP's weights have
        # Reaches no output; held so that CLIP's weights load and save in full.
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @property
    def layers(self) -> Any:
        return self.encoder["layers"]

    def forward(self, *pictures: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """As [`VisionTower`], after CLIP's pre-LayerNorm."""
        tokens, real = self.embeddings(*pictures)
        return self.pre_layrnorm(tokens), real

    def lend_embeddings(self, tokens: torch.Tensor) -> torch.Tensor:
        """The tokens as they are, which CLIP's pre-LayerNorm has brought to a scale."""
        return tokens

    def lending_norm(self) -> None:
        return None

    def unused(self) -> list[Any]:
        return [self.post_layernorm]
