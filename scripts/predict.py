r"""
Entities of tweets and their pictures, one JSON line a tweet, in input order.

    python scripts/predict.py --model runs/demo --text "Jordan was great tonight" --image photo.jpg
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl
    python scripts/predict.py --model runs/demo --input 'tweets/*.parquet' --output entities.parquet --top_entities 20
    python scripts/predict.py --model runs/demo --dataset demo --limit 3 --explain occlusion --html report.html
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    accelerate launch --config_file scripts/accelerate/ddp_8_gpus.yaml scripts/predict.py --model runs/demo ...

An input file is plain text (a tweet a line), CSV, JSON lines or Parquet with the columns `text` or `tokens` (a list
of words), and, if there are pictures, `image`, `aux_crops` and `rcnn_crops` (a path, lists of paths), relative to the
file or to --image_dir. In CSV words are separated by spaces, paths by `;`. Several files, folders and patterns are
read one after the other. A row or a picture that cannot be used is named under `problems` of its tweet.

Rows are read, tagged and written window by window (64 batches), so that memory does not grow with their number; within
a window, batches are made of tweets of like length. Several processes share the windows, and the output is in input
order all the same. It appears once it is whole. Killed or failed, the same command goes on where it was, with any
number of processes; what is done lies in OUTPUT.parts/ until then. OUTPUT.report.json has the settings, counts by
type, and what was wrong with which rows.

Without crops of their own, rows get those that the detectors find in their pictures, as prepare_crops.py would store
them. --explain says which picture or crop speaks for an entity; --html shows texts, pictures and boxes on a page.
"""

import json
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
import transformers
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from checkpoint import load_checkpoint
from data_arguments import DataSourceArguments, choose_split
from prediction_chart import top_entities_chart
from prediction_parts import OUTPUT_ENDINGS, Parts, json_line
from prediction_report import PredictionReport, top_lines
from prediction_rows import InputRow, RowSource, check_not_read, dataset_source, file_source, text_source
from prediction_windows import WINDOW_BATCHES, WINDOW_BYTES, tag_window, windows
from recipe import output_path, parse_arguments
from timed_pipeline import TimedPipeline
from tqdm import tqdm

from processing.crop_preparation import MainProcessError, PreparationError, on_main, writing
from processing.crops import checkpoint_digest
from processing.data import DATASETS
from processing.explanations import METHODS
from processing.object_proposals import ProposalOptions
from processing.parquet_folder import replacing
from processing.rendering import page
from processing.row_pictures import CROP_CHOICES
from processing.tagged_text import TaggedText


