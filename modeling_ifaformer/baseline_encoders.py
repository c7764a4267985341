"""
The encoders of the baselines: a text and its visual tokens in, states of the text's tokens out.

An encoder is made of the configuration, has an `output_size` F and, with a span branch, a `span_size`. Its `forward`
takes a text as the keywords of the text tower and the [`VisualTokens`], and returns states (B, T, F) and those of the
span branch (B, T, `span_size`), or None where there is none. What stands at padding has no meaning.

Shapes: B batch_size, T text length, V visual tokens, C their width, D hidden size of the text tower.
"""

from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import MODEL_MAPPING
from transformers.models.bert.modeling_bert import BertAttention, BertIntermediate, BertLayer, BertOutput

from .configuration_baseline import BaselineConfig
from .packing import additive_mask


class VisualTokens(NamedTuple):
    """
    What is seen of a batch's pictures. A row without any picture has one token of zeros.

    Attributes:
        states: (B, V, C).
        real: (B, V) bool, which of them are attended to, in each row at least one.
        boxes: (B, V, 5), left, top, right, bottom and area as fractions of the picture; all 0 for one without a box.
    """

    states: torch.Tensor
    real: torch.Tensor
    boxes: torch.Tensor


States = tuple[torch.Tensor, torch.Tensor | None]


