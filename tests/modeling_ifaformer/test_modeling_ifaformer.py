import copy

import accelerate
import pytest
import torch
from torch.torch_version import TorchVersion
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, RobertaConfig, XLMRobertaConfig

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification, IFAformerModel
from modeling_ifaformer.crf import LinearChainCRF


LABELS = {"id2label": dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))}
MARKERS = {"head_marker_token_id": 95, "tail_marker_token_id": 97}
PAIRS = ["modernbert and siglip", "distilbert and dinov2", "electra and vit", "bert and a deeper clip"]
WITHOUT_DEEPKE = ["corrected", "mkgformer", *PAIRS]
KINDS = ["deepke", *WITHOUT_DEEPKE]
MASKS = {"pixel_values": "image_mask", "aux_pixel_values": "aux_crop_mask", "rcnn_pixel_values": "rcnn_crop_mask"}


def make_model(config, model_class=IFAformerForTokenClassification, seed=0):
    """A model in evaluation mode whose every parameter matters: no zero biases, no unit norms."""
    torch.manual_seed(seed)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def crf_mask(inputs):
    mask = inputs["attention_mask"].bool().clone()
    mask[:, 0] = False
    mask[0, 3] = False  # a hole: the second piece of a word
    return mask


def emissions(model, inputs):
    return model(**inputs, crf_mask=crf_mask(inputs)).logits


