"""Import of checkpoints of the published implementation (DeepKE's IFA models): names, shapes, configuration."""

import copy
import pickle
import re
from pathlib import Path

import torch

from modeling_ifaformer.configuration_ifaformer import IFAformerConfig


# Prefixes of the published state dict and of this model's, longest first.
KEY_PREFIXES = (
    ("model.encoder.text_layer.", "ifaformer.text_model.encoder.layer."),
    ("model.encoder.vision_layers.", "ifaformer.vision_model.encoder.layers."),
    ("model.text_embeddings.", "ifaformer.text_model.embeddings."),
    ("model.text_pooler.", "ifaformer.text_model.pooler."),
    ("model.vision_embeddings.", "ifaformer.vision_model.embeddings."),
    ("model.vision_pre_layrnorm.", "ifaformer.vision_model.pre_layrnorm."),
    ("model.vision_post_layernorm.", "ifaformer.vision_model.post_layernorm."),
    ("fc.", "classifier."),
    ("classifier.", "classifier."),
    ("crf.", "crf."),
)
# Index buffers 0, 1, 2, ... that this model makes itself.
INDEX_BUFFERS = (
    "model.text_embeddings.position_ids",
    "model.vision_embeddings.position_ids",
    "model.vision_embeddings.aux_position_ids",
    "model.vision_embeddings.rcnn_position_ids",
)


def read_deepke_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """
    The state dict in a published `.pth` file. Nothing in the file is executed.

    Raises:
        ValueError: where the file holds something else than a dict of tensors, code included.
    """
    expected = "expected the state dict that DeepKE saves with torch.save(model.state_dict(), ...)"
    try:
        state_dict = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own message advises to load the file all the same, hence `from None`.
        code = re.search(r"GLOBAL (\S+)", str(error))
        problem = f"loading it would run code ({code[1]})" if code else "it is no pickle of tensors, or damaged"
        raise ValueError(f"{path} was not loaded, because {problem}; {expected}.") from None
    except OSError:
        raise
    except Exception as error:  # torch checks little before it unpacks: damage comes as nearly every kind of error
        raise ValueError(f"{path} was not loaded, because it is damaged or cut off; {expected}.") from error
    if not isinstance(state_dict, dict) or not all(torch.is_tensor(value) for value in state_dict.values()):
        raise ValueError(f"{path} must hold a dict from parameter names to tensors, got {type(state_dict).__name__}.")
    return state_dict


def rename_deepke_keys(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """
    The same tensors under this model's names, without the index buffers.

    Raises:
        ValueError: for keys that belong to no part of the published models, and for index buffers that count anything
            else than 0, 1, 2, ...
    """
    renamed, unknown = {}, []
    for key, value in state_dict.items():
        if key in INDEX_BUFFERS:
            if not torch.equal(value.flatten(), torch.arange(value.numel())):
                raise ValueError(f"{key} must count 0, 1, 2, ..., got {value.flatten().tolist()[:8]} ...")
            continue
        for old, new in KEY_PREFIXES:
            if key.startswith(old):
                renamed[new + key.removeprefix(old)] = value
                break
        else:
            unknown.append(key)
    if unknown:
        raise ValueError(f"Keys that no published IFA model has: {', '.join(sorted(unknown))}.")
    return renamed


def deepke_config(state_dict: dict[str, torch.Tensor], text_config, vision_config, **config_kwargs) -> IFAformerConfig:
    """
    The configuration of a published checkpoint. Sizes come from the towers' configurations, except for the vocabulary,
    which training of relations extends by the entity markers.

    Args:
        state_dict: renamed, see [`rename_deepke_keys`].
        text_config, vision_config: of the pretrained towers that training started from.
        **config_kwargs: label maps, marker ids.
    """
    text_config = copy.copy(text_config)
    text_config.vocab_size = len(state_dict["ifaformer.text_model.embeddings.word_embeddings.weight"])
    return IFAformerConfig(
        text_config=text_config,
        vision_config=vision_config,
        attention_variant="deepke",
        label_scheme="deepke",
        **config_kwargs,
    )


def load_deepke_weights(model: torch.nn.Module, state_dict: dict[str, torch.Tensor]) -> None:
    """
    Copy a renamed state dict into a model, every key accounted for both ways.

    Raises:
        ValueError: with all keys that are missing, left over or of another shape.
    """
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state_dict.items()}
    problems = [f"{key} is missing" for key in sorted(expected.keys() - found.keys())]
    problems += [f"{key} has no place in the model" for key in sorted(found.keys() - expected.keys())]
    problems += [
        f"{key} has shape {found[key]}, the model needs {expected[key]}"
        for key in sorted(expected.keys() & found.keys())
        if expected[key] != found[key]
    ]
    if problems:
        raise ValueError(
            f"The checkpoint does not fit {type(model).__name__} with these towers: {'; '.join(problems)}. Check "
            "--task and that the text and vision model are those that training started from."
        )
    model.load_state_dict(state_dict)
