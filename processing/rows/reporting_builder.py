"""A `datasets` builder of tweets with pictures that says what it loaded and what it could not."""

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datasets

from processing.columns import CROP_COLUMNS
from processing.images import MAX_MEGAPIXELS
from processing.jobs.cache_errors import cache_errors
from processing.jobs.digests import code_digest, digest

from .loading_report import LoadingReport, SplitReport
from .picture_files import PictureFolder, PictureReader


REPORT_FILENAME = "loading_report.json"


@dataclass
class ReportingBuilderConfig(datasets.BuilderConfig):
    """
    Options of a builder.

    Attributes:
        num_aux_crops, num_rcnn_crops: how many of the crops that are listed for a row are used, from the first on, for
            each of its pictures.
        verify_pictures: decode each picture in full, so that those that cannot be decoded are in the report and in no
            row. Without, only its file is looked for, and [`prepare_features`] finds out.
        max_megapixels: the largest picture that can be used, with `verify_pictures`.
    """

    version: datasets.Version | str = "1.0.0"
    num_aux_crops: int = 3
    num_rcnn_crops: int = 3
    verify_pictures: bool = False
    max_megapixels: float = MAX_MEGAPIXELS


class ReportingBuilder(datasets.GeneratorBasedBuilder):
    """
    Base of the builders that keep a [`LoadingReport`] beside the prepared rows. `_split_generators` of a subclass sets
    `_report`, its `_generate_examples` fills it; its configurations are [`ReportingBuilderConfig`]s.

    Args:
        content: a digest of the files that are read. With that of the code it keeps data that were prepared from
            others from being taken for these.
        cache_dir, kwargs: as in `datasets.DatasetBuilder`; options of the configuration, such as `num_aux_crops`, too.
    """

    _report: LoadingReport | None = None
    FOUND_ELSEWHERE = ""  # the sentence that says what to do where every picture of a column is missing

    def __init__(self, *, content: str, cache_dir: str | None = None, **kwargs: Any):
        with cache_errors(cache_dir):
            self._readers: dict[str, PictureReader] = {}
            super().__init__(cache_dir, hash=digest(code_digest(), content), **kwargs)
        for number in (f"num_{column}" for column in CROP_COLUMNS):
            value = getattr(self.config, number)
            if type(value) is not int or value < 0:
                raise ValueError(f"{number} must be an int, 0 or more, got {value!r}.")

    @property
    def report(self) -> LoadingReport:
        """
        What was loaded and what is absent: of the prepared data, also where they come from the cache, or of the rows
        that a streaming dataset has read so far in this process.
        """
        if self._report is None:
            path = posixpath.join(self._output_dir, REPORT_FILENAME)
            if not self._fs.exists(path):
                raise RuntimeError("No report yet: call download_and_prepare() or as_streaming_dataset() first.")
            with self._fs.open(path, "r", encoding="utf-8") as file:
                self._report = LoadingReport.from_dict(json.load(file), path)
        return self._report

    def _start_split(
        self, split: str, root: str, folders: Mapping[str, PictureFolder], has_several_images: bool = False
    ) -> PictureReader:
        """A reader of a split's pictures with an empty report, so that a second pass over a stream counts afresh."""
        report = self.report.splits[split] = SplitReport()
        limits = {column: getattr(self.config, f"num_{column}") for column in CROP_COLUMNS}
        of_pictures = (self.config.verify_pictures, self.config.max_megapixels, has_several_images)
        self._readers[split] = reader = PictureReader(root, folders, limits, report, *of_pictures)
        return reader

    def download_and_prepare(self, output_dir: str | None = None, *args: Any, **kwargs: Any) -> None:
        """As in `datasets.DatasetBuilder`; the `report` is then that of the prepared rows."""
        with cache_errors(output_dir or self.cache_dir):
            super().download_and_prepare(output_dir, *args, **kwargs)
        self._report = None  # It is read from the file, which was written now or by an earlier run.

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._download_and_prepare(*args, **kwargs)
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, ValueError):  # It names the file, and datasets hides it.
                raise ValueError(str(error.__cause__)) from error
            raise
        for split, reader in self._readers.items():
            try:
                reader.check_found()
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{self.config.data_dir}, {split}: {error} {self.FOUND_ELSEWHERE}") from None
            loaded = self.report.splits[split]
            if loaded.skipped and not loaded.counts["rows"]:
                of_split = f"{self.config.data_dir}: none of the {len(loaded.skipped)} rows of the {split} split"
                raise ValueError(f"{of_split} can be used:\n{loaded.skipped[0]}")
        # `_output_dir` is now the temporary folder, which replaces the real one as a whole once all is written.
        with self._fs.open(posixpath.join(self._output_dir, REPORT_FILENAME), "w", encoding="utf-8") as file:
            json.dump(self.report.to_dict(), file, indent=1)
