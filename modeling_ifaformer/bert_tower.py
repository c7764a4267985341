"""The text towers of BERT's kind (BERT, RoBERTa, XLM-RoBERTa, ELECTRA), and the layers of MKGformer."""

from typing import Any

import torch
from torch import nn
from transformers import BertConfig
from transformers import initialization as init
from transformers.models.bert.modeling_bert import (
    BertEmbeddings,
    BertIntermediate,
    BertLayer,
    BertPooler,
    BertPreTrainedModel,
)
from transformers.models.electra.modeling_electra import ElectraEmbeddings
from transformers.models.roberta.modeling_roberta import RobertaEmbeddings
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaEmbeddings

from .crf import without_autocast
from .packing import Attended, RowLengths
from .towers import LendingLayer, Projections, TextTower


# The blocks of the four are the same; the embeddings differ in how positions are counted, and in their width.
BERT_EMBEDDINGS: dict[str, type[nn.Module]] = {
    "bert": BertEmbeddings,
    "electra": ElectraEmbeddings,
    "roberta": RobertaEmbeddings,
    "xlm-roberta": XLMRobertaEmbeddings,
}


class IFAformerTextLayer(LendingLayer, BertLayer):  # type: ignore[misc]
    """BERT's post-LayerNorm block."""

    def project(self, hidden_states: torch.Tensor, key_values_only: bool = False) -> Projections:
        own = self.attention.self
        # In this order, which decides how gradients are rounded: trainings are what they were.
        key, value = own.key(hidden_states), own.value(hidden_states)
        return own.query(hidden_states), key, value

    def finish(self, hidden_states: torch.Tensor, attention_output: torch.Tensor) -> torch.Tensor:
        return self.feed_forward_chunk(self.attention.output(attention_output, hidden_states))

    def attention_and_dropout(self) -> tuple[nn.Module, float]:
        return self.attention.self, self.attention.self.dropout.p


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


class IFAformerTextModel(TextTower, BertPreTrainedModel):
    """The modules and parameter names of `BertModel`, `RobertaModel`, `XLMRobertaModel` or `ElectraModel`."""

    config: BertConfig
    _input_embed_layer = "word_embeddings"

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True, num_fused_layers: int = 0):
        super().__init__(config)
        self.embeddings = BERT_EMBEDDINGS[config.model_type](config)
        embedding_size = getattr(config, "embedding_size", config.hidden_size)  # ELECTRA's may be another
        if embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(embedding_size, config.hidden_size)
        kinds: list[type[IFAformerTextLayer]] = [IFAformerTextLayer] * (config.num_hidden_layers - num_fused_layers)
        kinds += [FusedTextLayer] * num_fused_layers
        layers = nn.ModuleList([kind(config) for kind in kinds])
        self.encoder = nn.ModuleDict({"layer": layers})  # by the name that BERT's weights have
        has_pooler = add_pooling_layer and config.model_type != "electra"
        self.pooler: Any = BertPooler(config) if has_pooler else None
        self.post_init()

    @property
    def layers(self) -> Any:
        return self.encoder["layer"]

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        # BertEmbeddings is the parent's case.
        if isinstance(module, (ElectraEmbeddings, RobertaEmbeddings, XLMRobertaEmbeddings)):
            init.copy_(module.position_ids, torch.arange(module.position_ids.shape[-1]).expand((1, -1)))
            init.zeros_(module.token_type_ids)

    def forward(
        self,
        input_ids: torch.LongTensor | None,
        token_type_ids: torch.LongTensor | None,
        inputs_embeds: torch.Tensor | None,
        **word_shape_ids: torch.Tensor,
    ) -> torch.Tensor:
        inputs = {"input_ids": input_ids, "token_type_ids": token_type_ids, "inputs_embeds": inputs_embeds}
        states = self.embeddings(**inputs, **word_shape_ids)
        return self.embeddings_project(states) if hasattr(self, "embeddings_project") else states

    def unused(self) -> list[Any]:
        return [self.pooler] if self.pooler is not None else []
