"""
Models that `scripts/export.py` has written, run without torch and without transformers: onnxruntime (or OpenVINO),
numpy, tokenizers, regex and Pillow are all that is needed.
"""

from .pipelines import ExportedPipeline, ExportedRelationPipeline, is_exported, load_exported


__all__ = ["ExportedPipeline", "ExportedRelationPipeline", "is_exported", "load_exported"]