def assert_same_tokens(actual, expected, inputs, **tolerance):
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(actual[real], expected[real], **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


def changes(first, second, inputs):
    real = inputs["attention_mask"].bool()
    return (first - second)[real].abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_eager_and_sdpa_agree(make_config, make_inputs, kind):
    inputs = make_inputs()
    eager, sdpa = (
        make_model(make_config(kind=kind, attn_implementation=implementation, **LABELS))
        for implementation in ("eager", "sdpa")
    )
    assert sdpa.ifaformer.vision_model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(emissions(eager, inputs), emissions(sdpa, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", WITHOUT_DEEPKE)
class TestWhatIsThereAlone:
    def test_a_sentence_does_not_depend_on_its_batch(self, make_config, make_inputs, kind):
        inputs = make_inputs()
        model = make_model(make_config(kind=kind, **LABELS))
        together = emissions(model, inputs)
        for row, length in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
            alone = {name: value[row : row + 1] for name, value in inputs.items()}
            for name in ("input_ids", "attention_mask"):
                alone[name] = alone[name][:, :length]
            # absent pictures and crops are not only masked but gone
            for name, mask in MASKS.items():
                number = int(alone[mask].sum())
                if number == 0:
                    del alone[name], alone[mask]
                elif mask != "image_mask":
                    alone[name], alone[mask] = alone[name][:, :number], alone[mask][:, :number]
            torch.testing.assert_close(
                model.ifaformer(**alone).last_hidden_state[0],
                model.ifaformer(**inputs).last_hidden_state[row, :length],
                rtol=1e-4,
                atol=1e-5,
            )
            assert together.shape == (3, 7, 5)

    def test_every_picture_and_crop_is_looked_at(self, make_config, make_inputs, kind):
        model = make_model(make_config(kind=kind, **LABELS))
        inputs = make_inputs()
        before = emissions(model, inputs)
        for name, place in (("pixel_values", (0,)), ("aux_pixel_values", (2, 2)), ("rcnn_pixel_values", (1, 1))):
            changed = copy.deepcopy(inputs)
            changed[name][place] += 1.0
            after = emissions(model, changed)
            assert (after - before)[place[0]].abs().max() > 1e-4, name

    def test_absent_pictures_and_crops_are_not(self, make_config, make_inputs, kind):
        model = make_model(make_config(kind=kind, **LABELS))
        inputs = make_inputs()
        changed = copy.deepcopy(inputs)
        for name, mask in MASKS.items():
            changed[name][~inputs[mask]] = 7.0
        assert_same_tokens(emissions(model, changed), emissions(model, inputs), inputs)

    def test_without_masks_all_is_real(self, make_config, make_inputs, kind):
        model = make_model(make_config(kind=kind, **LABELS))
        inputs = make_inputs()
        full = {name: torch.ones_like(value) if name.endswith("mask") else value for name, value in inputs.items()}
        none = {name: value for name, value in full.items() if not name.endswith("mask")}
        torch.testing.assert_close(
            model.ifaformer(**none).last_hidden_state, model.ifaformer(**full).last_hidden_state, rtol=1e-4, atol=1e-5
        )


class TestDeepkeVariant:
    """Quirks of the published code, each of which a well-meant change would mend."""

    def test_padding_changes_the_result(self, make_config, make_inputs):
        model = make_model(make_config(attention_variant="deepke", **LABELS)).ifaformer
        inputs = make_inputs()
        padded = {
            **inputs,
            **{name: torch.nn.functional.pad(inputs[name], (0, 4)) for name in ("input_ids", "attention_mask")},
        }
        before, after = model(**inputs).last_hidden_state, model(**padded).last_hidden_state[:, :7]
        assert changes(before, after, inputs)

    def test_the_whole_image_is_not_looked_at(self, make_config, make_inputs):
        model = make_model(make_config(attention_variant="deepke", **LABELS))
        inputs = make_inputs()
        changed = {**inputs, "pixel_values": inputs["pixel_values"] + 1}
        assert torch.equal(emissions(model, inputs), emissions(model, changed))

    def test_absent_crops_are_zero_images_that_are_attended_to(self, make_config, make_inputs):
        model = make_model(make_config(attention_variant="deepke", **LABELS))
        inputs = make_inputs()
        del inputs["pixel_values"], inputs["image_mask"]
        without = {name: value for name, value in inputs.items() if not name.startswith(("aux", "rcnn"))}
        zeros = dict(inputs)
        for kind in ("aux", "rcnn"):
            zeros[f"{kind}_pixel_values"] = torch.zeros_like(inputs[f"{kind}_pixel_values"])
            zeros[f"{kind}_crop_mask"] = torch.ones_like(inputs[f"{kind}_crop_mask"])
        torch.testing.assert_close(emissions(model, without), emissions(model, zeros))
        masked = copy.deepcopy(inputs)
        for kind in ("aux", "rcnn"):
            masked[f"{kind}_pixel_values"] *= inputs[f"{kind}_crop_mask"][:, :, None, None, None]
            del masked[f"{kind}_crop_mask"]
        torch.testing.assert_close(emissions(model, inputs), emissions(model, masked))
        with torch.no_grad():
            model.ifaformer.vision_model.embeddings.aux_position_embedding.weight += 1
        assert changes(emissions(model, without), emissions(model, zeros) * 0, inputs)


@pytest.mark.parametrize("kind", KINDS)
class TestAblations:
    def test_without_text_attention_pictures_change_nothing_and_cost_nothing(self, make_config, make_inputs, kind):
        model = make_model(make_config(kind=kind, text_attends_vision=False, **LABELS))
        inputs = make_inputs()
        text_only = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        model.ifaformer.vision_model.embeddings.register_forward_hook(_fail)
        assert torch.equal(emissions(model, inputs), emissions(model, text_only))

    def test_without_text_attention_it_is_the_text_model(self, make_config, make_inputs, kind):
        eager = {"attn_implementation": "eager"}
        model = make_model(make_config(kind=kind, text_attends_vision=False, **eager, **LABELS)).ifaformer
        stock = AutoModel.from_config(model.config.text_config).eval()
        weights = model.text_model.state_dict()
        stock.load_state_dict({name: value for name, value in weights.items() if "fusion_dense" not in name})
        inputs = make_inputs(pictures=False)
        ours, theirs = model(**inputs, output_attentions=True, output_hidden_states=True), stock(**inputs)
        assert ours.hidden_states and ours.attentions
        assert ours.image_hidden_states is None and ours.image_attentions is None
        assert_same_tokens(ours.last_hidden_state, theirs.last_hidden_state, inputs)
        if "pooler_output" in theirs:
            torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, rtol=1e-4, atol=1e-5)
        else:
            assert ours.pooler_output is None

    def test_each_direction_matters(self, make_config, make_inputs, kind):
        inputs = make_inputs()
        config = {"kind": kind, **LABELS}
        both, no_vision_attention, no_text_attention = (
            emissions(make_model(make_config(**config, **ablation)), inputs)
            for ablation in ({}, {"vision_attends_text": False}, {"text_attends_vision": False})
        )
        assert changes(both, no_vision_attention, inputs)
        assert changes(both, no_text_attention, inputs)
        assert changes(no_vision_attention, no_text_attention, inputs)


def _fail(*args):
    raise AssertionError("work that reaches no output was done")


@pytest.mark.parametrize("kind", ["corrected", *PAIRS])
def test_vision_tower_alone_is_the_library_s(make_config, make_inputs, kind):
    """Without text, crops and prefix: hidden states of all layers."""
    config = make_config(vision_attends_text=False, attn_implementation="eager", kind=kind)
    model = make_model(config, IFAformerModel)
    stock = AutoModel.from_config(model.config.vision_config).eval()
    weights = model.vision_model.state_dict()
    loaded = stock.load_state_dict(
        {name: weights[name] for name in weights if "aux" not in name and "rcnn" not in name}, strict=False
    )
    assert not loaded.unexpected_keys and all(name.startswith("pooler") for name in loaded.missing_keys)
    pixel_values = make_inputs()["pixel_values"]
    ours = model(make_inputs()["input_ids"], pixel_values=pixel_values, output_hidden_states=True).image_hidden_states
    theirs = stock(pixel_values, output_hidden_states=True).hidden_states
    assert len(ours) == len(theirs) == model.config.vision_config.num_hidden_layers + 1
    for our_states, their_states in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_states, their_states, rtol=1e-4, atol=1e-5)


def test_nothing_is_computed_that_reaches_no_output(make_config, make_inputs):
    model = make_model(make_config(**LABELS))
    last = model.ifaformer.vision_model.encoder.layers[-1]
    for module in (last.self_attn.q_proj, last.self_attn.out_proj, last.mlp, model.ifaformer.text_model.pooler):
        module.register_forward_hook(_fail)
    model.ifaformer.vision_model.post_layernorm.register_forward_hook(_fail)
    inputs = make_inputs()
    emissions(model, inputs)
    with pytest.raises(AssertionError, match="reaches no output"):  # the hook would see it
        model.ifaformer(**inputs, output_hidden_states=True)


def test_hidden_states_and_attentions_of_both_towers(make_config, make_inputs):
    model = make_model(make_config(attn_implementation="eager", **LABELS))
    inputs = make_inputs()
    outputs = model(**inputs, crf_mask=crf_mask(inputs), output_hidden_states=True, output_attentions=True)
    visual = 1 + 9 + 3 * 4 + 2 * 1
    assert [tuple(states.shape) for states in outputs.hidden_states] == [(3, 7, 24)] * 4
    assert [tuple(states.shape) for states in outputs.image_hidden_states] == [(3, visual, 24)] * 4
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(3, 3, 7, visual + 7)] * 3
    assert [tuple(weights.shape) for weights in outputs.image_attentions] == [(3, 3, visual, 7 + visual)] * 3
    assert_same_tokens(outputs.logits, emissions(model, inputs), inputs)
    text_on_padding = outputs.attentions[0][1, :, :, visual + 5 :]
    assert text_on_padding.abs().max() == 0
    assert model(**inputs, crf_mask=crf_mask(inputs)).attentions is None


