"""Adapters of peft: which weights of a model they train, the model that they belong to, and how they are merged."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import AutoConfig, PreTrainedModel

import modeling_ifaformer
from modeling_ifaformer.pretrained import load_tower
from modeling_ifaformer.towers import LentProjection
from processing.processing_ifaformer import IFAformerProcessor


if TYPE_CHECKING:
    from peft import LoraConfig

FOLDER = "adapter"  # of a run, beside the merged model
# Parts of the towers that no pretrained checkpoint has, by the last part of their names; besides LentProjection.
FRESH = ("word_shape_embeddings", "aux_position_embedding", "rcnn_position_embedding", "fusion_dense")


def check_peft() -> None:
    """Raise an ImportError that says how to install peft, where it is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ImportError("Adapters need peft. Install it with: pip install -e .[lora]") from error


def has_adapters(model: Any) -> bool:
    """Whether peft has put adapters into a model."""
    return hasattr(model, "peft_config") and hasattr(model, "merge_and_unload")


def lora_config(
    model: PreTrainedModel,
    processor: IFAformerProcessor,
    *,
    rank: int = 8,
    alpha: float | None = None,
    dropout: float = 0.0,
    target_modules: Sequence[str] | None = None,
) -> "LoraConfig":
    """
    The configuration with which peft adapts a model: `get_peft_model(model, lora_config(model, processor))`.

    The linear layers of both towers get matrices of low rank (LoRA; [Hu et al.,
    2021](https://arxiv.org/abs/2106.09685)), as far as they reach the loss. What no pretrained checkpoint has is
    trained in full and saved with the adapter: the classifier and the CRF, the embeddings of word shapes and of the
    positions of crops, layers between towers of different widths, the fused layers of the `mkgformer` variant, and of
    the embeddings of words those of the entity markers.

    Args:
        model: an IFAformer whose towers have pretrained weights, see [`check_adaptable`].
        processor: of the model.
        rank: of the matrices.
        alpha: what the product of the matrices is multiplied by, times the rank; by default twice the rank.
        dropout: of what the matrices read.
        target_modules: last parts of the names of the linear layers, such as `query` and `q_proj`; by default all of
            the layers of the towers.

    Raises:
        ValueError: for a model that is no IFAformer with a head, for numbers out of range, and for target modules
            that the towers do not have.
        ImportError: where peft is not installed.
    """
    check_peft()
    from peft import LoraConfig, TaskType

    heads = (modeling_ifaformer.IFAformerForTokenClassification, modeling_ifaformer.IFAformerForRelationExtraction)
    if not isinstance(model, heads):
        raise ValueError(
            f"Adapters are for an IFAformer with a head ({' or '.join(head.__name__ for head in heads)}), got "
            f"{type(model).__name__}."
        )
    _check_numbers(rank, alpha, dropout)
    names = {module: name for name, module in model.named_modules()}
    fresh = [
        module
        for module, name in names.items()
        if (name.rpartition(".")[2] in FRESH or isinstance(module, LentProjection)) and _is_trained(module)
    ]
    layers = [layer for tower in model.towers().values() for layer in tower.layers]
    linear = [
        names[module]
        for layer in layers
        for module in layer.modules()
        if isinstance(module, nn.Linear) and module not in fresh and _is_trained(module)
    ]
    if target_modules is not None:
        last_parts = {name.rpartition(".")[2] for name in linear}
        unknown = sorted(set(target_modules) - last_parts)
        if unknown or not target_modules:
            raise ValueError(
                f"The target modules of the adapters must be among {', '.join(sorted(last_parts))}, got "
                f"{', '.join(unknown) or 'none'}."
            )
        linear = [name for name in linear if name.rpartition(".")[2] in target_modules]
    head = [name for name, part in model.named_children() if part is not model.base_model and _is_trained(part)]
    markers = {}
    if processor.relations is not None:
        markers[names[model.get_input_embeddings()]] = sorted(processor.marker_ids)
    return LoraConfig(
        task_type=TaskType.TOKEN_CLS if processor.relations is None else TaskType.SEQ_CLS,
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,  # type: ignore[arg-type]  # peft divides it by the rank
        lora_dropout=dropout,
        target_modules=linear,
        modules_to_save=[*head, *(names[module] for module in fresh)],
        trainable_token_indices=markers or None,
    )


