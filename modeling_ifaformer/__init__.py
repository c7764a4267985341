"""IFAformer's configuration and models, registered with the auto classes on import."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

from .configuration_ifaformer import IFAformerConfig
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

# What a saved folder carries along, so that it loads where this package is not installed.
IFAformerConfig.register_for_auto_class()
IFAformerModel.register_for_auto_class("AutoModel")
IFAformerForTokenClassification.register_for_auto_class("AutoModelForTokenClassification")
IFAformerForRelationExtraction.register_for_auto_class("AutoModelForSequenceClassification")

__all__ = [
    "IFAformerConfig",
    "IFAformerForRelationExtraction",
    "IFAformerForTokenClassification",
    "IFAformerModel",
    "IFAformerPreTrainedModel",
]