def test_sdpa_has_no_attentions(make_config, make_inputs, caplog):
    """As with the library's models: a warning, and nothing where the attentions would be."""
    model = make_model(make_config(attn_implementation="sdpa"), IFAformerModel)
    with caplog.at_level("WARNING"):
        outputs = model(**make_inputs(), output_attentions=True)
    assert "output_attentions needs attn_implementation='eager', the model has 'sdpa'" in caplog.text
    assert outputs.attentions == outputs.image_attentions == ()
    assert_same_tokens(outputs.last_hidden_state, model(**make_inputs()).last_hidden_state, make_inputs())


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_in_the_place_of_ids(make_config, make_inputs, kind):
    config = make_config(num_labels=5, kind=kind, label_scheme="deepke", **MARKERS)
    ids = make_inputs()
    ids["input_ids"][:, 0], ids["input_ids"][:, 1] = 95, 97
    for model_class in (IFAformerModel, IFAformerForTokenClassification, IFAformerForRelationExtraction):
        model = make_model(config, model_class)
        embeds = {name: value for name, value in ids.items() if name != "input_ids"}
        embeds["inputs_embeds"] = model.get_input_embeddings()(ids["input_ids"])
        assert torch.equal(model(**embeds)[0], model(**ids)[0])
        for wrong in ({**embeds, **ids}, {"attention_mask": ids["attention_mask"]}):
            with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
                model(**wrong)
        if kind == "deepke" or model_class is not IFAformerForTokenClassification:  # which else reads it in windows
            with pytest.raises(ValueError, match="51 tokens, the text tower has positions for 50"):
                model(inputs_embeds=torch.ones(1, 51, model.get_input_embeddings().embedding_dim))
    embeds["inputs_embeds"][1, 0] += 1
    with pytest.raises(ValueError, match=r"Rows \[1\] do not hold the head marker"):
        model(**embeds)


