"""Checkpoints: those of the published code are converted, trained folders are opened."""
