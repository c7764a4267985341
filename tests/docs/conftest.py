"""A folder in which the snippets of README and docs run: data, models and detectors by the names that they use."""

import json
import os
import shutil
from pathlib import Path

import pytest


NAMES = ("Jordan", "Austin", "Phoenix", "Paris")
PLACES = ("Ohio", "Canada", "Berlin", "Tokyo")
SPLITS = {"train": 16, "validation": 8, "test": 8}


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_tweets(folder):
    """Words and tags, each row with a picture of noise."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    number = 0
    for split, size in SPLITS.items():
        rows = []
        for _ in range(size):
            number += 1
            image = f"photos/{number}.jpg"
            Image.fromarray(random.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(folder / image)
            name, place = NAMES[number % 4], PLACES[number // 4 % 4]
            row = {"id": str(number), "tokens": [name, "met", place], "ner_tags": ["B-PER", "O", "B-LOC"]}
            rows.append(row | {"image": image})
        write_lines(folder / f"{split}.jsonl", rows)


def write_pairs(folder):
    """Rows with relations, without pictures."""
    from datasets import Dataset

    from processing.rows import re_features

    folder.mkdir()
    for split, size in SPLITS.items():
        rows = [
            {
                "id": f"{split} {number}",
                "image_id": "",
                "tokens": [NAMES[number % 4], "met", PLACES[number % 3]],
                "relation": number % 2,
                "head": {"name": NAMES[number % 4], "start": 0, "end": 1},
                "tail": {"name": PLACES[number % 3], "start": 2, "end": 3},
                "image": None,
                "aux_crops": [],
                "rcnn_crops": [],
            }
            for number in range(size)
        ]
        features = re_features(["None", "/per/loc/place_of_residence"])
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}.parquet")


def write_towers(folder):
    """Tiny towers with random weights under the names of the pretrained ones."""
    from transformers import (
        BertConfig,
        BertModel,
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        CLIPVisionModel,
        ModernBertConfig,
        ModernBertModel,
        SiglipImageProcessorPil,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    from processing.features.tokenizer_training import train_wordpiece

    sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 37}
    tokenizer = train_wordpiece([*NAMES, *PLACES, "met"], vocab_size=200)
    text, vision = folder / "bert-base-uncased", folder / "openai" / "clip-vit-base-patch32"
    BertModel(BertConfig(**sizes, vocab_size=len(tokenizer))).save_pretrained(text)
    tokenizer.save_pretrained(text)
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=224, patch_size=32)).save_pretrained(vision)
    CLIPImageProcessorPil().save_pretrained(vision)
    text, vision = folder / "answerdotai" / "ModernBERT-base", folder / "google" / "siglip-base-patch16-224"
    ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    ModernBertModel(ModernBertConfig(**sizes, vocab_size=len(tokenizer), **ids)).save_pretrained(text)
    tokenizer.save_pretrained(text)
    SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=224, patch_size=16)).save_pretrained(vision)
    SiglipImageProcessorPil().save_pretrained(vision)


@pytest.fixture(scope="session")
def has_demo_model(pytestconfig):
    """Whether `make demo` and `make demo_re` were run in this checkout: the output of their models is known."""
    return all((pytestconfig.rootpath / "runs" / name / "model.safetensors").is_file() for name in ("demo", "demo_re"))


@pytest.fixture(scope="session")
def workspace(
    pytestconfig, tmp_path_factory, checkpoint, relation_checkpoint, tiny_detector, tiny_captioner, has_demo_model
) -> Path:
    """The folder; snippets of all pages run in it, one page after the other."""
    from PIL import Image

    repository, folder = pytestconfig.rootpath, tmp_path_factory.mktemp("workspace")
    (folder / "scripts").symlink_to(repository / "scripts")
    write_tweets(folder / "tweets")
    write_pairs(folder / "pairs")
    (folder / "more_pairs").mkdir()
    write_towers(folder)
    Image.new("RGB", (128, 128), "teal").save(folder / "photo.jpg")
    write_lines(folder / "tweets.jsonl", [{"text": f"{name} is all over my timeline"} for name in NAMES])
    (folder / "pairs.csv").write_text("text,head,tail\nJordan met Paris,Jordan,Paris\n", encoding="utf-8")
    (folder / "relations.json").write_text("{}", encoding="utf-8")  # It fits the models of any relations.
    for name, model_type in (
        ("IDEA-Research/grounding-dino-tiny", "grounding-dino"),
        ("PekingU/rtdetr_r50vd", "detr"),
    ):
        shutil.copytree(tiny_detector(model_type), folder / name)
    shutil.copytree(tiny_captioner("git"), folder / "Salesforce" / "blip-image-captioning-base")
    for name, tiny in (("demo", checkpoint), ("demo_re", relation_checkpoint)):
        source = repository / "runs" / name if has_demo_model else Path(tiny)
        shutil.copytree(source, folder / "runs" / name, ignore=shutil.ignore_patterns("checkpoint-*", "logs"))
    (folder / "cache").mkdir()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return folder
