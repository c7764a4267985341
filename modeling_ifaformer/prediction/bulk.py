"""Bulk prediction, window by window."""

import json
import sys
import time
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tqdm import tqdm

from processing.jobs.atomic_files import replacing
from processing.jobs.processes import on_main, writing
from processing.rendering import page
from processing.tagged_text import TaggedRow

from .chart import top_entities_chart
from .input_rows import InputRow, RowSource
from .options import PredictionArguments
from .parts import Parts, json_line
from .prediction_report import PredictionReport, top_lines
from .taggers import TimedPipeline, load_tagger
from .windows import tag_window, windows


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
        JobError: where a part cannot be written.
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
        JobError: for an output of another run, and where something cannot be written.
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
