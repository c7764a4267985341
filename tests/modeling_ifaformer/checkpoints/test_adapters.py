"""Adapters of peft: what they train, and that a base with its adapter is what was trained."""

import re

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModel, AutoModelForTokenClassification

from hub_card.sharing.model_folder import model_files
from modeling_ifaformer import (
    IFAformerForRelationExtraction,
    IFAformerForTokenClassification,
    IFAformerModel,
)
from modeling_ifaformer.checkpoints.adapters import (
    adapter_base,
    adapter_settings,
    adapter_weights,
    check_adaptable,
    has_adapters,
    lora_config,
    merge_adapters,
)
from modeling_ifaformer.checkpoints.trained import load_checkpoint
from processing import IFAformerPipeline
from processing.labels import label_maps
from processing.processing_ifaformer import IFAformerProcessor


KINDS = (
    *("corrected", "deepke", "mkgformer"),
    *("modernbert and siglip", "distilbert and dinov2", "electra and vit", "bert and a deeper clip"),
)


@pytest.fixture(scope="module")
def processor(make_processor) -> IFAformerProcessor:
    return make_processor()


@pytest.fixture
def make_model(make_config, processor):
    """A tiny model for entities; its adapters, whose matrices are not zero as they are at first."""

    def make(kind="corrected", **fields):
        torch.manual_seed(0)
        return IFAformerForTokenClassification(make_config(kind, **label_maps(processor.labels), **fields))

    return make


def with_adapters(model, processor, **options):
    adapted = get_peft_model(model, lora_config(model, processor, **options))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return adapted


def emissions(model, inputs):
    model.eval()
    mask = inputs["attention_mask"].bool()
    with torch.no_grad():
        return model(**inputs, crf_mask=mask).logits[mask]


def trained_names(model):
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name.removeprefix("base_model.model.").replace(".modules_to_save.default", "") for name in names}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attends", [True, False])
def test_what_no_checkpoint_has_is_trained_in_full(make_model, make_inputs, processor, kind, attends):
    """All else of a tower stays as it is, but for matrices at its linear layers that reach the loss."""
    model = make_model(kind, word_shapes=kind != "deepke", text_attends_vision=attends)
    reach_the_loss = trained_names(model)
    of_library = set()
    for tower, config in (("text", model.config.text_config), ("vision", model.config.vision_config)):
        prefix = f"ifaformer.{tower}_model."
        names = AutoModel.from_config(config).state_dict()
        of_library |= {prefix + name.removeprefix("vision_model.") for name in names}
    adapted = with_adapters(model, processor)
    trained = trained_names(adapted)
    in_full = {name for name in trained if "lora_" not in name}
    assert in_full == reach_the_loss - of_library
    assert {"classifier.weight", "crf.transitions"} < in_full
    weights = {re.sub(r"\.lora_[AB]\.default", "", name) for name in trained - in_full}
    linear = {name for name in reach_the_loss & of_library if re.search(r"\.layers?\.\d+\..*\.weight$", name)}
    assert weights and weights <= linear
    assert {name for name in linear - weights if not re.search("norm", name, re.IGNORECASE)} == set()
    # Processes that train together wait for a gradient of each.
    inputs = make_inputs()
    if kind != "deepke":
        inputs["word_shape_ids"] = inputs["input_ids"] % 5
    labels = torch.where(inputs["attention_mask"].bool(), inputs["input_ids"] % 3, -100)
    adapted.train()
    adapted(**inputs, labels=labels).loss.backward()
    assert [name for name, of in adapted.named_parameters() if of.requires_grad and of.grad is None] == []


@pytest.mark.parametrize("kind", ["corrected", "bert and a deeper clip", "modernbert and siglip"])
def test_base_and_adapter_are_what_was_trained(make_model, make_inputs, processor, tmp_path, kind):
    inputs = make_inputs()
    adapted = with_adapters(make_model(kind), processor)
    expected = emissions(adapted, inputs)
    assert not torch.allclose(expected, emissions(make_model(kind), inputs), atol=1e-2)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    # What is trained in full may begin with any values.
    base = make_model(kind)
    torch.nn.init.zeros_(base.classifier.weight)
    loaded = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    assert torch.equal(emissions(loaded, inputs), expected)

    merged = merge_adapters(loaded)
    assert type(merged) is IFAformerForTokenClassification and not has_adapters(merged)
    torch.testing.assert_close(emissions(merged, inputs), expected, rtol=1e-4, atol=1e-4)
    merged.config.calibration_temperature = 2.0
    assert merged.crf.temperature == 2.0
    merged.save_pretrained(tmp_path / "merged")
    opened = AutoModelForTokenClassification.from_pretrained(tmp_path / "merged")
    assert torch.equal(emissions(opened, inputs), emissions(merged, inputs))


