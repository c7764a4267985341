"""Trained models as graphs, which `processing.exported` runs without torch."""

from .export import LEAST_AGREEMENT, PRECISIONS, ExportResult, export_model


__all__ = ["LEAST_AGREEMENT", "PRECISIONS", "ExportResult", "export_model"]
