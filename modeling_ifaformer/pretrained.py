"""How the models' weights are made, loaded from one checkpoint or two, and saved with their code."""

import os
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.utils import logging

from .bert_tower import FusedIntermediate
from .configuration_ifaformer import IFAformerConfig
from .crf import LinearChainCRF
from .towers import ScalingLinear, Tower


logger = logging.get_logger(__name__)

AUTO_MAP = {
    "AutoConfig": "configuration_ifaformer.IFAformerConfig",
    "AutoModel": "modeling_ifaformer.IFAformerModel",
    "AutoModelForTokenClassification": "modeling_ifaformer.IFAformerForTokenClassification",
    "AutoModelForSequenceClassification": "modeling_ifaformer.IFAformerForRelationExtraction",
}

# Modules that add up what others in them compute, besides those that the library's models name, and the embeddings and
# layers of our towers: each has to be on one device as a whole. A model has some of them.
UNDIVIDED = [
    *("BertEmbeddings", "RobertaEmbeddings", "XLMRobertaEmbeddings", "VisualBertEmbeddings", "VisualBertLayer"),
    *("BertLayer", "CrossLayer", "Connection", "ResNetStage"),
    "LentProjection",
]


class IFAformerPreTrainedModel(PreTrainedModel):
    """The base class of the models: how weights are made, loaded from two checkpoints, and saved with their code."""

    config: IFAformerConfig
    config_class: type[IFAformerConfig]
    base_model_prefix = "ifaformer"
    main_input_name = "input_ids"
    input_modalities: Any = ("image", "text")  # the library declares `str | list[str]` and sets tuples
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = UNDIVIDED
    # Without it Trainer takes the CRF's mean loss for a sum over tokens and doubles it under accumulation.
    accepts_loss_kwargs = False
    custom_pipelines: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    auto_map = AUTO_MAP

    def towers(self) -> dict[str, Any]:
        """The towers that can start from a checkpoint: `text` and `vision`."""
        return {tower: getattr(self.base_model, f"{tower}_model") for tower in ("text", "vision")}

    def fusion(self) -> nn.Module | None:
        """What holds the layers between the towers, where there are any; the towers may be in it."""
        between = [getattr(self.base_model, way) for way in ("vision_to_text", "text_to_vision")]
        between = [projections for projections in between if projections is not None]
        return nn.ModuleList(between) if between else None

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, LinearChainCRF):
            for parameter in module.parameters(recurse=False):
                init.uniform_(parameter, -0.1, 0.1)  # pytorch-crf's own
        elif isinstance(module, ScalingLinear):
            init.normal_(module.weight, std=module.in_features**-0.5)

    def post_init(self):
        super().post_init()
        # accelerate takes the names literally, and the library gathers those of towers that are direct children alone.
        modules = list(self.modules())
        names = {name for module in modules for name in getattr(module, "_no_split_modules", None) or ()}
        parts = [part for tower in modules if isinstance(tower, Tower) for part in (tower.embeddings, *tower.layers)]
        names |= {type(part).__name__ for part in parts}
        self._no_split_modules = names & {type(module).__name__ for module in modules}
        self._freeze_what_reaches_no_loss()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in `PreTrainedModel`, which makes every parameter that it loads a trainable one."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._freeze_what_reaches_no_loss()
        return loaded

    def _freeze_what_reaches_no_loss(self) -> None:
        """
        What a head never looks at is loaded and saved with the rest, and takes no part in training: processes that
        train together would wait for its gradients.
        """
        if self.base_model is self:  # Its outputs may be asked for everything.
            return
        base: Any = self.base_model
        text, vision = base.text_model, base.vision_model
        layers, num_run = vision.layers, self.config.lending_layers[-1] + 1
        unused: list[Any] = [*text.unused(), *vision.unused(), *layers[num_run:]]
        if self.config.attention_variant != "mkgformer":
            unused += layers[num_run - 1].behind_key_values()
            borrowed = [*(base.text_to_vision or [])]
            unused += borrowed[-1:]
            if self.config.text_config.num_hidden_layers == 1:  # The text reads embeddings alone.
                unused += [*layers, *borrowed]
        if self.config.attention_variant == "deepke":
            unused += [layers[-1].self_attn.v_proj, vision.embeddings.position_embedding]
        if not self.config.text_attends_vision:
            unused.append(vision)
            unused += [module.fusion_dense for module in self.modules() if isinstance(module, FusedIntermediate)]
        for module in unused:
            module.requires_grad_(False)
        norm = vision.lending_norm()  # of the first layer, all else of which may be unused
        if norm is not None and self.config.text_attends_vision:
            norm.requires_grad_(True)

    def save_pretrained(self, save_directory, *args, **kwargs):
        """As in `PreTrainedModel`; the folder tells every auto class and `pipeline` which of its files to take."""
        # By itself only the saved class's auto class would be entered, and AutoModel would not find the base model.
        self.config.auto_map = {**getattr(self.config, "auto_map", {}), **self.auto_map}
        self.config.__dict__.pop("custom_pipelines", None)  # perhaps of another head
        if self.custom_pipelines:
            self.config.custom_pipelines = deepcopy(self.custom_pipelines)  # `pipeline` alters what it reads
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_vision_text_pretrained(
        cls,
        vision_model: str | os.PathLike | None = None,
        text_model: str | os.PathLike | None = None,
        *,
        allow_missing_weights: bool = False,
        output_loading_info: bool = False,
        **config_kwargs,
    ):
        """
        A new model whose towers start from pretrained checkpoints, with everything else freshly initialised.

        Args:
            vision_model (`str`, *optional*):
                A checkpoint of CLIP or SigLIP, whole or its vision model, of ViT or DINOv2, or an IFAformer: Hub name
                or folder. Left out, the tower is fresh.
            text_model (`str`, *optional*):
                A checkpoint of one of `TEXT_MODEL_TYPES`, with any head, or an IFAformer. Left out, the tower is
                fresh.
            allow_missing_weights (`bool`, defaults to `False`):
                Go on with fresh values where a checkpoint has less than 95 % of a tower's tensors.
            output_loading_info (`bool`, defaults to `False`):
                Return `(model, info)`, where `info` holds the `missing_keys` and `unexpected_keys` of each tower. Both
                are logged in any case.
            **config_kwargs:
                For [`IFAformerConfig.from_vision_text_pretrained`], such as the `config_fields` of a processor.

        Raises:
            ValueError: as [`IFAformerConfig.from_vision_text_pretrained`], and for a checkpoint that lacks weights of
                its tower.
            OSError: for a checkpoint that is not there.
        """
        # The towers' types are checked before any weight is read: AutoModel would load whatever it finds.
        config = cls.config_class.from_vision_text_pretrained(vision_model, text_model, **config_kwargs)
        model = cls(config)
        loading_info = {}
        for tower, source in (("text", text_model), ("vision", vision_model)):
            if source is None:
                continue
            missing, unexpected = load_tower(model.towers()[tower], tower, source, allow_missing_weights)
            loading_info[tower] = {"missing_keys": missing, "unexpected_keys": unexpected}
        return (model, loading_info) if output_loading_info else model


