"""Trained models: opened from a folder or by their name on the Hub."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

import modeling_ifaformer  # registers the model with the auto classes
from processing import IFAformerProcessor


MODELS_OF_TASKS = {"ner": "an entity model", "re": "a relation model"}


def task_of(processor: IFAformerProcessor) -> str:
    """The task of a processor and of its model: `ner` or `re`."""
    return "ner" if processor.relations is None else "re"


def load_processor(name_or_path: str, task: str | None = None) -> IFAformerProcessor:
    """
    The processor of a trained model. With a `task`, the model must be of that task.

    Raises:
        OSError: for a name that is no folder with a model, and that the Hub does not know either.
        ValueError: for a processor that does not load or is of another task, and for a folder of several runs.
    """
    runs = sorted(Path(name_or_path).glob("seed-*/config.json"))
    if runs and not (Path(name_or_path) / "config.json").exists():
        folders = ", ".join(str(path.parent) for path in runs)
        raise ValueError(
            f"{name_or_path} holds several runs, one for each seed. Name one of them: {folders}. Its results.json "
            "says which is the best."
        )
    with _explained(name_or_path):
        processor = IFAformerProcessor.from_pretrained(name_or_path)
        if processor.tokenizer.pad_token_id is None:
            raise ValueError("its tokenizer has no padding token. Is the file tokenizer_config.json whole?")
    found = task_of(processor)
    if task not in (None, found):
        raise ValueError(
            f"{name_or_path} is {MODELS_OF_TASKS[found]} (task {found}), but {MODELS_OF_TASKS[str(task)]} (task "
            f"{task}) is expected here. Name another model."
        )
    return processor


def load_checkpoint(name_or_path: str, task: str | None = None) -> tuple[PreTrainedModel, IFAformerProcessor]:
    """
    A model in evaluation mode and its processor, which cuts texts to what the model can take.

    Raises:
        OSError: as for [`load_processor`].
        ValueError: as for [`load_processor`], for a configuration that does not load, for weights that are not those
            of the configuration, and for a model and a processor that do not belong together.
    """
    processor = load_processor(name_or_path, task)
    auto_classes: dict[str, Any] = {"ner": AutoModelForTokenClassification, "re": AutoModelForSequenceClassification}
    with _explained(name_or_path):
        model = _whole(*auto_classes[task_of(processor)].from_pretrained(name_or_path, output_loading_info=True))
        processor.check_config(model.config)
    if processor.max_length is None:
        processor.max_length = model.config.max_text_length
    return model, processor


def load_whole_model(folder: str | os.PathLike) -> PreTrainedModel:
    """
    The model of a folder, of either task or bare, all of whose weights are there and whose processor belongs to it.

    Raises:
        OSError: for a folder without a model.
        ValueError: for a configuration or a model that does not load, and for weights that are not those of the
            configuration.
    """
    with _explained(str(folder)):
        config = AutoConfig.from_pretrained(folder)
        architecture = (config.architectures or ["no class"])[0]
        if architecture not in modeling_ifaformer.__all__:
            raise ValueError(f"expected a model of {', '.join(modeling_ifaformer.__all__)}, got {architecture}.")
        model = _whole(*getattr(modeling_ifaformer, architecture).from_pretrained(folder, output_loading_info=True))
        processor = IFAformerProcessor.from_pretrained(folder)
        if architecture != "IFAformerModel":
            processor.check_config(config)
    return model


def _whole(model: PreTrainedModel, loading: Mapping[str, Any]) -> PreTrainedModel:
    """The model if all of its weights were there. The library would begin with fresh ones in place of the others."""
    wrong = {key: sorted(loading[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        raise ValueError(f"the weights are not those of the configuration: {wrong}.")
    return model


@contextmanager
def _explained(name_or_path: str) -> Iterator[None]:
    """Names the model in what its libraries raise: an OSError where it is not there, else a ValueError."""
    try:
        yield
    except OSError as error:
        where = "the folder holds no trained model" if os.path.isdir(name_or_path) else "there is no such folder"
        raise OSError(f"{name_or_path}: {where}, and the Hub does not give it: {error}") from error
    except SafetensorError as error:
        raise ValueError(f"{name_or_path}: the weights in its *.safetensors files are damaged: {error}") from error
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # The libraries look at no file before they use it: damage comes as every kind of error.
        kind = (
            "" if isinstance(error, ValueError | RuntimeError | StrictDataclassError) else f"{type(error).__name__}: "
        )
        raise ValueError(f"{name_or_path}: the model does not load: {kind}{error}") from error
