import copy

import accelerate
import pytest
import torch
from torch._dynamo.exc import Unsupported
from torch.torch_version import TorchVersion
from transformers import AutoModelForTokenClassification, PreTrainedModel
from transformers.utils import logging

from modeling_ifaformer import BaselineForTokenClassification
from modeling_ifaformer.configuration_baseline import SYSTEMS
from modeling_ifaformer.crf import LinearChainCRF
from modeling_ifaformer.modeling_baseline import grid_boxes, span_mixing


CLOSE = {"rtol": 1e-4, "atol": 1e-5}
MULTIMODAL = tuple(system for system in SYSTEMS if system != "cnn_bilstm")
# A system with each vision tower that it takes
TOWERS = [
    (system, vision) for system in SYSTEMS for vision in ("resnet", "clip") if (system, vision) != ("hvpnet", "clip")
]


def rows_of(inputs, row):
    """One row, without padding; absent pictures and crops are not only masked but gone."""
    alone = {name: value[row : row + 1] for name, value in inputs.items()}
    length = int(inputs["attention_mask"][row].sum())
    for name in {"input_ids", "attention_mask", "crf_mask", "byte_ids"} & alone.keys():
        alone[name] = alone[name][:, :length]
    for name, mask in (("pixel_values", "image_mask"), ("aux_pixel_values", "aux_crop_mask")):
        if mask in alone and not alone[mask].any():
            del alone[name], alone[mask]
    if "aux_crop_mask" in alone:
        number = int(alone["aux_crop_mask"].sum())
        alone |= {name: alone[name][:, :number] for name in ("aux_pixel_values", "aux_crop_mask")}
    return alone, length


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(system, baseline, baseline_inputs):
    model, inputs = baseline(system), baseline_inputs(system)
    together = model(**inputs).logits
    assert together.shape == (3, 7, 5)
    for row in range(3):
        alone, length = rows_of(inputs, row)
        torch.testing.assert_close(model(**alone).logits[0], together[row, :length], **CLOSE)


@pytest.mark.parametrize(("system", "vision"), [of for of in TOWERS if of[0] in MULTIMODAL])
@torch.no_grad()
def test_every_picture_and_crop_is_looked_at(system, vision, baseline, baseline_inputs):
    model, inputs = baseline(system, vision), baseline_inputs()
    before = model(**inputs).logits
    for name, place in (("pixel_values", 0), ("aux_pixel_values", (1, 0))):
        changed = copy.deepcopy(inputs)
        changed[name][place] *= -1
        row = place if isinstance(place, int) else place[0]
        difference = (model(**changed).logits - before).abs().amax(dim=(1, 2))
        assert difference[row] > 1e-4
        assert (difference[[other for other in range(3) if other != row]] < 1e-5).all()
    absent = copy.deepcopy(inputs)
    absent["pixel_values"][1:] = 7.0
    absent["aux_pixel_values"][:, 1] = 7.0
    torch.testing.assert_close(model(**absent).logits, before, **CLOSE)


# How often each attends with three text layers: umt in five layers of its own, vilbert in two of its second stream and
# twice in each of two connections. The library has one kernel for a VisualBERT.
ATTENTIONS = {"cnn_bilstm": 0, "co_attention": 3, "visual_bert": 0, "vilbert": 3 + 2 + 4, "umt": 3 + 5, "hvpnet": 3}


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_eager_and_sdpa_agree(system, baseline, baseline_inputs, monkeypatch):
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **options: calls.append(args) or kernel(*args, **options),
    )
    expected, inputs = baseline(system)(**baseline_inputs(system)).logits, baseline_inputs(system)
    assert len(calls) == ATTENTIONS[system], "by default"
    later = baseline(system)
    later.set_attn_implementation("eager")
    eager, sdpa = (baseline(system, attn_implementation=implementation) for implementation in ("eager", "sdpa"))
    for model, number in ((later, 0), (eager, 0), (sdpa, ATTENTIONS[system])):
        calls.clear()
        torch.testing.assert_close(model(**inputs).logits, expected, **CLOSE)
        assert len(calls) == number


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_configuration_stays_as_it_was(system, baseline_config):
    config = baseline_config(system, attn_implementation="sdpa")
    BaselineForTokenClassification(config)
    towers = [tower for tower in (config.text_config, config.vision_config) if tower is not None]
    assert {of._attn_implementation for of in (config, *towers)} == {"sdpa"}


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_half_precision(system, baseline, baseline_inputs, tmp_path):
    model, inputs = baseline(system), baseline_inputs(system)
    model.save_pretrained(tmp_path)
    half = BaselineForTokenClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kept = {name for name, module in half.named_modules() if isinstance(module, LinearChainCRF)}
    assert kept == half._keep_in_fp32_modules_strict
    assert all(half.get_submodule(name).transitions.dtype == torch.float32 for name in kept)
    expected, real = model(**inputs).logits, inputs["attention_mask"].bool()
    outputs = half(**inputs)
    torch.testing.assert_close(outputs.logits[real].float(), expected[real], rtol=0, atol=0.05)
    assert outputs.tag_ids.shape == (3, 7)


