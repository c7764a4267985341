"""A saved folder in a process that knows neither package: what a user of the Hub has."""

import json

import pytest
import torch
from PIL import Image

from modeling_ifaformer import IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing import IFAformerPipeline


PROGRAM = """
import json, sys
import torch
from PIL import Image
from transformers import (
    AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoProcessor, pipeline
)

folder, task, out = sys.argv[1:]
load = dict(trust_remote_code=True)
config = AutoConfig.from_pretrained(folder, **load)
processor = AutoProcessor.from_pretrained(folder, **load)
head = AutoModelForTokenClassification if task == "ner" else AutoModelForSequenceClassification
model, base = head.from_pretrained(folder, **load), AutoModel.from_pretrained(folder, **load)
assert not {"modeling_ifaformer", "processing"} & set(sys.modules)
arguments = json.load(open(folder + "/arguments.json"))
picture = Image.open(folder + "/picture.png")
inputs = processor(**arguments, images=picture, aux_crops=[picture], return_tensors="pt")
crf_mask = inputs.pop("crf_mask", None)
extra = {} if crf_mask is None else {"crf_mask": crf_mask}
with torch.no_grad():
    outputs = model(**inputs, **extra)
    results = {"logits": outputs.logits, "hidden": base(**inputs).last_hidden_state, **inputs, **extra}
if task == "ner":
    results["tag_ids"] = outputs.tag_ids
    print(json.dumps(processor.post_process_entities(outputs.tag_ids, arguments["text"])))
    results["marginals"] = model.crf.marginals(outputs.logits, crf_mask)
torch.save({name: value for name, value in results.items()}, out)
# The processor's code has registered the pipelines, which objects need.
task_name = "multimodal-token-classification" if task == "ner" else "multimodal-relation-extraction"
of_objects = pipeline(task_name, model=model, processor=processor, device="cpu")
assert of_objects({"text": "Jordan met Paris", "head": "Jordan", "tail": "Paris"}) is not None
model.save_pretrained(out + ".again")
AutoModel.from_pretrained(out + ".again", trust_remote_code=True)
"""


@pytest.mark.parametrize("task", ["ner", "re"])
def test_bit_identical_without_the_packages(task, make_config, make_processor, run_without_project, tmp_path):
    torch.manual_seed(0)
    processor = make_processor(relations=None if task == "ner" else ["None", "a", "b", "c"])
    arguments = {"text": "Jordan met Paris"}
    if task == "ner":
        labels = {"id2label": dict(enumerate(processor.labels))}
        model = IFAformerForTokenClassification(make_config(**labels, calibration_temperature=1.7)).eval()
    else:
        markers = processor.add_entity_markers()
        labels = {"id2label": dict(enumerate(processor.labels))}
        labels |= {"calibration_temperature": 1.7}
        config = make_config(head_marker_token_id=markers[0], tail_marker_token_id=markers[2], **labels)
        model = IFAformerForRelationExtraction(config).eval()
        arguments |= {"heads": {"start": 0, "end": 1}, "tails": {"start": 2, "end": 3}}
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    Image.linear_gradient("L").save(folder / "picture.png")
    (folder / "arguments.json").write_text(json.dumps(arguments))
    (tmp_path / "elsewhere").mkdir()

    result = run_without_project(PROGRAM, folder, task, tmp_path / "out", cwd=tmp_path / "elsewhere")
    theirs = torch.load(tmp_path / "out", weights_only=True)

    picture = Image.open(folder / "picture.png")
    inputs = processor(**arguments, images=picture, aux_crops=[picture], return_tensors="pt")
    for name, value in inputs.items():
        assert torch.equal(theirs[name], value), name
    with torch.no_grad():
        outputs = model(**inputs)
        inputs.pop("crf_mask", None)
        assert torch.equal(theirs["hidden"], model.ifaformer(**inputs).last_hidden_state)
    assert torch.equal(theirs["logits"], outputs.logits)
    if task == "ner":
        assert torch.equal(theirs["tag_ids"], outputs.tag_ids)
        assert torch.equal(theirs["marginals"], model.crf.marginals(outputs.logits, outputs.tag_ids >= 0))
        assert json.loads(result.stdout) == processor.post_process_entities(outputs.tag_ids, arguments["text"])


BASELINES = """
import json, sys
from transformers import AutoConfig, AutoModelForTokenClassification, AutoProcessor, pipeline

results = {}
for folder in sys.argv[1:]:
    model = AutoModelForTokenClassification.from_pretrained(folder, trust_remote_code=True)
    tagger = pipeline("multimodal-token-classification", model=folder, trust_remote_code=True, device="cpu")
    results[folder] = tagger({"text": "Jordan met Paris", "image": "picture.png"}, explain="occlusion")
    assert type(model).__name__ == type(tagger.model).__name__ == "BaselineForTokenClassification"
    # One that is saved again has its code too.
    tagger.save_pretrained(folder + ".again")
    AutoConfig.from_pretrained(folder + ".again", trust_remote_code=True)
    AutoProcessor.from_pretrained(folder + ".again", trust_remote_code=True)
assert not {"modeling_ifaformer", "processing"} & set(sys.modules)
print(json.dumps(results))
"""


def test_baselines_without_the_packages(baseline, baseline_processor, run_without_project, tmp_path):
    Image.linear_gradient("L").save(tmp_path / "picture.png")
    expected = {}
    for system in ("umt", "cnn_bilstm", "hvpnet"):
        processor = baseline_processor(system)
        labels = {"id2label": dict(enumerate(processor.labels))}
        model = baseline(system, **labels, num_aux_crops=0)
        model.save_pretrained(tmp_path / system)
        processor.save_pretrained(tmp_path / system)
        tagger = IFAformerPipeline(model, processor=processor, device="cpu")
        row = {"text": "Jordan met Paris", "image": str(tmp_path / "picture.png")}
        expected[str(tmp_path / system)] = tagger(row, explain="occlusion")
        with pytest.raises(ValueError, match="Use explain='occlusion', which works for every model"):
            tagger(row, explain="attention")
    assert all(expected.values()), "nothing is found, so that nothing is compared"
    assert json.loads(run_without_project(BASELINES, *expected, cwd=tmp_path).stdout) == expected
