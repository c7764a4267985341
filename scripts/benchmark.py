"""
Measure speed and memory, as ratios against named baselines in the same run.

    python scripts/benchmark.py --dataset twitter2017 --data_dir DIR --output benchmark.json
    python scripts/benchmark.py --dataset twitter2017 --data_dir DIR --parts forward training --device cuda

The towers are BERT-base and CLIP ViT-B/32 with random weights. These are the parts:

    data       Preparing features and reading them, against opening every picture anew.
    forward    Forward passes in times the cost of BertModel's, and their share of the machine's peak.
    inference  Tweets a second from prepared features to tags, against the published way.
    exported   The same with exported models, in every format and precision.
    training   Training steps against the published way, and reading against training.
    crf        Viterbi decoding and the likelihood, against pytorch-crf.
    systems    Training steps and inference of the rows of the table of systems, against BERT-CRF.
    start      From import to first prediction, against importing transformers and loading a BertModel.
    processes  train.py with one process and with two, on the CPU.
    serving    Requests a second of serve.py with 32 clients against one, and beside hostile clients.
    growth     Time and memory against batch, text length, crops and rows. --figures draws the curves.

Each run has its turn in every round, and ratios are taken within a round, so that a busy machine favours none of them.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifaformer_commands.options.command_line import check_device, option, output_path, parse_arguments, user_errors
from ifaformer_commands.options.data_options import DataSourceArguments


if TYPE_CHECKING:
    from datasets import Dataset


# By the name of each, the module of benchmarks/ that has its function `measure_NAME`.
PARTS = {"data": "data", **dict.fromkeys(("forward", "inference", "training", "crf"), "models")}
PARTS |= dict.fromkeys(("start", "processes"), "commands")
PARTS |= {name: name for name in ("exported", "serving", "systems", "growth")}


@dataclass
class BenchmarkArguments(DataSourceArguments):
    """Options of the measurements."""

    parts: list[str] = option("The parts to measure.", [*PARTS], choices=(*PARTS,))
    split: str | None = option("The split whose rows are taken. By default all rows are taken.")
    pictures_dir: str | None = option(
        "An archive like --data_dir, whose pictures are lent to the texts, which then need none."
    )
    tokenizer: str | None = option(
        "The tokenizer: a name on the Hub or a folder. By default it is learnt from the texts."
    )
    text_config: dict | None = option("The text tower's configuration as JSON, in place of BERT-base.")
    vision_config: dict | None = option("The vision tower's configuration as JSON, in place of CLIP ViT-B/32.")
    num_tweets: int = option("The number of rows to prepare and read. Rows repeat if there are fewer.", 2000)
    baseline_tweets: int = option("The number of rows for the slower baseline of the part data.", 300)
    batch_size: int = option("The number of rows in a batch.", 32)
    num_batches: int = option("The number of batches that a model takes in one run.", 2)
    repeats: int = option("The number of rounds, of which the median counts.", 3)
    max_rows: int = option("The largest number of rows in the part growth. Rows repeat.", 10**6)
    device: str = option("The device of the models: cpu or cuda.", "cpu")
    dtype: str | None = option(
        "The number type of the models. By default it is float32 on the CPU, and else bfloat16.",
        choices=["float32", "bfloat16"],
    )
    served_model: str | None = option("A trained model for the part serving, in place of random weights.")
    output: str | None = option("The JSON file into which the figures are written.")
    figures: str | None = option("The folder into which a PNG of each curve of the part growth is written.")


def load_rows(arguments: BenchmarkArguments, num_crops: int) -> "Dataset":
    """Texts with their pictures, or with those of --pictures_dir."""
    from datasets import concatenate_datasets

    from ifaformer_commands.benchmarks.work import lend_pictures
    from processing.data.tasks import choose_split

    data, report = arguments.load(num_crops, num_crops)
    if report:
        print(report)
    rows = choose_split(data, arguments.split) if arguments.split else concatenate_datasets(list(data.values()))
    if arguments.pictures_dir is None:
        return rows
    source = DataSourceArguments(arguments.dataset, arguments.pictures_dir, cache_dir=arguments.cache_dir)
    lenders, _ = source.load(num_crops, num_crops)
    return lend_pictures(rows, concatenate_datasets(list(lenders.values())))


def main() -> None:
    arguments, _ = parse_arguments(BenchmarkArguments, description=__doc__)
    output = output_path(arguments.output)

    import datasets
    import torch

    from ifaformer_commands.benchmarks.growth import draw_curves
    from ifaformer_commands.benchmarks.measuring import figure_lines, machine
    from ifaformer_commands.benchmarks.work import NUM_CROPS, Work
    from processing.jobs.atomic_files import write_json
    from processing.problems import check_at_least_one

    datasets.disable_progress_bars()
    torch.manual_seed(0)
    with user_errors(ImportError):
        check_device(arguments.device)
        numbers = ("num_tweets", "baseline_tweets", "batch_size", "num_batches", "repeats", "max_rows")
        check_at_least_one(**{name: getattr(arguments, name) for name in numbers})
        rows = load_rows(arguments, NUM_CROPS)
        work = Work(arguments, rows)
        results: dict[str, Any] = {"machine": machine(arguments.device, arguments.repeats)}
        print("\n".join(figure_lines(results["machine"])))
        for part in arguments.parts:
            module = import_module(f"ifaformer_commands.benchmarks.{PARTS[part]}")
            results[part] = getattr(module, f"measure_{part}")(work)
            print(f"{part}:")
            print("\n".join(figure_lines(results[part])), flush=True)
            if output:
                write_json(results, output)
        if arguments.figures and "growth" in results:
            draw_curves(results["growth"], Path(arguments.figures))


if __name__ == "__main__":
    main()