@dataclass
class PredictionArguments(ProposalOptions, DataSourceArguments):
    option_prefix: ClassVar[str] = "--"

    model: str | None = field(default=None, metadata={"help": "a trained IFAformer, Hub name or folder"})
    text: str | None = field(default=None, metadata={"help": "one tweet"})
    image: str | None = field(default=None, metadata={"help": "its picture"})
    aux_crops: list[str] | None = field(default=None, metadata={"help": "its crops by visual grounding"})
    rcnn_crops: list[str] | None = field(default=None, metadata={"help": "its crops by a detector"})
    input: list[str] | None = field(
        default=None,
        metadata={"help": "files of tweets: .txt, .csv, .jsonl, .parquet; folders of such; patterns in quotes"},
    )
    dataset: str | None = field(default=None, metadata={"help": f"{', '.join(DATASETS)}, or a folder, instead"})
    split: str = field(default="test", metadata={"help": "which split of it"})
    limit: int | None = field(default=None, metadata={"help": "stop after this many tweets"})
    output: str | None = field(default=None, metadata={"help": ".jsonl or .parquet; left out, lines are printed"})
    overwrite: bool = field(default=False, metadata={"help": "make the output anew in place of that of another run"})
    crops: str = field(default="auto", metadata={"help": "auto: a row's own, else the detectors'; none: no crops"})
    explain: str | None = field(default=None, metadata={"help": f"which crop speaks: {', '.join(METHODS)}"})
    html: str | None = field(default=None, metadata={"help": "page of the tweets with entities, pictures and boxes"})
    html_limit: int = field(default=100, metadata={"help": "only so many tweets on the page, from the first on"})
    top_entities: int | None = field(
        default=None, metadata={"help": "of each type the most frequent entities: printed, and a chart by the output"}
    )
    batch_size: int = field(default=32, metadata={"help": "tweets a batch"})
    device: str | None = field(default=None, metadata={"help": "default: cuda where there is one, else cpu"})

    def check(self) -> None:
        """
        Raises:
            ValueError: for an option that is missing or out of range.
        """
        if self.model is None:
            raise ValueError("Name the model: --model runs/demo")
        if self.text is None and self.input is None and self.dataset is None:
            raise ValueError("Nothing to tag: give --text, --input or --dataset.")
        super().check()
        for name, choices in (("crops", CROP_CHOICES), ("explain", tuple(METHODS))):
            value = getattr(self, name)
            if value not in choices and (name, value) != ("explain", None):
                raise ValueError(f"--{name} must be one of {', '.join(choices)}, got {value!r}.")
        for name in ("html_limit", "batch_size", "limit", "top_entities"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")
        if self.output is not None and Path(self.output).suffix.lower() not in OUTPUT_ENDINGS:
            raise ValueError(f"--output must end in {', '.join(OUTPUT_ENDINGS)}, got {self.output!r}.")
        if self.output is not None:
            check_not_read(Path(self.output), self.input or [name for name in (self.dataset,) if name])

    def settings(self, source: RowSource) -> dict[str, Any]:
        """
        All that decides what the output holds, but for pictures that lie in files of their own.

        Raises:
            OSError: for a model or detector that is not there.
        """
        free = ("output", "overwrite", "device", "cache_dir")
        return {
            **{name: value for name, value in asdict(self).items() if name not in free},
            "input_content": source.content,
            "model_content": checkpoint_digest(self.model),
            "detectors": {kind: checkpoint_digest(detector) for kind, detector in self.detectors.items()},
            "window": [WINDOW_BATCHES, WINDOW_BYTES],
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }


def open_source(arguments: PredictionArguments, is_main_process: bool = True) -> RowSource:
    """
    The rows to be tagged.

    Raises:
        SystemExit: for no such file or data set, or one that cannot be read.
    """
    if arguments.text is not None:
        names = ("text", "image", "aux_crops", "rcnn_crops")
        return text_source({name: getattr(arguments, name) for name in names})
    if arguments.input is not None:
        try:
            return file_source(arguments.input, arguments.image_dir)
        except (OSError, ValueError) as error:
            raise SystemExit(str(error)) from error
    data, report = arguments.load()
    if report and is_main_process:
        print(report, file=sys.stderr)
    return dataset_source(choose_split(data, arguments.split), f"{arguments.dataset} {arguments.split}")


def tagged_windows(
    arguments: PredictionArguments,
    source: RowSource,
    tagger: TimedPipeline,
    state: PartialState,
    done: Collection[int] = (),
) -> Iterator[tuple[int, int, list[InputRow], list[TaggedText] | None]]:
    """
    Number of each window and of its first row, its rows, and their results, None where it is done already or another
    process's. A window is read when the one before it has been dealt with, no sooner.

    Raises:
        SystemExit: for a file that turns out to be damaged, and for too little memory.
    """
    rows = windows(islice(source.read(), arguments.limit), arguments.batch_size)
    first_row = left = index = 0
    while True:
        try:
            with tagger.clock("read"):
                window = next(rows, None)
        except (OSError, ValueError) as error:
            raise SystemExit(f"{error} What was tagged is kept.") from error
        if window is None:
            return
        results = None
        if index not in done:
            if left % state.num_processes == state.process_index:
                try:
                    results = tag_window(window, tagger, arguments.batch_size)
                except torch.OutOfMemoryError as error:
                    raise SystemExit(
                        f"Out of memory with {arguments.batch_size} tweets in a batch: give a smaller --batch_size, "
                        f"with --overwrite, for batches decide the last digits of scores. ({error})"
                    ) from error
            left += 1
        yield index, first_row, window, results
        index, first_row = index + 1, first_row + len(window)


def report_of(window: list[InputRow], results: list[TaggedText], tagger: TimedPipeline) -> PredictionReport:
    """Counts of a window, and the seconds since the one before."""
    report = PredictionReport()
    for row, result in zip(window, results, strict=True):
        report.add(row.place, result)
    report.seconds, tagger.seconds = tagger.seconds, type(tagger.seconds)()
    return report


def articles_of(arguments: PredictionArguments, first_row: int, results: list[TaggedText]) -> list[str]:
    """Of the page, those of a window."""
    shown = max(0, arguments.html_limit - first_row) if arguments.html else 0
    return [result._repr_html_() for result in results[:shown]]


def write_page(path: Path, arguments: PredictionArguments, articles: list[str], number: int) -> None:
    """A page of the first tweets, which says how many there were."""
    notes = [f"{number} tweets." if len(articles) == number else f"The first {len(articles)} of {number} tweets."]
    if arguments.explain is not None:
        notes.append("The line of a box is the wider the more its crop speaks for the entity.")
    with replacing(path) as file:
        body = f'<p class="note">{" ".join(notes)}</p>{"".join(articles)}'
        text = page(f"Entities by {Path(arguments.model).name}", body)
        file.write(text.encode(errors="replace"))  # half a surrogate pair is no text


def print_results(
    arguments: PredictionArguments, source: RowSource, tagger: TimedPipeline, state: PartialState
) -> None:
    """Results to stdout as they come, and what there is to say of them to stderr."""
    report, articles = PredictionReport(), []
    for _, first_row, window, results in tagged_windows(arguments, source, tagger, state):
        sys.stdout.writelines(map(json_line, results))
        report.update(report_of(window, results, tagger), with_names=arguments.top_entities is not None)
        articles += articles_of(arguments, first_row, results)
    if arguments.html:
        write_page(Path(arguments.html), arguments, articles, report.rows)
    print_report(arguments, report, sys.stderr)


def print_report(arguments: PredictionArguments, report: PredictionReport, file: Any) -> None:
    print(report.summary(), file=file)
    if arguments.top_entities is not None:
        print(*top_lines(report.top_entities(arguments.top_entities)), sep="\n", file=file)


def write_parts(
    arguments: PredictionArguments,
    source: RowSource,
    tagger: TimedPipeline,
    state: PartialState,
    parts: Parts,
    done: Collection[int],
) -> tuple[int, int]:
    """
    This process's share of the windows.

    Returns:
        How many windows there are, and how many rows all processes had left to tag.

    Raises:
        PreparationError: where a part cannot be written.
    """
    number = rows_left = 0
    with tqdm(unit=" tweets", disable=not state.is_main_process) as progress:
        for index, first_row, window, results in tagged_windows(arguments, source, tagger, state, done):
            if results is not None:
                report = report_of(window, results, tagger)
                articles = articles_of(arguments, first_row, results)
                with writing(parts.folder):
                    parts.write(index, results, {"report": report.to_dict(), "articles": articles})
            number += 1
            rows_left += 0 if index in done else len(window)
            progress.update(len(window))
    return number, rows_left


def finish(arguments: PredictionArguments, parts: Parts, number: int, rows_left: int, seconds: float) -> None:
    """The output, page, chart and report of all windows; the report, which comes last, says that all is there."""
    report, articles = PredictionReport(), []
    for record in parts.records(number):
        report.update(PredictionReport.from_dict(record["report"]), with_names=arguments.top_entities is not None)
        articles += record["articles"]
    with writing(parts.output.parent):
        parts.merge(number)
        if arguments.html:
            write_page(Path(arguments.html), arguments, articles, report.rows)
        values = report.published() | {"rows_per_second": round(rows_left / seconds, 2) if rows_left else None}
        if arguments.top_entities is not None:
            top = report.top_entities(arguments.top_entities)
            values["top_entities"] = {entity_type: dict(of_type) for entity_type, of_type in top.items()}
            if top:
                with replacing(parts.output.with_name(f"{parts.output.name}.top_entities.png")) as file:
                    file.write(top_entities_chart(top))
        values["settings"] = json.loads((parts.folder / "settings.json").read_bytes())
        with replacing(parts.report) as file:
            file.write(json.dumps(values, indent=2, ensure_ascii=False).encode(errors="replace"))
        parts.remove()
    print_report(arguments, report, sys.stdout)
    if rows_left:
        print(f"{rows_left} rows in {seconds:.1f} s: {rows_left / seconds:.1f} a second")
    print(f"{parts.output} is finished; {parts.report} has the counts.")


def make_output(arguments: PredictionArguments, source: RowSource, state: PartialState, output: Path) -> None:
    """
    Raises:
        PreparationError: for an output of another run, and where something cannot be written.
        MainProcessError: in the other processes where the main one raises.
    """
    parts = Parts(output, is_explained=arguments.explain is not None)
    done = on_main(state, lambda: parts.claim(arguments.settings(source), arguments.overwrite))
    if done is None:
        if state.is_main_process:
            print(f"{output} is finished: nothing to do. --overwrite makes it anew.")
        return
    tagger = load_tagger(arguments, state)
    start = time.perf_counter()
    number, rows_left = write_parts(arguments, source, tagger, state, parts, done)
    state.wait_for_everyone()
    seconds = time.perf_counter() - start
    on_main(state, lambda: finish(arguments, parts, number, rows_left, seconds))


def load_tagger(arguments: PredictionArguments, state: PartialState) -> TimedPipeline:
    model, processor = load_checkpoint(arguments.model)
    return TimedPipeline(
        model=model,
        processor=processor,
        device=arguments.device or state.device,
        crops=arguments.crops,
        explain=arguments.explain,
        **{option.name: getattr(arguments, option.name) for option in fields(ProposalOptions)},
    )


def main() -> None:
    arguments, _ = parse_arguments(PredictionArguments, description=__doc__)
    try:
        arguments.check()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    output, _ = output_path(arguments.output), output_path(arguments.html)
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one.
    on_cpu = arguments.device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=7))
    if state.num_processes > 1 and output is None:
        raise SystemExit("Several processes need --output, the file in which their results are merged.")
    with state.main_process_first():  # the others find a data set that the first one prepared in the cache
        source = open_source(arguments, state.is_main_process)
    try:
        if output is None:
            print_results(arguments, source, load_tagger(arguments, state), state)
        else:
            make_output(arguments, source, state, output)
    except PreparationError as error:
        raise SystemExit(str(error)) from error
    except MainProcessError as error:
        raise SystemExit(1) from error
    state.destroy_process_group()


if __name__ == "__main__":
    main()
