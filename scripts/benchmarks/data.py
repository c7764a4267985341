"""
Preparing features and reading them, against the published way, which opens every picture and crop anew in every epoch
and calls the image processor once for each.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from datasets import Dataset
from torch.utils.data import DataLoader

from processing import IFAformerProcessor
from processing.features.prepare import prepare_features

from .measuring import PeakMemory
from .published import open_pictures
from .work import Work


BASELINE = "published way, pictures"


def measure(repeats: int, units: int, run: Callable[[], Any]) -> dict[str, Any]:
    """Units a second over `repeats` runs, and the peak of memory in MB."""
    rates, peaks, starts = [], [], []
    for _ in range(repeats):
        with PeakMemory() as memory:
            start = time.perf_counter()
            run()
            rates.append(units / (time.perf_counter() - start))
        peaks.append(memory.peak)
        starts.append(memory.start)
    return {
        "per_second": statistics.median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "peak_memory_mb": max(peaks),
        "memory_before_mb": starts[0],
    }


def read(
    features: Dataset, processor: IFAformerProcessor, batch_size: int, num_workers: int, normalize: bool = False
) -> None:
    """An epoch in random order, batches collated by the workers, and normalised here as in training on a CPU."""
    collator = replace(processor.data_collator, normalize_pixels=False)
    loader = DataLoader(features, batch_size, shuffle=True, collate_fn=collator, num_workers=num_workers)
    for batch in loader:
        if normalize:
            processor.normalize_pixels(batch)


def num_pictures(rows: Dataset) -> int:
    return sum((row["image"] is not None) + len(row["aux_crops"]) + len(row["rcnn_crops"]) for row in rows)


def measure_data(work: Work) -> dict[str, Any]:
    rows, processor, repeats = work.rows, work.processor, work.repeats
    repeated = rows.select([index % len(rows) for index in range(work.num_tweets)])
    some = repeated.select(range(min(work.baseline_tweets, work.num_tweets)))
    pictures = num_pictures(repeated)
    results: dict[str, Any] = {
        "tweets": len(repeated),
        "pictures": pictures,
        BASELINE: measure(repeats, num_pictures(some), partial(open_pictures, some, processor)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for num_proc in (1, 2):
            runs = iter(range(repeats))

            def prepare(num_proc: int = num_proc, runs=runs) -> None:
                prepare_features(repeated, processor, os.path.join(folder, f"{num_proc}-{next(runs)}"), num_proc)

            results[f"prepare, {num_proc} processes, pictures"] = measure(repeats, pictures, prepare)
        features = prepare_features(repeated, processor, os.path.join(folder, "1-0"))
        size = sum(os.path.getsize(file["filename"]) for file in features.cache_files)
        results["bytes a tweet on disk"] = size / len(features)
        for num_workers in (0, 1, 2):
            epoch = partial(read, features, processor, work.batch_size, num_workers)
            results[f"read, {num_workers} workers, tweets"] = measure(repeats, len(features), epoch)
        epoch = partial(read, features, processor, work.batch_size, 0, normalize=True)
        results["read and normalise, 0 workers, tweets"] = measure(repeats, len(features), epoch)
    tweets_a_picture = len(repeated) / pictures
    results["ratios"] = {
        name: result["per_second"] / (results[BASELINE]["per_second"] * (tweets_a_picture if "read" in name else 1))
        for name, result in results.items()
        if isinstance(result, dict)
    }
    return results


def data_lines(results: dict[str, Any]) -> list[str]:
    """The figures for people."""
    printed = [
        f"  {name:38} {results[name]['per_second']:10,.1f}/s ({results[name]['lowest']:,.1f} to "
        f"{results[name]['highest']:,.1f}), {ratio:6.2f} times the published way, peak "
        f"{results[name]['peak_memory_mb']:,.0f} MB (before {results[name]['memory_before_mb']:,.0f})"
        for name, ratio in results["ratios"].items()
    ]
    return [*printed, f"  {results['bytes a tweet on disk']:,.0f} bytes a tweet on disk"]
