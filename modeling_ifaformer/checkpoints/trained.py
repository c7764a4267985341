"""Trained models: opened from a folder or by their name on the Hub."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.utils import CONFIG_NAME, PROCESSOR_NAME

import modeling_ifaformer  # registers the model with the auto classes
from processing import IFAformerProcessor
from processing.exported import is_exported


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
    check_task(name_or_path, task_of(processor), task)
    return processor


def check_task(name_or_path: str, found: str, task: str | None) -> None:
    """Raise ValueError for a model of a task other than `task`, if that is given."""
    if task not in (None, found):
        raise ValueError(
            f"{name_or_path} is {MODELS_OF_TASKS[found]} (task {found}), but {MODELS_OF_TASKS[str(task)]} (task "
            f"{task}) is expected here. Name another model."
        )


def load_checkpoint(name_or_path: str, task: str | None = None) -> tuple[PreTrainedModel, IFAformerProcessor]:
    """
    A model in evaluation mode and its processor, see [`IFAformerProcessor.for_model_of`].

    Raises:
        OSError: as for [`load_processor`].
        ValueError: as for [`load_processor`], for a configuration that does not load, for weights that are not those
            of the configuration, and for a model and a processor that do not belong together.
    """
    if is_exported(name_or_path):
        raise ValueError(f"{name_or_path} is an exported model. Name the trained one, of which it was made.")
    processor = load_processor(name_or_path, task)
    auto_classes: dict[str, Any] = {"ner": AutoModelForTokenClassification, "re": AutoModelForSequenceClassification}
    model = _whole_model(name_or_path, auto_classes[task_of(processor)])
    _check_fit(name_or_path, processor, model)
    return model, processor.for_model_of(model.config)


def load_whole_model(folder: str | os.PathLike) -> PreTrainedModel:
    """
    The model of a folder, of either task or bare, all of whose weights are there and whose processor belongs to it.

    Raises:
        OSError: for a folder without a model.
        ValueError: for a configuration or a model that does not load, and for weights that are not those of the
            configuration.
    """
    name = str(folder)
    with _explained(name):
        config = AutoConfig.from_pretrained(folder)
    architecture = (config.architectures or ["no class"])[0]
    if architecture not in modeling_ifaformer.__all__:
        known = ", ".join(modeling_ifaformer.__all__)
        raise ValueError(f"{name}: expected a model of {known}, got {architecture}.")
    model = _whole_model(name, getattr(modeling_ifaformer, architecture))
    processor = load_processor(name)
    if architecture != "IFAformerModel":
        _check_fit(name, processor, model)
    return model


def _whole_model(name_or_path: str, model_class: Any) -> PreTrainedModel:
    """A model all of whose weights are there. The library would begin with fresh ones in place of the others."""
    with _explained(name_or_path):
        model, loading = model_class.from_pretrained(name_or_path, output_loading_info=True)
    wrong = {key: sorted(loading[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        raise ValueError(f"{name_or_path}: the weights are not those of the configuration: {wrong}.")
    return model


def _check_fit(name_or_path: str, processor: IFAformerProcessor, model: PreTrainedModel) -> None:
    try:
        processor.check_config(model.config)
    except ValueError as error:
        raise ValueError(f"{name_or_path}: {error}") from error


@contextmanager
def _explained(name_or_path: str) -> Iterator[None]:
    """Around a library's loading: its errors name the model. OSError where it is not there, ValueError else."""
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        lacking = [name for name in (CONFIG_NAME, PROCESSOR_NAME) if not os.path.isfile(Path(name_or_path, name))]
        if not os.path.isdir(name_or_path):
            told = f"there is no such folder, and the Hub does not give it: {reason}"
        elif os.path.isfile(os.path.join(name_or_path, "adapter_config.json")):
            told = "the folder holds an adapter alone; the merged model is in the folder above it."
        elif lacking:
            told = f"the folder holds no trained model, since it has no {' and no '.join(lacking)}."
        else:
            told = f"the folder holds no trained model: {reason}"
        raise OSError(f"{name_or_path}: {told}") from error
    except SafetensorError as error:
        raise ValueError(f"{name_or_path}: the weights in its *.safetensors files are damaged: {error}") from error
    except MemoryError:
        raise
    except ValueError as error:
        raise ValueError(f"{name_or_path}: the model does not load: {error}") from error
    # The libraries look at no file before they use it, so that damage comes as every kind of error.
    except Exception as error:
        raise ValueError(f"{name_or_path}: the model does not load: {type(error).__name__}: {error}") from error
