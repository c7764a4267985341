r"""
Entities of tweets and their pictures, one JSON line a tweet, in input order.

    python scripts/predict.py --model runs/demo --text "Jordan was great tonight" --image photo.jpg
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl
    python scripts/predict.py --model runs/demo --dataset demo --limit 3 --explain occlusion --html report.html
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    accelerate launch --config_file scripts/accelerate/ddp_8_gpus.yaml scripts/predict.py --model runs/demo ...

An input file is plain text (a tweet a line), CSV, JSON lines or Parquet with the columns `text` or `tokens` (a list
of words), and, if there are pictures, `image`, `aux_crops` and `rcnn_crops` (a path, lists of paths), relative to the
file or to --image_dir. In CSV words are separated by spaces, paths by `;`. A row or a picture that cannot be used is
named under `problems` of its tweet; all are counted at the end. Rows are read, tagged and written batch by batch;
several processes share the batches, and the output is in input order all the same. It appears once it is whole.

Without crops of their own, rows get those that the detectors find in their pictures, as prepare_crops.py would store
them. --explain says which picture or crop speaks for an entity; --html shows texts, pictures and boxes on a page.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, fields
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from checkpoint import load_checkpoint
from data_arguments import DataSourceArguments, choose_split
from recipe import output_path, parse_arguments
from tqdm import tqdm

from processing import IFAformerPipeline
from processing.data import DATASETS
from processing.explanations import METHODS
from processing.object_proposals import ProposalOptions
from processing.parquet_folder import replacing
from processing.rendering import page
from processing.row_pictures import CROP_CHOICES
from processing.rows import OBJECT_COLUMNS
from processing.tables import RowError, place_of, read_table
from processing.tagged_text import TaggedText


@dataclass
class PredictionArguments(ProposalOptions, DataSourceArguments):
    option_prefix: ClassVar[str] = "--"

    model: str | None = field(default=None, metadata={"help": "a trained IFAformer, Hub name or folder"})
    text: str | None = field(default=None, metadata={"help": "one tweet"})
    image: str | None = field(default=None, metadata={"help": "its picture"})
    aux_crops: list[str] | None = field(default=None, metadata={"help": "its crops by visual grounding"})
    rcnn_crops: list[str] | None = field(default=None, metadata={"help": "its crops by a detector"})
    input: str | None = field(default=None, metadata={"help": "file of tweets: .txt, .csv, .jsonl, .parquet"})
    dataset: str | None = field(default=None, metadata={"help": f"{', '.join(DATASETS)}, or a folder, instead"})
    split: str = field(default="test", metadata={"help": "which split of it"})
    limit: int | None = field(default=None, metadata={"help": "stop after this many tweets"})
    output: str | None = field(default=None, metadata={"help": "file of JSON lines; left out, they are printed"})
    crops: str = field(default="auto", metadata={"help": "auto: a row's own, else the detectors'; none: no crops"})
    explain: str | None = field(default=None, metadata={"help": f"which crop speaks: {', '.join(METHODS)}"})
    html: str | None = field(default=None, metadata={"help": "page of the tweets with entities, pictures and boxes"})
    html_limit: int = field(default=100, metadata={"help": "only so many tweets on the page, from the first on"})
    batch_size: int = field(default=32, metadata={"help": "tweets a batch"})
    device: str | None = field(default=None, metadata={"help": "default: cuda where there is one, else cpu"})


def read_rows(arguments: PredictionArguments) -> Iterator[dict[str, Any]]:
    """Rows with `text` or `tokens` and pictures, or with what is wrong with a row under `problems`."""
    if arguments.text is not None:
        yield {
            "text": arguments.text,
            "image": arguments.image,
            "aux_crops": arguments.aux_crops,
            "rcnn_crops": arguments.rcnn_crops,
        }
    elif arguments.input is not None:
        path = Path(arguments.input)
        folder = Path(arguments.image_dir) if arguments.image_dir else path.parent
        for place, row in read_table(path):
            try:
                if isinstance(row, RowError):
                    raise ValueError(row.reason)
                yield _checked(row, folder)
            except ValueError as error:
                yield {"problems": [f"{place_of(str(path), place)}: {error}"]}
    elif arguments.dataset is not None:
        data, report = arguments.load()
        if report:
            print(report, file=sys.stderr)
        for row in choose_split(data, arguments.split):
            names = ("id", "tokens", "image", "aux_crops", "rcnn_crops", *OBJECT_COLUMNS)
            yield {name: row[name] for name in names if name in row}
    else:
        raise ValueError("Nothing to tag: give --text, --input or --dataset.")


def _checked(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """
    The row with empty columns gone and its pictures below `folder`.

    Raises:
        ValueError: for columns that hold something else.
    """
    row = {name: value for name, value in row.items() if value not in (None, [])}
    if "text" in row and not isinstance(row["text"], str):
        raise ValueError(f"expected text to be a string, got {row['text']!r}")
    if "tokens" in row and not _is_strings(row["tokens"]):
        raise ValueError(f"expected tokens to be a list of words, got {row['tokens']!r}")
    if "text" not in row and "tokens" not in row:
        raise ValueError(f"expected a column text (a string) or tokens (a list of words), got {sorted(row)}")
    if "image" in row:
        row["image"] = _below(folder, row["image"], "image")
    for name in ("aux_crops", "rcnn_crops"):
        if name in row:
            crops = row[name] if isinstance(row[name], list) else [row[name]]
            row[name] = [_below(folder, crop, name) for crop in crops]
    return row


def _below(folder: Path, picture: Any, column: str) -> Any:
    """A path as one below the folder; bytes and what datasets stores stay."""
    if isinstance(picture, str):
        return folder / picture
    if isinstance(picture, bytes | dict):
        return picture
    raise ValueError(f"expected paths or bytes of pictures in {column}, got {picture!r:.80}")


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def check_table(path: Path) -> None:
    """
    Raises:
        SystemExit: for no such file, or one that cannot be read, before a model is loaded.
    """
    try:
        next(iter(read_table(path)), None)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error


def tag(batch: list[dict[str, Any]], tagger: IFAformerPipeline) -> Iterator[TaggedText]:
    """Each row's text, entities, crops and problems, in order."""
    readable = [row for row in batch if "problems" not in row]
    results = iter(tagger(readable, batch_size=len(batch), on_error="report") if readable else ())
    for row in batch:
        if "problems" in row:
            yield TaggedText(text=None, entities=[], problems=row["problems"])
        else:
            result = TaggedText({**({"id": row["id"]} if "id" in row else {}), **next(results)})
            result.image = row.get("image")
            yield result


