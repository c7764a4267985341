"""Bulk prediction: rows of any number go through a pipeline, window by window."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
import transformers
from tqdm import tqdm

from processing import IFAformerPipeline
from processing.jobs.atomic_files import replacing
from processing.jobs.output_folder import ResumableOutput
from processing.jobs.processes import JobError, on_main, process_state, writing
from processing.rendering import page
from processing.tagged_text import TaggedRow

from .chart import top_entities_chart
from .input_rows import InputRow, RowSource
from .prediction_report import PredictionReport
from .results_file import check_output, merge_results, output_schema, write_results
from .taggers import StageClock, explanation_of, found_by, tagger_settings
from .windows import WINDOW_BATCHES, WINDOW_BYTES, cut_windows, tag_window


# Settings that are digests.
CONTENTS = ("input_content", "model_content", "relation_model_content", "detectors")


class TaggedWindow(NamedTuple):
    """
    A window of rows after the pipeline, or one that is left to others.

    Attributes:
        part: the name of the window, by its number.
        num_rows: how many rows it has.
        results: of the rows; None where the window was done before, or is another process's.
        report: counts of the results, and the seconds since the window before.
        articles: HTML of those rows that the page shows.
    """

    part: str
    num_rows: int
    results: list[TaggedRow] | None
    report: PredictionReport
    articles: list[str]


@dataclass
class BulkPrediction:
    """
    The prediction of many rows, in bounded memory.

        rows = file_rows(["tweets.jsonl"])
        report = BulkPrediction(rows, load_tagger("runs/demo")).write_file(Path("entities.jsonl"))

    Args:
        source: the rows.
        tagger: the pipeline, made with all its options.
        batch_size: rows in a batch.
        html: a page to write, with what was found in the first rows.
        html_limit: rows on that page.
        top_entities: how many entities of each type the report is to tell; None: entities are not counted by name.

    Raises:
        ValueError: for an option that is out of range, or does not fit the model.
    """

    source: RowSource
    tagger: IFAformerPipeline
    batch_size: int = 32
    html: Path | None = None
    html_limit: int = 100
    top_entities: int | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "html_limit", "top_entities"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self.found = found_by(self.tagger)
        if self.top_entities is not None and "entities" not in self.found:
            raise ValueError("top_entities works only for entity models; this is a relation model.")

    def hand_over(self, write: Callable[[TaggedRow], Any]) -> PredictionReport:
        """
        Tag the rows, in this process, and hand the results over as they come.

        Args:
            write: is called with each result, in the order of the rows. A result is what the pipeline returns for
                `on_error="report"`, with the `id` of a row that has one.

        Returns:
            The counts, and what was wrong with which rows.

        Raises:
            OSError: for a page that cannot be written.
            JobError: for rows that cannot be read, and for too little memory.
        """
        report, articles = self._empty_report(), []
        for window in self._tagged_windows():
            for result in window.results or ():
                write(result)
            report.update(window.report)
            articles += window.articles
        self._write_page(articles, report.rows)
        return report

    def write_file(self, output: Path, overwrite: bool = False) -> PredictionReport | None:
        """
        Tag the rows, and write the results to a file. Processes that `accelerate launch` started share the work. A run
        that was killed goes on where it was when it is called again; until then its finished windows lie in the folder
        `OUTPUT.parts`. Beside the output, `OUTPUT.report.json` has the counts and the settings, and
        `OUTPUT.top_entities.png` shows the entities that `top_entities` asks for.

        Args:
            output: the file, JSON lines or Parquet by its ending. It appears once it is whole.
            overwrite: make the output anew in place of that of another run.

        Returns:
            The counts, in every process; None where the output was finished before.

        Raises:
            ValueError, OSError: see [`check_output`].
            JobError: for an output of other rows, another model or other options, and one that cannot be written; for
                rows that cannot be read, and for too little memory.
        """
        check_output(output, self.source.names)
        state = process_state()
        schema = output_schema(self.found, explanation_of(self.tagger) is not None)
        work = output.with_name(f"{output.name}.parts")
        with ResumableOutput(output, work=work, ending=output.suffix, summary=report_path(output)) as parts:
            done = on_main(state, lambda: parts.claim(self._settings(), contents=CONTENTS, overwrite=overwrite))
            if done is None:
                return None
            start = time.perf_counter()
            names, rows_left = [], 0
            with tqdm(unit=" rows", disable=not state.is_main_process) as progress:
                for window in self._tagged_windows(done):
                    if window.results is not None:
                        write = partial(write_results, window.results, schema=schema)
                        parts.write(
                            window.part, write, {"report": window.report.to_dict(), "articles": window.articles}
                        )
                    names.append(window.part)
                    rows_left += 0 if window.part in done else window.num_rows
                    progress.update(window.num_rows)
            state.wait_for_everyone()
            rows_per_second = round(rows_left / (time.perf_counter() - start), 2) if rows_left else None
            return on_main(state, lambda: self._finish(parts, names, schema, rows_per_second))

    def _finish(
        self, parts: ResumableOutput, names: Sequence[str], schema: pa.Schema, rows_per_second: float | None
    ) -> PredictionReport:
        """The output, page, chart and report of all windows; the report, which comes last, says that all is there."""
        report, articles = self._empty_report(), []
        for record in map(parts.record, names):
            report.update(PredictionReport.from_dict(record["report"]))
            articles += record["articles"]
        report.rows_per_second = rows_per_second
        with writing(parts.output):
            merge_results(map(parts.path, names), parts.output, schema)
            self._write_page(articles, report.rows)
            if report.entities and self.top_entities is not None:
                with replacing(parts.output.with_name(f"{parts.output.name}.top_entities.png")) as file:
                    file.write(top_entities_chart(report.top_entities(self.top_entities)))
        parts.finish(report.published(self.top_entities))
        return report

    def _settings(self) -> dict[str, Any]:
        """All that decides what the output holds, but for pictures that lie in files of their own."""
        return {
            **tagger_settings(self.tagger),
            "input": list(self.source.names),
            "input_content": self.source.content,
            **{name: getattr(self, name) for name in ("batch_size", "html", "html_limit", "top_entities")},
            "window": [WINDOW_BATCHES, WINDOW_BYTES],
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }

    def _tagged_windows(self, done: Collection[str] = ()) -> Iterator[TaggedWindow]:
        """
        All windows in order. Those whose part is done, and those that other processes tag, have no results. A window
        is read when the one before it has been dealt with, no sooner.
        """
        state, clock = process_state(), StageClock()
        windows = cut_windows(self.source.read(), self.batch_size)
        first_row = num_left = 0
        with clock.watching(self.tagger):
            for index in count():
                try:
                    with clock.stage("read"):
                        rows = next(windows, None)
                except (OSError, ValueError) as error:
                    raise JobError(f"{error} What was tagged is kept.") from error
                if rows is None:
                    return
                part, report = f"{index:07d}", self._empty_report()
                results, articles = None, []
                if part not in done:
                    if num_left % state.num_processes == state.process_index:
                        results = self._tag(rows)
                        for row, result in zip(rows, results, strict=True):
                            report.add(row.place, result)
                        shown = max(0, self.html_limit - first_row) if self.html else 0
                        articles = [result._repr_html_() for result in results[:shown]]
                        report.seconds = clock.read()
                    num_left += 1
                yield TaggedWindow(part, len(rows), results, report, articles)
                first_row += len(rows)

    def _tag(self, rows: list[InputRow]) -> list[TaggedRow]:
        try:
            return tag_window(rows, self.tagger, self.batch_size)
        except torch.OutOfMemoryError as error:
            raise JobError(
                f"There is too little memory for {self.batch_size} rows in a batch ({error}). Give a smaller "
                "batch_size, and overwrite: the last digits of scores depend on the batches."
            ) from error

    def _empty_report(self) -> PredictionReport:
        return PredictionReport(self.found, names=None if self.top_entities is None else {})

    def _write_page(self, articles: list[str], num_rows: int) -> None:
        """The page of the first rows, if one is wanted. It says how many rows there were."""
        if self.html is None:
            return
        shown = f"The first {len(articles)} of" if len(articles) < num_rows else "All"
        notes = [f"{shown} {num_rows} tweets."]
        if explanation_of(self.tagger) is not None:
            notes.append("The wider the line of a box, the more its crop speaks for the entity.")
        title = f"{' and '.join(self.found).capitalize()} by {Path(self.tagger.model.name_or_path).name}"
        with replacing(self.html) as file:
            text = page(title, f'<p class="note">{" ".join(notes)}</p>{"".join(articles)}')
            file.write(text.encode(errors="replace"))  # half of a surrogate pair is no text


def report_path(output: Path) -> Path:
    """Where the report of an output lies."""
    return output.with_name(f"{output.name}.report.json")
