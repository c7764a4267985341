"""Bulk prediction: rows of any number go through a pipeline, window by window."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from processing.base_pipeline import BasePipeline
from processing.inspection.contact_sheet import png
from processing.jobs.atomic_files import replacing
from processing.jobs.output_folder import ResumableOutput
from processing.jobs.processes import JobError, on_main, process_state, writing
from processing.problems import check_at_least_one
from processing.tagged_text import TaggedRow

from .annotation_files import annotation_path, write_annotation_file
from .chart import top_entities_figure
from .input_rows import InputRow, RowSource, row_digest
from .prediction_page import article, results_page
from .prediction_report import PredictionReport
from .results_file import check_output, merge_results, output_schema, write_results
from .taggers import found_by, stage_seconds, tagger_settings
from .windows import WINDOW_BATCHES, WINDOW_BYTES, cut_windows, tag_window


# Settings that are digests, or long.
CONTENTS = ("input_content", "model_content", "relation_model_content", "relation_types", "detectors")


@dataclass
class BulkPrediction:
    """
    The prediction of many rows, in bounded memory.

        rows = file_rows(["tweets.jsonl"])
        report = BulkPrediction(rows, load_tagger("runs/demo")).write_file("entities.jsonl")

    Args:
        source: the rows.
        tagger: the pipeline, made with all its options.
        batch_size: rows in a batch.
        html: a page to write, with what was found in the first rows. It names problems by row, column and kind, and
            has no picture from outside of the folder of the input.
        html_limit: rows on that page.
        to: the annotation tool for which the results are written once more, one of `TOOLS`, see
            [`write_annotation_file`]. It can be given later, for an output that is finished.
        least_certain: write so many rows for annotation, those whose `confidence` is the lowest, see [`TaggedRow`];
            each result has it then.
        top_entities: how many entities of each type the report is to tell; None: entities are not counted by name.

    Raises:
        ValueError: for an option that is out of range.
    """

    source: RowSource
    tagger: BasePipeline
    batch_size: int = 32
    html: str | Path | None = None
    html_limit: int = 100
    top_entities: int | None = None
    to: str | None = None
    least_certain: int | None = None

    def __post_init__(self) -> None:
        names = ("batch_size", "html_limit", "top_entities", "least_certain")
        check_at_least_one(**{name: getattr(self, name) for name in names})
        self.found, self.explain = found_by(self.tagger), self.tagger._forward_params.get("explain")

    def hand_over(self, write: Callable[[TaggedRow], Any]) -> PredictionReport:
        """
        Tag the rows, in this process, and hand each result over as it comes, in the order of the rows. A result is
        what the pipeline returns for `on_error="report"`, with the `id` of a row that has one, and with the paths of
        its pictures (`image`, `aux_crops`, `rcnn_crops`) as the row names them.

        Returns:
            The counts, and what was wrong with which rows.

        Raises:
            OSError: for a page that cannot be written.
            JobError: for rows that cannot be read, and for too little memory.
        """

        def records() -> Iterator[dict[str, Any]]:
            with stage_seconds(self.tagger) as seconds:
                for _, first_row, rows in self._windows(seconds):
                    results, record = self._tag(rows, first_row, seconds)
                    for result in results:
                        write(result)
                    yield record

        return self._report(records())

    def write_file(self, output: str | Path, overwrite: bool = False) -> PredictionReport | None:
        """
        Tag the rows, and write the results to a file. Processes that `accelerate launch` started share the work. A run
        that was killed goes on where it was when it is called again; until then its finished windows lie in the folder
        `OUTPUT.parts`. Beside the output, `OUTPUT.report.json` has the counts and the settings,
        `OUTPUT.top_entities.png` shows the entities that `top_entities` asks for, and [`annotation_path`] is what `to`
        and `least_certain` ask for.

        Args:
            output: the file, JSON lines or Parquet by its ending. It appears once it is whole.
            overwrite: make the output anew in place of that of another run.

        Returns:
            The counts, in every process; None where the output was finished before.

        Raises:
            ValueError, OSError: for an output that [`check_output`] refuses.
            JobError: for an output of other rows, another model or other options, and one that cannot be written; for
                rows that cannot be read, and for too little memory.
        """
        output = Path(output)
        check_output(output, self.source.names)
        if (path := self.annotation_path(output)) is not None:
            check_output(path, self.source.names)
        several = getattr(self.tagger.processor, "max_images", 1) > 1
        state, schema = (
            process_state(),
            output_schema(self.found, self.explain is not None, self.least_certain is not None, several),
        )
        work, summary, chart = (
            output.with_name(output.name + more) for more in (".parts", ".report.json", ".top_entities.png")
        )
        with ResumableOutput(output, work=work, ending=output.suffix, summary=summary) as parts:
            done = on_main(state, lambda: parts.claim(self._settings(), contents=CONTENTS, overwrite=overwrite))
            if done is None:
                on_main(state, lambda: self._write_for_annotation(output))
                return None
            start = time.perf_counter()
            names: list[str] = []
            num_left = rows_left = 0
            with tqdm(unit=" rows", disable=not state.is_main_process) as bar, stage_seconds(self.tagger) as seconds:
                for name, first_row, rows in self._windows(seconds, " What was tagged is kept."):
                    if name in done:
                        if len(names) % state.num_processes == state.process_index:
                            self._check_unchanged(output, rows, parts.record(name)["rows"])
                    else:
                        if num_left % state.num_processes == state.process_index:
                            results, record = self._tag(rows, first_row, seconds)
                            record["rows"] = [row_digest(row) for row in rows]
                            parts.write(name, partial(write_results, results, schema=schema), record)
                        num_left += 1
                        rows_left += len(rows)
                    names.append(name)
                    bar.update(len(rows))
            state.wait_for_everyone()
            rows_per_second = round(rows_left / (time.perf_counter() - start), 2) if rows_left else None

            def finish() -> PredictionReport:
                with writing(output):
                    merge_results(map(parts.path, names), output, schema)
                    report = self._report(map(parts.record, names))
                    report.rows_per_second = rows_per_second
                    if self.top_entities is not None and report.entities:
                        with replacing(chart) as file:
                            top = report.top_entities(self.top_entities)
                            file.write(png(top_entities_figure(top, self.top_entities)))
                    self._write_for_annotation(output)
                parts.finish(report.to_dict(self.top_entities))
                return report

            return on_main(state, finish)

    def _check_unchanged(self, output: Path, rows: list[InputRow], before: list[str]) -> None:
        """Refuse to go on where rows that are tagged already, or their pictures, have changed since."""
        now = [row_digest(row) for row in rows]
        other = [row.place for row, one, earlier in zip(rows, now, before, strict=False) if one != earlier]
        if other or len(now) != len(before):
            raise JobError(
                f"{output} was begun from other rows: {', '.join(other[:5]) or rows[-1].place}"
                f"{f' and {len(other) - 5} more' if len(other) > 5 else ''} or their pictures have changed since they "
                "were tagged. Name another output, or replace this one (--overwrite true)."
            )

    def annotation_path(self, output: Path) -> Path | None:
        """The file that `to` and `least_certain` ask for beside the output; None where they do not."""
        return None if self.to is None and self.least_certain is None else annotation_path(output, self.to)

    def _write_for_annotation(self, output: Path) -> None:
        if self.annotation_path(output) is not None:
            model = Path(self.tagger.name_or_path).name
            write_annotation_file(self.source, output, self.to, model, self.least_certain)

    def _settings(self) -> dict[str, Any]:
        """All that decides what the output holds, but for pictures in files of their own, see [`row_digest`]."""
        return {
            **tagger_settings(self.tagger),
            "input": list(self.source.names),
            "input_content": self.source.content,
            **{name: getattr(self, name) for name in ("batch_size", "html", "html_limit", "top_entities")},
            "confidence": self.least_certain is not None,
            "window": [WINDOW_BATCHES, WINDOW_BYTES],
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }

    def _windows(self, seconds: dict[str, float], kept: str = "") -> Iterator[tuple[str, int, list[InputRow]]]:
        """
        Name, number of the first row, and rows of each window, which is read once the one before is dealt with. `kept`
        is added to the message where rows cannot be read.
        """
        windows, first_row = cut_windows(self.source.read(), self.batch_size), 0
        for index in count():
            start = time.perf_counter()
            try:
                rows = next(windows, None)
            except (OSError, ValueError) as error:
                raise JobError(f"{error}{kept}") from error
            seconds["read"] += time.perf_counter() - start
            if rows is None:
                return
            yield f"{index:07d}", first_row, rows
            first_row += len(rows)

    def _tag(
        self, rows: list[InputRow], first_row: int, seconds: dict[str, float]
    ) -> tuple[list[TaggedRow], dict[str, Any]]:
        """The results of a window, and what the report and the page need of them, as JSON takes it."""
        start = time.perf_counter()
        try:
            results = tag_window(rows, self.tagger, self.batch_size)
        except torch.OutOfMemoryError as error:
            raise JobError(
                f"There is too little memory for {self.batch_size} rows in a batch ({error}). Give a smaller "
                "batch_size, and overwrite: the last digits of scores depend on the batches."
            ) from error
        for result in results if self.least_certain is not None else ():
            result["confidence"] = result.confidence
        seconds["process"] = time.perf_counter() - start - seconds["detect"] - seconds["tag"]
        report = self._empty_report()
        for row, result in zip(rows, results, strict=True):
            report.add(row.place, result)
        report.seconds.update({stage: seconds[stage] for stage in ("read", "process", "detect", "tag")})
        seconds.clear()
        num_shown = max(0, self.html_limit - first_row) if self.html is not None else 0
        shown = [article(row, result) for row, result in zip(rows[:num_shown], results, strict=False)]
        return results, {"report": vars(report), "articles": shown}

    def _empty_report(self) -> PredictionReport:
        return PredictionReport(self.found, names=None if self.top_entities is None else {})

    def _report(self, records: Iterable[dict[str, Any]]) -> PredictionReport:
        """The counts of all windows, whose page is written if one is wanted."""
        report, articles = self._empty_report(), []
        for record in records:
            report.update(record["report"])
            articles += record["articles"]
        if self.html is not None:
            title, model = " and ".join(self.found).capitalize(), Path(self.tagger.name_or_path).name
            with replacing(self.html) as file:
                file.write(results_page(title, model, articles, report, self.explain is not None))
        return report