def load_tower(
    target: PreTrainedModel, tower: str, source: str | os.PathLike, allow_missing_weights: bool = False
) -> tuple[list[str], list[str]]:
    """
    Give a tower the weights of a checkpoint of its own kind or of an IFAformer. What is missing or not used is logged.

    Args:
        target: the tower. More embeddings of words than the checkpoint has are freshly initialised.
        tower: "text" or "vision".
        source: Hub name or folder.
        allow_missing_weights: whether fresh values may stand for more than a twentieth of the tower's tensors.

    Returns:
        The names of the tensors that the checkpoint lacks, and of those that the tower has no use for.

    Raises:
        ValueError: for a checkpoint that lacks more than that.
        OSError: for a checkpoint that is not there.
    """
    config: Any = AutoConfig.from_pretrained(source)
    auto_class: Any = AutoModel
    if config.model_type == "ifaformer_baseline":  # which has no bare model
        auto_class = AutoModelForTokenClassification
    elif config.model_type != "ifaformer":  # Of two towers, as CLIP has them, one is loaded.
        config = getattr(config, f"{tower}_config", config)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # The library's own report would name an IFAformer's head and other tower too.
    try:
        whole, info = auto_class.from_pretrained(source, config=config, dtype=target.dtype, output_loading_info=True)
    finally:
        logging.set_verbosity(verbosity)
    pretrained, prefix = whole, ""
    if hasattr(whole, "towers"):
        pretrained = whole.towers()[tower]
        prefix = next(f"{name}." for name, module in whole.named_modules() if module is pretrained)
    if tower == "text" and pretrained.config.vocab_size < target.config.vocab_size:
        pretrained.resize_token_embeddings(target.config.vocab_size)
    wanted, found = target.state_dict(), pretrained.state_dict()
    # Position embeddings for another number or size of crops do not fit.
    found = {name: value for name, value in found.items() if value.shape == wanted.get(name, value).shape}
    incompatible = target.load_state_dict(found, strict=False)
    missing, unexpected = (
        sorted({name.removeprefix(prefix) for name in info[kind] if name.startswith(prefix)} | {*names})
        for kind, names in zip(("missing_keys", "unexpected_keys"), incompatible, strict=True)
    )
    # Not counted: what only an IFAformer, an MKGformer or a VisualBERT has, and the pooler, which many BERT
    # checkpoints lack and no head here uses.
    optional = (
        *("pooler.", "embeddings.aux_position", "embeddings.rcnn_position", "embeddings.visual_"),
        "embeddings.word_shape",
    )
    needed = {name for name in wanted if not name.startswith(optional) and ".fusion_dense." not in name}
    lacking = sorted(needed.intersection(missing))
    if len(lacking) > 0.05 * len(needed) and not allow_missing_weights:
        raise ValueError(
            f"{source} lacks {len(lacking)} of the {len(needed)} tensors of the {tower} tower, such as "
            f"{', '.join(lacking[:3])}. Is it another kind of checkpoint? To go on with fresh values in their place, "
            "set allow_missing_weights to true."
        )
    begins = f"The {tower} tower begins with the weights of {source}."
    if missing:
        logger.warning(f"{begins} These are not in it, and are freshly initialised: {', '.join(missing)}.")
    if unexpected:
        logger.warning(f"{begins} These of them are not used: {', '.join(unexpected)}.")
    return missing, unexpected
