import json
import re

import pytest
import torch
import yaml
from huggingface_hub import EvalResult, ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image

from hub_card.figures import confusion_matrix, training_curve
from hub_card.model_card import model_card, save_model_card
from hub_card.model_facts import CURVE, KNOWN_DATASETS, MATRIX, SPLITS, SYSTEMS, ModelFacts
from modeling_ifaformer import BaselineConfig, IFAformerConfig, IFAformerForTokenClassification, configuration_baseline
from processing import IFAformerPipeline
from processing.data.loading import DATASETS
from processing.labels import label_maps


def scores(precision, recall, f1, support, **more):
    return {"precision": precision, "recall": recall, "f1": f1, "support": support, **more}


def results():
    """As `scripts/train.py` records them; no two figures alike."""
    return {
        "validation": scores(
            0.7112, 0.7223, 0.7334, 3301, per_type={}, unreachable_words=3, unreachable_entities=3302
        ),
        "test": scores(
            *(0.8112, 0.8223, 0.8334, 1401),
            per_type={"PER": scores(0.6112, 0.6223, 0.6334, 1402), "a|b": scores(0.5112, 0.5223, 0.5334, 1403)},
            unreachable_words=17,
            unreachable_entities=1404,
        ),
        "validation_f1_by_epoch": [0.6, 0.7334],
        "best_checkpoint": "/home/secret/run/checkpoint-9020",
        "calibration": {
            "temperature": 1.71,
            "thresholds": {"PER": 0.39, "a|b": 0.58},
            "test": {"calibration_error": {"before": 0.1612, "after": 0.0413}, "thresholded_f1": 0.8443},
            "validation": {"calibration_error": {"before": 0.1523, "after": 0.0324}, "thresholded_f1": 0.7443},
        },
        "train_seconds": 8136.6,
        "mixed_precision": "bf16",
        "seed": 1234,
        "recipe": "/home/secret/recipes/mine.yaml",
        "arguments": {
            "data": {"dataset": "/home/secret/tweets", "max_seq_length": 77},
            "model": {"text_model": "/home/secret/text-tower", "vision_model": "openai/clip-vit-base-patch32"},
            "training": {
                "num_train_epochs": 29,
                "mask_probability": 0.15,
                "max_steps": -1,
                "per_device_train_batch_size": 31,
                "gradient_accumulation_steps": 37,
                "optim": "adamw_torch",
                "learning_rate": 0.0071,
                "text_learning_rate": 4.1e-05,
                "vision_learning_rate": "None",
                "head_learning_rate": 0.043,
                "lr_scheduler_type": "cosine",
                "warmup_steps": 0.17,
                "weight_decay": 0.019,
                "max_grad_norm": 1.3,
                "metric_for_best_model": "f1",
            },
        },
        "versions": {"torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "log_history": [
            {"step": 4510, "epoch": 1.0, "loss": 8.5},
            {"step": 4510, "epoch": 1.0, "eval_f1": 0.6},
            {"step": 9020, "epoch": 2.0, "loss": 2.5},
            {"step": 9020, "epoch": 2.0, "eval_f1": 0.7334},
        ],
        "confusion": {
            "validation": {"types": ["PER", "a|b"], "counts": [[1, 0, 0], [0, 1, 0], [0, 0, 0]]},
            "test": {"types": ["PER", "a|b"], "counts": [[9, 1, 2], [0, 8, 0], [3, 0, 0]]},
        },
        "hardware": {
            "device": "Fast GPU 9",
            "num_devices": 8,
            "num_processes": 88,
            "cpu_cores": 96,
            "peak_memory_bytes": 12_340_000_000,
            "peak_device_memory_bytes": 56_780_000_000,
        },
        "statistics": {
            "train": {"rows": 24001, "entities": {"PER": 2402, "a|b": 2403}, "without_image": 2404},
            "test": {"rows": 2501, "entities": {"PER": 2502}, "without_image": 2503},
        },
        "unusable_pictures": {"train": {"the picture cannot be decoded": 601, "it is empty": 31}, "test": {}},
        "num_parameters": 198765432,
    }