@pytest.mark.parametrize("kind", ["corrected", "modernbert and siglip", "electra and vit"])
def test_shapes_of_words(make_config, make_inputs, kind):
    """They change nothing at first, and then what is read at each token, with ids and with embeddings."""
    inputs, shapes = make_inputs(), torch.arange(21).view(3, 7) % 10
    model, plain = (IFAformerModel(make_config(kind, word_shapes=has_shapes)).eval() for has_shapes in (True, False))
    missing, unexpected = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing == [] and unexpected == ["text_model.embeddings.word_shape_embeddings.weight"]
    expected = plain(**inputs).last_hidden_state
    assert_same_tokens(model(**inputs, word_shape_ids=shapes).last_hidden_state, expected, inputs)
    with torch.no_grad():
        model.text_model.embeddings.word_shape_embeddings.weight.normal_()
    with_shapes = model(**inputs, word_shape_ids=shapes).last_hidden_state
    assert changes(with_shapes, expected, inputs)
    other = shapes.clone()
    other[1, 3] = (other[1, 3] + 1) % 10
    changed = model(**inputs, word_shape_ids=other).last_hidden_state
    assert torch.equal(changed[[0, 2]], with_shapes[[0, 2]]) and not torch.equal(changed[1], with_shapes[1])
    embeds = {**inputs, "inputs_embeds": model.get_input_embeddings()(inputs.pop("input_ids"))}
    del embeds["input_ids"]
    assert torch.equal(model(**embeds, word_shape_ids=shapes).last_hidden_state, with_shapes)
    with pytest.raises(ValueError, match="word_shape_ids are needed, since the configuration has word_shapes=True"):
        model(**embeds)


@pytest.mark.parametrize("config_class", [RobertaConfig, XLMRobertaConfig])
def test_shapes_of_words_with_padding_on_the_left(make_config, make_inputs, config_class):
    """RoBERTa counts positions from the first real token, also where embeddings stand in for ids."""
    size = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3, "intermediate_size": 37}
    text_config = config_class(vocab_size=99, max_position_embeddings=50, pad_token_id=0, **size)
    model = make_model(make_config(text_config=text_config, word_shapes=True), IFAformerModel)
    inputs, shapes = make_inputs(), torch.arange(21).view(3, 7) % 10
    flipped = {**inputs, "attention_mask": inputs["attention_mask"].flip(1)}
    flipped["input_ids"] = torch.zeros_like(inputs["input_ids"])
    left_shapes = torch.zeros_like(shapes)
    for row, length in enumerate(inputs["attention_mask"].sum(dim=1).tolist()):
        flipped["input_ids"][row, 7 - length :] = inputs["input_ids"][row, :length]
        left_shapes[row, 7 - length :] = shapes[row, :length]
    left = model(**flipped, word_shape_ids=left_shapes).last_hidden_state[flipped["attention_mask"].bool()]
    right = model(**inputs, word_shape_ids=shapes).last_hidden_state[inputs["attention_mask"].bool()]
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def used_modules(model, call):
    """Names of the modules that hold parameters and that were called."""
    used, hooks = set(), []
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: used.add(name)))
    call()
    for hook in hooks:
        hook.remove()
    return used


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model_class", [IFAformerForTokenClassification, IFAformerForRelationExtraction])
def test_parameters_are_read_by_calls_of_their_modules(make_config, make_inputs, model_class, kind):
    """Else offloaded weights are not there, adapters have no effect, and hooks are silent."""
    config = make_config(num_labels=5, kind=kind, label_scheme="deepke", **MARKERS)
    model, inputs = make_model(config, model_class), make_inputs()
    inputs["input_ids"][:, 0], inputs["input_ids"][:, 1] = 95, 97
    used = used_modules(model, lambda: model(**inputs))
    trained = {name.rpartition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained <= used
    expected = model(**inputs).logits
    for name in trained:
        if name.endswith("embedding"):
            hook = model.get_submodule(name).register_forward_hook(lambda module, inputs, output: output * 2)
            assert not torch.equal(model(**inputs).logits, expected), name
            hook.remove()


@pytest.mark.parametrize("model_class", [IFAformerForTokenClassification, IFAformerForRelationExtraction])
def test_offloaded_weights(make_config, make_inputs, model_class, tmp_path):
    model = make_model(make_config(num_labels=5, label_scheme="deepke", **MARKERS), model_class)
    inputs = make_inputs()
    inputs["input_ids"][:, 0], inputs["input_ids"][:, 1] = 95, 97
    expected = model(**inputs)
    offloaded = accelerate.disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in offloaded.parameters()} == {"meta"}
    actual = offloaded(**inputs)
    assert torch.equal(actual.logits, expected.logits)
    if "tag_ids" in expected:
        mask = inputs["attention_mask"].bool()
        assert torch.equal(actual.tag_ids, expected.tag_ids)
        assert offloaded.crf.marginals(actual.logits, mask).sum(dim=-1).allclose(mask.float())


