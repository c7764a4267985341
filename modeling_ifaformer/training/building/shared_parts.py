"""What the processor and the model of every system share: options, towers, words and labels."""

import logging
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from datasets import Dataset
from transformers import CONFIG_MAPPING, AutoConfig, CLIPImageProcessorPil, PreTrainedModel
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from modeling_ifaformer.configuration_baseline import SYSTEMS
from processing.context import CONTEXT, context_words, read_contexts
from processing.processing_ifaformer import IFAformerProcessor


logger = logging.getLogger(__name__)

IFAFORMER = "ifaformer"
# Options of the processor that a run which goes on from a trained model has from it, besides those of both.
OF_PROCESSOR = (
    *("max_length", "entity_markers", "word_splitter", "negative_relation", "max_megapixels"),
    "max_context_length",
)
# That of a model which reads the text alone: its weights reach no output, and should fill no disk. Crops of all usual
# sizes are whole patches of it, and pictures have their usual size, as for a model that is used beside it.
SMALLEST_VISION_TOWER = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
SMALLEST_VISION_TOWER |= {"patch_size": 2}
# What a family's configuration takes, though it has no such field any more.
FIELDS_OF_BEFORE = {"modernbert": ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")}
TOWER_OPTIONS = ("text_model", "vision_model", "text_config", "vision_config")


def system_of(model: str | None, system: str | None) -> str:
    """
    The system of a run: that of the trained model it starts from, else the one that is named, else `ifaformer`.

    Raises:
        ValueError: for an unknown system, and for another one than the model's.
        OSError: for a model that is not there.
    """
    known = (IFAFORMER, *SYSTEMS)
    if system not in (None, *known):
        raise ValueError(f"system must be one of {', '.join(known)}, got {system!r}.")
    if model is None:
        return system or IFAFORMER
    of_model = getattr(AutoConfig.from_pretrained(model), "system", IFAFORMER)
    if system not in (None, of_model):
        raise ValueError(f"{model} is of the system {of_model}, and cannot go on as {system}.")
    return of_model


def check_names(configs: Mapping[str, Mapping[str, Any] | None], usual_types: Mapping[str, str | None]) -> None:
    """
    Check what configurations of fresh towers name: the library takes any name, and one that is misspelt says nothing.

    Args:
        configs: by the name of the option.
        usual_types: by the same names, the `model_type` of a configuration that names none.

    Raises:
        ValueError: for a field that the configuration of that type does not have.
    """
    for option, config in configs.items():
        model_type = (config or {}).get("model_type", usual_types.get(option))
        if config is None or model_type not in CONFIG_MAPPING:  # which is refused where the model is made
            continue
        usual = AutoConfig.for_model(model_type)
        of_before = FIELDS_OF_BEFORE.get(model_type, ())
        unknown = [name for name in config if not (hasattr(usual, name) or name in of_before)]
        if unknown:
            known = [*usual.attribute_map, *(name for name in vars(usual) if not name.startswith("_"))]
            near = dict.fromkeys(match for name in unknown for match in get_close_matches(name, known, n=1))
            hint = f"Did you mean {' and '.join(near)}?" if near else "Leave it out."
            raise ValueError(
                f"{option} has {', '.join(unknown)}, and {type(usual).__name__} has no such field. {hint}"
            )


def given_options(start: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given, else those that a run starts with, see [`start_options`]."""
    return {**start, **{name: value for name, value in options.items() if value is not None}}


def used_towers(
    system: str,
    model: str | None,
    towers: Mapping[str, Any],
    text_attends_vision: bool = True,
    are_told_of: bool = True,
) -> dict[str, Any]:
    """
    The options of towers as they are used: a trained `model` stands for both, `cnn_bilstm` has none, and a model that
    reads the text alone needs no vision tower. It has the one that `vision_config` describes, else the
    [`SMALLEST_VISION_TOWER`]. A warning tells of those that are not used, if they `are_told_of`.
    """
    used: dict[str, Any] = dict(towers)
    if model is not None:
        reason, used = f"The run starts from {model}", {"text_model": model, "vision_model": model}
    elif system == "cnn_bilstm":
        reason, used = f"{system} has no pretrained towers", {}
    elif not text_attends_vision:
        reason = "The model reads the text alone"
        own = towers["vision_config"]
        used |= {"vision_model": None, "vision_config": SMALLEST_VISION_TOWER if own is None else own}
    used = {name: used.get(name) for name in towers}
    unused = [name for name, value in towers.items() if value is not None and used[name] != value]
    if unused and are_told_of:
        logger.warning(f"{reason}, so that {', '.join(unused)} {'are' if len(unused) > 1 else 'is'} not used.")
    return used


def with_vocabulary(towers: Mapping[str, Any], processor: IFAformerProcessor, system: str) -> dict[str, Any]:
    """The options of towers, in which a fresh text tower embeds no more than the tokenizer has."""
    if towers["text_model"] is not None or system == "cnn_bilstm":
        return dict(towers)
    tokenizer, config = processor.tokenizer, towers["text_config"] or {}
    fresh = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    # What else a family's configuration has of its own vocabulary, such as ModernBERT's, is not of this tokenizer's.
    of_family = AutoConfig.for_model(config.get("model_type", "bert"))
    for name in ("bos", "eos", "cls", "sep"):
        if getattr(of_family, f"{name}_token_id", None) is not None:
            fresh[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id")
    return {**towers, "text_config": {**config, **fresh}}


def words_of(rows: Dataset, max_context_length: int | None = None) -> Iterator[str]:
    """The words of all texts in order, and where contexts are read those of them."""
    yield from (word for tokens in rows["tokens"] for word in tokens)
    if max_context_length and CONTEXT in rows.features:
        yield from (word for parts in read_contexts(rows[CONTEXT]) for word in context_words(parts))


def square_image_processor(size: int, is_for_resnet: bool = False) -> CLIPImageProcessorPil:
    """CLIP's image processor for pictures of this height and width. For a ResNet it normalises as on ImageNet."""
    of_resnet: dict[str, Any] = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
    return CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        **(of_resnet if is_for_resnet else {}),
    )


def has_labels_of(model: PreTrainedModel, trained: PreTrainedModel, source: str) -> bool:
    """Whether a model is for the labels of a trained one, in the same order. A warning says if it is not."""
    labels, theirs = (of.config.id2label or {} for of in (model, trained))
    has_them = type(trained) is type(model) and labels == theirs
    if not has_them:
        logger.warning(
            f"The head begins fresh: {source} was trained for {', '.join(theirs.values())}, and this model is for "
            f"{', '.join(labels.values())}."
        )
    return has_them
