"""
Everything between files and tensors, and between tag ids and entities.

Where torch or transformers is not installed, only the parts are there that need neither: [`processing.exported`] runs
models with them.
"""

from importlib.util import find_spec


__all__: list[str] = []

if find_spec("torch") and find_spec("transformers"):
    from transformers import AutoProcessor

    from .pipeline_ifaformer import IFAformerPipeline, IFAformerRelationPipeline
    from .processing_ifaformer import IFAformerProcessor

    # By the name of the configuration, whose class is the other room's: the processor is found by its own name, which
    # is saved with it.
    AutoProcessor.register("IFAformerConfig", IFAformerProcessor, exist_ok=True)

    # A saved folder carries the file along, so that it loads where this package is not installed.
    IFAformerProcessor.register_for_auto_class()

    __all__ += ["IFAformerPipeline", "IFAformerProcessor", "IFAformerRelationPipeline"]