def test_return_tuple(make_config, make_inputs):
    model = make_model(make_config(**LABELS))
    inputs = make_inputs()
    logits, tag_ids = model(**inputs, crf_mask=crf_mask(inputs), return_dict=False)
    assert torch.equal(logits, emissions(model, inputs))
    assert tag_ids.shape == (3, 7)


def test_configuration_that_asks_for_tuples(make_config, make_inputs):
    model = make_model(make_config(return_dict=False, **LABELS))
    inputs = make_inputs()
    logits, tag_ids = model(**inputs, crf_mask=crf_mask(inputs))
    assert logits.shape == (3, 7, 5) and tag_ids.shape == (3, 7)


class TestTokenClassification:
    def test_loss_and_tags_are_the_crf_s(self, make_config, make_inputs):
        model = make_model(make_config(**LABELS))
        inputs = make_inputs()
        mask = crf_mask(inputs)
        labels = torch.randint(0, 5, (3, 7)).masked_fill(~mask, -100)
        outputs = model(**inputs, labels=labels)  # the mask follows from the labels
        expected = -model.crf(outputs.logits, labels, mask).mean()
        torch.testing.assert_close(outputs.loss, expected)
        assert torch.equal(outputs.tag_ids, model.crf.viterbi_decode(outputs.logits, mask))
        assert torch.equal(outputs.tag_ids == -100, ~mask)
        model.config.calibration_temperature = 2.0
        tempered = model(**inputs, labels=labels)
        assert torch.equal(tempered.logits, outputs.logits) and torch.equal(tempered.tag_ids, outputs.tag_ids)
        assert tempered.loss < outputs.loss, "random labels are less unlikely"

    def test_no_decoding_while_training(self, make_config, make_inputs, monkeypatch):
        model = make_model(make_config(**LABELS)).train()
        monkeypatch.setattr(LinearChainCRF, "viterbi_decode", _fail)
        inputs = make_inputs()
        labels = torch.zeros(3, 7, dtype=torch.long).masked_fill(~crf_mask(inputs), -100)
        outputs = model(**inputs, labels=labels)
        assert outputs.tag_ids is None
        outputs.loss.backward()

    def test_without_mask_and_labels(self, make_config, make_inputs):
        inputs = make_inputs()
        with pytest.raises(ValueError, match="Pass the crf_mask that the processor returns"):
            make_model(make_config(**LABELS))(**inputs)
        outputs = make_model(make_config(label_scheme="deepke", **LABELS))(**inputs)
        assert torch.equal(outputs.tag_ids != -100, inputs["attention_mask"].bool())

    def test_unknown_label(self, make_config, make_inputs):
        model = make_model(make_config(**LABELS))
        with pytest.raises(ValueError, match=r"expected values in \[0, 5\) where mask is True, got \[5\]"):
            model(**make_inputs(), labels=torch.full((3, 7), 5))

    def test_row_without_a_scored_position(self, make_config, make_inputs):
        model = make_model(make_config(**LABELS))
        mask = crf_mask(make_inputs())
        mask[2] = False
        with pytest.raises(ValueError, match=r"nothing is scored in rows \[2\]"):
            model(**make_inputs(), crf_mask=mask)


