"""The text tower of DistilBERT (Sanh et al., 2019)."""

from typing import Any

import torch
from torch import nn
from transformers import DistilBertModel
from transformers.models.distilbert.modeling_distilbert import TransformerBlock

from .towers import LendingLayer, Projections, TextTower


class IFAformerDistilBertLayer(LendingLayer, TransformerBlock):  # type: ignore[misc]
    """DistilBERT's post-LayerNorm block."""

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        own = self.attention
        return own.q_lin(hidden_states), own.k_lin(hidden_states), own.v_lin(hidden_states)

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        hidden_states = self.sa_layer_norm(self.attention.out_lin(attention_output) + hidden_states)
        return self.output_layer_norm(self.ffn(hidden_states) + hidden_states)

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        return self.attention, self.attention.dropout.p


class IFAformerDistilBertModel(TextTower, DistilBertModel):
    """The modules and parameter names of `DistilBertModel`."""

    layer_class = IFAformerDistilBertLayer

    def __init__(self, config: Any):
        super().__init__(config)
        self.take_layers_apart()

    @property
    def layers(self) -> Any:
        return self.transformer.layer