def _check_numbers(rank: int = 1, alpha: float | None = None, dropout: float = 0.0, **others: Any) -> None:
    if rank < 1:
        raise ValueError(f"The rank of the adapters (lora_rank) must be at least 1, got {rank}.")
    if alpha is not None and not alpha > 0:
        raise ValueError(f"The scale of the adapters (lora_alpha) must be above 0, got {alpha}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"The dropout of the adapters (lora_dropout) must be from 0 to below 1, got {dropout}.")


def _is_trained(module: nn.Module) -> bool:
    """Whether any weight of a module reaches the loss."""
    return any(parameter.requires_grad for parameter in module.parameters())


def check_adaptable(
    lora: Mapping[str, Any],
    *,
    model: str | None = None,
    text_model: str | None = None,
    vision_model: str | None = None,
    text_attends_vision: bool | None = None,
    allow_missing_weights: bool = False,
    system: str | None = None,
    **others: Any,
) -> None:
    """
    Check, before any weight is read, that a model can be trained by adapters: those weights that they leave as they
    are have to come from a checkpoint.

    Args:
        lora: options of [`lora_config`].
        model, text_model, vision_model, system, text_attends_vision, allow_missing_weights: as for [`build_model`].
        others: further options of [`build_model`], which do not matter here.

    Raises:
        ValueError: for numbers out of range, for a baseline, for a tower with fresh weights that the model looks at,
            and where fresh weights are allowed in the place of missing ones.
        ImportError: where peft is not installed.
    """
    check_peft()
    _check_numbers(**lora)
    if system not in (None, "ifaformer"):
        raise ValueError(f"Adapters (lora) work only for the system ifaformer, got {system}. Leave lora out.")
    if allow_missing_weights:
        raise ValueError(
            "allow_missing_weights cannot go with adapters (lora), which would leave fresh weights as they are. Give "
            "whole checkpoints, or leave lora out."
        )
    fresh = [] if text_model or model else ["text_model"]
    if text_attends_vision is not False and not (vision_model or model):
        fresh.append("vision_model")
    if fresh:
        raise ValueError(
            f"Adapters (lora) leave the weights of a tower as they are, and without {' and '.join(fresh)} these are "
            "random. Name a pretrained checkpoint, or a trained model to start from (model), or leave lora out."
        )


def adapter_base(folder: str, text_model: str | None = None, vision_model: str | None = None) -> PreTrainedModel:
    """
    The model that the adapter of a run belongs to, for `PeftModel.from_pretrained(base, f"{folder}/adapter")`: with
    the configuration of the trained model, and with the weights of the towers that its training began with.

    Args:
        folder: of the run, or the name on the Hub that it was pushed to.
        text_model, vision_model: those of the training; where it began with a trained model, that one for both. A
            vision tower that the model does not look at needs none.

    Raises:
        OSError: for a model or a checkpoint that is not there.
        ValueError: for a model that is no IFAformer with a head, for a checkpoint that does not fit, and as
            [`check_adaptable`].
    """
    config: Any = AutoConfig.from_pretrained(folder)
    looks = config.text_attends_vision
    check_adaptable({}, text_model=text_model, vision_model=vision_model, text_attends_vision=looks)
    base = getattr(modeling_ifaformer, (config.architectures or [""])[0])(config)
    for tower, source in (("text", text_model), ("vision", vision_model)):
        if source is not None and (looks or tower == "text"):
            load_tower(base.towers()[tower], tower, source)
    return base


def adapter_weights(model: nn.Module) -> list[nn.Parameter]:
    """The low-rank matrices that peft has put into a model, without what it trains in full; of other models none."""
    if not has_adapters(model):
        return []
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return [
        parameter
        for layer in layers
        for name in layer.adapter_layer_names
        for parameter in getattr(layer, name).parameters()
    ]


def merge_adapters(model: Any) -> PreTrainedModel:
    """The model without peft, whose weights are those of the base and of its adapter. The given one is used up."""
    merged = model.merge_and_unload()
    if hasattr(merged, "crf"):
        merged.crf.config = merged.config  # peft trains a copy, whose configuration is one too
    return merged


def adapter_settings(model: Any) -> dict[str, Any] | None:
    """What decides the course of a training with adapters, as JSON has it; None for a model without any."""
    if not has_adapters(model):
        return None
    config: Mapping[str, Any] = model.peft_config["default"].to_dict()
    names = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "trainable_token_indices")
    return {name: sorted(value) if isinstance(value := config[name], set | list) else value for name in names}
