r"""
Entities of tweets and their pictures, or the relation of two of them, one JSON line a tweet, in input order.

    python scripts/predict.py --model runs/demo --text "Jordan was great tonight" --image photo.jpg
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl
    python scripts/predict.py --model runs/demo --input 'tweets/*.parquet' --output entities.parquet --top_entities 20
    python scripts/predict.py --model runs/demo --dataset demo --limit 3 --explain occlusion --html report.html
    python scripts/predict.py --model runs/demo --input tweets.jsonl --output entities.jsonl \
        --aux_detector IDEA-Research/grounding-dino-tiny --rcnn_detector PekingU/rtdetr_r50vd
    python scripts/predict.py --model runs/demo_re --text "Jordan met Paris" --head Jordan --tail Paris
    python scripts/predict.py --model runs/demo --relation_model runs/demo_re --input tweets.jsonl --output all.jsonl
    accelerate launch --config_file scripts/accelerate/ddp_8_gpus.yaml scripts/predict.py --model runs/demo ...

An input file is plain text (a tweet a line), CSV, JSON lines or Parquet with the columns `text` or `tokens` (a list
of words), and, if there are pictures, `image`, `aux_crops` and `rcnn_crops` (a path, lists of paths), relative to the
file or to --image_dir. In CSV words are separated by spaces, paths by `;`. Several files, folders and patterns are
read one after the other. A row or a picture that cannot be used is named under `problems` of its tweet.

What is found is what the checkpoint is for. One of relations needs the columns `head` and `tail`: the entity as it
stands in the text, once; or, but for CSV, [start, end] or {"start", "end"}, end exclusive, characters of `text` or
words of `tokens`. A line then has `relation`, `score`, `head` and `tail`. --relation_model, beside a checkpoint of
entities, adds `relations` between them to each line.

Rows are read, tagged and written window by window (64 batches), so that memory does not grow with their number; within
a window, batches are made of tweets of like length. Several processes share the windows, and the output is in input
order all the same. It appears once it is whole. Killed or failed, the same command goes on where it was, with any
number of processes; what is done lies in OUTPUT.parts/ until then. OUTPUT.report.json has the settings, counts by
type and relation, and what was wrong with which rows.

Without crops of their own, rows get those that the detectors find in their pictures, as prepare_crops.py would store
them. --explain says which picture or crop speaks for an entity; --html shows texts, pictures and boxes on a page.
"""

import json
import sys
import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from prediction_arguments import PredictionArguments, open_source
from prediction_chart import top_entities_chart
from prediction_parts import Parts, json_line
from prediction_report import PredictionReport, top_lines
from prediction_rows import InputRow, RowSource
from prediction_taggers import load_tagger
from prediction_windows import tag_window, windows
from recipe import output_path, parse_arguments
from timed_pipeline import TimedPipeline
from tqdm import tqdm

from processing.crop_preparation import MainProcessError, PreparationError, on_main, writing
from processing.parquet_folder import replacing
from processing.rendering import page
from processing.tagged_text import TaggedRow


def tagged_windows(
    arguments: PredictionArguments,
    source: RowSource,
    tagger: TimedPipeline,
    state: PartialState,
    done: Collection[int] = (),
) -> Iterator[tuple[int, int, list[InputRow], list[TaggedRow] | None]]:
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


def report_of(
    arguments: PredictionArguments, window: list[InputRow], results: list[TaggedRow], tagger: TimedPipeline
) -> PredictionReport:
    """Counts of a window, and the seconds since the one before."""
    report = PredictionReport(arguments.found)
    for row, result in zip(window, results, strict=True):
        report.add(row.place, result)
    report.seconds, tagger.seconds = tagger.seconds, type(tagger.seconds)()
    return report


def articles_of(arguments: PredictionArguments, first_row: int, results: list[TaggedRow]) -> list[str]:
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
        text = page(f"{' and '.join(arguments.found).capitalize()} by {Path(arguments.model).name}", body)
        file.write(text.encode(errors="replace"))  # half a surrogate pair is no text


def print_results(
    arguments: PredictionArguments, source: RowSource, tagger: TimedPipeline, state: PartialState
) -> PredictionReport:
    """Results to stdout as they come, and what there is to say of them to stderr."""
    report, articles = PredictionReport(arguments.found), []
    for _, first_row, window, results in tagged_windows(arguments, source, tagger, state):
        sys.stdout.writelines(map(json_line, results))
        report.update(report_of(arguments, window, results, tagger), with_names=arguments.top_entities is not None)
        articles += articles_of(arguments, first_row, results)
    if arguments.html:
        write_page(Path(arguments.html), arguments, articles, report.rows)
    print_report(arguments, report, sys.stderr)
    return report


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
                report = report_of(arguments, window, results, tagger)
                articles = articles_of(arguments, first_row, results)
                with writing(parts.folder):
                    parts.write(index, results, {"report": report.to_dict(), "articles": articles})
            number += 1
            rows_left += 0 if index in done else len(window)
            progress.update(len(window))
    return number, rows_left


def finish(
    arguments: PredictionArguments, parts: Parts, number: int, rows_left: int, seconds: float
) -> PredictionReport:
    """The output, page, chart and report of all windows; the report, which comes last, says that all is there."""
    report, articles = PredictionReport(arguments.found), []
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
    return report


def make_output(
    arguments: PredictionArguments, source: RowSource, state: PartialState, output: Path
) -> PredictionReport | None:
    """
    Returns:
        The counts, None where the output was finished before.

    Raises:
        PreparationError: for an output of another run, and where something cannot be written.
        MainProcessError: in the other processes where the main one raises.
    """
    parts = Parts(output, arguments.schema)
    done = on_main(state, lambda: parts.claim(arguments.settings(source), arguments.overwrite))
    if done is None:
        if state.is_main_process:
            print(f"{output} is finished: nothing to do. --overwrite makes it anew.")
        return None
    tagger = load_tagger(arguments, state.device)
    start = time.perf_counter()
    number, rows_left = write_parts(arguments, source, tagger, state, parts, done)
    state.wait_for_everyone()
    seconds = time.perf_counter() - start
    return on_main(state, lambda: finish(arguments, parts, number, rows_left, seconds))


def main() -> None:
    arguments, _ = parse_arguments(PredictionArguments, description=__doc__)
    try:
        arguments.check()
        output, _ = output_path(arguments.output), output_path(arguments.html)
        arguments.check_models()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one.
    on_cpu = arguments.device == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=7))
    if state.num_processes > 1 and output is None:
        raise SystemExit("Several processes need --output, the file in which their results are merged.")
    with state.main_process_first():  # the others find a data set that the first one prepared in the cache
        source = open_source(arguments, state.is_main_process)
    try:
        if output is None:
            report = print_results(arguments, source, load_tagger(arguments, state.device), state)
        else:
            report = make_output(arguments, source, state, output)
    except PreparationError as error:
        raise SystemExit(str(error)) from error
    except MainProcessError as error:
        raise SystemExit(1) from error
    state.destroy_process_group()
    if report is not None and report.rows and not report.tagged:
        raise SystemExit(f"None of the {report.rows} rows could be used; the first reasons are above.")


if __name__ == "__main__":
    main()
