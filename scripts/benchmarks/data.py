"""
Measure how features are prepared and read, against the published way, which opens every picture and crop anew in every
epoch and calls the image processor once for each.
"""

import os
import tempfile
from collections import deque
from collections.abc import Iterable
from functools import partial
from itertools import count
from typing import Any

from datasets import Dataset

from processing.features.prepare import prepare_features

from .measuring import Call, PeakMemory, compare
from .published import open_pictures
from .work import Work, repeated


BASELINE = "published way"


def measure_data(work: Work) -> dict[str, Any]:
    options = work.options
    rows = repeated(work.rows, options.num_tweets)
    some = rows.select(range(min(options.baseline_tweets, options.num_tweets)))
    pictures, folders = num_pictures(rows), count()

    def read(features: Dataset, num_workers: int, normalize: bool = False) -> None:
        """An epoch in random order. Batches are normalised after the workers, as in training on a CPU."""
        batches: Iterable[Any] = work.loader(features, shuffle=True, num_workers=num_workers)
        deque(map(work.processor.data_collator.normalized, batches) if normalize else batches, maxlen=0)

    with tempfile.TemporaryDirectory() as folder:

        def prepare(num_proc: int) -> Dataset:
            return prepare_features(rows, work.processor, os.path.join(folder, str(next(folders))), num_proc)

        features = prepare(1)
        runs: dict[str, tuple[float, Call]] = {
            BASELINE: (num_pictures(some), partial(open_pictures, some, work.processor)),
            "prepare, 1 processes": (pictures, partial(prepare, 1)),
            "prepare, 2 processes": (pictures, partial(prepare, 2)),
            "read, 0 workers": (pictures, partial(read, features, 0)),
            "read, 1 workers": (pictures, partial(read, features, 1)),
            "read, 2 workers": (pictures, partial(read, features, 2)),
            "read and normalise, 0 workers": (pictures, partial(read, features, 0, normalize=True)),
        }
        size = sum(os.path.getsize(file["filename"]) for file in features.cache_files)
        return {
            "tweets": len(rows),
            "pictures": pictures,
            "bytes a tweet on disk": size / len(features),
            "comparison": compare(runs, BASELINE, options.repeats, "pictures"),
            **{f"MB before and at the peak: {name}": memory(call) for name, (_, call) in runs.items()},
        }


def memory(call: Call) -> tuple[int, int]:
    """What all processes hold before a call and at most during it, in MB. Measuring it slows the call."""
    with PeakMemory() as peak:
        call()
    return round(peak.start), round(peak.peak)


def num_pictures(rows: Dataset) -> int:
    return sum((row["image"] is not None) + len(row["aux_crops"]) + len(row["rcnn_crops"]) for row in rows)
