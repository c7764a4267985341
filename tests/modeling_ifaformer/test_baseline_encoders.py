"""The encoders against the formulas of their papers and codes, written out slowly."""

import pytest
import torch
from transformers import BertConfig, BertModel, VisualBertModel

from modeling_ifaformer.baseline_encoders import AdditiveAttention, VisualTokens, is_real
from modeling_ifaformer.modeling_baseline import picture_pyramid


PARITY = {"rtol": 0, "atol": 1e-6}


def attention(block, queries, others, real):
    """Multi-head attention of BERT's parameters, one head at a time; residual, norm and feed-forward."""
    own = block.attention.self
    size = own.query.out_features // own.num_attention_heads
    heads = []
    for head in range(own.num_attention_heads):
        part = slice(head * size, (head + 1) * size)
        query, key, value = (layer(x)[..., part] for layer, x in zip(
            (own.query, own.key, own.value), (queries, others, others), strict=True
        ))  # fmt: skip
        scores = torch.einsum("bnd,bmd->bnm", query, key) / size**0.5
        heads.append(scores.masked_fill(~real[:, None], -torch.inf).softmax(-1) @ value)
    output = block.attention.output
    states = output.LayerNorm(queries + output.dense(torch.cat(heads, dim=-1)))
    inner = torch.nn.functional.gelu(block.intermediate.dense(states))
    return block.output.LayerNorm(states + block.output.dense(inner))


@pytest.fixture
def visual():
    torch.manual_seed(1)
    real = torch.tensor([[True] * 9, [True] + [False] * 8, [True] * 4 + [False] * 5])
    states = torch.randn(3, 9, 20) * real[..., None]
    boxes = torch.rand(3, 9, 5)
    boxes[2, 3] = 0.0  # a crop, which has no box
    return VisualTokens(states, real, boxes)


@pytest.fixture
def text(baseline_inputs):
    inputs = baseline_inputs()
    return {name: inputs[name] for name in ("input_ids", "attention_mask")}


def close(actual, expected, text):
    real = is_real(text)
    torch.testing.assert_close(actual[real], expected[real], **PARITY)


def test_umt(baseline, text, visual):
    encoder, real = baseline("umt").encoder, is_real(text)
    with torch.no_grad():
        t = encoder.text_model(**text).last_hidden_state
        a = attention(encoder.span_layer, t, t, real)
        r = attention(encoder.main_layer, t, t, real)
        c = attention(encoder.image_aware_words, r, encoder.words_projection(visual.states), visual.real)
        q = attention(encoder.word_aware_regions, encoder.regions_projection(visual.states), r, real)
        f = attention(encoder.region_aware_words, r, q, visual.real)
        g = torch.sigmoid(encoder.gate(torch.cat([f, c], dim=-1)))
        states, span_states = encoder(text, visual)
    close(states, torch.cat([f, g * c], dim=-1), text)
    close(span_states, a, text)


@pytest.mark.parametrize("variant", ["published", "corrected"])
def test_co_attention(variant, baseline, text, visual):
    encoder, real = baseline("co_attention", co_attention_variant=variant).encoder, is_real(text)
    score = {"visual": encoder.visual_attention, "text": encoder.text_attention}
    query = {name: of.query for name, of in score.items()}
    weight = {name: of.score for name, of in score.items()}
    if variant == "published":  # Layers that it leaves out, of which the result must not depend.
        query = {"visual": torch.nn.Linear(24, 10), "text": torch.nn.Linear(10, 10)}
        other = torch.nn.Linear(10, 1)

    def attend(name, keys, queries, mask):
        rows = []
        for row in range(3):
            of_queries = []
            for vector in query[name](queries[row]):
                hidden = keys[row].tanh(), vector.tanh().expand_as(keys[row])
                scores = weight[name](hidden[0]) + other(hidden[1]) if variant == "published" else None
                scores = weight[name]((keys[row] + vector).tanh()) if scores is None else scores
                of_queries.append(scores.squeeze(1).masked_fill(~mask[row], -torch.inf).softmax(0))
            rows.append(torch.stack(of_queries))
        return torch.stack(rows)

    with torch.no_grad():
        h = encoder.text_model(**text).last_hidden_state
        weights = attend("visual", encoder.visual_keys(visual.states), h, visual.real)
        seen = weights @ encoder.visual_projection(visual.states)
        x = encoder.text_projection(h)
        read = attend("text", x, seen, real) @ x
        p, q = encoder.visual_gate(seen).tanh(), encoder.text_gate(read).tanh()
        g = torch.sigmoid(encoder.fusion_gate(p + q))
        m = encoder.fused_projection(torch.cat([g * p, (1 - g) * q], dim=-1))
        s = torch.sigmoid(encoder.filtration_gate(m))
        states, none = encoder(text, visual)
    close(states, torch.cat([s * m, encoder.output_projection(h)], dim=-1), text)
    assert none is None


