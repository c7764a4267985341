"""Everything between files and tensors, and between tag ids and entities."""

from .processing_ifaformer import IFAformerProcessor


# A saved folder carries the file along, so that it loads where this package is not installed.
IFAformerProcessor.register_for_auto_class()

__all__ = ["IFAformerProcessor"]
