"""Everything between files and tensors, and between tag ids and entities."""

from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .pipeline_ifaformer import TASK, IFAformerPipeline
from .processing_ifaformer import IFAformerProcessor
from .relation_pipeline import RELATION_TASK, IFAformerRelationPipeline


# By the name of the configuration, whose class is the other room's: the processor is found by its own name, which is
# saved with it.
AutoProcessor.register("IFAformerConfig", IFAformerProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(TASK, IFAformerPipeline, pt_model=AutoModelForTokenClassification)
PIPELINE_REGISTRY.register_pipeline(
    RELATION_TASK, IFAformerRelationPipeline, pt_model=AutoModelForSequenceClassification
)

# A saved folder carries the file along, so that it loads where this package is not installed.
IFAformerProcessor.register_for_auto_class()

__all__ = ["IFAformerPipeline", "IFAformerProcessor", "IFAformerRelationPipeline"]
