"""Building the processor and the model that a training begins with, of IFAformer and of the baselines."""

from modeling_ifaformer.checkpoints.adapters import check_adaptable

from .builders import build_model, build_processor, start_options


__all__ = ["build_model", "build_processor", "check_adaptable", "start_options"]