def loss_and_gradients(model, inputs):
    labels = torch.where(inputs["crf_mask"], torch.arange(7) % 5, -100)
    model.zero_grad()
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    return loss, {name: of.grad for name, of in model.named_parameters() if of.grad is not None}


@pytest.mark.parametrize("system", SYSTEMS)
def test_autocast(system, baseline, baseline_inputs):
    model, inputs = baseline(system), baseline_inputs(system)
    loss, _ = loss_and_gradients(model, inputs)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            lower, gradients = loss_and_gradients(model, inputs)
        assert lower.dtype == torch.float32
        torch.testing.assert_close(lower, loss, rtol=0.05, atol=0.05)
        assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_gradient_checkpointing(system, baseline, baseline_config, baseline_inputs):
    def enable(model):  # by its name before transformers 5.23, or since
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()

    if system == "cnn_bilstm":
        with pytest.raises(ValueError, match=r"BaselineForTokenClassification does not support \w+ checkpointing"):
            enable(baseline(system))
        return
    text_config = baseline_config(system).text_config
    text_config.hidden_dropout_prob = text_config.attention_probs_dropout_prob = 0.0
    options = {"text_config": text_config, "classifier_dropout": 0.0, "freeze_vision": False}
    vision = "clip" if (system, "clip") in TOWERS else "resnet"
    model, inputs = baseline(system, vision, **options).train(), baseline_inputs(system)
    loss, gradients = loss_and_gradients(model, inputs)
    enable(model)
    layers = [model.encoder.text_model.encoder.layer[0].intermediate]
    layers += [model.vision_model.encoder.layers[0].mlp] if vision == "clip" else []
    calls = []
    for layer in layers:
        layer.register_forward_pre_hook(lambda *args: calls.append(1))
    again, checkpointed = loss_and_gradients(model, inputs)
    assert len(calls) == 2 * len(layers), "each once more in the backward pass"
    torch.testing.assert_close(again, loss)
    torch.testing.assert_close(checkpointed, gradients)


