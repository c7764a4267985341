"""Conversion of checkpoints of the published implementation (DeepKE's IFA models)."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import torch

from modeling_ifaformer import IFAformerConfig, IFAformerForRelationExtraction, IFAformerForTokenClassification
from processing import IFAformerProcessor
from processing.data.plain_pickles import load_plain_pickle


PUBLISHED_MAX_LENGTH = {"ner": 40, "re": 80}  # tokens

# Prefixes of the published state dict and of this model's.
KEY_PREFIXES = {
    "model.encoder.text_layer.": "ifaformer.text_model.encoder.layer.",
    "model.encoder.vision_layers.": "ifaformer.vision_model.encoder.layers.",
    "model.text_embeddings.": "ifaformer.text_model.embeddings.",
    "model.text_pooler.": "ifaformer.text_model.pooler.",
    "model.vision_embeddings.": "ifaformer.vision_model.embeddings.",
    "model.vision_pre_layrnorm.": "ifaformer.vision_model.pre_layrnorm.",
    "model.vision_post_layernorm.": "ifaformer.vision_model.post_layernorm.",
    "fc.": "classifier.",
    "classifier.": "classifier.",
    "crf.": "crf.",
}
WORD_EMBEDDINGS = "ifaformer.text_model.embeddings.word_embeddings.weight"


class Conversion(NamedTuple):
    """How many tensors the model took over, and how many were left out, since the model makes them itself."""

    num_tensors: int
    num_index_buffers: int


def convert_deepke_checkpoint(
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    task: str = "ner",
    *,
    text_model: str = "bert-base-uncased",
    vision_model: str = "openai/clip-vit-base-patch32",
    relations: Sequence[str] | None = None,
    max_length: int | None = None,
) -> Conversion:
    """
    Write a folder that the auto classes load. All weights come from the checkpoint.

    Args:
        checkpoint: the `.pth` file.
        output: the folder to write.
        task: `ner` or `re`, what the checkpoint was trained for.
        text_model, vision_model: the pretrained models that training started from, by name on the Hub or by folder.
            They give configuration, tokenizer and image processor.
        relations: for task `re`, the names of the relations in the order of their ids, as
            [`processing.data.label_ids.read_label_ids`] reads them.
        max_length: the longest text of training in tokens; by default the published one, 40 for `ner`, 80 for `re`.

    Raises:
        ValueError: for a file that is no checkpoint, or one that does not fit the task and the two models.
        OSError: for files that cannot be read or written.
    """
    if task == "re" and not relations:
        raise ValueError("A checkpoint of task re needs the names of its relations.")
    state_dict = read_deepke_checkpoint(checkpoint)
    renamed = rename_deepke_keys(state_dict)
    if WORD_EMBEDDINGS not in renamed:
        raise ValueError(f"{checkpoint} has no word embeddings (model.text_embeddings.word_embeddings.weight).")
    processor = IFAformerProcessor.from_vision_text_pretrained(
        vision_model,
        text_model,
        label_scheme="deepke",
        max_length=max_length or PUBLISHED_MAX_LENGTH[task],
        relations=relations if task == "re" else None,
        pad_to_max_length=True,
        use_whole_image=False,
    )
    fields = processor.config_fields
    # Training of relations extended the vocabulary by the entity markers.
    fields["vocab_size"] = max(fields["vocab_size"], len(renamed[WORD_EMBEDDINGS]))
    config = IFAformerConfig.from_vision_text_pretrained(
        vision_model, text_model, attention_variant="deepke", **fields
    )
    model = {"ner": IFAformerForTokenClassification, "re": IFAformerForRelationExtraction}[task](config)
    load_deepke_weights(model, renamed)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    return Conversion(len(renamed), len(state_dict) - len(renamed))


def read_deepke_checkpoint(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """
    The state dict in a published `.pth` file. Nothing in the file is executed.

    Raises:
        ValueError: for a file that does not hold a state dict, or whose tensors claim to be larger than it is.
        OSError: for a file that cannot be read.
    """
    expected = "expected the state dict that DeepKE saves with torch.save(model.state_dict(), ...)"
    state_dict = load_plain_pickle(path, expected)
    if not isinstance(state_dict, dict):
        raise ValueError(f"{path} must hold a dict from parameter names to tensors, got {type(state_dict).__name__}.")
    size = os.path.getsize(path)
    for name, value in state_dict.items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor)):
            got = f"{type(name).__name__} to {type(value).__name__}"
            raise ValueError(f"{path} must hold a dict from parameter names to tensors, got {got}.")
        if value.numel() * value.element_size() > size:
            raise ValueError(
                f"{path}: {name!r:.200} claims to have {value.numel()} numbers, which is more than the file holds."
            )
    return state_dict


def rename_deepke_keys(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under this model's names, without the index buffers. ValueErrors tell of other keys."""
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        if key.endswith("position_ids"):  # a buffer of indices 0, 1, 2, ... that this model makes itself
            if not torch.equal(value.flatten(), torch.arange(value.numel())):
                raise ValueError(f"{key} must count 0, 1, 2, ..., got {value.flatten()[:8].tolist()} ...")
            continue
        prefix = next((prefix for prefix in KEY_PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            unknown.append(key)
        else:
            renamed[KEY_PREFIXES[prefix] + key.removeprefix(prefix)] = value
    if unknown:
        first = ", ".join(sorted(unknown)[:10])
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise ValueError(f"The checkpoint has keys that no published IFA model has: {first:.1000}{more}.")
    return renamed


def load_deepke_weights(model: torch.nn.Module, state_dict: dict[str, torch.Tensor]) -> None:
    """Copy a renamed state dict into a model. A ValueError names all keys that are missing, left over or misshapen."""
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(
            f"The checkpoint does not fit the model with these towers. {' '.join(str(error).split())} Check that the "
            "task, the text model and the vision model are those that training started from."
        ) from error