def config():
    tower = {"num_hidden_layers": 12, "hidden_size": 768}
    return {
        "id2label": {"0": "O", "1": "B-PER", "2": "I-PER", "3": "B-a|b", "4": "I-a|b"},
        "text_config": {"model_type": "bert", **tower},
        "vision_config": {"model_type": "clip_vision_model", **tower, "image_size": 224, "patch_size": 32},
        "attention_variant": "corrected",
        "label_scheme": "word",
        "use_whole_image": True,
        "text_attends_vision": True,
        "vision_attends_text": True,
        "num_aux_crops": 3,
        "aux_crop_size": 128,
        "num_rcnn_crops": 5,
        "rcnn_crop_size": 64,
    }


def make_card(without=(), **given):
    run = {key: value for key, value in results().items() if key not in without}
    return model_card(ModelFacts(run, config(), **given))


EXPECTED = """\
---
base_model:
- openai/clip-vit-base-patch32
datasets:
- me/tweets
language:
- en
library_name: transformers
license: mit
metrics:
- precision
- recall
- f1
pipeline_tag: token-classification
tags:
- ifaformer
- multimodal
- named-entity-recognition
model-index:
- name: tagger
  results:
  - task:
      type: token-classification
      name: Multimodal named entity recognition
    dataset:
      name: me/tweets
      type: me/tweets
      split: test
    metrics:
    - type: precision
      value: 0.8112
      name: Precision
    - type: recall
      value: 0.8223
      name: Recall
    - type: f1
      value: 0.8334
      name: F1
---

# tagger

Made by **us**.

This model does multimodal named entity recognition: it reads a text and its picture, and finds the names in the text.
[IFAformer](https://arxiv.org/abs/2211.07504) runs a text tower and a vision tower side by side, each attending to the
other's keys and values layer by layer, with a CRF on top.

- entity types: PER, a\\|b
- text tower: `bert`, 12 layers, 768 wide, from `text-tower`
- vision tower: `clip_vision_model`, 12 layers, 768 wide, pictures of 224 pixels in patches of 32, \
from `openai/clip-vit-base-patch32`
- looks at: the whole picture; at most 3 crops by visual grounding, 128 pixels each; at most 5 crops by a detector, \
64 pixels each
- attention: `corrected`
- labels: `word`
- parameters: 198,765,432

## Use

```python
from PIL import Image
from transformers import pipeline

tagger = pipeline("multimodal-token-classification", model="me/tagger", revision="main", trust_remote_code=True)
picture = Image.open("photo.jpg")  # your own, or a path, bytes, an array
crops = [picture.crop((20, 20, 90, 90))]
tweets = [{"text": "so Phoenix is all over my timeline again", "image": picture, "aux_crops": crops}]
tweets.append({"text": "Jordan met Paris"})
for tweet, entities in zip(tweets, tagger(tweets, batch_size=2)):
    print(tweet["text"], entities)
```

An entity is a dictionary with `entity_group`, `score`, `word`, `start` and `end`. Pictures and crops may be absent.
`trust_remote_code` runs the Python files of this repository: read them first, and name the commit
whose files you have read in the place of `main`.

## Results

Precision, recall and F1 are percentages of whole entities, and micro averages by seqeval. Every word counts: an entity
that no token reaches is a miss.

| test | Precision | Recall | F1 | entities |
| --- | ---: | ---: | ---: | ---: |
| PER | 61.1 | 62.2 | 63.3 | 1,402 |
| a\\|b | 51.1 | 52.2 | 53.3 | 1,403 |
| **all** | 81.1 | 82.2 | 83.3 | 1,401 |

Entities that no token reaches: 1,404 of 1,401.

The `score` of an entity is a probability at the temperature 1.71, which was fitted on the validation split
([Guo et al., 2017](https://arxiv.org/abs/1706.04599)). Its expected calibration error, in ten bins and in percent:

|  | before | after |
| --- | ---: | ---: |
| test | 16.1 | 4.1 |

With `threshold="best"` the pipeline leaves out entities whose score is below a threshold that was chosen on the
validation split: PER 0.39, a\\|b 0.58. F1 of all entities is then 84.4 on test (without thresholds 83.3).

![Counts of gold entity types against predicted ones on test](confusion_matrix.png)

Rows are gold types and columns are predicted ones, on test. Types are compared where gold and prediction
are the very same words. A gold entity without such a prediction is missed; a prediction without such a gold entity is
spurious.

## Data

Trained on [me/tweets](https://huggingface.co/datasets/me/tweets).

|  | train | test |
| --- | ---: | ---: |
| rows | 24,001 | 2,501 |
| PER | 2,402 | 2,502 |
| a\\|b | 2,403 | 0 |
| rows without picture | 2,404 | 2,503 |

Pictures of train that could not be used: 601 x the picture cannot be decoded, 31 x it is empty.

## Training

- recipe: `mine.yaml`
- epochs: 29
- batch size on a device: 31
- batches a step: 37
- optimizer: adamw_torch
- learning rate: 0.0071
- learning rate of the text tower: 4.1e-05
- learning rate of the head: 0.043
- schedule: cosine
- warm-up, in steps or as a share of them: 0.17
- weight decay: 0.019
- gradients clipped at: 1.3
- share of masked training tokens: 0.15
- longest text in tokens: 77
- mixed precision: bf16
- seed: 1234
- kept: step 9,020, epoch 2, the best by validation F1
- device: 8 x Fast GPU 9
- processes: 88
- CPU cores: 96
- peak memory: 12.3 GB
- peak device memory: 56.8 GB
- training time: 2.3 h
- versions: torch 2.13.0+cpu, transformers 5.23.0

![Training loss by step and validation F1 by epoch](training_curve.png)

## Limits and biases

- Other languages and other kinds of text than those of the training data were not measured.
- The model finds names, those of people among them, but it does not know who is meant. It is not made to identify, \
follow or judge anyone, and what it says of a person's name or picture may be wrong.
- Errors have not been counted by gender, origin, dialect or fame of those named. What is rare in the training data, \
such as names of other regions, may be found less often.
- The pretrained towers bring the biases of their own data.
- The scores are of one run with one seed; their spread over seeds is not recorded.

## Citation

```bibtex
@inproceedings{li2023ifaformer,
  title     = {On Analyzing the Role of Image for Visual-Enhanced Relation Extraction (Student Abstract)},
  author    = {Li, Lei and Chen, Xiang and Qiao, Shuofei and Xiong, Feiyu and Chen, Huajun and Zhang, Ningyu},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2023},
  note      = {arXiv:2211.07504}
}
```"""


