"""Models of several pictures a text."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from modeling_ifaformer import IFAformerForTokenClassification, IFAformerModel


PAIRS_OF_TOWERS = ("corrected", "mkgformer", "modernbert and siglip", "distilbert and dinov2")


@pytest.fixture
def make_pair(make_config):
    """A model of that kind with `max_images`, in evaluation mode; a seed gives the same weights."""

    def make(kind, max_images, model_class=IFAformerModel, **fields):
        torch.manual_seed(0)
        return model_class(make_config(kind, max_images=max_images, num_labels=5, **fields)).eval()

    return make


def several(inputs, number=2):
    """The same rows with so many pictures, the first ones those of `inputs`, and crops of all pictures."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, number, 3, 24, 24, generator=generator)
    pixels[:, 0] = inputs["pixel_values"]
    mask = torch.tensor([[True] * number, [False] * number, [True] + [False] * (number - 1)])
    return {**inputs, "pixel_values": pixels, "image_mask": mask}


@pytest.mark.parametrize("kind", PAIRS_OF_TOWERS)
def test_one_picture_in_a_list_is_that_picture(make_pair, make_inputs, kind):
    model, inputs = make_pair(kind, 1), make_inputs()
    in_list = {**inputs, "pixel_values": inputs["pixel_values"][:, None], "image_mask": inputs["image_mask"][:, None]}
    with torch.no_grad():
        assert model(**inputs).last_hidden_state.equal(model(**in_list).last_hidden_state)


@pytest.mark.parametrize("kind", PAIRS_OF_TOWERS)
def test_the_order_of_pictures_and_crops_does_not_matter(make_pair, make_inputs, kind):
    model, inputs = make_pair(kind, 3), several(make_inputs(), 3)
    turned = dict(inputs)
    for name in inputs:
        if name.startswith(("pixel", "image", "aux", "rcnn")):
            turned[name] = inputs[name].flip(1)
    with torch.no_grad():
        one, other = model(**inputs).last_hidden_state, model(**turned).last_hidden_state
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)
        without = model(**{**inputs, "image_mask": inputs["image_mask"] & torch.tensor([True, False, False])})
    real = inputs["attention_mask"][0].bool()
    assert (one[0, real] - without.last_hidden_state[0, real]).abs().max() > 1e-3, "each picture counts"


def test_absent_pictures_are_not_looked_at(make_pair, make_inputs):
    model, inputs = make_pair("corrected", 2), several(make_inputs())
    other = {**inputs, "pixel_values": inputs["pixel_values"].clone()}
    other["pixel_values"][~inputs["image_mask"]] = 7.0
    with torch.no_grad():
        assert model(**inputs).last_hidden_state.equal(model(**other).last_hidden_state)
        # A row of one picture is what it is without the place of a second one.
        first = {name: of[:, :1] if name in ("pixel_values", "image_mask") else of for name, of in inputs.items()}
        one, both = (model(**given).last_hidden_state[2] for given in (first, inputs))
    torch.testing.assert_close(one[:2], both[:2], atol=2e-6, rtol=0)


def test_long_texts_are_read_with_all_their_pictures(make_pair, make_inputs):
    model = make_pair("corrected", 2, IFAformerForTokenClassification, text_window=5)
    inputs = several(make_inputs())
    scored = inputs["attention_mask"].bool()
    with torch.no_grad():
        logits = model(**inputs, crf_mask=scored).logits
        inputs["image_mask"][0, 1] = False
        other = model(**inputs, crf_mask=scored).logits
    assert logits.isfinite().all() and (logits[0] - other[0]).abs().max() > 1e-4 and logits[1].equal(other[1])


def test_more_than_the_configuration_allows_are_refused(make_pair, make_inputs, make_config):
    model, inputs = make_pair("corrected", 2), several(make_inputs(), 3)
    with pytest.raises(ValueError, match="pixel_values holds 3 pictures a text, the configuration allows 2"):
        model(**inputs)
    inputs = several(make_inputs(), 2)
    with pytest.raises(ValueError, match=r"image_mask must have shape \(3, 2\), got \(3,\)"):
        model(**{**inputs, "image_mask": inputs["image_mask"][:, 0]})
    crops = torch.zeros(3, 7, 3, 16, 16)
    with pytest.raises(ValueError, match="aux_pixel_values holds 7 crops a text, the configuration allows 6"):
        model(**{**inputs, "aux_pixel_values": crops, "aux_crop_mask": None})
    for kind, number, said in (("corrected", 0, "must be 1 or more, got 0"), ("deepke", 2, "must be 1, got 2")):
        with pytest.raises(StrictDataclassClassValidationError, match=said):
            make_config(kind, max_images=number)


def test_crops_have_the_positions_of_one(make_config):
    assert make_config(max_images=2).num_crop_positions("aux") == make_config(num_aux_crops=1).num_crop_positions(
        "aux"
    )
    assert make_config(max_images=2, num_rcnn_crops=0).num_crop_positions("rcnn") == 0


@pytest.mark.parametrize("system", ["co_attention", "visual_bert", "vilbert", "umt", "hvpnet"])
@torch.no_grad()
def test_baselines_take_several_pictures_in_any_order(baseline, baseline_inputs, system):
    model, inputs = baseline(system, max_images=2), baseline_inputs()
    one = model(**inputs).logits
    second = torch.randn(inputs["pixel_values"].shape, generator=torch.Generator().manual_seed(5))
    both = {**inputs, "pixel_values": torch.stack([inputs["pixel_values"], second], dim=1)}
    mask = inputs["image_mask"]
    both["image_mask"] = torch.stack([mask, torch.zeros_like(mask)], dim=1)
    torch.testing.assert_close(model(**both).logits, one, rtol=1e-4, atol=1e-5)
    both["image_mask"] = torch.stack([mask, mask], dim=1)
    two = model(**both).logits
    turned = {**both, "pixel_values": both["pixel_values"].flip(1)}
    torch.testing.assert_close(model(**turned).logits, two, rtol=1e-4, atol=1e-5)
    assert (two - one)[0].abs().max() > 1e-4


def test_gradients_reach_the_weights_without_any_picture(make_pair, make_inputs):
    model = make_pair("corrected", 2, IFAformerForTokenClassification).train()
    inputs = make_inputs(pictures=False)
    labels = torch.where(inputs["attention_mask"].bool(), 1, -100)
    model(**inputs, labels=labels).loss.backward()
    vision = model.ifaformer.vision_model
    assert vision.embeddings.patch_embedding.weight.grad is not None
    assert vision.embeddings.aux_position_embedding.weight.grad is not None
