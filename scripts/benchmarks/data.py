"""
Measure how features are prepared and read, against the published way, which opens every picture and crop anew in every
epoch and calls the image processor once for each.
"""

import os
import tempfile
from functools import partial
from itertools import count
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader

from processing.features.prepare import prepare_features

from .measuring import Run, compare
from .published import open_pictures
from .work import Work


BASELINE = "published way"


def measure_data(work: Work) -> dict[str, Any]:
    """
    Returns:
        The numbers of tweets and pictures, the bytes on disk for a tweet, and the comparison in pictures a second.
    """
    repeated = work.rows.select([index % len(work.rows) for index in range(work.num_tweets)])
    some = repeated.select(range(min(work.baseline_tweets, work.num_tweets)))
    pictures = num_pictures(repeated)
    with tempfile.TemporaryDirectory() as folder:
        features = prepare_features(repeated, work.processor, os.path.join(folder, "read"))
        runs = {BASELINE: Run(num_pictures(some), partial(open_pictures, some, work.processor))}
        folders = count()

        def prepare(num_proc: int) -> None:
            prepare_features(repeated, work.processor, os.path.join(folder, str(next(folders))), num_proc)

        for num_proc in (1, 2):
            runs[f"prepare, {num_proc} processes"] = Run(pictures, partial(prepare, num_proc))
        for num_workers in (0, 1, 2):
            runs[f"read, {num_workers} workers"] = Run(pictures, partial(read, work, features, num_workers))
        runs["read and normalise, 0 workers"] = Run(pictures, partial(read, work, features, 0, normalize=True))
        return {
            "tweets": len(repeated),
            "pictures": pictures,
            "bytes a tweet on disk": sum(os.path.getsize(file["filename"]) for file in features.cache_files)
            / len(features),
            "comparison": compare(runs, BASELINE, work.repeats, "pictures", memory=True),
        }


def read(work: Work, features: Dataset, num_workers: int, normalize: bool = False) -> None:
    """Read an epoch in random order. Batches are normalised here, after the workers, as in training on a CPU."""
    for batch in DataLoader(
        features, work.batch_size, shuffle=True, collate_fn=work.collator, num_workers=num_workers
    ):
        if normalize:
            work.processor.normalize_pixels(batch)


def num_pictures(rows: Dataset) -> int:
    return sum((row["image"] is not None) + len(row["aux_crops"]) + len(row["rcnn_crops"]) for row in rows)
