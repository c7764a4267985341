"""Everything between files and tensors, and between tag ids and entities."""

from transformers import AutoProcessor

from .pipeline_ifaformer import IFAformerPipeline
from .processing_ifaformer import IFAformerProcessor
from .relation_pipeline import IFAformerRelationPipeline


# By the name of the configuration, whose class is the other room's: the processor is found by its own name, which is
# saved with it.
AutoProcessor.register("IFAformerConfig", IFAformerProcessor, exist_ok=True)

# A saved folder carries the file along, so that it loads where this package is not installed.
IFAformerProcessor.register_for_auto_class()

__all__ = ["IFAformerPipeline", "IFAformerProcessor", "IFAformerRelationPipeline"]
