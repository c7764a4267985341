"""Crops for a whole data set: detectors look at its pictures, and its rows are stored with what they find."""

from .preparation import prepare_crops


__all__ = ["prepare_crops"]
