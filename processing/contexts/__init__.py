"""Contexts made of pictures: captions, and the letters that a picture shows."""

from .preparation import prepare_contexts
from .readers import ContextOptions


__all__ = ["ContextOptions", "prepare_contexts"]