def test_whole_card():
    card = make_card(
        without=["validation"],
        repo_id="me/tagger",
        license="mit",
        language=["en"],
        dataset_id="me/tweets",
        description="Made by **us**.\n",
    )
    assert str(card) == EXPECTED


# The Hub's metadata ----------------------------------------------------------


def test_model_index():
    card = make_card()
    metadata = yaml.safe_load(str(card).split("---\n")[1])
    name, recorded = model_index_to_eval_results(metadata["model-index"])
    assert name == "IFAformer on tweets"
    where = {
        "task_type": "token-classification",
        "task_name": "Multimodal named entity recognition",
        "dataset_type": "tweets",
        "dataset_name": "tweets",
    }
    assert recorded == [
        EvalResult(**where, dataset_split=split, metric_type=metric, metric_name=label, metric_value=value)
        for split, values in (("test", (0.8112, 0.8223, 0.8334)), ("validation", (0.7112, 0.7223, 0.7334)))
        for (metric, label), value in zip(
            (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")), values, strict=True
        )
    ]
    assert recorded == card.data.eval_results


@pytest.mark.parametrize("dataset", ["demo", "twitter2017", "tweets of ours/", "me/tweets", "Ünïcode tweets.jsonl"])
def test_metadata_as_the_hub_wants_it(dataset, tmp_path):
    run = results()
    run["arguments"]["data"]["dataset"] = dataset
    path = save_model_card(ModelFacts(run, config()), tmp_path)
    metadata = metadata_load(path)
    assert metadata["library_name"] == "transformers" and metadata["pipeline_tag"] == "token-classification"
    assert metadata.get("language") == (["en"] if dataset in KNOWN_DATASETS else None)
    assert "datasets" not in metadata and "license" not in metadata
    ((model,), types) = (
        metadata["model-index"],
        {of["dataset"]["type"] for of in metadata["model-index"][0]["results"]},
    )
    assert model["name"] and len(types) == 1
    assert re.fullmatch(r"(?:[\w.-]+/)?[\w.-]+", types.pop(), re.ASCII)
    for result in model["results"]:
        assert all(isinstance(metric["value"], float) for metric in result["metrics"])

    def nothing_absent(value):
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return value is not None and all(map(nothing_absent, children))

    assert nothing_absent(metadata)
    loaded = ModelCard.load(path)
    assert str(loaded) == str(ModelCard(str(loaded))) == path.read_text(encoding="utf-8")


def test_a_damaged_model_index_is_noticed():
    content = str(make_card())
    assert content.count("      type: tweets\n") == 2
    with pytest.raises(ValueError, match="Invalid `model_index`"):
        ModelCard(content.replace("      type: tweets\n", ""))


def test_base_models(tmp_path, monkeypatch):
    def base_models(text_model, vision_model=None, model=None):
        run = results()
        run["arguments"]["model"] = {"model": model, "text_model": text_model, "vision_model": vision_model}
        return model_card(ModelFacts(run, config())).data.base_model

    assert base_models("bert-base-uncased", "openai/clip-vit-base-patch32") == [
        "bert-base-uncased",
        "openai/clip-vit-base-patch32",
    ]
    assert base_models(None) is None
    assert base_models(None, model="me/ifaformer") == ["me/ifaformer"]
    (tmp_path / "runs/text").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert base_models("runs/text", str(tmp_path)) is None
    assert base_models("../runs/text", "~/tower") is None


def test_towers_of_other_families(make_config):
    """DistilBERT names its sizes in its own way, and DINOv2 reads pictures of another size than it was made for."""
    lines = model_card(ModelFacts(config=make_config("distilbert and dinov2").to_dict())).text.splitlines()
    assert "- text tower: `distilbert`, 3 layers, 24 wide" in lines
    assert "- vision tower: `dinov2`, 6 layers, 36 wide, pictures of 24 pixels in patches of 8" in lines


# What is said, and what is not -----------------------------------------------


NUMBER = re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")


def fixed_numbers():
    """Those of every card: in its code and its links; and 0, entities of a type that a split has not."""
    card = model_card(ModelFacts(config={"num_aux_crops": 3, "aux_crop_size": 128})).text
    return set(NUMBER.findall(card)) | {"0", "2017", "1706.04599"}


def recorded_numbers(facts, key=""):
    """Of each number of the facts, the ways in which the card may write it."""
    if isinstance(facts, dict):
        for name, value in facts.items():
            yield from recorded_numbers(value, name)
    elif isinstance(facts, list):
        for value in facts:
            yield from recorded_numbers(value, key)
    elif isinstance(facts, str):
        for number in NUMBER.findall(facts):
            yield {number, f"{int(number):,}"} if number.isdigit() else {number}
    elif isinstance(facts, bool) or facts is None:
        return
    elif key in ("precision", "recall", "f1", "before", "after", "thresholded_f1"):
        yield {f"{100 * facts:.1f}"}
    elif key.endswith("_bytes"):
        yield {f"{facts / 1e9:.1f}"}
    elif key == "train_seconds":
        yield {f"{facts:.0f}", f"{facts / 60:.1f}", f"{facts / 3600:.1f}"}
    else:
        yield {f"{facts:,}", str(facts), f"{facts:g}"}


def forms(*facts):
    return set().union(*(ways for of in facts for ways in recorded_numbers(of)))


def test_every_number_was_recorded():
    numbers = set(NUMBER.findall(make_card().text))
    assert numbers - fixed_numbers() - forms(results(), config()) == set()
    assert len(numbers - fixed_numbers()) > 50


def test_what_was_recorded_is_shown():
    numbers = set(NUMBER.findall(make_card().text))
    run = results()
    drawn = ("log_history", "confusion", "validation_f1_by_epoch")
    shown = {name: value for name, value in run.items() if name not in drawn}
    shown["arguments"]["training"].pop("max_steps")  # none
    for split in ("test", "validation"):
        shown[split].pop("unreachable_words")
    assert [ways for ways in recorded_numbers(shown) if not ways & numbers] == []


@pytest.mark.parametrize("key", results())
def test_what_is_absent_is_not_mentioned(key):
    text = make_card(without=[key]).text
    assert "None" not in text and "nan" not in text and ": \n" not in text
    recorded = forms({name: value for name, value in results().items() if name != key}, config())
    assert set(NUMBER.findall(text)) - recorded - fixed_numbers() == set()
    others = {"validation_f1_by_epoch", "log_history", "confusion"}  # drawn, or kept for other readers
    if key not in others:
        assert len(text.splitlines()) < len(make_card().text.splitlines())
    assert (f"({CURVE})" in text) == (key != "log_history")
    assert (f"({MATRIX})" in text) == (key != "confusion")


def test_nothing_recorded():
    card = model_card(ModelFacts({}, {}))
    assert "## Results" not in card.text and "## Data" not in card.text and "## Training" not in card.text
    assert "model-index" not in card.content and "model_name" not in card.content and "None" not in card.content
    assert "![" not in card.text and "## Limits and biases" in card.text
    every = {**results(), "hardware": dict.fromkeys(results()["hardware"])}
    every |= dict.fromkeys(("confusion", "statistics", "best_checkpoint", "seed"))
    assert "None" not in str(model_card(ModelFacts(every, config())))


def test_given_facts_win():
    assert make_card(title="mine", repo_id="me/tagger").text.startswith("\n# mine\n")
    assert str(make_card(title=None, license=None, repo_id=None)) == str(make_card())


def test_what_is_read_of_contexts():
    assert "context" not in make_card().text
    run = results()
    run["arguments"]["model"]["max_context_length"] = 63
    run["arguments"]["training"]["context_dropout"] = 0.31
    run["arguments"]["training"] |= {"agreement": 0.7, "adversarial_epsilon": 0.4}
    card = model_card(ModelFacts(run, config())).text
    assert "\n- reads also: at most 63 tokens of a context of the text" in card
    assert "\n- chance that a tweet is learned without its context: 0.31\n" in card
    assert "\n- weight of the agreement of two readings (R-Drop): 0.7\n" in card
    assert "\n- length by which word embeddings are moved for an adversarial reading (FGM): 0.4\n" in card


def test_every_data_set_has_its_words():
    assert set(KNOWN_DATASETS) == set(DATASETS)


def test_spread_over_seeds():
    of_test = {
        metric: {"mean": 0.91 + 0.01 * i, "std": 0.0123} for i, metric in enumerate(("precision", "recall", "f1"))
    }
    run = {**results(), "seeds": [4, 6, 8], "spread": {"test": of_test}}
    card = str(model_card(ModelFacts(run, config())))
    assert "of 3 such runs, with the seeds 4, 6, 8:" in card
    assert "| test | 91.0 ± 1.2 | 92.0 ± 1.2 | 93.0 ± 1.2 |" in re.sub(" +", " ", card)
    assert "spread over seeds is not recorded" not in card
    run["spread"]["test"]["accuracy"] = {"mean": 0.5, "std": 0.1}  # of relations
    assert "93.0 ± 1.2 | 50.0 ± 10.0 |" in re.sub(" +", " ", str(model_card(ModelFacts(run, config()))))


def test_scores_of_answers_that_were_not_there():
    run = results()
    absent = {"calibration_error": {"before": None, "after": None}, "thresholded_f1": 0.0}
    run["calibration"] = {"temperature": 1.0, "thresholds": {}, "test": absent}
    card = str(model_card(ModelFacts(run, config())))
    assert "The `score` of an entity is a probability at the temperature 1.00" in card
    assert "None" not in card and "threshold" not in card


def test_the_negative_relation_is_named_as_the_run_recorded_it():
    of_relations = {"architectures": ["IFAformerForRelationExtraction"]}
    counts = {"types": ["friend"], "counts": [[3, 1], [0, 4]]}

    def sentence(**recorded):
        run = {"test": scores(0.5, 0.6, 0.7, 8, accuracy=0.8), **recorded}
        [said] = re.findall(r"micro averages over [^.]*\.", model_card(ModelFacts(run, of_relations)).text)
        return said

    named = sentence(confusion={"test": {**counts, "negative": "unrelated"}})
    assert named == "micro averages over all relations but the negative one, `unrelated`."
    assert sentence(confusion={"test": counts}) == sentence() == "micro averages over all relations."


def test_a_relation_model_that_has_learnt_the_order_of_names_says_so():
    of_relations = {"architectures": ["IFAformerForRelationExtraction"]}
    run = {"test": scores(0.5, 0.6, 0.7, 8, accuracy=0.8)}
    assert "in the other order" not in model_card(ModelFacts(run, of_relations)).text
    for seldom, usual in (("tail", "head"), ("head", "tail")):
        card = model_card(ModelFacts({**run, "seldom_first": seldom}, of_relations)).text
        assert f"of two unrelated names the first is nearly always the {usual}. Asked about two names in the" in card


def test_no_path_of_this_machine():
    assert "secret" not in str(make_card())


def test_sources():
    texts = {}
    for dataset in KNOWN_DATASETS:
        run = results()
        run["arguments"]["data"]["dataset"] = dataset
        texts[dataset] = model_card(ModelFacts(run, config())).text
    assert "tweets of 2015 to 2017" in texts["twitter2015"] and "tweets of 2015 to 2017" in texts["twitter2017"]
    assert "2015" not in texts["demo"] and "drawn" in texts["demo"]
    assert "Trained on Twitter-2017. English tweets" in texts["twitter2017"]


def test_pictures_of_the_training():
    told = "The rows of this training had no pictures."
    text = model_card(ModelFacts(results(), config())).text
    assert told not in text and "left out" not in text
    alone = config() | {"text_attends_vision": False}
    assert "Their pictures were left out of this training.\n" in model_card(ModelFacts(results(), alone)).text
    without = {name: value for name, value in results().items() if name != "statistics"}
    assert "left out" not in model_card(ModelFacts(without, alone)).text, "which is not known"
    run = results()
    run["statistics"]["train"] |= {"without_image": 24001, "aux_crops": {"0": 24000, "2": 1}}
    assert told not in model_card(ModelFacts(run, config())).text
    run["statistics"]["train"]["aux_crops"] = {"0": 24001}
    for of_model in (config(), alone):
        assert told in model_card(ModelFacts(run, of_model)).text
    run["arguments"]["data"]["dataset"] = "twitter2017"
    assert f"English tweets with a picture each. {told}\n" in model_card(ModelFacts(run, config())).text
    run["arguments"]["data"]["dataset"] = "demo_context"
    assert told not in model_card(ModelFacts(run, alone)).text, "as the description says"


def test_what_made_the_model():
    """Word shapes, and a search, whose values are rounded."""
    assert "its shape" not in make_card().text and "chosen on validation" not in make_card().text
    run = results() | {"search": {"trials": 20, "options": ["text_learning_rate", "agreement"]}}
    run["arguments"]["training"]["text_learning_rate"] = 1.4321698289111523e-05
    text = model_card(ModelFacts(run, config() | {"word_shapes": True})).text
    assert "- is told of each word: its shape, such as capitals, lower case or digits\n" in text
    assert "- chosen on validation: text_learning_rate, agreement, the best of 20 trials\n" in text
    assert "- learning rate of the text tower: 1.432e-05\n" in text


def test_options_that_have_no_effect():
    run = results()
    run["arguments"]["training"] |= {
        "max_steps": 500,
        "gradient_accumulation_steps": 1,
        "vision_learning_rate": 3e-5,
        "max_grad_norm": 0,
    }
    run["arguments"]["model"] = {"text_model": None, "vision_model": None}
    text = model_card(ModelFacts(run, config())).text
    assert "- steps: 500" in text and "- epochs" not in text
    assert "0.0071" not in text and "batches a step" not in text and "clipped" not in text
    assert text.count("freshly initialised") == 2 and "pretrained" not in text


@pytest.mark.parametrize("architecture", ["IFAformerForTokenClassification", "IFAformerForRelationExtraction"])
def test_a_model_that_looks_at_texts_alone_says_nothing_of_pictures(architecture):
    run = {name: value for name, value in results().items() if name != "statistics"}
    for split in SPLITS:
        run[split]["accuracy"] = 0.7
    run["arguments"]["training"] |= {"vision_learning_rate": 3e-5, "modality_dropout": 0.2}
    of_model = config() | {"text_attends_vision": False, "attention_variant": "mkgformer"}
    card = model_card(ModelFacts(run, of_model | {"architectures": [architecture]}))
    before, data, after = re.split(r"(?=## Data\n)|(?=## Training\n)", str(card))
    assert "- looks at: the text alone; a picture has no effect\n" in before and data
    assert "the text tower of [IFAformer](https://arxiv.org/abs/2211.07504) alone, which looks at no picture" in before
    words = ("ultimodal ", "mkgformer", "MKGformer", "vision ", "crop", '"image"', "PIL", "pixels", "its picture")
    for word in (*words, "or picture", "towers"):
        assert word not in before + after, word
    assert "multimodal" not in card.data.tags and card.data.base_model is None
    compile(re.search(r"```python\n(.+?)```", before, re.DOTALL)[1], "card", "exec")


@pytest.mark.parametrize(("seconds", "text"), [(87.4, "87 s"), (151.1, "2.5 min"), (8136, "2.3 h")])
def test_training_time(seconds, text):
    facts = ModelFacts({**results(), "train_seconds": seconds}, config())
    assert f"- training time: {text}\n" in model_card(facts).text


def test_bad_records():
    with pytest.raises(KeyError, match="recall"):
        model_card(ModelFacts({"test": {"precision": 1.0, "f1": 1.0, "support": 1}}))


# What is written, and what it does -------------------------------------------


def test_saved_folder(tmp_path):
    facts = ModelFacts(results(), config())
    assert save_model_card(facts, tmp_path) == tmp_path / "README.md"
    assert (tmp_path / CURVE).read_bytes() == training_curve(results()["log_history"], 2.0)
    assert (tmp_path / MATRIX).read_bytes() == confusion_matrix(**results()["confusion"]["test"])
    pictures = re.findall(r"!\[.+\]\((.+)\)", (tmp_path / "README.md").read_text())
    assert sorted(pictures) == sorted(facts.figures) == sorted([CURVE, MATRIX])
    bare = tmp_path / "bare"
    bare.mkdir()
    save_model_card(ModelFacts(), bare)
    assert [path.name for path in bare.iterdir()] == ["README.md"]


def snippet(path):
    (code,) = re.findall(r"```python\n(.+?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    assert 8 <= len(code.strip().splitlines()) <= 10
    return code


def test_ten_lines_of_use(make_config, make_processor, run_without_project, tmp_path):
    """The code of two cards, with crops and without, where our packages cannot be imported."""
    expected, codes = [], []
    for name, crops in (("crops", {}), ("no_crops", {"num_aux_crops": 0, "num_rcnn_crops": 0})):
        torch.manual_seed(0)
        processor = make_processor(**crops)
        model = IFAformerForTokenClassification(make_config(**label_maps(processor.labels), **crops))
        with torch.no_grad():
            model.classifier.weight.mul_(40)  # else all scores are nearly the same
        folder = tmp_path / name
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        saved = json.loads((folder / "config.json").read_text())
        codes.append(snippet(save_model_card(ModelFacts(results(), saved, repo_id=str(folder)), folder)))
        tagger = IFAformerPipeline(model, processor=processor, device="cpu")
        expected += [f"Jordan met Paris {tagger('Jordan met Paris')}"]
    assert "aux_crops" in codes[0] and "aux_crops" not in codes[1]
    Image.new("RGB", (128, 128), "teal").save(tmp_path / "photo.jpg")
    result = run_without_project("\n".join(codes), cwd=tmp_path)
    assert "is not looked at" not in result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("so Phoenix") for line in lines[::2])

    def without_scores(line):
        return re.sub(r"'score': [\d.e-]+", "", line)

    assert list(map(without_scores, lines[1::2])) == list(map(without_scores, expected))
    assert "'entity_group'" in lines[0] + lines[1] and "'entity_group'" in lines[2] + lines[3]


def test_every_example_names_a_revision():
    for name in ("IFAformerForTokenClassification", "IFAformerForRelationExtraction"):
        text = str(model_card(ModelFacts(config={"architectures": [name]}, repo_id="me/tagger")))
        calls = re.findall(r".*trust_remote_code=True.*", text)
        assert calls and all('revision="main"' in call for call in calls)
        assert "in the place of `main`" in text


def test_mkgformer_is_called_what_it_is():
    config = IFAformerConfig(attention_variant="mkgformer", id2label={0: "O", 1: "B-PER", 2: "I-PER"}).to_dict()
    card = str(model_card(ModelFacts(results(), config)))
    assert card.split("---")[2].lstrip().startswith("# MKGformer on ")
    assert "MKGformer ([paper](https://arxiv.org/abs/2205.02357)), here a variant of [IFAformer]" in card
    assert "which meet in the upper third of their layers, with a CRF on top." in card
    assert "- attention: `mkgformer`" in card and "layer by layer" not in card


def test_a_baseline_is_called_what_it_is():
    assert {*SYSTEMS} == {*configuration_baseline.SYSTEMS}
    config = BaselineConfig(system="vilbert", id2label={0: "O", 1: "B-PER", 2: "I-PER"}).to_dict()
    card = str(model_card(ModelFacts(results(), config)))
    assert "it reads a text and its picture and finds the names in\nthe text. It is ViLBERT on a grid" in card
    assert "vision tower: `resnet`, 50 blocks in 4 stages, 2048 wide, kept as it is in training, from" in card
    assert "IFAformer](https://arxiv.org/abs/2211.07504) runs" not in card
    config = BaselineConfig(system="cnn_bilstm", vocab_size=9, id2label={0: "O", 1: "B-PER", 2: "I-PER"}).to_dict()
    card = str(model_card(ModelFacts({}, config)))
    assert "it reads a text and finds the names" in card
    assert "- looks at: the text alone; a picture has no effect\n" in card
    assert "tower" not in card


def test_adapters_are_told():
    assert "adapter" not in str(make_card())
    run = results() | {"num_trainable_parameters": 2628972}
    run["arguments"]["model"]["lora"] = {"rank": 13, "alpha": None}
    run["arguments"]["training"]["adapter_learning_rate"] = 0.0023
    card = str(model_card(ModelFacts(run, config())))
    assert "- adapters: LoRA of rank 13, merged into the weights; the folder `adapter` has them alone\n" in card
    assert "- learning rate of the adapters: 0.0023\n- trained parameters: 2,628,972\n- schedule: cosine" in card