@pytest.mark.parametrize(("system", "vision"), TOWERS)
def test_weights_that_a_checkpoint_lacks_begin_as_those_of_a_new_model(system, vision, baseline_config, monkeypatch):
    initialize = PreTrainedModel._initialize_weights

    def seeded(*args, **kwargs):
        torch.manual_seed(0)
        initialize(*args, **kwargs)

    monkeypatch.setattr(PreTrainedModel, "_initialize_weights", seeded)
    new = BaselineForTokenClassification(baseline_config(system, vision))
    loaded = BaselineForTokenClassification.from_pretrained(
        None, config=baseline_config(system, vision), state_dict={}
    )
    torch.testing.assert_close(dict(loaded.state_dict()), dict(new.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("system", SYSTEMS)
def test_offloaded_weights(system, baseline, baseline_inputs, tmp_path):
    model, inputs = baseline(system), baseline_inputs(system)
    expected = model(**inputs)
    offloaded = accelerate.disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in offloaded.parameters()} == {"meta"}
    actual = offloaded(**inputs)
    torch.testing.assert_close(actual.logits, expected.logits)
    assert torch.equal(actual.tag_ids, expected.tag_ids)


@pytest.mark.parametrize("system", SYSTEMS)
def test_return_tuple(system, baseline, baseline_inputs):
    model, inputs = baseline(system), baseline_inputs(system)
    expected = model(**inputs)
    for logits, tag_ids in (model(**inputs, return_dict=False), baseline(system, return_dict=False)(**inputs)):
        assert torch.equal(logits, expected.logits) and torch.equal(tag_ids, expected.tag_ids)


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_learns(system, baseline, baseline_inputs):
    model, inputs = baseline(system, freeze_vision=False).train(), baseline_inputs(system)
    labels = torch.where(inputs["crf_mask"], torch.arange(7) % 5, -100)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    losses = []
    for _ in range(40):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    unused = [name for name, of in model.named_parameters() if of.requires_grad and of.grad is None]
    assert unused == [] and losses[-1] < 0.7 * losses[0]
    tag_ids = model.eval()(**inputs).tag_ids
    assert bool(((tag_ids == -100) == ~inputs["crf_mask"]).all())


@pytest.mark.parametrize("system", MULTIMODAL)
@pytest.mark.parametrize("is_frozen", [True, False])
def test_the_vision_tower_is_frozen_or_not(system, is_frozen, baseline, baseline_inputs):
    model, inputs = baseline(system, freeze_vision=is_frozen).train(), baseline_inputs()
    before = copy.deepcopy(model.vision_model.state_dict())
    model(**inputs, labels=torch.zeros(3, 7, dtype=torch.long)).loss.backward()
    changed = [name for name, value in model.vision_model.state_dict().items() if not torch.equal(value, before[name])]
    gradients = [of.grad is not None for of in model.vision_model.parameters()]
    if is_frozen:
        assert changed == [] and not any(gradients)
        assert not any(of.requires_grad for of in model.vision_model.parameters())
    else:
        assert any("running_mean" in name for name in changed) and all(gradients)
        model.zero_grad()
        texts = {name: value for name, value in inputs.items() if "pixel" not in name and name != "aux_crop_mask"}
        del texts["image_mask"]
        model(**texts, labels=torch.zeros(3, 7, dtype=torch.long)).loss.backward()
        assert all(of.grad is not None for of in model.vision_model.parameters()), "processes wait for it"


@pytest.mark.skipif(torch.__version__ < TorchVersion("2.13"), reason="torch 2.8 breaks the graph, and 2.13 does not")
@pytest.mark.parametrize("system", MULTIMODAL)
def test_compiled(system, baseline, baseline_inputs):
    model, inputs = baseline(system), baseline_inputs()
    expected = model(**inputs).logits
    actual = torch.compile(model, fullgraph=True, backend="eager")(**inputs).logits
    torch.testing.assert_close(actual, expected, **CLOSE)


def test_the_statistics_of_a_compiled_resnet_are_of_pictures_that_are_there(baseline, baseline_inputs):
    labels, statistics = torch.zeros(3, 7, dtype=torch.long), []
    for compiled in (False, True):
        model = baseline("umt", freeze_vision=False).train()
        run = torch.compile(model, backend="eager") if compiled else model
        run(**baseline_inputs(), labels=labels).loss.backward()
        statistics.append({name: of for name, of in model.vision_model.named_buffers() if "running" in name})
    torch.testing.assert_close(*statistics)
    torch.compiler.reset()  # of what was compiled without fullgraph
    with pytest.raises(Unsupported, match="BatchNorm in training mode must not see absent pictures"):
        torch.compile(model, backend="eager", fullgraph=True)(**baseline_inputs(), labels=labels)


@pytest.mark.parametrize("system", SYSTEMS)
def test_saved_and_loaded(system, baseline, baseline_inputs, tmp_path):
    model, inputs = baseline(system), baseline_inputs(system)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForTokenClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, BaselineForTokenClassification)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert loaded.vision_model is None or not any(of.requires_grad for of in loaded.vision_model.parameters())
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=0, atol=1e-6)


