"""The model and its processor pushed, and what a process without the project makes of them."""

import json

import numpy as np


# What both sides do with a model: a picture and crops that differ, texts of two lengths.
COMPUTE = """
import hashlib, json, sys, torch
from PIL import Image

def compute(model, processor, base):
    pictures = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB").resize((40, 30))]
    texts = ["Jordan met Paris in New York City .", "# RT @ Chelsea unaffable"]
    inputs = processor(text=texts, images=pictures, aux_crops=[pictures, []], return_tensors="pt")
    crf_mask = inputs.pop("crf_mask")
    with torch.no_grad():
        outputs = model.eval()(**inputs, crf_mask=crf_mask)
        hidden = base.eval()(**inputs).last_hidden_state
    tensors = {**inputs, "crf_mask": crf_mask, "tags": outputs.tag_ids}
    results = {
        name: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest() for name, tensor in tensors.items()
    }
    results |= {"logits": outputs.logits.tolist(), "hidden": hidden.tolist()}
    results["distinct"] = len(outputs.logits.unique())
    results["entities"] = processor.post_process_entities(outputs.tag_ids, texts)
    results["labels"] = model.config.id2label
    results["words"] = len(processor.tokenizer)
    return results
"""

PUSH = """
from modeling_ifaformer import IFAformerConfig, IFAformerForTokenClassification
from processing import IFAformerProcessor

torch.manual_seed(0)
configuration, folder = sys.argv[1:]
results = []
for words in ("New York", "New York City"):
    model = IFAformerForTokenClassification(IFAformerConfig(**json.loads(configuration)))
    with torch.no_grad():
        for parameter in model.parameters():  # larger weights than a fresh model has: its tags are all alike
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    processor = IFAformerProcessor.from_pretrained(f"{folder}/{words}")
    commits = [what.push_to_hub("me/ifaformer").oid for what in (model, processor)]
    results.append([commits[-1], compute(model, processor, model.ifaformer)])
print(json.dumps(results))
"""

LOAD = """
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, AutoProcessor

results = {}
for argument in sys.argv[1:]:
    name, revision = argument.split("@")
    load = dict(trust_remote_code=True, revision=revision)
    try:
        config = AutoConfig.from_pretrained(name, **load)
        model = AutoModelForTokenClassification.from_pretrained(name, **load)
        processor = AutoProcessor.from_pretrained(name, **load)
        results[argument] = compute(model, processor, AutoModel.from_pretrained(name, **load))
        assert config.to_dict() == AutoConfig.from_pretrained(name, **load).to_dict()
        assert config.model_type == model.config.model_type == "ifaformer"
    except Exception as error:
        results[argument] = type(error).__name__
assert not {"modeling_ifaformer", "processing", "hub_card"} & set(sys.modules)
print(json.dumps(results))
"""


def same(results, others):
    """All alike, down to the last digits, which differ with the place of weights in memory."""
    computed = ("logits", "hidden")
    exact, expected = ({key: of[key] for key in of if key not in computed} for of in (results, others))
    return exact == expected and all(
        np.shape(results[key]) == np.shape(others[key]) and np.allclose(results[key], others[key], atol=1e-5)
        for key in computed
    )


def test_the_same_model_without_our_packages(hub, run_client, make_config, make_processor, tmp_path):
    from processing.features.tokenizer_training import train_wordpiece

    for words in ("New York", "New York City"):  # two vocabularies, so that the second push changes the tokenizer too
        text = f"Jordan met Paris in {words} . # @ ! the team of RT Chelsea unaffable playing"
        processor = make_processor(train_wordpiece(text.split(), vocab_size=90))
        processor.save_pretrained(tmp_path / words)
    config = make_config(id2label=dict(enumerate(processor.labels)))
    (old, first), (_, second) = run_client(COMPUTE + PUSH, json.dumps(config.to_dict()), tmp_path).answer
    assert len(hub.repo("me/ifaformer").history("main")) == 5, "creation, and each of model and processor twice"
    assert first["entities"] != second["entities"] and not same(first, second)
    assert first["input_ids"] != second["input_ids"] and first["distinct"] > 50
    assert any(first["entities"]) and any(second["entities"])

    files = hub.files("me/ifaformer")
    weights = files["model.safetensors"]
    hub.seed("me/flipped", {**files, "model.safetensors": weights[:-2] + bytes([weights[-2] ^ 64]) + weights[-1:]})
    code = [path for path in files if path.endswith(".py")]
    lacking = {f"me/without-{path.split('.')[0]}@main": path for path in (*code, "processor_config.json")}
    for name, path in lacking.items():
        hub.seed(name.split("@")[0], {other: data for other, data in files.items() if other != path})
    pinned = f"me/ifaformer@{old}"
    names = ("me/ifaformer@main", pinned, "me/flipped@main", *lacking)
    user = {"packages": False, "token": None, "home": tmp_path / "home"}
    loaded = run_client(COMPUTE + LOAD, *names, **user).answer
    assert same(loaded["me/ifaformer@main"], second) and same(loaded[pinned], first)
    assert isinstance(loaded["me/flipped@main"], dict) and not same(loaded["me/flipped@main"], second)
    assert code and all(isinstance(loaded[name], str) for name in lacking), "every file is needed"

    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    loaded = run_client(COMPUTE + LOAD, *names[:2], **user, env=nobody).answer
    assert same(loaded[names[0]], second) and same(loaded[pinned], first), "from the cache, without the Hub"


ADAPTER = """
import json, shutil, sys, torch
from peft import PeftModel, get_peft_model
from hub_card.sharing import push_model
from modeling_ifaformer import IFAformerForTokenClassification
from modeling_ifaformer.checkpoints.adapters import lora_config, merge_adapters
from processing import IFAformerProcessor

start, run = sys.argv[1:]
base, processor = IFAformerForTokenClassification.from_pretrained(start), IFAformerProcessor.from_pretrained(start)
torch.manual_seed(0)
adapted = get_peft_model(base, lora_config(base, processor))
with torch.no_grad():
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter))
adapted.save_pretrained(f"{run}/adapter")
merge_adapters(adapted).save_pretrained(run)
processor.save_pretrained(run)
push_model(run, "me/adapted")
shutil.rmtree(f"{run}/adapter")

base = IFAformerForTokenClassification.from_pretrained(start)
opened = PeftModel.from_pretrained(base, "me/adapted", subfolder="adapter").merge_and_unload().state_dict()
merged = IFAformerForTokenClassification.from_pretrained("me/adapted").state_dict()
print(json.dumps([name for name in merged if not torch.equal(merged[name], opened[name])]))
"""


def test_the_adapter_of_a_run_is_pushed_and_opened_with_its_base(hub, run_client, checkpoint, tmp_path):
    assert run_client(ADAPTER, checkpoint, tmp_path / "run").answer == []
    files = hub.files("me/adapted")
    assert {name for name in files if name.startswith("adapter/")} == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    }
    # Another push, of a model without an adapter, removes it.
    push = "import sys\nfrom hub_card.sharing import push_model\npush_model(sys.argv[1], 'me/adapted')\nprint('[]')"
    assert run_client(push, tmp_path / "run").answer == []
    assert not [name for name in hub.files("me/adapted") if name.startswith("adapter/")]