@pytest.mark.parametrize(("variant", "is_same"), [("published", True), ("corrected", False)])
def test_the_published_co_attention_is_the_same_for_all_words(variant, is_same):
    torch.manual_seed(0)
    attend = AdditiveAttention(6, 8, variant)
    weights = attend(torch.randn(2, 5, 8), torch.randn(2, 4, 6), torch.ones(2, 5, dtype=torch.bool))
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4))
    assert bool((weights == weights[:, :1]).all()) == is_same


class TestVisualBert:
    def test_it_is_the_library_s(self, baseline, text, visual):
        encoder = baseline("visual_bert").encoder
        library = VisualBertModel(encoder.text_model.config, add_pooling_layer=False).eval()
        library.load_state_dict(encoder.text_model.state_dict())
        with torch.no_grad():
            segments = torch.ones(visual.real.shape, dtype=torch.long)
            seen = {"visual_embeds": visual.states, "visual_attention_mask": visual.real.float()}
            expected = library(**text, **seen, visual_token_type_ids=segments).last_hidden_state[:, :7]
            states, _ = encoder(text, visual)
        close(states, expected, text)

    def test_with_nothing_to_attend_to_it_is_bert(self, baseline, text, visual):
        encoder = baseline("visual_bert").encoder
        config = encoder.text_model.config
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        names += ("max_position_embeddings",)
        bert = BertModel(BertConfig(**{name: getattr(config, name) for name in names}), add_pooling_layer=False).eval()
        weights = encoder.text_model.state_dict()
        bert.load_state_dict({name: value for name, value in weights.items() if "visual" not in name})
        with torch.no_grad():
            expected = bert(**text).last_hidden_state
            states, _ = encoder(text, visual._replace(real=torch.zeros_like(visual.real)))
        close(states, expected, text)


class TestViLBert:
    def test_the_formulas(self, baseline, text, visual):
        encoder, real = baseline("vilbert").encoder, is_real(text)

        def attend(queries, others, query, key, value, mask):
            heads = []
            for head in range(4):
                part = slice(4 * head, 4 * head + 4)
                q, k, v = query(queries)[..., part], key(others)[..., part], value(others)[..., part]
                scores = (q @ k.transpose(1, 2) / 2).masked_fill(~mask[:, None], -torch.inf)
                heads.append(scores.softmax(-1) @ v)
            return torch.cat(heads, dim=-1)

        with torch.no_grad():
            rows = []
            for row in range(3):  # of the tokens that are there
                of_row = visual.states[row][visual.real[row]]
                boxes = visual.boxes[row][visual.real[row]]
                of_row = torch.cat([of_row.mean(dim=0, keepdim=True), of_row])
                boxes = torch.cat([torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0]]), boxes])
                places = [encoder.box_embedding(box) if box.any() else torch.zeros(12) for box in boxes]
                rows.append(encoder.embedding_norm(encoder.state_embedding(of_row) + torch.stack(places)))
            there = torch.tensor([[True] * len(row) + [False] * (10 - len(row)) for row in rows])
            v = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, 10 - len(row))) for row in rows])
            t = encoder.text_model.embeddings(text["input_ids"])
            layers = encoder.text_model.encoder.layer
            t = attention(layers[0], t, t, real)
            for connection, vision_layer, layer in zip(
                encoder.connections, encoder.vision_layers, layers[1:], strict=True
            ):
                of_text, of_vision = connection.text_projections, connection.vision_projections
                seen = attend(t, v, of_text[0], of_vision[1], of_vision[2], there)
                read = attend(v, t, of_vision[0], of_text[1], of_text[2], real)
                t = connection.text_norm(t + connection.text_dense(seen))
                v = connection.vision_norm(v + connection.vision_dense(read))
                outputs = []
                for states, name in ((t, "text"), (v, "vision")):
                    inner = torch.nn.functional.gelu(getattr(connection, f"{name}_intermediate").dense(states))
                    output = getattr(connection, f"{name}_output")
                    outputs.append(output.LayerNorm(states + output.dense(inner)))
                t, v = outputs
                v = attention(vision_layer, v, v, there)
                t = attention(layer, t, t, real)
            states, _ = encoder(text, visual)
        close(states, t, text)

    def test_without_connections_it_is_bert(self, baseline, text, visual):
        encoder = baseline("vilbert", connection_layers=0).encoder
        with torch.no_grad():
            close(encoder(text, visual)[0], encoder.text_model(**text).last_hidden_state, text)


