"""
Measure, as ratios against named baselines in the same run.

    python scripts/benchmark.py --dataset twitter2017 --data_dir DIR --output benchmark.json
    python scripts/benchmark.py --dataset twitter2017 --data_dir DIR --parts forward training --device cuda

The towers are BERT-base and CLIP ViT-B/32 with random weights. The parts:

    data       preparing features and reading them, against opening every picture anew
    forward    forward passes in times the cost of BertModel's; the share of the machine's peak in matrix products
    inference  tweets a second from prepared features to tags, against the published way
    training   training steps, against the published way, and reading against training
    crf        Viterbi and likelihood, against pytorch-crf
    start      import to first prediction, against importing transformers and loading a BertModel
    processes  train.py by one process and by two, on the CPU
    growth     time and memory against batch, text length, crops and rows; curves to --figures

Rounds in which each run has its turn, and ratios within a round, keep a busy machine from favouring one of them.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from datasets import Dataset, concatenate_datasets

from ifaformer_commands.benchmarks.crf import measure_crf
from ifaformer_commands.benchmarks.data import data_lines, measure_data
from ifaformer_commands.benchmarks.forward import measure_forward
from ifaformer_commands.benchmarks.growth import measure_growth
from ifaformer_commands.benchmarks.growth_figures import growth_figure
from ifaformer_commands.benchmarks.inference import measure_inference
from ifaformer_commands.benchmarks.measuring import lines, machine
from ifaformer_commands.benchmarks.processes import measure_processes
from ifaformer_commands.benchmarks.start import measure_start
from ifaformer_commands.benchmarks.training import measure_training
from ifaformer_commands.benchmarks.work import NUM_CROPS, Work, lend_pictures
from ifaformer_commands.command_line import output_path, parse_arguments
from ifaformer_commands.data_options import DataSourceArguments
from processing.data.loading import load_data
from processing.data.tasks import choose_split


PARTS = {
    "data": measure_data,
    "forward": measure_forward,
    "inference": measure_inference,
    "training": measure_training,
    "crf": measure_crf,
    "start": measure_start,
    "processes": measure_processes,
    "growth": measure_growth,
}


@dataclass
class BenchmarkArguments(DataSourceArguments):
    parts: list[str] = field(
        default_factory=lambda: [*PARTS], metadata={"help": "what to measure; default: all", "choices": [*PARTS]}
    )
    split: str | None = field(default=None, metadata={"help": "split whose rows are taken; default: all of them"})
    pictures_dir: str | None = field(
        default=None,
        metadata={"help": "archive like --data_dir whose pictures the texts get in turn, where they have none"},
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "Hub name or folder; default: learnt from the texts"}
    )
    text_config: dict | str | None = field(default=None, metadata={"help": "JSON: text tower instead of BERT-base"})
    vision_config: dict | str | None = field(
        default=None, metadata={"help": "JSON: vision tower instead of CLIP ViT-B/32"}
    )
    num_tweets: int = field(default=2000, metadata={"help": "rows to prepare and read; the data set's are repeated"})
    baseline_tweets: int = field(default=300, metadata={"help": "data: rows for the slower baseline"})
    batch_size: int = field(default=32, metadata={"help": "rows a batch"})
    num_batches: int = field(default=2, metadata={"help": "batches that a model takes at a time"})
    repeats: int = field(default=3, metadata={"help": "rounds; the median counts"})
    max_rows: int = field(default=10**6, metadata={"help": "growth: most rows, those of the data set over and over"})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda"})
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "of the models; default: float32 on the cpu, else bfloat16",
            "choices": ["float32", "bfloat16"],
        },
    )
    output: str | None = field(default=None, metadata={"help": "JSON file for the figures"})
    figures: str | None = field(default=None, metadata={"help": "growth: folder for a PNG of each curve"})

    def __post_init__(self):
        for name in ("text_config", "vision_config"):
            config = getattr(self, name)
            setattr(self, name, json.loads(config) if isinstance(config, str) else config or {})
        self.dtype = self.dtype or ("float32" if self.device == "cpu" else "bfloat16")


def load_rows(arguments: BenchmarkArguments) -> Dataset:
    data, report = arguments.load(NUM_CROPS, NUM_CROPS)
    if report:
        print(report)
    rows = choose_split(data, arguments.split) if arguments.split else concatenate_datasets(list(data.values()))
    if arguments.pictures_dir is None:
        return rows
    lenders, _ = load_data(
        arguments.dataset,
        data_dir=arguments.pictures_dir,
        cache_dir=arguments.cache_dir,
        num_aux_crops=NUM_CROPS,
        num_rcnn_crops=NUM_CROPS,
    )
    return lend_pictures(rows, concatenate_datasets(list(lenders.values())))


def figure_lines(results: dict[str, Any]) -> list[str]:
    """A part's figures for people: comparisons as such, the rest by name."""
    printed = []
    for name, figure in results.items():
        if isinstance(figure, dict) and "baseline" in figure:
            printed += [f"  {name}, {lines(figure)[0]}", *lines(figure)[1:]]
        elif isinstance(figure, dict) and "exponent" in figure:
            low, high = figure["from_to"]
            printed.append(f"  {figure['name']}: from {low:,} to {high:,} as power {figure['exponent']:.2f}")
        else:
            printed.append(f"  {name}: {figure}")
    return printed


def main() -> None:
    arguments, _ = parse_arguments(BenchmarkArguments, description=__doc__)
    output = output_path(arguments.output)
    if arguments.figures:
        Path(arguments.figures).mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    torch.manual_seed(0)
    work = Work(
        rows=load_rows(arguments),
        source={
            name: getattr(arguments, name) for name in ("dataset", "data_dir", "image_dir") if getattr(arguments, name)
        },
        dtype=getattr(torch, arguments.dtype),
        **{
            name: getattr(arguments, name)
            for name in ("tokenizer", "text_config", "vision_config", "batch_size", "num_batches", "num_tweets")
        },
        **{name: getattr(arguments, name) for name in ("baseline_tweets", "max_rows", "repeats", "device")},
    )
    results: dict[str, Any] = {"machine": machine(arguments.device, arguments.repeats)}
    print("\n".join(figure_lines(results["machine"])))
    for part in arguments.parts:
        results[part] = PARTS[part](work)
        print(f"{part}:")
        print("\n".join((data_lines if part == "data" else figure_lines)(results[part])), flush=True)
        if output:
            output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if arguments.figures and "growth" in results:
        for name, curve in results["growth"].items():
            (Path(arguments.figures) / f"{name}.png").write_bytes(growth_figure(curve))


if __name__ == "__main__":
    main()
