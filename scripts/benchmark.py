"""
Measure, as ratios against named baselines in the same run.

    python scripts/benchmark.py --dataset twitter2017 --data_dir DIR --num_tweets 2000 --output benchmark.json

`data`: preparing features and reading them, against the published way, which opens every picture and crop anew in
every epoch and calls the image processor once for each. The data set's rows are repeated to --num_tweets.
"""

import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import datasets
import psutil
import torch
import transformers
from data_arguments import DataSourceArguments, choose_split
from datasets import Dataset, concatenate_datasets
from recipe import output_path, parse_arguments
from transformers import CLIPImageProcessorPil

from processing import IFAformerProcessor
from processing.features import prepare_features
from processing.images import load_image
from processing.tokenizer_training import train_wordpiece


@dataclass
class BenchmarkArguments(DataSourceArguments):
    split: str | None = field(default=None, metadata={"help": "split whose rows are repeated; default: all of them"})
    num_tweets: int = field(default=2000, metadata={"help": "rows to prepare and read"})
    baseline_tweets: int = field(default=300, metadata={"help": "rows for the slower baseline"})
    batch_size: int = field(default=32, metadata={"help": "rows a batch"})
    repeats: int = field(default=3, metadata={"help": "times each measurement is taken; the median counts"})
    output: str | None = field(default=None, metadata={"help": "JSON file for the figures"})


class PeakMemory:
    """
    Memory of this process and its children in MB, at the start and the peak of what is seen every 20 ms: pages that
    they share count once, those of mapped files not at all (on Linux; elsewhere all that is theirs alone).
    """

    def __enter__(self) -> "PeakMemory":
        self._stop = threading.Event()
        self.start = self.peak = self._now()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        own = psutil.Process()
        return sum(map(self._of, [own, *own.children(recursive=True)]))

    @staticmethod
    def _of(process: psutil.Process) -> float:
        try:
            with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
                sizes = dict(line.split(":") for line in file if line.startswith("Pss_"))
            return sum(int(sizes[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem")) / 1e3
        except ProcessLookupError:  # it has ended meanwhile
            return 0.0
        except FileNotFoundError:
            return process.memory_full_info().uss / 1e6 if process.is_running() else 0.0


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


def published_way(rows: Dataset, processor: IFAformerProcessor) -> None:
    """Every picture opened, and the image processor called, one by one."""
    sizes = {"image": processor.image_processor.crop_size["height"]}
    sizes |= {f"{kind}_crops": getattr(processor, f"{kind}_crop_size") for kind in ("aux", "rcnn")}
    for row in rows:
        for column, size in sizes.items():
            pictures = row[column] if isinstance(row[column], list) else [row[column]]
            for picture in pictures:
                if picture is not None:
                    processor.image_processor(
                        load_image(picture),
                        size={"shortest_edge": size},
                        crop_size={"height": size, "width": size},
                        return_tensors="pt",
                    )


def read(
    features: Dataset, processor: IFAformerProcessor, batch_size: int, num_workers: int, normalize: bool = False
) -> None:
    """An epoch in random order, batches collated by the workers, and normalised here as in training on a CPU."""
    loader = torch.utils.data.DataLoader(
        features, batch_size, shuffle=True, collate_fn=processor.data_collator, num_workers=num_workers
    )
    for batch in loader:
        if normalize:
            processor.normalize_pixels(batch)


def num_pictures(rows: Dataset) -> int:
    return sum((row["image"] is not None) + len(row["aux_crops"]) + len(row["rcnn_crops"]) for row in rows)


def measure_data(rows: Dataset, arguments: BenchmarkArguments) -> dict[str, Any]:
    repeated = rows.select([index % len(rows) for index in range(arguments.num_tweets)])
    some = rows.select([index % len(rows) for index in range(min(arguments.baseline_tweets, arguments.num_tweets))])
    processor = IFAformerProcessor(CLIPImageProcessorPil(), train_wordpiece(w for t in rows["tokens"] for w in t))
    baseline_pictures, pictures = num_pictures(some), num_pictures(repeated)

    results: dict[str, Any] = {
        "tweets": len(repeated),
        "pictures": pictures,
        "published way, pictures": measure(
            arguments.repeats, baseline_pictures, partial(published_way, some, processor)
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        for num_proc in (1, 2):
            runs = iter(range(arguments.repeats))

            def prepare(num_proc: int = num_proc, runs=runs) -> None:
                prepare_features(repeated, processor, os.path.join(folder, f"{num_proc}-{next(runs)}"), num_proc)

            results[f"prepare, {num_proc} processes, pictures"] = measure(arguments.repeats, pictures, prepare)
        features = prepare_features(repeated, processor, os.path.join(folder, "1-0"))
        size = sum(os.path.getsize(file["filename"]) for file in features.cache_files)
        results["bytes a tweet on disk"] = size / len(features)
        for num_workers in (0, 1, 2):
            epoch = partial(read, features, processor, arguments.batch_size, num_workers)
            results[f"read, {num_workers} workers, tweets"] = measure(arguments.repeats, len(features), epoch)
        epoch = partial(read, features, processor, arguments.batch_size, 0, normalize=True)
        results["read and normalise, 0 workers, tweets"] = measure(arguments.repeats, len(features), epoch)
    baseline = results["published way, pictures"]["per_second"]
    tweets_a_picture = len(repeated) / pictures
    results["ratios"] = {
        name: result["per_second"] / (baseline * (tweets_a_picture if name.startswith("read") else 1))
        for name, result in results.items()
        if isinstance(result, dict)
    }
    return results


def machine() -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, datasets)},
    }


def main() -> None:
    arguments, _ = parse_arguments(BenchmarkArguments, description=__doc__)
    output = output_path(arguments.output)
    datasets.disable_progress_bars()
    data, report = arguments.load(3, 3)  # as published
    if report:
        print(report)
    rows = choose_split(data, arguments.split) if arguments.split else concatenate_datasets(list(data.values()))
    results = {"machine": machine(), "data": measure_data(rows, arguments)}
    for name, result in results["data"].items():
        if isinstance(result, dict) and "per_second" in result:
            ratio = results["data"]["ratios"][name]
            print(
                f"{name:38} {result['per_second']:10,.1f}/s ({result['lowest']:,.1f} to {result['highest']:,.1f}), "
                f"{ratio:6.2f} times the published way, peak {result['peak_memory_mb']:,.0f} MB "
                f"(before {result['memory_before_mb']:,.0f})"
            )
    print(f"{results['data']['bytes a tweet on disk']:,.0f} bytes a tweet on disk")
    if output:
        output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
