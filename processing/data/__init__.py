"""Data sets by name, by folder or from the Hub, with the same columns whatever they were read from."""

from processing.rows.loading_report import LoadingReport

from .loading import DATASETS, load_data


__all__ = ["DATASETS", "LoadingReport", "load_data"]
