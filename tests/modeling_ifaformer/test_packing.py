import copy

import pytest
import torch

from modeling_ifaformer import IFAformerModel
from modeling_ifaformer.packing import PackedTokens, values_at_hand


VISION = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0], [1, 1, 0, 1]]).bool()  # with holes, as absent crops leave them


def names(kind, mask):
    """(B, L, 1): a number for each position, 10 * row + position + kind."""
    return (10 * torch.arange(len(mask))[:, None] + torch.arange(mask.shape[1]) + kind).unsqueeze(-1).float()


def test_pack_and_unpack():
    tokens, padded = PackedTokens(VISION), names(0.5, VISION)
    assert tokens.pack(padded).flatten().tolist() == [0.5, 2.5, 10.5, 20.5, 21.5, 23.5]
    assert torch.equal(tokens.unpack(tokens.pack(padded)), padded * VISION.unsqueeze(-1))


def test_values_at_hand():
    assert values_at_hand(torch.ones(1)) and not values_at_hand(torch.ones(1, device="meta"))
    compiled = torch.compile(lambda mask: mask if values_at_hand(mask) else mask + 1, backend="eager", fullgraph=True)
    assert compiled(torch.ones(1)) == 2


@pytest.mark.parametrize(
    ("config", "change"),
    [
        ({}, lambda inputs: inputs),
        ({}, lambda inputs: {**inputs, "attention_mask": inputs["attention_mask"].flip(1)}),
        ({}, lambda inputs: {name: values[2:] for name, values in inputs.items()}),
        ({}, lambda inputs: {name: inputs[name] for name in ("input_ids", "attention_mask")}),
        ({"attn_implementation": "eager"}, lambda inputs: inputs),
        ({"vision_attends_text": False}, lambda inputs: inputs),
        ({"kind": "mkgformer"}, lambda inputs: inputs),
        ({"kind": "modernbert and siglip"}, lambda inputs: inputs),
        ({"kind": "distilbert and dinov2"}, lambda inputs: inputs),
        ({"kind": "electra and vit"}, lambda inputs: inputs),
        ({"kind": "bert and a deeper clip"}, lambda inputs: inputs),
    ],
    ids=lambda of: str(of) if isinstance(of, dict) else "",
)
def test_packed_and_padded_agree(make_config, make_inputs, config, change, monkeypatch):
    torch.manual_seed(0)
    model = IFAformerModel(make_config(initializer_range=0.2, **config)).eval()
    inputs = make_inputs()
    inputs["aux_crop_mask"] = torch.tensor([[False, True, True], [True, False, True], [False, False, True]])
    inputs = change(inputs)
    real = inputs["attention_mask"].bool()

    def run():
        model.zero_grad()
        states = model(**inputs).last_hidden_state
        states[real].square().sum().backward()
        return states, {name: of.grad for name, of in model.named_parameters() if of.grad is not None}

    packed, packed_gradients = run()
    monkeypatch.setattr("modeling_ifaformer.modeling_ifaformer.values_at_hand", lambda tensor: False)
    monkeypatch.setattr("modeling_ifaformer.towers.values_at_hand", lambda tensor: False)
    padded, gradients = run()
    torch.testing.assert_close(packed[real], padded[real], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed_gradients, gradients, rtol=1e-4, atol=1e-4)
    assert not packed[~real].any() and (real.all() or padded[~real].abs().max() > 0)


def test_attention_weights_are_dropped_in_training(make_config, make_inputs):
    config = make_config()
    config.text_config.hidden_dropout_prob = 0.0
    config.text_config.attention_probs_dropout_prob = 0.9
    model, inputs = IFAformerModel(config).train(), make_inputs()
    assert not torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    model.eval()
    assert torch.equal(model(**inputs).last_hidden_state, model(**inputs).last_hidden_state)


def test_only_what_is_real_is_computed(make_config, make_inputs):
    model = IFAformerModel(make_config()).eval()
    computed = {}
    towers = {"text": model.text_model.encoder.layer, "vision": model.vision_model.encoder.layers}
    for name, layers in towers.items():
        layers[1].register_forward_hook(lambda layer, inputs, output, name=name: computed.update({name: inputs[0]}))
    inputs = make_inputs()
    model(**inputs)
    # class tokens, 9 patches of each picture, 4 of each aux crop, 1 of each rcnn crop
    visual = 3 + 2 * 9 + 5 * 4 + 3 * 1
    assert {name: tuple(states.shape) for name, states in computed.items()} == {
        "text": (14, 24),
        "vision": (visual, 24),
    }


def test_absent_crops_are_not_embedded(make_config, make_inputs):
    model = IFAformerModel(make_config()).eval()
    embeddings = model.vision_model.embeddings
    embedded = []
    embeddings.patch_embedding.register_forward_pre_hook(lambda module, pixels: embedded.append(len(pixels[0])))
    inputs = make_inputs()
    expected = model(**inputs).last_hidden_state
    assert embedded == [2, 5, 3]  # pictures, aux crops, rcnn crops
    changed = copy.deepcopy(inputs)
    changed["pixel_values"][~inputs["image_mask"]] = torch.nan
    changed["aux_pixel_values"][~inputs["aux_crop_mask"]] = torch.nan
    assert torch.equal(model(**changed).last_hidden_state, expected)
