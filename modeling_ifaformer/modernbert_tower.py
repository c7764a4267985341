"""The text tower of ModernBERT (Warner et al., 2024), which mmBERT shares: rotary positions and local layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import ModernBertModel
from transformers.models.modernbert.modeling_modernbert import ModernBertEncoderLayer

from .towers import LendingLayer, Projections, TextTower


class IFAformerModernBertLayer(LendingLayer, ModernBertEncoderLayer):  # type: ignore[misc]
    """ModernBERT's pre-LayerNorm block."""

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        query, key, value = self.attn.Wqkv(self.attn_norm(hidden_states)).chunk(3, dim=-1)
        return query, key, value

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.attn.out_drop(self.attn.Wo(attention_output))
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        return self.attn, self.attn.attention_dropout


class IFAformerModernBertModel(TextTower, ModernBertModel):
    """
    The modules and parameter names of `ModernBertModel`. What the other tower lends enters without a rotation, where
    a key of position 0 stands, and every query reads it, in local layers too.
    """

    layer_class = IFAformerModernBertLayer

    def __init__(self, config: Any):
        super().__init__(config)
        self.take_layers_apart()

    def layer_positions(
        self, hidden_states: torch.Tensor, pack: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[dict[str, Any]]:
        batch_size, length = hidden_states.shape[:2]
        position_ids = torch.arange(length, device=hidden_states.device).expand(batch_size, -1)
        kinds = [layer.attention_type for layer in self.layers]
        rotary = {
            kind: tuple(map(pack, self.rotary_emb(hidden_states, position_ids, kind))) for kind in dict.fromkeys(kinds)
        }
        windows = {"sliding_attention": self.config.sliding_window}
        return [{"rotary": rotary[kind], "window": windows.get(kind)} for kind in kinds]

    def end(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.final_norm(hidden_states)
