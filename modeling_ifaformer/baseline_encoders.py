"""
The encoders of the baselines: a text and its visual tokens in, states of the text's tokens out.

An [`Encoder`] is made of the configuration, has an `output_size` F and, with a span branch, a `span_size`. Its
`forward` takes a text as the keywords of the text tower and the [`VisualTokens`], and returns states (B, T, F) and
those of the span branch (B, T, `span_size`), or None where there is none. What stands at padding has no meaning.

Shapes: B batch_size, T text length, V visual tokens, C their width, D hidden size of the text tower.
"""

from copy import copy
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import MODEL_MAPPING, BertConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import BertAttention, BertIntermediate, BertLayer, BertOutput
from transformers.models.clip.modeling_clip import eager_attention_forward

from .bert_tower import IFAformerTextModel
from .configuration_baseline import BaselineConfig
from .packing import PackedTokens, additive_mask
from .towers import mix_positions, split_heads


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


WHOLE_PICTURE = (0.0, 0.0, 1.0, 1.0, 1.0)  # its box

States = tuple[torch.Tensor, torch.Tensor | None]


def is_real(text: dict[str, Any]) -> torch.Tensor:
    """(B, T) bool: which tokens of the texts are no padding."""
    mask = text.get("attention_mask")
    return torch.ones_like(text["input_ids"], dtype=torch.bool) if mask is None else mask.bool()


def make_tower(config: Any, **options: Any) -> Any:
    """The library's model of that configuration, with the kernel of attention that it has."""
    model_class: Any = MODEL_MAPPING[type(config)]
    if not model_class._supports_sdpa:  # Asked for it, a ResNet, which attends to nothing, would refuse.
        config = copy(config)
        config._attn_implementation = "eager"
    return model_class(config, **options)


def make_text_model(config: BaselineConfig) -> Any:
    """The text tower with the library's class and parameter names, without a pooler, which no encoder needs."""
    return make_tower(config.text_config, add_pooling_layer=False)


class Encoder(nn.Module):
    """What every encoder has."""

    output_size: int
    span_size: int | None = None

    def unused(self) -> list[nn.Module]:
        """What of it reaches no state of the text."""
        return []


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


class UMTEncoder(Encoder):
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


class CoAttentionEncoder(Encoder):
    """
    The adaptive co-attention network (Zhang, Fu, Liu and Huang, AAAI 2018; code: jinlanfu/NERmultimodal) on a BERT in
    place of word vectors and LSTMs. With h the text's states, v the visual tokens and W linear layers:

        v^ = attention of the words to the keys W v, of the values W v;  x = W h;  x^ = attention of v^ to x
        p = tanh(W v^);  q = tanh(W x^);  g = sigmoid(w (p + q));  m = W [g p ; (1 - g) q]
        s = sigmoid(w m);  states = [s m ; W h]
    """

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


class VisualBertEncoder(Encoder):
    """
    VisualBERT (Li, Yatskar, Yin, Hsieh and Chang, 2019; code: uclanlp/visualbert): one BERT reads the text and behind
    it the visual tokens, which have segment 1 and position 0. `VisualBertModel` is the library's, which attends with
    its eager kernel whatever `attn_implementation` says.
    """

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


