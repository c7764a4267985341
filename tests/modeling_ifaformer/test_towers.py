import pytest
import torch
from transformers import AutoConfig, AutoModel, BertModel, CLIPVisionConfig
from transformers.activations import ACT2FN

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification, IFAformerModel
from modeling_ifaformer.bert_tower import FusedTextLayer, look_at
from modeling_ifaformer.clip_tower import QuickGELU


def test_patches_are_those_of_the_convolution(make_config, make_inputs):
    convolution = IFAformerModel(make_config()).vision_model.embeddings.patch_embedding
    pixel_values = make_inputs()["pixel_values"][..., :16]  # not square: rows and columns differ
    expected = torch.nn.functional.conv2d(pixel_values, convolution.weight, stride=convolution.stride)
    assert expected.shape == (3, 24, 3, 2)
    torch.testing.assert_close(convolution(pixel_values), expected)


@pytest.mark.parametrize("model_type", ["siglip_vision_model", "vit", "dinov2"])
def test_pictures_of_no_whole_number_of_patches(make_config, make_inputs, model_type):
    """As of SigLIP's so400m-patch14-384: what is left beside the last patch is not looked at, as in the library."""
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "patch_size": 14, "image_size": 30}
    vision = AutoConfig.for_model(model_type, **sizes)
    config = make_config(vision_config=vision, vision_attends_text=False, aux_crop_size=14, rcnn_crop_size=14)
    model, stock = IFAformerModel(config).eval(), AutoModel.from_config(vision).eval()
    stock.load_state_dict(model.vision_model.state_dict(), strict=False)
    pixel_values = torch.randn(3, 3, 30, 30)
    ours = model(make_inputs()["input_ids"], pixel_values=pixel_values, output_hidden_states=True).image_hidden_states
    expected = stock(pixel_values, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours[1], expected[1], rtol=1e-4, atol=1e-5)


def test_quick_gelu_is_the_library_s():
    values = torch.linspace(-20, 20, 999, dtype=torch.float64, requires_grad=True)
    results = [activation(values) for activation in (QuickGELU(), ACT2FN["quick_gelu"])]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(result.sum(), values) for result in results))


@pytest.mark.parametrize(("name", "kind"), [("quick_gelu", QuickGELU), ("gelu", type(ACT2FN["gelu"]))])
def test_the_configured_activation(make_config, name, kind):
    vision_config = {**make_config().vision_config.to_dict(), "hidden_act": name}
    model = IFAformerModel(make_config(vision_config=CLIPVisionConfig(**vision_config)))
    assert {type(layer.mlp.activation_fn) for layer in model.vision_model.encoder.layers} == {kind}


def deep(make_config, layers, **fields):
    config = make_config(attention_variant="mkgformer", **fields)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = layers
    return config


