"""Trained checkpoints, as the scripts that use them load them."""

import os

from transformers import AutoModelForTokenClassification, PreTrainedModel

import modeling_ifaformer  # noqa: F401  (registers the model with the auto classes)
from processing import IFAformerProcessor


def load_checkpoint(name_or_path: str) -> tuple[PreTrainedModel, IFAformerProcessor]:
    """
    A model in evaluation mode and its processor, which cuts texts at what the model can take.

    Raises:
        ValueError: where the two do not belong together.
        SystemExit: for a name that is no folder with a model, and none that the Hub gives.
    """
    try:
        model = AutoModelForTokenClassification.from_pretrained(name_or_path)
        processor = IFAformerProcessor.from_pretrained(name_or_path)
    except OSError as error:
        where = "the folder holds no trained model" if os.path.isdir(name_or_path) else "there is no such folder"
        raise SystemExit(f"{name_or_path}: {where}, and the Hub does not give it: {error}") from error
    processor.check_config(model.config)
    if processor.max_length is None:
        processor.max_length = model.base_model.text_model.max_length
    return model, processor