class Connection(nn.Module):
    """
    ViLBERT's co-attention block: the queries of each stream attend to the keys and values of the other one, both as
    they come in; then dropout, residual, LayerNorm and feed-forward of each stream by itself.

    Args:
        text, vision: BERT configurations of the two streams, whose sizes may differ.
        size, num_heads: of the attention between them.
    """

    def __init__(self, text: Any, vision: Any, size: int, num_heads: int):
        super().__init__()
        self.config, self.num_heads = text, num_heads
        self.text_projections = nn.ModuleList(nn.Linear(text.hidden_size, size) for _ in range(3))
        self.vision_projections = nn.ModuleList(nn.Linear(vision.hidden_size, size) for _ in range(3))
        self.attention_dropout = nn.Dropout(text.attention_probs_dropout_prob)
        # BERT's BertSelfOutput from the width of the attention to that of the stream
        self.text_dense, self.vision_dense = nn.Linear(size, text.hidden_size), nn.Linear(size, vision.hidden_size)
        self.text_dropout = nn.Dropout(text.hidden_dropout_prob)
        self.vision_dropout = nn.Dropout(vision.hidden_dropout_prob)
        self.text_norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps)
        self.vision_norm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.text_intermediate, self.text_output = BertIntermediate(text), BertOutput(text)
        self.vision_intermediate, self.vision_output = BertIntermediate(vision), BertOutput(vision)

    def forward(
        self, text: torch.Tensor, vision: torch.Tensor, text_mask: torch.Tensor, vision_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both streams, (B, T, D) and (B, V, D of vision); masks (B, 1, 1, T) and (B, 1, 1, V) are added to scores."""
        # Queries, keys and values of each stream (B, H, T or V, E)
        tq, tk, tv = (split_heads(projection(text), self.num_heads) for projection in self.text_projections)
        vq, vk, vv = (split_heads(projection(vision), self.num_heads) for projection in self.vision_projections)
        dropout = self.attention_dropout.p if self.training else 0.0
        kernel = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attend = partial(kernel, self, scaling=tq.shape[-1] ** -0.5, dropout=dropout, is_causal=False)
        read, _ = attend(vq, tk, tv, text_mask)  # (B, V, H, E)
        seen, _ = attend(tq, vk, vv, vision_mask)  # (B, T, H, E)
        text = self.text_norm(text + self.text_dropout(self.text_dense(seen.flatten(2))))
        vision = self.vision_norm(vision + self.vision_dropout(self.vision_dense(read.flatten(2))))
        text = self.text_output(self.text_intermediate(text), text)
        return text, self.vision_output(self.vision_intermediate(vision), vision)


class ViLBertEncoder(Encoder):
    """
    ViLBERT (Lu, Batra, Parikh and Lee, NeurIPS 2019; code: facebookresearch/vilbert-multi-task): the lower layers of a
    BERT, then for each of the upper ones a connection with a second stream, that stream's layer, and BERT's layer. The
    second stream has the mean of the visual tokens and the tokens, each with its box.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__()
        text: Any = config.text_config
        self.output_size = text.hidden_size
        self.text_model = make_text_model(config)
        vision = BertConfig(
            hidden_size=config.vision_stream_size,
            num_attention_heads=config.vision_stream_heads,
            intermediate_size=config.vision_stream_intermediate_size,
            hidden_act=text.hidden_act,
            hidden_dropout_prob=text.hidden_dropout_prob,
            attention_probs_dropout_prob=text.attention_probs_dropout_prob,
            layer_norm_eps=text.layer_norm_eps,
        )
        self.state_embedding = nn.Linear(config.vision_width, vision.hidden_size)
        self.box_embedding = nn.Linear(5, vision.hidden_size)
        self.embedding_norm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.embedding_dropout = nn.Dropout(vision.hidden_dropout_prob)
        number = range(config.connection_layers)
        sizes = (config.connection_size, config.connection_heads)
        self.connections = nn.ModuleList(Connection(text, vision, *sizes) for _ in number)
        self.vision_layers = nn.ModuleList(BertLayer(vision) for _ in number)
        for layer in self.vision_layers:
            layer.attention.self.config = text  # whose kernel of attention may be changed later

    def unused(self) -> list[nn.Module]:
        """The second stream behind the last attention to it."""
        if not self.connections:
            return [self.state_embedding, self.box_embedding, self.embedding_norm]
        last: Any = self.connections[-1]
        lent = [last.vision_projections[0], *last.text_projections[1:]]
        behind = [last.vision_dense, last.vision_norm, last.vision_intermediate, last.vision_output]
        return [*lent, *behind, self.vision_layers[-1]]

    def embed(self, visual: VisualTokens) -> tuple[torch.Tensor, torch.Tensor]:
        """The second stream's states (B, 1 + V, D of vision) and which of them are real (B, 1 + V)."""
        real = visual.real[..., None].to(visual.states.dtype)
        mean = (visual.states * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True)
        whole = visual.boxes.new_tensor(WHOLE_PICTURE).expand(len(mean), 1, 5)
        states, boxes = torch.cat([mean, visual.states], dim=1), torch.cat([whole, visual.boxes], dim=1)
        of_boxes = self.box_embedding(boxes) * (boxes[..., 4:] > 0)  # a token without a box has none
        states = self.embedding_norm(self.state_embedding(states) + of_boxes)
        return self.embedding_dropout(states), torch.cat([visual.real[:, :1] | True, visual.real], dim=1)

    def forward(self, text: dict[str, Any], visual: VisualTokens) -> States:
        names = ("input_ids", "token_type_ids")
        states = self.text_model.embeddings(**{name: text.get(name) for name in names})  # (B, T, D)
        vision, is_there = self.embed(visual)
        text_mask, vision_mask = additive_mask([is_real(text)], states.dtype), additive_mask([is_there], states.dtype)
        layers = self.text_model.encoder.layer
        first = len(layers) - len(self.connections)
        for layer in layers[:first]:
            states = layer(states, text_mask)
        upper = zip(self.connections, self.vision_layers, layers[first:], strict=True)
        for connection, vision_layer, layer in upper:
            states, vision = connection(states, vision, text_mask, vision_mask)
            vision = vision_layer(vision, vision_mask)
            states = layer(states, text_mask)
        return states, None


class HVPNeTEncoder(Encoder):
    """
    HVPNeT (Chen et al., Findings of NAACL 2022; code: zjunlp/HVPNeT): each picture or crop p, which is one visual
    token here, puts 4 keys and values in front of those of the text, in every layer of a BERT. W are linear layers:

        r = the numbers of p in 4 rows of C;  [u_1 .. u_4] = W tanh(W r), each u_i (4, 2 D)
        of each layer: g = softmax(leaky_relu(W mean(u_i)));  [keys ; values] = sum of g_i u_i

    Two things are published so and look unmeant. A row of r is a quarter of the channels in all four places, and not
    one place. And keys and values are re-read in heads without a transpose (`mix_positions`); in the published code
    those of all pictures at once, so that a head has keys of some pictures alone. Here those of each picture are
    re-read by themselves: a row of the batch must not depend on how many crops others have.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__()
        text: Any = config.text_config
        self.output_size = text.hidden_size
        self.text_model = IFAformerTextModel(text, add_pooling_layer=False)
        self.picture_projection = nn.Sequential(
            nn.Linear(config.vision_width // 4, config.prefix_hidden_size),
            nn.Tanh(),
            nn.Linear(config.prefix_hidden_size, 4 * 2 * text.hidden_size),
        )
        self.gates = nn.ModuleList(nn.Linear(4 * 2 * text.hidden_size, 4) for _ in range(text.num_hidden_layers))

    def forward(self, text: dict[str, Any], visual: VisualTokens) -> States:
        states = self.text_model(text["input_ids"], text.get("token_type_ids"), None)  # (B, T, D)
        projected = self.picture_projection(visual.states.unflatten(-1, (4, -1)))  # (B, V, 4, 4 * 2 D)
        choices = projected.unflatten(-1, (4, -1))  # (B, V, 4 rows, 4 to choose from, 2 D)
        mean = choices.mean(dim=3).flatten(2)  # (B, V, 4 * 2 D)
        mask = additive_mask([visual.real.repeat_interleave(4, dim=1), is_real(text)], states.dtype)
        num_heads = self.text_model.config.num_attention_heads
        layers = self.text_model.layers
        for gate, layer in zip(self.gates, layers, strict=True):
            shares = nn.functional.leaky_relu(gate(mean)).softmax(dim=-1)  # (B, V, 4)
            chosen = torch.einsum("bvg,bvrgd->bvrd", shares, choices)  # (B, V, 4, 2 D)
            keys_and_values = [mix_positions(half.flatten(0, 1), num_heads) for half in chosen.chunk(2, dim=-1)]
            prefix = [half.unflatten(0, shares.shape[:2]).flatten(1, 2) for half in keys_and_values]  # (B, 4 V, D)
            states, *_ = layer(states, mask, *prefix)
        return states, None


class CnnBiLstmEncoder(Encoder):
    """
    CNN-BiLSTM (Ma and Hovy, ACL 2016; code: XuezheMax/NeuroNLP2), which reads the text alone. A word is its vector and
    the maximum of a convolution over its bytes; for ASCII these are the characters. What is behind the word's last
    byte has no part in the maximum; in the published code it has.
    """

    def __init__(self, config: BaselineConfig):
        super().__init__()
        if config.vocab_size is None:
            raise ValueError(
                "vocab_size of cnn_bilstm must be the number of its tokenizer's entries, got None. The config_fields "
                "of its processor have it."
            )
        self.output_size = 2 * config.lstm_size
        self.word_embeddings = nn.Embedding(config.vocab_size, config.word_size, padding_idx=0)
        self.byte_embeddings = nn.Embedding(257, config.byte_size, padding_idx=0)  # 256 bytes and padding
        width = config.byte_filter_width
        self.byte_filters = nn.Conv1d(config.byte_size, config.num_byte_filters, width, padding=width - 1)
        self.dropout = nn.Dropout(config.lstm_dropout)
        word_size = config.word_size + config.num_byte_filters
        self.lstm = nn.LSTM(word_size, config.lstm_size, batch_first=True, bidirectional=True)

    def get_input_embeddings(self) -> nn.Embedding:
        return self.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.word_embeddings = value

    def spell(self, byte_ids: torch.Tensor) -> torch.Tensor:
        """(N, bytes) -> (N, num_byte_filters)."""
        filtered = self.byte_filters(self.byte_embeddings(byte_ids).transpose(1, 2))  # (N, filters, positions)
        # Those positions whose window has a byte of the word; a token without any has the first one.
        number = (byte_ids > 0).sum(dim=1, keepdim=True) + self.byte_filters.kernel_size[0] - 1  # (N, 1)
        has_byte = torch.arange(filtered.shape[2], device=byte_ids.device) < number
        return filtered.masked_fill(~has_byte[:, None], -torch.inf).amax(dim=2).tanh()

    def forward(self, text: dict[str, Any], visual: VisualTokens | None) -> States:
        if text.get("byte_ids") is None:
            raise ValueError("byte_ids are needed: take them from the processor of this model, which has them.")
        tokens = PackedTokens(is_real(text))
        word_ids, byte_ids = (tokens.pack(text[name][..., None]) for name in ("input_ids", "byte_ids"))
        spelled = self.spell(byte_ids.flatten(1).long())
        words = self.dropout(torch.cat([spelled, self.word_embeddings(word_ids.squeeze(1))], dim=-1))  # (N, size)
        rows = nn.utils.rnn.pack_sequence(words.split(tokens.lengths), enforce_sorted=False)
        states = nn.utils.rnn.unpack_sequence(self.lstm(rows)[0])
        return tokens.unpack(torch.cat(states)), None  # (B, T, 2 * lstm_size)


ENCODERS: dict[str, type[Any]] = {
    "cnn_bilstm": CnnBiLstmEncoder,
    "co_attention": CoAttentionEncoder,
    "hvpnet": HVPNeTEncoder,
    "umt": UMTEncoder,
    "vilbert": ViLBertEncoder,
    "visual_bert": VisualBertEncoder,
}
