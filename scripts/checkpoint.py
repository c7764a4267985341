"""Trained checkpoints, as the scripts that use them load them."""

import os
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


def load_checkpoint(name_or_path: str) -> tuple[PreTrainedModel, IFAformerProcessor]:
    """
    A model in evaluation mode and its processor, which cuts texts at what the model can take.

    Raises:
        ValueError: where the two do not belong together.
        SystemExit: for a name that is no folder with a model, and none that the Hub gives.
    """
    runs = sorted(Path(name_or_path).glob("seed-*/config.json"))
    if runs and not (Path(name_or_path) / "config.json").exists():
        folders = ", ".join(str(path.parent) for path in runs)
        raise SystemExit(f"{name_or_path} holds several runs, of which results.json names the best: name {folders}.")
    try:
        processor = IFAformerProcessor.from_pretrained(name_or_path)
        auto_class = AutoModelForTokenClassification
        if processor.relations is not None:
            auto_class = AutoModelForSequenceClassification
        model = auto_class.from_pretrained(name_or_path)
    except OSError as error:
        where = "the folder holds no trained model" if os.path.isdir(name_or_path) else "there is no such folder"
        raise SystemExit(f"{name_or_path}: {where}, and the Hub does not give it: {error}") from error
    processor.check_config(model.config)
    if processor.max_length is None:
        processor.max_length = model.base_model.text_model.max_length
    return model, processor


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