class TestRelationExtraction:
    def inputs(self, make_inputs):
        inputs = make_inputs()
        inputs["input_ids"][:, 0] = 95
        inputs["input_ids"][:, 1] = 97
        inputs["input_ids"][0, [1, 5]] = inputs["input_ids"][0, [5, 1]]
        return inputs

    def test_logits_read_the_hidden_states_at_the_markers(self, make_config, make_inputs):
        model = make_model(make_config(num_labels=6, **MARKERS), IFAformerForRelationExtraction)
        inputs = self.inputs(make_inputs)
        outputs = model(**inputs, labels=torch.tensor([0, 5, 2]))
        states = model.ifaformer(**inputs).last_hidden_state
        expected = model.classifier(torch.cat([states[[0, 1, 2], 0], states[[0, 1, 2], [5, 1, 1]]], dim=1))
        torch.testing.assert_close(outputs.logits, expected)
        torch.testing.assert_close(outputs.loss, torch.nn.functional.cross_entropy(expected, torch.tensor([0, 5, 2])))
        model.config.calibration_temperature = 2.0
        assert torch.equal(model(**inputs).logits, outputs.logits / 2)

    def test_what_is_refused(self, make_config, make_inputs):
        model = make_model(make_config(num_labels=6, **MARKERS), IFAformerForRelationExtraction)
        inputs = self.inputs(make_inputs)
        with pytest.raises(ValueError, match=r"labels must be in 0\.\.5, got \[6\]"):
            model(**inputs, labels=torch.tensor([0, 6, 2]))
        inputs["input_ids"][1, 0] = 3
        with pytest.raises(ValueError, match=r"Rows \[1\] do not hold the head marker \(token id 95\) exactly once"):
            model(**inputs)
        unmarked = make_model(make_config(num_labels=6), IFAformerForRelationExtraction)
        with pytest.raises(ValueError, match="no head_marker_token_id"):
            unmarked(**inputs)
        with pytest.raises(ValueError, match=r"there is one relation.* got 'multi_label_classification'"):
            IFAformerForRelationExtraction(make_config(problem_type="multi_label_classification"))


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("aux_pixel_values", (3, 4, 3, 16, 16), r"holds 4 crops a picture, the configuration allows 3"),
            ("aux_pixel_values", (3, 3, 3, 8, 8), r"must have shape \(3, 3, 3, 16, 16\), got \(3, 3, 3, 8, 8\)"),
            ("rcnn_pixel_values", (3, 3, 8, 8), r"must have shape \(3, 'number of crops', 3, 8, 8\)"),
            ("pixel_values", (3, 3, 32, 32), r"must have shape \(3, 3, 24, 24\), got \(3, 3, 32, 32\)"),
            ("pixel_values", (2, 3, 24, 24), r"must have shape \(3, 3, 24, 24\), got \(2, 3, 24, 24\)"),
            ("aux_crop_mask", (3, 2), r"must have shape \(3, 3\), got \(3, 2\)"),
            ("image_mask", (3, 1), r"must have shape \(3,\), got \(3, 1\)"),
        ],
    )
    def test_pixels_and_masks_of_the_wrong_shape(self, make_config, make_inputs, name, value, message):
        model = make_model(make_config(), IFAformerModel)
        with pytest.raises(ValueError, match=f"^{name} {message}"):
            model(**{**make_inputs(), name: torch.ones(value)})

    @pytest.mark.parametrize("name", ["pixel_values", "aux_pixel_values", "rcnn_pixel_values"])
    def test_pixels_that_were_not_normalised(self, make_config, make_inputs, name):
        inputs = make_inputs()
        with pytest.raises(ValueError, match=rf"^{name} holds uint8 pixels\. .*data_collator normalises them"):
            make_model(make_config(), IFAformerModel)(**{**inputs, name: inputs[name].to(torch.uint8)})

    def test_text_longer_than_the_positions(self, make_config):
        with pytest.raises(ValueError, match="51 tokens, the text tower has positions for 50"):
            make_model(make_config(), IFAformerModel)(torch.ones(1, 51, dtype=torch.long))

    def test_roberta_positions_start_behind_the_padding(self, make_config):
        size = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3}
        text_config = RobertaConfig(vocab_size=99, max_position_embeddings=50, pad_token_id=1, **size)
        model = make_model(make_config(text_config=text_config), IFAformerModel)
        model(torch.full((1, 48), 5))
        with pytest.raises(ValueError, match="49 tokens, the text tower has positions for 48"):
            model(torch.full((1, 49), 5))

    def test_attention_mask(self, make_config, make_inputs):
        model, inputs = make_model(make_config(), IFAformerModel), make_inputs()
        with pytest.raises(ValueError, match=r"shape of input_ids, \(3, 7\), got \(3, 6\)"):
            model(**{**inputs, "attention_mask": torch.ones(3, 6)})
        inputs["attention_mask"][1] = 0
        with pytest.raises(ValueError, match=r"attention_mask is all zeros in rows \[1\]"):
            model(**inputs)


