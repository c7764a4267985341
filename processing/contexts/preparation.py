"""Contexts for any data set: its pictures become words, and its rows are stored with these."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers

from processing.columns import CROP_KINDS, PICTURE_COLUMNS
from processing.context import CONTEXT, read_context
from processing.crops.cropped_rows import (
    LookedAtPicture,
    Place,
    by_row,
    grouped_places,
    keep_own_crops,
    read_picture,
    store_pictures,
    with_stored_pictures,
)
from processing.images import MAX_MEGAPIXELS
from processing.jobs.digests import checkpoint_digest, content_digests
from processing.jobs.output_folder import ResumableOutput
from processing.problems import Problem, check_at_least_one
from processing.rows.local_paths import check_shareable, without_folders
from processing.rows.parquet_folder import cut_shards, first_rows, write_shards
from processing.rows.row_features import is_list_column, with_context, with_objects

from .readers import Captioner, ContextOptions, LetterReader, is_asked


def prepare_contexts(
    data: datasets.DatasetDict,
    folder: str | os.PathLike,
    options: ContextOptions,
    *,
    name: str,
    batch_size: int = 8,
    rows_per_shard: int = 256,
    limit: int | None = None,
    overwrite: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> dict[str, Any] | None:
    """
    Look at the pictures of a data set and store its rows with the column `context`, shard by shard. A context that
    rows have already stays in front.

        data, report = load_data("demo")
        options = ContextOptions(caption_model="Salesforce/blip-image-captioning-base", ocr=True)
        summary = prepare_contexts(data, "contexts/demo", options, name="demo")

    A run that is killed goes on as that of [`prepare_crops`] does, and several processes share the shards.

    Args:
        data: the splits, pictures encoded, as `load_data` gives them.
        folder: where `data/*.parquet` and `contexts.json` are written; made where it is absent.
        options: what is to be said of the pictures.
        name: of the data set, for the settings and messages.
        batch_size, rows_per_shard, limit, overwrite, max_megapixels: as for [`prepare_crops`].

    Returns:
        What `contexts.json` holds: settings, counts by split, what could not be read, versions. None where the folder
        was finished already, from the same rows and pictures; then no model is loaded.

    Raises:
        ValueError: for options out of range, and for what [`check_shareable`] refuses, since the folder has the
            pictures inside.
        JobError: for a model or a program that cannot be used, a folder that is in use, holds something else or cannot
            be written, and a batch that is too large for the device.
    """
    check_at_least_one(batch_size=batch_size, rows_per_shard=rows_per_shard, limit=limit)
    check_shareable(data)
    data = first_rows(data, limit)
    folder, shards = Path(folder), cut_shards(data, rows_per_shard)
    output = ResumableOutput(folder, work=folder / ".parts", parts=folder / "data", summary=folder / "contexts.json")

    def begin() -> set[str] | None:
        settings: dict[str, Any] = {"dataset": without_folders(name), "limit": limit, "rows_per_shard": rows_per_shard}
        settings |= {"max_megapixels": max_megapixels, **_reader_settings(options)}
        settings |= content_digests(data, PICTURE_COLUMNS)
        return output.claim(settings, contents=("rows", "pictures"), overwrite=overwrite)

    def finish() -> dict[str, Any]:
        counts: dict[str, Counter[str]] = {split: Counter(rows=0) for split in data}
        unreadable = []
        for part, (split, _) in shards.items():
            record = output.record(part)
            counts[split].update(record["counts"])
            unreadable += [{"split": split, **problem} for problem in record["unreadable"]]
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return output.finish({"splits": counts, "unreadable": unreadable, "versions": versions})

    def make_change(device: torch.device) -> Callable[..., Any]:
        return ContextFinder(options, batch_size, device, max_megapixels).add_contexts

    return write_shards(output, data, shards, begin, make_change, finish)


def _reader_settings(options: ContextOptions) -> dict[str, Any]:
    """What decides the words. A model or a program that cannot be used is an error."""
    settings: dict[str, Any] = {"captions": None, "ocr": None}
    if options.caption_model is not None:
        asked = {"prompt": options.caption_prompt} if is_asked(options.caption_model) else {}
        settings["captions"] = {
            "model": without_folders(options.caption_model),
            "checkpoint": checkpoint_digest(options.caption_model),
            "max_tokens": options.max_caption_tokens,
            **asked,
        }
    if options.ocr:
        reader = LetterReader(options.ocr_languages, options.ocr_confidence)
        settings["ocr"] = {
            "program": reader.version,
            "languages": reader.languages,
            "confidence": options.ocr_confidence,
        }
    return settings


class ContextFinder:
    """The model and the program of a context preparation, which give rows their contexts."""

    def __init__(
        self,
        options: ContextOptions,
        batch_size: int,
        device: torch.device | str,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self.readers: dict[str, Callable[..., list[Any]]] = {}  # by the kind of what they give
        if options.caption_model is not None:
            of_captions = (options.max_caption_tokens, device, options.caption_prompt)
            self.readers["caption"] = Captioner(options.caption_model, *of_captions)
        if options.ocr:
            self.readers["ocr"] = LetterReader(options.ocr_languages, options.ocr_confidence)
        self.batch_size, self.max_megapixels = batch_size, max_megapixels

    def add_contexts(
        self, rows: datasets.Dataset, progress: Callable[[int], Any] = lambda number: None
    ) -> tuple[datasets.Dataset, dict[str, Any]]:
        """
        The rows with their contexts, and their pictures and crops as bytes. A picture that cannot be read is left out.
        A picture that several rows have is looked at once. All rows are in memory. `progress` is called with the
        number of rows that have been dealt with since the last call.

        Returns:
            The rows, and a record of them: `counts` and `unreadable` (`id`, `column` and `reason`).
        """
        columns: dict[str, Any] = rows[:]
        num_rows, unreadable = len(rows), []
        contexts = [read_context(value) for value in columns.get(CONTEXT) or [None] * num_rows]
        counts = Counter(rows=num_rows, pictures=0, pictures_unreadable=0, **dict.fromkeys(self.readers, 0))
        has_several = is_list_column(rows, "image")
        sources, groups = grouped_places(columns["image"], [None] * num_rows)
        progress(num_rows - sum(place == 0 for places in groups for _, place in places))
        found: dict[Place, LookedAtPicture] = {}
        said: dict[Place, dict[str, Any]] = {}  # of each picture what each reader says
        for start in range(0, len(groups), self.batch_size):
            batch = groups[start : start + self.batch_size]
            pictures = [read_picture(sources[places[0][0]][places[0][1]], self.max_megapixels) for places in batch]
            shown = [(number, picture.image) for number, picture in enumerate(pictures) if picture.image is not None]
            of_pictures: list[dict[str, Any]] = [{} for _ in batch]
            for kind, reader in self.readers.items() if shown else ():
                for (number, _), words in zip(shown, reader([image for _, image in shown]), strict=True):
                    of_pictures[number][kind] = words
            for places, picture, of_picture in zip(batch, pictures, of_pictures, strict=True):
                picture.image = None
                found |= dict.fromkeys(places, picture)
                said |= dict.fromkeys(places, of_picture)
            progress(sum(place == 0 for places in batch for _, place in places))
        for place, picture in sorted(found.items(), key=lambda each: each[0]):
            counts["pictures" if picture.problem is None else "pictures_unreadable"] += 1
            for kind, words in said[place].items():
                if isinstance(words, Problem):
                    reason = f"{picture.name or 'bytes'}: {words}"
                    unreadable.append({"id": columns["id"][place[0]], "column": "image", "reason": reason})
                elif words:
                    contexts[place[0]].append({"kind": kind, "text": words})
                    counts[kind] += 1
        of_rows = by_row(found)
        unreadable += store_pictures(columns, of_rows, has_several)
        for kind in CROP_KINDS:
            unreadable += keep_own_crops(columns, kind, of_rows if has_several else {}, self.max_megapixels)
        counts["rows_with_context"] = sum(map(bool, contexts))
        columns[CONTEXT] = contexts
        told = with_stored_pictures(columns, with_context(with_objects(rows.features)))
        return told, {"counts": counts, "unreadable": unreadable}
