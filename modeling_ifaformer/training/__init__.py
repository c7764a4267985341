"""Training: what a run starts from, the Trainer, stopping and going on, many runs, search."""