def test_the_base_of_a_model_of_texts_alone_needs_no_vision_tower(make_model, tmp_path):
    model = make_model("corrected", text_attends_vision=False)
    model.save_pretrained(tmp_path)
    base = adapter_base(str(tmp_path), text_model=str(tmp_path), vision_model="no/where")
    expected = model.base_model.text_model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in base.base_model.text_model.state_dict().items())


def test_the_markers_of_relations_are_trained_and_no_other_word(relation_checkpoint, make_inputs, tmp_path):
    processor = IFAformerProcessor.from_pretrained(relation_checkpoint)
    ids = processor.marker_ids
    assert len(set(ids)) == 4

    def base():
        return IFAformerForRelationExtraction.from_pretrained(relation_checkpoint).eval()

    inputs = make_inputs()
    inputs["input_ids"] = inputs["attention_mask"] * processor.tokenizer.convert_tokens_to_ids("met")
    inputs["input_ids"][:, 0], inputs["input_ids"][:, 1] = ids[0], ids[2]
    adapted = get_peft_model(base(), lora_config(base(), processor))
    adapted(**inputs, labels=torch.tensor([0, 1, 1])).loss.backward()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad)
    adapted.save_pretrained(str(tmp_path))
    expected = adapted.eval()(**inputs).logits
    loaded = PeftModel.from_pretrained(base(), str(tmp_path)).eval()
    assert torch.equal(loaded(**inputs).logits, expected)
    merged = merge_adapters(loaded)
    torch.testing.assert_close(merged(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
    changed = (merged.get_input_embeddings().weight != base().get_input_embeddings().weight).any(dim=1)
    assert set(changed.nonzero().flatten().tolist()) == {ids[0], ids[2]}, "those that these texts have"


def test_the_crf_stays_in_float32(make_model, make_inputs, processor, tmp_path):
    make_model().save_pretrained(tmp_path)
    half = AutoModelForTokenClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)
    adapted = with_adapters(half, processor)
    dtypes = {name: parameter.dtype for name, parameter in adapted.named_parameters()}
    assert {of for name, of in dtypes.items() if ".crf." in name} == {torch.float32}
    assert {of for name, of in dtypes.items() if "text_model.encoder" in name and "lora_" not in name} == {
        torch.bfloat16
    }
    inputs = {name: of.bfloat16() if of.is_floating_point() else of for name, of in make_inputs().items()}
    assert emissions(adapted, inputs).isfinite().all()


def test_a_pipeline_takes_a_model_with_adapters(checkpoint, tmp_path):
    model = AutoModelForTokenClassification.from_pretrained(checkpoint)
    processor = IFAformerProcessor.from_pretrained(checkpoint)
    adapted = with_adapters(model, processor, target_modules=["query", "q_proj"])
    rows = ["Jordan met Paris", "Chelsea"]
    found = IFAformerPipeline(adapted, processor=processor)(rows)
    assert found[0]
    merged = IFAformerPipeline(merge_adapters(adapted), processor=processor)(rows)
    for one, other in zip(found, merged, strict=True):
        assert [(entity["word"], entity["entity_group"]) for entity in one] == [
            (entity["word"], entity["entity_group"]) for entity in other
        ]
        assert [entity["score"] for entity in one] == pytest.approx([entity["score"] for entity in other], abs=1e-3)


def test_the_base_of_a_run_s_adapter(make_model, processor, make_inputs, tmp_path):
    """Its towers are those that the training began with, its configuration that of the trained model."""
    start, run = make_model(), tmp_path / "run"
    start.save_pretrained(tmp_path / "start")
    adapted = with_adapters(start, processor)
    adapted.save_pretrained(str(run / "adapter"))
    expected = emissions(adapted, make_inputs())
    merged = merge_adapters(adapted)
    merged.config.calibration_temperature = 1.5
    merged.save_pretrained(run)
    base = adapter_base(str(run), text_model=str(tmp_path / "start"), vision_model=str(tmp_path / "start"))
    loaded = PeftModel.from_pretrained(base, str(run / "adapter"))
    assert torch.equal(emissions(loaded, make_inputs()), expected)
    assert loaded.crf.temperature == 1.5
    with pytest.raises(ValueError, match=r"without vision_model these are random"):
        adapter_base(str(run), text_model=str(tmp_path / "start"))
    with pytest.raises(
        OSError, match=r"adapter: the folder holds an adapter alone; the merged model is in the folder"
    ):
        load_checkpoint(str(run / "adapter"))


def test_the_adapter_of_a_run_is_shared_with_its_model(checkpoint, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(checkpoint, folder)
    assert not [name for name in model_files(folder) if name.startswith("adapter")]
    model = AutoModelForTokenClassification.from_pretrained(folder)
    adapted = with_adapters(model, IFAformerProcessor.from_pretrained(folder))
    adapted.save_pretrained(str(folder / "adapter"))
    names = {name for name in model_files(folder) if name.startswith("adapter")}
    assert names == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}


def test_settings_decide_the_course_of_a_training(make_model, processor):
    model = make_model()
    assert adapter_settings(model) is None and adapter_weights(model) == []
    adapted = with_adapters(model, processor, rank=2, target_modules=["query"])
    settings = adapter_settings(adapted)
    assert settings["r"] == 2 and settings["lora_alpha"] == 4 and "crf" in settings["modules_to_save"]
    weights = adapter_weights(adapted)
    assert len(weights) == 2 * 3 and {tuple(of.shape) for of in weights} == {(2, 24), (24, 2)}


def test_what_cannot_be_adapted(make_model, make_config, processor, checkpoint):
    towers = {"text_model": checkpoint, "vision_model": checkpoint}
    check_adaptable({}, **towers)
    check_adaptable({}, text_model=checkpoint, text_attends_vision=False)
    check_adaptable({"rank": 2, "target_modules": ["query"]}, model=checkpoint)
    for options, message in (
        ({"vision_model": checkpoint}, "without text_model these are random"),
        ({"text_model": checkpoint}, "without vision_model these are random"),
        ({}, "without text_model and vision_model these are random"),
        ({**towers, "system": "umt"}, "only for the system ifaformer, got umt"),
        ({**towers, "allow_missing_weights": True}, "allow_missing_weights cannot go with adapters"),
    ):
        with pytest.raises(ValueError, match=message):
            check_adaptable({}, **options)
    for options, message in (
        ({"rank": 0}, r"lora_rank\) must be at least 1, got 0"),
        ({"alpha": 0}, r"lora_alpha\) must be above 0, got 0"),
        ({"dropout": 1}, r"lora_dropout\) must be from 0 to below 1, got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            check_adaptable(options, **towers)
        with pytest.raises(ValueError, match=message):
            lora_config(make_model(), processor, **options)
    for names, got in ((["query", "q"], "q"), ([], "none")):
        with pytest.raises(ValueError, match=rf"among dense, fc1, .*, value, got {got}\."):
            lora_config(make_model(), processor, target_modules=names)
    with pytest.raises(ValueError, match=r"an IFAformer with a head \(.*\), got IFAformerModel"):
        lora_config(IFAformerModel(make_config()), processor)


def test_peft_opens_a_saved_base_with_its_adapter_where_the_project_is_not_installed(
    checkpoint, make_inputs, run_without_project, tmp_path
):
    """A base that was opened from a folder or the Hub is named in the adapter; its code comes with it."""
    base = AutoModelForTokenClassification.from_pretrained(checkpoint)
    adapted = with_adapters(base, IFAformerProcessor.from_pretrained(checkpoint))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    inputs = {**make_inputs(), "crf_mask": make_inputs()["attention_mask"].bool()}
    torch.save(inputs, tmp_path / "inputs.pt")
    printed = run_without_project(
        f"""
import torch
from peft import AutoPeftModelForTokenClassification
model = AutoPeftModelForTokenClassification.from_pretrained({str(tmp_path / "adapter")!r}, trust_remote_code=True)
with torch.no_grad():
    outputs = model(**torch.load({str(tmp_path / "inputs.pt")!r}))
print(outputs.tag_ids.tolist())
""",
        cwd=tmp_path,
    ).stdout
    with torch.no_grad():
        assert printed.strip().splitlines()[-1] == str(adapted.eval()(**inputs).tag_ids.tolist())