class TestTraining:
    def loss_and_gradients(self, model, inputs):
        labels = torch.ones(3, 7, dtype=torch.long).masked_fill(~crf_mask(inputs), -100)
        model.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        return loss, {name: parameter.grad for name, parameter in model.named_parameters()}

    def without_dropout(self, make_config, **kwargs):
        config = make_config(classifier_dropout=0, **kwargs, **LABELS)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
            if hasattr(config.text_config, name):
                setattr(config.text_config, name, 0.0)
        return make_model(config).train()

    def test_what_reaches_no_loss_is_not_trained(self, make_config, make_inputs):
        model = self.without_dropout(make_config)
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        last = "ifaformer.vision_model.encoder.layers.2"
        silent = ("self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2", "layer_norm2")
        expected = {f"{last}.{module}.{part}" for module in silent for part in ("weight", "bias")}
        expected |= {f"ifaformer.vision_model.post_layernorm.{part}" for part in ("weight", "bias")}
        expected |= {f"ifaformer.text_model.pooler.dense.{part}" for part in ("weight", "bias")}
        assert frozen == expected
        _, gradients = self.loss_and_gradients(model.requires_grad_(True), make_inputs())
        without = {name for name, gradient in gradients.items() if gradient is None or not gradient.abs().max() > 0}
        # a bias of the keys shifts all scores of a query alike, where all keys come from one projection
        assert without == expected
        assert all(parameter.requires_grad for parameter in IFAformerModel(make_config()).parameters())

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"attention_variant": "deepke"},
            {"text_attends_vision": False},
            {"vision_attends_text": False},
            {"use_whole_image": False},
            {"num_aux_crops": 0, "num_rcnn_crops": 0},
            {"attention_variant": "deepke", "num_aux_crops": 0, "num_rcnn_crops": 0},
            {"attention_variant": "mkgformer"},
            {"attention_variant": "mkgformer", "text_attends_vision": False},
            {"attention_variant": "mkgformer", "vision_attends_text": False},
            *({"kind": kind} for kind in PAIRS),
            *({"kind": kind, "use_whole_image": False} for kind in PAIRS),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("model_class", [IFAformerForTokenClassification, IFAformerForRelationExtraction])
    def test_every_trainable_parameter_gets_a_gradient(self, make_config, make_inputs, model_class, options):
        """Of every batch, with and without pictures: processes that train together wait for it."""
        for depth in (1, 2):
            config = make_config(num_labels=5, **MARKERS, **options)
            config.text_config.num_hidden_layers = depth
            if "kind" not in options:
                config.vision_config.num_hidden_layers = depth
            model = make_model(config, model_class).train()
            full = make_inputs()
            full["input_ids"][:, 0], full["input_ids"][:, 1] = 95, 97
            if config.num_aux_crops == 0:
                full = {name: value for name, value in full.items() if not name.startswith(("aux", "rcnn"))}
            text = {name: full[name] for name in ("input_ids", "attention_mask")}
            absent = {name: value & False if name in MASKS.values() else value for name, value in full.items()}
            for inputs in (full, absent, text, {**text, "pixel_values": full["pixel_values"]}):
                labels = torch.ones(3, 7) if model_class is IFAformerForTokenClassification else torch.ones(3)
                model.zero_grad()
                model(**inputs, labels=labels.long()).loss.backward()
                lacking = [
                    name for name, value in model.named_parameters() if value.requires_grad and value.grad is None
                ]
                assert lacking == []

    @pytest.mark.parametrize("kind", WITHOUT_DEEPKE)
    @pytest.mark.parametrize("reentrant", [False, True])
    @pytest.mark.parametrize("pictures", [False, True])
    def test_gradient_checkpointing(self, make_config, make_inputs, reentrant, pictures, kind):
        model, inputs = self.without_dropout(make_config, kind=kind), make_inputs(pictures)
        loss, gradients = self.loss_and_gradients(model, inputs)
        # its name before transformers 5.23
        enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
        enable({"use_reentrant": reentrant})
        calls = []
        layer = model.ifaformer.text_model.layers[0]
        norm = next(module for module in layer.modules() if isinstance(module, torch.nn.LayerNorm))
        norm.register_forward_hook(lambda *args: calls.append(1))
        again, checkpointed = self.loss_and_gradients(model, inputs)
        assert len(calls) == 2  # once more in the backward pass
        torch.testing.assert_close(again, loss)
        for name, gradient in gradients.items():
            torch.testing.assert_close(checkpointed[name], gradient, msg=name)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize(
        ("kind", "implementation"), [("corrected", "eager"), *((kind, "sdpa") for kind in WITHOUT_DEEPKE)]
    )
    def test_autocast(self, make_config, make_inputs, dtype, kind, implementation):
        model = self.without_dropout(make_config, kind=kind, attn_implementation=implementation)
        loss, _ = self.loss_and_gradients(model, make_inputs())
        with torch.autocast("cpu", dtype=dtype):
            lower, gradients = self.loss_and_gradients(model, make_inputs())
        assert lower.dtype == torch.float32
        torch.testing.assert_close(lower, loss, rtol=0.05, atol=0.05)
        assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)

    @pytest.mark.skipif(
        torch.__version__ < TorchVersion("2.13"), reason="torch 2.8 breaks the graph, and 2.13 does not"
    )
    @pytest.mark.parametrize("kind", KINDS)
    def test_compile_without_graph_breaks(self, make_config, make_inputs, kind):
        model = make_model(make_config(kind=kind, **LABELS))
        inputs = make_inputs()
        mask = crf_mask(inputs)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        expected, actual = model(**inputs, crf_mask=mask), compiled(**inputs, crf_mask=mask)
        assert_same_tokens(actual.logits, expected.logits, inputs)
        assert torch.equal(actual.tag_ids, expected.tag_ids)


