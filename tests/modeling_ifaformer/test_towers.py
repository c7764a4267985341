import pytest
import torch
from transformers import CLIPVisionConfig
from transformers.activations import ACT2FN

from modeling_ifaformer import IFAformerModel
from modeling_ifaformer.towers import QuickGELU


def test_patches_are_those_of_the_convolution(make_config, make_inputs):
    convolution = IFAformerModel(make_config()).vision_model.embeddings.patch_embedding
    pixel_values = make_inputs()["pixel_values"][..., :16]  # not square: rows and columns differ
    expected = torch.nn.functional.conv2d(pixel_values, convolution.weight, stride=convolution.stride)
    assert expected.shape == (3, 24, 3, 2)
    torch.testing.assert_close(convolution(pixel_values), expected)


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