class TestMkgformer:
    @pytest.fixture
    def model(self, make_config):
        torch.manual_seed(0)
        model = IFAformerModel(deep(make_config, 6)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model

    def expected(self, model, text, vision):
        """
        By the published formulas, of the embeddings (1, T, D) and (1, V, D) of what is there, without any mask: layers
        4 and 5 of 6 are the upper third.
        """

        def heads_of(states):
            return states.view(1, -1, 3, 8).permute(0, 2, 1, 3)

        def attend(query, key, value):
            scores = heads_of(query) @ key.transpose(2, 3) / 8**0.5
            return (scores.softmax(-1) @ value).permute(0, 2, 1, 3).reshape(1, -1, 24)

        lent = None  # keys and values of the text layer below
        for depth in range(6):
            layer = model.vision_model.encoder["layers"][depth]
            own, states = layer.self_attn, layer.layer_norm1(vision)
            key, value = heads_of(own.k_proj(states)), heads_of(own.v_proj(states))
            if depth >= 4:
                key, value = (torch.cat(pair, dim=2) for pair in zip(lent, (key, value), strict=True))
            vision = vision + own.out_proj(attend(own.q_proj(states), key, value))
            inner = layer.mlp.fc1(layer.layer_norm2(vision))
            vision = vision + layer.mlp.fc2(inner * torch.sigmoid(1.702 * inner))

            layer = model.text_model.encoder["layer"][depth]
            own = layer.attention.self
            lent = heads_of(own.key(text)), heads_of(own.value(text))
            context = attend(own.query(text), *lent)
            output = layer.attention.output
            text = output.LayerNorm(text + output.dense(context))
            inner = layer.intermediate.dense(text)
            if depth >= 4:
                seen = torch.einsum("btv,bvd->btd", torch.einsum("btd,bvd->btv", context, vision).softmax(-1), vision)
                inner = inner + layer.intermediate.fusion_dense(seen)
            text = layer.output.LayerNorm(text + layer.output.dense(torch.nn.functional.gelu(inner)))
        return text

    @pytest.mark.parametrize("padded", [False, True])
    def test_the_formulas_of_each_row_by_itself(self, model, make_inputs, padded, monkeypatch):
        if padded:
            monkeypatch.setattr("modeling_ifaformer.modeling_ifaformer.values_at_hand", lambda tensor: False)
        # In double precision, since some states are large.
        model = model.double()
        inputs = {name: of.double() if of.is_floating_point() else of for name, of in make_inputs().items()}
        names = ("aux", "rcnn")
        with torch.no_grad():
            states = model(**inputs).last_hidden_state
            crops = {kind: (inputs[f"{kind}_pixel_values"], inputs[f"{kind}_crop_mask"]) for kind in names}
            picture = (inputs["pixel_values"], inputs["image_mask"])
            vision, real = model.vision_model(model.config, 3, *picture, crops)
            for row, length in enumerate([7, 5, 2]):
                text = model.text_model(inputs["input_ids"][row : row + 1, :length], None, None)
                expected = self.expected(model, text, vision[row : row + 1, real[row]])
                torch.testing.assert_close(states[row : row + 1, :length], expected, rtol=0, atol=1e-6)

    @pytest.mark.parametrize("is_autocast", [False, True])
    def test_scores_are_computed_in_float32(self, is_autocast):
        # Two states with scores of 300.5 and 300, which are one number in bfloat16, so that the mean would be halfway.
        queries, states = torch.tensor([[300.0, 1.0]]), torch.tensor([[1.0, 0.5], [1.0, 0.0]])
        if not is_autocast:
            queries, states = queries.bfloat16(), states.bfloat16()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_autocast):
            seen = look_at(queries, states)
        assert seen[0, 1].item() == pytest.approx(0.5 * torch.tensor(0.5).sigmoid().item(), rel=0.01)

    def test_the_upper_third_is_fused(self, make_config):
        for layers, number in ((1, 1), (2, 1), (3, 1), (4, 2), (12, 4)):
            model = IFAformerModel(deep(make_config, layers))
            is_fused = [isinstance(layer, FusedTextLayer) for layer in model.text_model.encoder["layer"]]
            assert is_fused == [False] * (layers - number) + [True] * number
        assert not any(isinstance(layer, FusedTextLayer) for layer in IFAformerModel(make_config()).modules())

    def test_attentions(self, make_config, make_inputs):
        model = IFAformerModel(deep(make_config, 3, attn_implementation="eager")).eval()
        inputs = make_inputs()
        with torch.no_grad():
            outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
            states = model(**inputs).last_hidden_state
        visual = 1 + 9 + 3 * 4 + 2 * 1
        assert [tuple(weights.shape) for weights in outputs.attentions] == [(3, 3, 7, 7)] * 3
        of_vision = [(3, 3, visual, visual)] * 2 + [(3, 3, visual, 7 + visual)]
        assert [tuple(weights.shape) for weights in outputs.image_attentions] == of_vision
        assert len(outputs.image_hidden_states) == 4
        real = inputs["attention_mask"].bool()
        torch.testing.assert_close(outputs.last_hidden_state[real], states[real], rtol=1e-4, atol=1e-5)

    def test_pretrained_towers(self, make_config, tmp_path, caplog):
        config = deep(make_config, 3)
        BertModel(config.text_config).save_pretrained(tmp_path)
        fields = {"vision_config": config.vision_config, "num_aux_crops": 0, "num_rcnn_crops": 0, "num_labels": 5}
        model, info = IFAformerForTokenClassification.from_vision_text_pretrained(
            None, tmp_path, attention_variant="mkgformer", output_loading_info=True, **fields
        )
        layer = "encoder.layer.2.intermediate.fusion_dense"
        assert info["text"] == {"missing_keys": [f"{layer}.bias", f"{layer}.weight"], "unexpected_keys": []}
        assert f"are not in it, and are freshly initialised: {layer}.bias" in caplog.text
        assert 0.01 < model.ifaformer.text_model.get_submodule(layer).weight.std() < 0.03

    def test_it_learns_relations(self, make_config, make_inputs):
        torch.manual_seed(0)
        markers = {"head_marker_token_id": 95, "tail_marker_token_id": 97}
        model = IFAformerForRelationExtraction(deep(make_config, 3, num_labels=4, **markers)).train()
        inputs = make_inputs()
        inputs["input_ids"][:, 0], inputs["input_ids"][:, 1] = 95, 97
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
        losses = []
        for _ in range(20):
            loss = model(**inputs, labels=torch.tensor([0, 3, 1])).loss
            optimizer.zero_grad()
            loss.backward()
            gradients = [of.grad for of in model.parameters() if of.requires_grad]
            assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]
