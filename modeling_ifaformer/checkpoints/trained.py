"""Trained checkpoints, as the scripts that use them load them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

import modeling_ifaformer  # registers the model with the auto classes
from processing import IFAformerProcessor


def task_of(processor: IFAformerProcessor) -> str:
    """The task of a processor and of its model: `ner` or `re`."""
    return "ner" if processor.relations is None else "re"


def load_processor(name_or_path: str, task: str | None = None) -> IFAformerProcessor:
    """
    The processor of a trained model, of whatever task if that is None.

    Raises:
        SystemExit: for a name that is no folder with a model, and none that the Hub gives; for one of another task.
    """
    runs = sorted(Path(name_or_path).glob("seed-*/config.json"))
    if runs and not (Path(name_or_path) / "config.json").exists():
        folders = ", ".join(str(path.parent) for path in runs)
        raise SystemExit(f"{name_or_path} holds several runs, of which results.json names the best: name {folders}.")
    with _told(name_or_path):
        processor = IFAformerProcessor.from_pretrained(name_or_path)
    if task not in (None, task_of(processor)):
        raise SystemExit(
            f"{name_or_path} is a checkpoint of task {task_of(processor)}, where one of task {task} is expected: name "
            "another checkpoint, or the task that it is of."
        )
    return processor


def load_checkpoint(name_or_path: str, task: str | None = None) -> tuple[PreTrainedModel, IFAformerProcessor]:
    """
    A model in evaluation mode and its processor, which cuts texts at what the model can take.

    Raises:
        SystemExit: as [`load_processor`], and where the two do not belong together.
    """
    processor = load_processor(name_or_path, task)
    auto_classes = {"ner": AutoModelForTokenClassification, "re": AutoModelForSequenceClassification}
    with _told(name_or_path):
        model = auto_classes[task_of(processor)].from_pretrained(name_or_path)
        processor.check_config(model.config)
    if processor.max_length is None:
        processor.max_length = model.base_model.text_model.max_length
    return model, processor


@contextmanager
def _told(name_or_path: str) -> Iterator[None]:
    """
    Raises:
        SystemExit: for a checkpoint that is not there, or does not load.
    """
    try:
        yield
    except OSError as error:
        where = "the folder holds no trained model" if os.path.isdir(name_or_path) else "there is no such folder"
        raise SystemExit(f"{name_or_path}: {where}, and the Hub does not give it: {error}") from error
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise SystemExit(f"{name_or_path}: the model does not load: {error}") from error


def load_whole_model(folder: Path) -> PreTrainedModel:
    """
    The model of a folder, of whatever task, all of whose weights are there and whose processor belongs to it.

    Raises:
        ValueError: for a folder that does not load, or loads with weights made up.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
        architecture = (config.architectures or ["no class"])[0]
        if architecture not in modeling_ifaformer.__all__:
            raise ValueError(f"expected a model of {', '.join(modeling_ifaformer.__all__)}, got {architecture}")
        model, loading = getattr(modeling_ifaformer, architecture).from_pretrained(folder, output_loading_info=True)
        processor = IFAformerProcessor.from_pretrained(folder)
        vocabulary, embeddings = len(processor.tokenizer), config.text_config.vocab_size
        if vocabulary > embeddings:
            raise ValueError(f"the tokenizer has {vocabulary} entries, the model embeds {embeddings}")
        if architecture != "IFAformerModel":
            processor.check_config(config)
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder}: the model does not load: {error}") from error
    wrong = {key: sorted(loading[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        raise ValueError(f"{folder}: the weights are not those of the configuration: {wrong}.")
    return model
