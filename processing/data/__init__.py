"""Data sets by name, by folder or from the Hub, with the same columns whatever they were read from."""

from .loading import DATASETS, load_data


__all__ = ["DATASETS", "load_data"]
