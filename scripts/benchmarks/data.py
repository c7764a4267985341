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

from .measuring import TimedCall, compare
from .published import open_pictures
from .work import Work, repeated


BASELINE = "published way"


def measure_data(work: Work) -> dict[str, Any]:
    options = work.options
    rows = repeated(work.rows, options.num_tweets)
    some = rows.select(range(min(options.baseline_tweets, options.num_tweets)))
    pictures = num_pictures(rows)
    with tempfile.TemporaryDirectory() as folder:
        features = prepare_features(rows, work.processor, os.path.join(folder, "read"))
        runs: dict[str, TimedCall] = {BASELINE: (num_pictures(some), partial(open_pictures, some, work.processor))}
        folders = count()

        def prepare(num_proc: int) -> None:
            prepare_features(rows, work.processor, os.path.join(folder, str(next(folders))), num_proc)

        for num_proc in (1, 2):
            runs[f"prepare, {num_proc} processes"] = (pictures, partial(prepare, num_proc))
        for num_workers in (0, 1, 2):
            runs[f"read, {num_workers} workers"] = (pictures, partial(read, work, features, num_workers))
        runs["read and normalise, 0 workers"] = (pictures, partial(read, work, features, 0, normalize=True))
        size = sum(os.path.getsize(file["filename"]) for file in features.cache_files)
        return {
            "tweets": len(rows),
            "pictures": pictures,
            "bytes a tweet on disk": size / len(features),
            "comparison": compare(runs, BASELINE, options.repeats, "pictures", memory=True),
        }


def read(work: Work, features: Dataset, num_workers: int, normalize: bool = False) -> None:
    """Read an epoch in random order. Batches are normalised here, after the workers, as in training on a CPU."""
    size = work.options.batch_size
    for batch in DataLoader(features, size, shuffle=True, collate_fn=work.collator, num_workers=num_workers):
        if normalize:
            work.processor.data_collator.normalized(batch)


def num_pictures(rows: Dataset) -> int:
    return sum((row["image"] is not None) + len(row["aux_crops"]) + len(row["rcnn_crops"]) for row in rows)
