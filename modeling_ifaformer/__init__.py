"""
The configurations and models of IFAformer and of the baselines. Importing them registers all classes of a checkpoint
with the auto classes.
"""

from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
)
from transformers.pipelines import PIPELINE_REGISTRY

import processing  # noqa: F401  (registers the processor and the pipelines)

from .configuration_baseline import BaselineConfig
from .configuration_ifaformer import IFAformerConfig
from .modeling_baseline import BaselineForTokenClassification
from .modeling_ifaformer import (
    IFAformerForRelationExtraction,
    IFAformerForTokenClassification,
    IFAformerModel,
    IFAformerPreTrainedModel,
)


AutoConfig.register("ifaformer", IFAformerConfig, exist_ok=True)
AutoModel.register(IFAformerConfig, IFAformerModel, exist_ok=True)
AutoModelForTokenClassification.register(IFAformerConfig, IFAformerForTokenClassification, exist_ok=True)
AutoModelForSequenceClassification.register(IFAformerConfig, IFAformerForRelationExtraction, exist_ok=True)
AutoConfig.register("ifaformer_baseline", BaselineConfig, exist_ok=True)
AutoModelForTokenClassification.register(BaselineConfig, BaselineForTokenClassification, exist_ok=True)

# What a saved folder carries along, so that it loads where this package is not installed.
IFAformerConfig.register_for_auto_class()
IFAformerModel.register_for_auto_class("AutoModel")
IFAformerForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
IFAformerForRelationExtraction.register_for_auto_class("AutoModelForSequenceClassification")
BaselineConfig.register_for_auto_class()
BaselineForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")


class _UnregisteredPipelines(dict):
    """
    A configuration's `custom_pipelines`, in which `pipeline` finds the task's name in any case, but its class only
    where none is registered: a registered one wins, needs no `trust_remote_code`, as with the auto classes.
    """

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) and task not in PIPELINE_REGISTRY.supported_tasks


def _custom_pipelines(config: PreTrainedConfig) -> dict[str, Any]:
    try:
        return _UnregisteredPipelines(config.__dict__["custom_pipelines"])
    except KeyError:
        raise AttributeError("custom_pipelines") from None


for _config_class in (IFAformerConfig, BaselineConfig):
    _config_class.custom_pipelines = property(  # type: ignore[attr-defined]
        _custom_pipelines, lambda config, pipelines: config.__dict__.update(custom_pipelines=pipelines)
    )

__all__ = [
    "BaselineConfig",
    "BaselineForTokenClassification",
    "IFAformerConfig",
    "IFAformerForRelationExtraction",
    "IFAformerForTokenClassification",
    "IFAformerModel",
    "IFAformerPreTrainedModel",
]