class TestSpans:
    def test_each_prefix_is_shared_out(self):
        mixing = span_mixing(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
        assert mixing.tolist() == [[1, 0, 0, 0, 0], [0, 0.5, 0, 0.5, 0], [0, 0, 0.5, 0, 0.5]]
        deepke = ["PAD", "O", "B-PER", "I-PER", "X", "[CLS]", "[SEP]"]
        assert torch.equal(span_mixing(deepke), torch.eye(7))
        of_any = span_mixing(["O", "U-a", "B-a", "U-b", "L-b"])
        assert of_any.shape == (4, 5) and torch.equal(of_any.sum(dim=1), torch.ones(4))

    def test_without_the_branch_the_main_one_is_left(self, baseline, baseline_inputs):
        inputs = baseline_inputs()
        labels = torch.where(inputs["crf_mask"], torch.arange(7) % 5, -100)
        model = baseline("umt", span_share=0.0, span_loss_weight=0.0)
        states = {}
        model.classifier.register_forward_hook(lambda module, args, output: states.update(main=output))
        outputs = model(**inputs, labels=labels)
        assert torch.equal(outputs.logits, states["main"])
        expected = -model.crf(states["main"], labels, inputs["crf_mask"]).mean()
        torch.testing.assert_close(outputs.loss, expected)

    def test_the_branch_by_its_formula(self, baseline, baseline_inputs):
        inputs = baseline_inputs()
        labels = torch.where(inputs["crf_mask"], torch.arange(7) % 5, -100)
        model, states = baseline("umt", span_share=0.3, span_loss_weight=0.7), {}
        for name in ("classifier", "span_classifier"):
            getattr(model, name).register_forward_hook(
                lambda module, args, output, name=name: states.update({name: output})
            )
        outputs = model(**inputs, labels=labels)
        for label, (prefix, number) in enumerate([(0, 1), (1, 2), (2, 2), (1, 2), (2, 2)]):
            expected = 0.7 * states["classifier"][..., label] + 0.3 * states["span_classifier"][..., prefix] / number
            torch.testing.assert_close(outputs.logits[..., label], expected)
        spans = torch.tensor([0, 1, 2, 1, 2, -100])[torch.where(labels < 0, 5, labels)]
        loss = -model.crf(outputs.logits, labels, inputs["crf_mask"]).mean()
        loss = loss - 0.7 * model.span_crf(states["span_classifier"], spans, inputs["crf_mask"]).mean()
        torch.testing.assert_close(outputs.loss, loss)


def test_what_is_seen(baseline, baseline_inputs):
    model, inputs = baseline("umt"), baseline_inputs()
    crops = {"aux": (inputs["aux_pixel_values"], inputs["aux_crop_mask"])}
    with torch.no_grad():
        seen = model.see(3, inputs["pixel_values"], inputs["image_mask"], crops)
        grid = model.vision_model(inputs["pixel_values"][:1]).last_hidden_state
        crop = model.vision_model(inputs["aux_pixel_values"][1, :1]).last_hidden_state
    assert seen.states.shape == (3, 9 + 2, 20)
    assert seen.real.tolist() == [[True] * 10 + [False], [False] * 9 + [True, False], [True] + [False] * 10]
    torch.testing.assert_close(seen.states[0, 5], grid[0, :, 1, 2])
    torch.testing.assert_close(seen.states[1, 9], crop[0].mean(dim=(1, 2)))
    assert not seen.states[2].any() and seen.boxes[2, 0].tolist() == [0, 0, 1, 1, 1]
    torch.testing.assert_close(seen.boxes[0, 5], torch.tensor([2 / 3, 1 / 3, 1, 2 / 3, 1 / 9]))
    assert not seen.boxes[0, 9:].any(), "a crop has no box"
    assert grid_boxes(2, 4).shape == (8, 5)


def test_hvpnet_sees_one_token_a_picture(baseline, baseline_inputs):
    model, inputs = baseline("hvpnet"), baseline_inputs()
    crops = {"aux": (inputs["aux_pixel_values"], inputs["aux_crop_mask"])}
    with torch.no_grad():
        seen = model.see(3, inputs["pixel_values"], inputs["image_mask"], crops)
        stages = model.vision_model(inputs["pixel_values"][:1], output_hidden_states=True).hidden_states[1:]
    assert seen.states.shape == (3, 1 + 2, 4 * (4 + 8 + 20))
    assert seen.real.tolist() == [[True, True, False], [False, True, False], [True, False, False]]
    assert not seen.states[2].any() and seen.boxes[2, 0].tolist() == [0, 0, 1, 1, 1]
    # Of the middle stage, 6 x 6, the channel 3 at the top right; of the last, 3 x 3, its last row and column left out.
    torch.testing.assert_close(seen.states[0, 0, 4 * (4 + 3) + 1], stages[1][0, 3, :3, 3:].mean())
    torch.testing.assert_close(seen.states[0, 0, -2:], stages[2][0, -1, 1, :2])


def test_what_cannot_be(baseline, baseline_inputs):
    model, inputs = baseline("umt"), baseline_inputs()
    for name, value, message in (
        ("pixel_values", torch.zeros(3, 3, 32, 32), r"pixel_values must have shape \(3, 3, 48, 48\), got"),
        ("pixel_values", torch.zeros(3, 3, 48, 48, dtype=torch.uint8), "uint8"),
        ("aux_pixel_values", torch.zeros(3, 3, 3, 48, 48), "holds 3 crops a picture, the configuration allows 2"),
        (
            "input_ids",
            torch.zeros(3, 51, dtype=torch.long),
            r"must have the shape of input_ids, \(3, 51\), got \(3, 7\)",
        ),
        ("attention_mask", torch.zeros(3, 7, dtype=torch.long), r"all zeros in rows \[0, 1, 2\]"),
        ("crf_mask", None, "Neither crf_mask nor labels were given"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{**inputs, name: value})


@pytest.fixture
def warnings(monkeypatch, caplog):
    """What is warned of, also where another test was warned of it before."""
    logger = logging.get_logger("modeling_ifaformer.model_inputs")
    monkeypatch.setattr(logger, "warning_once", logger.warning)
    return caplog


@torch.no_grad()
def test_what_is_not_used_is_told_of(baseline, baseline_inputs, warnings):
    model, inputs = baseline("umt", use_whole_image=False), baseline_inputs()
    model(**{name: value for name, value in inputs.items() if name != "pixel_values"}, output_attentions=False)
    assert not warnings.records
    model(**inputs, output_hidden_states=True, byte_ids=torch.ones(3, 7, 6), word_ids=None, head_mask=torch.ones(2))
    pictures, others = (record.getMessage() for record in warnings.records)
    assert pictures == "pixel_values are not looked at: the configuration has use_whole_image=False."
    assert others.startswith("The system umt does not use byte_ids, output_hidden_states, head_mask. Baselines return")


class TestWordsAndBytes:
    @torch.no_grad()
    def test_pictures_reach_no_output(self, baseline, baseline_inputs, warnings):
        model, inputs = baseline("cnn_bilstm"), baseline_inputs("cnn_bilstm")
        expected = model(**inputs).logits
        assert not warnings.records
        pictures = {name: value for name, value in baseline_inputs().items() if "image" in name or "pixel" in name}
        assert torch.equal(model(**inputs, **pictures).logits, expected)
        assert "The system cnn_bilstm does not use pixel_values, aux_pixel_values. Baselines" in warnings.text

    @torch.no_grad()
    def test_padding_may_be_on_the_left(self, baseline, baseline_inputs):
        model, inputs = baseline("cnn_bilstm"), baseline_inputs("cnn_bilstm")
        flipped = {name: value.clone() for name, value in inputs.items()}
        for row, length in enumerate([7, 5, 2]):
            for value in flipped.values():
                value[row] = value[row].roll(7 - length, dims=0)
        for row, length in enumerate([7, 5, 2]):
            expected = model(**inputs).logits[row, :length]
            torch.testing.assert_close(model(**flipped).logits[row, 7 - length :], expected, **CLOSE)

    def test_bytes_are_needed(self, baseline, baseline_inputs):
        inputs = baseline_inputs("cnn_bilstm")
        del inputs["byte_ids"]
        with pytest.raises(ValueError, match="byte_ids are needed"):
            baseline("cnn_bilstm")(**inputs)

    def test_how_embeddings_begin(self, baseline_config):
        encoder = BaselineForTokenClassification(baseline_config("cnn_bilstm", vocab_size=999)).encoder
        for embeddings, size in ((encoder.word_embeddings, 10), (encoder.byte_embeddings, 6)):
            bound = (3 / size) ** 0.5
            assert not embeddings.weight[0].any()
            assert 0.95 * bound < embeddings.weight.abs().max() < bound