def batches(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, size)):
        yield batch


def merge(parts: list[Path], output: Path, batch_size: int) -> None:
    """The processes' files, of which each holds every so many-th batch, as one in input order; they are removed."""
    with ExitStack() as stack, replacing(output) as file:
        for part in cycle([stack.enter_context(open(part, "rb")) for part in parts]):
            lines = list(islice(part, batch_size))
            file.writelines(lines)
            if len(lines) < batch_size:  # the last batch, or the end just before it
                break
    for part in parts:
        part.unlink()


def write_page(path: Path, title: str, articles: list[str], number: int, is_explained: bool) -> None:
    """A page of the first tweets, which says how many there were."""
    notes = [f"{number} tweets." if len(articles) == number else f"The first {len(articles)} of {number} tweets."]
    if is_explained:
        notes.append("The line of a box is the wider the more its crop speaks for the entity.")
    with replacing(path) as file:
        body = f'<p class="note">{" ".join(notes)}</p>{"".join(articles)}'
        file.write(page(title, body).encode(errors="replace"))  # half a surrogate pair is no text


def check(arguments: PredictionArguments) -> None:
    """
    Raises:
        ValueError: for an option out of range.
    """
    arguments.check()
    if arguments.crops not in CROP_CHOICES:
        raise ValueError(f"--crops must be one of {', '.join(CROP_CHOICES)}, got {arguments.crops!r}.")
    if arguments.explain is not None and arguments.explain not in METHODS:
        raise ValueError(f"--explain must be one of {', '.join(METHODS)}, got {arguments.explain!r}.")
    if arguments.html_limit < 1:
        raise ValueError(f"--html_limit must be at least 1, got {arguments.html_limit}.")


def main() -> None:
    arguments, _ = parse_arguments(PredictionArguments, description=__doc__)
    if arguments.model is None:
        raise SystemExit("Name the model: --model runs/demo")
    try:
        check(arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    output, report = output_path(arguments.output), output_path(arguments.html)
    if arguments.input is not None:
        check_table(Path(arguments.input))
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one.
    on_cpu = arguments.device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=7))
    if state.num_processes > 1 and output is None:
        raise SystemExit("Several processes need --output, the file in which their results are merged.")
    if state.num_processes > 1 and report is not None:
        raise SystemExit("--html is written by one process: leave it out, or start one.")
    model, processor = load_checkpoint(arguments.model)
    tagger = IFAformerPipeline(
        model=model,
        processor=processor,
        device=arguments.device or state.device,
        crops=arguments.crops,
        explain=arguments.explain,
        **{option.name: getattr(arguments, option.name) for option in fields(ProposalOptions)},
    )

    rows = islice(read_rows(arguments), arguments.limit)
    parts = [output.with_name(f"{output.name}.part-{rank}") for rank in range(state.num_processes)] if output else []
    counts: Counter[str] = Counter()
    articles: list[str] = []  # of the page
    with (
        open(parts[state.process_index], "w", encoding="utf-8") if parts else nullcontext(sys.stdout) as file,
        tqdm(unit=" tweets", disable=not parts or not state.is_main_process) as progress,
    ):
        for number, batch in enumerate(batches(rows, arguments.batch_size)):
            if number % state.num_processes != state.process_index:
                continue
            for result in tag(batch, tagger):
                file.write(json.dumps(result, ensure_ascii=False) + "\n")
                if report and len(articles) < arguments.html_limit:
                    articles.append(result._repr_html_())
                counts["tweets"] += 1
                counts["entities"] += len(result["entities"])
                counts["tweets with problems"] += "problems" in result
            progress.update(len(batch))
    if output:
        counts = sum(gather_object([counts]), Counter())
        state.wait_for_everyone()
        if state.is_main_process:
            merge(parts, output, arguments.batch_size)
    if report:
        title = f"Entities by {Path(arguments.model).name}"
        write_page(report, title, articles, counts["tweets"], arguments.explain is not None)
    if state.is_main_process:
        print(", ".join(f"{count} {name}" for name, count in counts.items()), file=sys.stderr)
    state.destroy_process_group()


if __name__ == "__main__":
    main()
