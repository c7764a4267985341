"""Bulk prediction: rows of any size go through a pipeline window by window, and survive a kill."""
