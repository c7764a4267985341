"""Bulk prediction: rows of any number go through a pipeline window by window, and survive a kill."""

from .bulk import BulkPrediction
from .input_rows import RowSource, dataset_rows, file_rows, single_row
from .prediction_report import PredictionReport
from .taggers import load_tagger


__all__ = [
    "BulkPrediction",
    "PredictionReport",
    "RowSource",
    "dataset_rows",
    "file_rows",
    "load_tagger",
    "single_row",
]