class TestHvpnet:
    @pytest.fixture
    def pictures(self):
        torch.manual_seed(1)
        real = torch.tensor([[True, True, False], [False, True, False], [True, False, False]])
        states = torch.randn(3, 3, 4 * 32) * real[..., None]
        states[2] = 0.0  # the row without a picture
        return VisualTokens(states, real, torch.zeros(3, 3, 5))

    def expected(self, encoder, text, rows):
        """
        By the published formulas, of texts without padding and with equally many pictures: `rows` of each of them, the
        stages (B, channels, 2, 2) and nothing of this project. Keys of the pictures are re-read one by one.
        """
        size, heads = 24, 3
        states = encoder.text_model.embeddings(text["input_ids"])
        layers = encoder.text_model.encoder["layer"]
        for gate, layer in zip(encoder.gates, layers, strict=True):
            prefix = {"key": [], "value": []}
            for stages in rows:  # of one picture
                batch_size = len(stages)
                memory = stages.contiguous().view(batch_size, 4, -1)
                four = encoder.picture_projection(memory).split(2 * size, dim=-1)
                shares = gate(torch.stack(four).sum(0).reshape(batch_size, -1) / 4)
                shares = torch.where(shares > 0, shares, 0.01 * shares).softmax(-1)
                both = sum(shares[:, i, None, None] * four[i] for i in range(4))
                for name, part in zip(prefix, both.split(size, dim=-1), strict=True):
                    prefix[name].append(part.reshape(batch_size, heads, -1, size // heads))
            own, heads_of = layer.attention.self, lambda x: x.view(*x.shape[:2], heads, -1).permute(0, 2, 1, 3)
            key = torch.cat([*prefix["key"], heads_of(own.key(states))], dim=2)
            value = torch.cat([*prefix["value"], heads_of(own.value(states))], dim=2)
            scores = heads_of(own.query(states)) @ key.transpose(2, 3) / (size // heads) ** 0.5
            context = (scores.softmax(-1) @ value).permute(0, 2, 1, 3).flatten(2)
            states = layer.attention.output.LayerNorm(states + layer.attention.output.dense(context))
            inner = torch.nn.functional.gelu(layer.intermediate.dense(states))
            states = layer.output.LayerNorm(states + layer.output.dense(inner))
        return states

    @pytest.mark.parametrize("number", [1, 3])
    def test_the_formulas(self, baseline, number):
        encoder = baseline("hvpnet").encoder
        torch.manual_seed(2)
        pictures = [torch.randn(2, 32, 2, 2) for _ in range(number)]
        text = {"input_ids": torch.randint(1, 90, (2, 6))}
        tokens = torch.stack([picture.flatten(1) for picture in pictures], dim=1)
        visual = VisualTokens(tokens, torch.ones(2, number, dtype=torch.bool), torch.zeros(2, number, 5))
        with torch.no_grad():
            states, none = encoder(text, visual)
            torch.testing.assert_close(states, self.expected(encoder, text, pictures), **PARITY)
        assert none is None

    def test_absent_pictures_and_padding_are_not_there(self, baseline, text, pictures):
        encoder = baseline("hvpnet").encoder
        with torch.no_grad():
            states, _ = encoder(text, pictures)
            for row, length in enumerate([7, 5, 2]):
                alone = {"input_ids": text["input_ids"][row : row + 1, :length]}
                there = pictures.states[row][pictures.real[row]]
                expected = self.expected(encoder, alone, [picture.view(1, 32, 2, 2) for picture in there])
                torch.testing.assert_close(states[row : row + 1, :length], expected, **PARITY)

    def test_the_pyramid_of_a_resnet_50_is_the_published_one(self):
        torch.manual_seed(0)
        stages = [torch.randn(2, 3 * (i + 1), size, size) for i, size in enumerate((56, 28, 14, 7))]
        pooled = [torch.nn.AvgPool2d(states.shape[2] // 2, stride=states.shape[2] // 2)(states) for states in stages]
        expected = torch.cat(pooled, dim=1).view(2, -1)
        torch.testing.assert_close(picture_pyramid(stages), expected, **PARITY)
        assert picture_pyramid([torch.ones(2, 3, 1, 1)]).tolist() == torch.ones(2, 12).tolist()


def test_cnn_bilstm(baseline, baseline_inputs):
    encoder, text = baseline("cnn_bilstm").encoder, baseline_inputs("cnn_bilstm")
    del text["crf_mask"]
    filters, bias = encoder.byte_filters.weight, encoder.byte_filters.bias  # (5, 6, 3) and (5,)
    with torch.no_grad():
        rows = []
        for row, length in enumerate([7, 5, 2]):
            words = []
            for position in range(length):
                spelled = [byte for byte in text["byte_ids"][row, position] if byte > 0]
                around = [torch.zeros(6)] * 2
                embedded = torch.stack([*around, *(encoder.byte_embeddings.weight[byte] for byte in spelled), *around])
                windows = [embedded[first : first + 3] for first in range(len(spelled) + 2)]
                filtered = torch.stack([(filters * window.T).sum(dim=(1, 2)) + bias for window in windows])
                vector = encoder.word_embeddings.weight[text["input_ids"][row, position]]
                words.append(torch.cat([filtered.max(dim=0).values.tanh(), vector]))
            rows.append(encoder.lstm(torch.stack(words)[None])[0][0])
        states, _ = encoder(text, None)
    for row, expected in enumerate(rows):
        torch.testing.assert_close(states[row, : len(expected)], expected, **PARITY)