def is_real(text: dict[str, Any]) -> torch.Tensor:
    """(B, T) bool: which tokens of the texts are no padding."""
    mask = text.get("attention_mask")
    return torch.ones_like(text["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def make_text_model(config: BaselineConfig) -> Any:
    """The text tower with the library's class and parameter names, without a pooler, which no encoder needs."""
    text: Any = config.text_config
    model_class: Any = MODEL_MAPPING[type(text)]
    return model_class(text, add_pooling_layer=False)


class CrossLayer(nn.Module):
    """BERT's block, in which queries (B, N, D) attend to another sequence (B, M, D). The residual is the queries'."""

    def __init__(self, config: Any):
        super().__init__()
        self.attention = BertAttention(config, is_cross_attention=True)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(self, queries: torch.Tensor, others: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`mask` (B, 1, 1, M) is added to the scores."""
        attended, _ = self.attention(queries, encoder_hidden_states=others, encoder_attention_mask=mask)
        return self.output(self.intermediate(attended), attended)


class UMTEncoder(nn.Module):
    """
    UMT (Yu, Jiang, Yang and Xia, ACL 2020; code: jefferyYu/UMT). With t = dropout(text tower), v the visual tokens and
    P1, P2 linear layers:

        a = BertLayer(t), which finds spans;  r = BertLayer(t)
        c = Cross(r <- P1 v);  f = Cross(r <- Cross(P2 v <- r));  g = sigmoid(Linear([f ; c]))
        states = [f ; g c]
    """

    def __init__(self, config: BaselineConfig):
        super().__init__()
        text: Any = config.text_config
        self.output_size, self.span_size = 2 * text.hidden_size, text.hidden_size
        self.text_model = make_text_model(config)
        self.dropout = nn.Dropout(text.hidden_dropout_prob)
        self.span_layer, self.main_layer = BertLayer(text), BertLayer(text)
        self.words_projection = nn.Linear(config.vision_width, text.hidden_size)
        self.regions_projection = nn.Linear(config.vision_width, text.hidden_size)
        self.image_aware_words = CrossLayer(text)
        self.word_aware_regions = CrossLayer(text)
        self.region_aware_words = CrossLayer(text)
        self.gate = nn.Linear(2 * text.hidden_size, text.hidden_size)

    def forward(self, text: dict[str, Any], visual: VisualTokens) -> States:
        states = self.dropout(self.text_model(**text).last_hidden_state)  # (B, T, D)
        text_mask = additive_mask([is_real(text)], states.dtype)
        visual_mask = additive_mask([visual.real], states.dtype)
        span_states = self.span_layer(states, text_mask)
        states = self.main_layer(states, text_mask)
        image_aware = self.image_aware_words(states, self.words_projection(visual.states), visual_mask)
        regions = self.word_aware_regions(self.regions_projection(visual.states), states, text_mask)  # (B, V, D)
        words = self.region_aware_words(states, regions, visual_mask)
        gate = self.gate(torch.cat([words, image_aware], dim=-1)).sigmoid()
        return torch.cat([words, gate * image_aware], dim=-1), span_states


class AdditiveAttention(nn.Module):
    """
    Attention of queries to keys by a feed-forward network. With the keys k and the term q = Q query:

    - `"published"`: the score is w tanh([k ; q]), and a linear layer of a concatenation is a sum: the term of the
      query is the same for all keys, and the softmax has no use for it. All queries get the same weights.
    - `"corrected"`: the score is w tanh(k + q).

    Args:
        query_size: width of the queries.
        size: width of the keys and of the hidden layer.
        variant: one of the two.
    """

    def __init__(self, query_size: int, size: int, variant: str):
        super().__init__()
        self.query = nn.Linear(query_size, size) if variant == "corrected" else None
        self.score = nn.Linear(size, 1)

    def forward(self, keys: torch.Tensor, queries: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Weights (B, N, M) of keys (B, M, size) for queries (B, N, ...), 0 for keys that are not `real` (B, M)."""
        hidden = keys.unsqueeze(1)  # (B, 1, M, size)
        if self.query is not None:
            hidden = hidden + self.query(queries).unsqueeze(2)  # (B, N, M, size)
        scores = self.score(hidden.tanh()).squeeze(-1).masked_fill(~real[:, None], -torch.inf)
        return scores.softmax(dim=-1).expand(-1, queries.shape[1], -1)


class CoAttentionEncoder(nn.Module):
    """
    The adaptive co-attention network (Zhang, Fu, Liu and Huang, AAAI 2018; code: jinlanfu/NERmultimodal) on a BERT in
    place of word vectors and LSTMs. With h the text's states, v the visual tokens and W linear layers:

        v^ = attention of the words to the keys W v, of the values W v;  x = W h;  x^ = attention of v^ to x
        p = tanh(W v^);  q = tanh(W x^);  g = sigmoid(w (p + q));  m = W [g p ; (1 - g) q]
        s = sigmoid(w m);  states = [s m ; W h]
    """

    span_size = None

    def __init__(self, config: BaselineConfig):
        super().__init__()
        text: Any = config.text_config
        size, variant = config.co_attention_size, config.co_attention_variant
        self.output_size = 2 * size
        self.text_model = make_text_model(config)
        self.visual_keys = nn.Linear(config.vision_width, size)
        self.visual_attention = AdditiveAttention(text.hidden_size, size, variant)
        self.visual_projection = nn.Linear(config.vision_width, size)
        self.text_projection = nn.Linear(text.hidden_size, size)
        self.text_attention = AdditiveAttention(size, size, variant)
        self.visual_gate, self.text_gate = nn.Linear(size, size), nn.Linear(size, size)
        self.fusion_gate = nn.Linear(size, 1)
        self.fused_projection = nn.Linear(2 * size, size)
        self.filtration_gate = nn.Linear(size, 1)
        self.output_projection = nn.Linear(text.hidden_size, size)

    def forward(self, text: dict[str, Any], visual: VisualTokens) -> States:
        states = self.text_model(**text).last_hidden_state  # (B, T, D)
        # Each (B, T, size) from here on
        weights = self.visual_attention(self.visual_keys(visual.states), states, visual.real)  # (B, T, V)
        seen = weights @ self.visual_projection(visual.states)
        words = self.text_projection(states)
        weights = self.text_attention(words, seen, is_real(text))  # (B, T, T)
        read = weights @ words
        seen, read = self.visual_gate(seen).tanh(), self.text_gate(read).tanh()
        share = self.fusion_gate(seen + read).sigmoid()  # (B, T, 1)
        fused = self.fused_projection(torch.cat([share * seen, (1 - share) * read], dim=-1))
        kept = self.filtration_gate(fused).sigmoid()  # (B, T, 1)
        return torch.cat([kept * fused, self.output_projection(states)], dim=-1), None


class VisualBertEncoder(nn.Module):
    """
    VisualBERT (Li, Yatskar, Yin, Hsieh and Chang, 2019; code: uclanlp/visualbert): one BERT reads the text and behind
    it the visual tokens, which have segment 1 and position 0. `VisualBertModel` is the library's.
    """

    span_size = None

    def __init__(self, config: BaselineConfig):
        super().__init__()
        text: Any = config.text_config
        self.output_size = text.hidden_size
        self.text_model = make_text_model(config)

    def forward(self, text: dict[str, Any], visual: VisualTokens) -> States:
        seen = {"visual_embeds": visual.states, "visual_attention_mask": visual.real.long()}
        states = self.text_model(**text, **seen).last_hidden_state  # (B, T + V, D)
        return states[:, : text["input_ids"].shape[1]], None

    @torch.no_grad()
    def copy_text_embeddings(self) -> None:
        """Begin with a BERT's embeddings of segments and positions for visual tokens too, as the published code."""
        embeddings = self.text_model.embeddings
        embeddings.visual_token_type_embeddings.weight.copy_(embeddings.token_type_embeddings.weight)
        embeddings.visual_position_embeddings.weight.copy_(embeddings.position_embeddings.weight)


ENCODERS: dict[str, type[nn.Module]] = {
    "co_attention": CoAttentionEncoder,
    "umt": UMTEncoder,
    "visual_bert": VisualBertEncoder,
}