def test_export_with_any_number_of_rows(make_config, make_inputs):
    config = make_config(num_labels=5, **MARKERS)
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 2
    model, inputs = make_model(config, IFAformerForRelationExtraction), make_inputs()
    inputs["input_ids"][:, 0], inputs["input_ids"][:, 1] = 95, 97
    rows = torch.export.Dim("rows", min=2, max=64)
    exported = torch.export.export(
        model, (), inputs, dynamic_shapes={name: {0: rows} for name in inputs}, strict=False
    )
    more = {name: torch.cat([value, value[:1]]) for name, value in inputs.items()}
    torch.testing.assert_close(exported.module()(**more)["logits"], model(**more).logits, rtol=1e-4, atol=1e-5)


class NoSynchronisation(TorchDispatchMode):
    """Fails on what would make an accelerator wait."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function._overloadpacket not in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero), function
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", WITHOUT_DEEPKE)
def test_forward_on_an_accelerator_does_not_synchronise(make_config, make_inputs, kind):
    """On the meta device, which like CUDA has no values to read on the host."""
    with torch.device("meta"):
        model = IFAformerForTokenClassification(make_config(kind=kind, **LABELS)).eval()
    inputs = {name: value.to("meta") for name, value in make_inputs().items()}
    with NoSynchronisation():
        outputs = model(**inputs, crf_mask=inputs["attention_mask"].bool())
    assert outputs.tag_ids.shape == (3, 7)
