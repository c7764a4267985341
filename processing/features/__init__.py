"""Features of a data set's rows, which are computed once and read from a memory-mapped file."""

from .prepare import prepare_features, unusable_pictures


__all__ = ["prepare_features", "unusable_pictures"]
