"""A tiny data set, its processor, and runs of 12 steps with a checkpoint every third, all in this process."""

import random

import pytest
from datasets import ClassLabel, Dataset, DatasetDict
from PIL import Image
from safetensors.torch import load_file

from modeling_ifaformer.training import IFAformerTrainingArguments, build_model, build_processor, plan_runs, train_runs
from processing.features import prepare_features
from processing.rows.row_features import ner_features


TOWER = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TOWERS = {"text_config": TOWER, "vision_config": {**TOWER, "image_size": 16, "patch_size": 8}}
NAMES = {"PER": ["Jordan", "Paris"], "LOC": ["Chelsea", "Austin"]}
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture(scope="session")
def data():
    """Rows with one name, of a type that the picture shows too."""
    draw = random.Random(0)

    def row(split, index):
        entity_type = draw.choice(list(NAMES))
        tags = [0, TAGS.index(f"B-{entity_type}"), 0]
        image = Image.new("RGB", (16, 16), (200 * (entity_type == "PER"), 9 * index, 30))
        words = {"id": f"{split}{index}", "tokens": ["so", draw.choice(NAMES[entity_type]), "again"], "ner_tags": tags}
        return {**words, "image_id": "", "image": image, "aux_crops": [], "rcnn_crops": []}

    return DatasetDict(
        {
            split: Dataset.from_list([row(split, index) for index in range(number)], features=ner_features(TAGS))
            for split, number in (("train", 24), ("validation", 6), ("test", 6))
        }
    )


@pytest.fixture(scope="session")
def relations(data):
    """The rows with relations in place of tags."""
    entities = [{"name": "so", "start": 0, "end": 1}] * len(data["train"])
    rows = data["train"].remove_columns("ner_tags").add_column("head", entities).add_column("tail", entities)
    return rows.add_column("relation", [0] * len(rows), feature=ClassLabel(names=["in", "peer"]))


@pytest.fixture(scope="session")
def towers():
    """Configurations of the towers of `new_model`."""
    return TOWERS


@pytest.fixture(scope="session")
def processor(data):
    return build_processor(data["train"], **TOWERS, aux_crop_size=8, rcnn_crop_size=8)


@pytest.fixture(scope="session")
def new_model(processor):
    return lambda: build_model(processor, **TOWERS)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def features(data, processor, cache_dir):
    return {split: prepare_features(rows, processor, cache_dir=cache_dir) for split, rows in data.items()}


@pytest.fixture
def make_arguments(tmp_path):
    def make(folder="out", **options):
        tiny = {"learning_rate": 1e-3, "head_learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_steps": 12}
        steps = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "no", "load_best_model_at_end": False}
        calm = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "report_to": "none"}
        return IFAformerTrainingArguments(output_dir=str(tmp_path / folder), **{**tiny, **steps, **calm, **options})

    return make


@pytest.fixture
def train(data, processor, new_model, cache_dir, make_arguments):
    """`train("folder", seeds=..., overwrite=..., search=..., option=value, ...)` -> the runs, all ended."""

    def run(folder="out", seeds=None, overwrite=False, search=None, new_model=new_model, **options):
        options = {"mask_probability": 0.2, "modality_dropout": 0.3, **options}
        runs = plan_runs(make_arguments(folder, **options), seeds, overwrite)
        train_runs(runs, data, processor, new_model, search=search, cache_dir=cache_dir)
        return runs

    return run


@pytest.fixture(scope="session")
def weights():
    """The weights that lie in a folder."""
    return lambda folder: load_file(folder / "model.safetensors")
