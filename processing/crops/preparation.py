"""Crops for any data set: detectors look at its pictures, and its rows are stored with what they find."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import torch
import transformers

from processing.columns import CROP_KINDS, OBJECT_COLUMNS, as_list
from processing.images import MAX_MEGAPIXELS, load_image
from processing.inspection.contact_sheet import SheetEntry, contact_sheet
from processing.jobs.atomic_files import replacing
from processing.jobs.digests import checkpoint_digest, content_digests
from processing.jobs.output_folder import ResumableOutput
from processing.jobs.processes import writing
from processing.labels import tag_types, types_of_relations
from processing.object_proposals import (
    DetectedObject,
    PhraseFinder,
    ProposalOptions,
    is_zero_shot_checkpoint,
)
from processing.problems import check_at_least_one
from processing.rows.local_paths import check_shareable, without_folders
from processing.rows.parquet_folder import Shards, cut_shards, first_rows, write_shards
from processing.tokenizing import row_words

from .cropped_rows import CropFinder


def prepare_crops(
    data: datasets.DatasetDict,
    folder: str | os.PathLike,
    options: ProposalOptions,
    *,
    name: str,
    batch_size: int = 8,
    rows_per_shard: int = 256,
    limit: int | None = None,
    contact_sheet_rows: int = 12,
    seed: int = 0,
    overwrite: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> dict[str, Any] | None:
    """
    Look at the pictures of a data set and store its rows with crops, shard by shard.

        data, report = load_data("demo")
        options = ProposalOptions(aux_detector="IDEA-Research/grounding-dino-tiny")
        summary = prepare_crops(data, "crops/demo", options, name="demo")

    After a kill the same call goes on with the shards that are not there yet, with any number of processes and any
    batch size. Call it in every process that `accelerate launch` or `torchrun` starts; they share the shards.

    Args:
        data: the splits, pictures encoded, as `load_data` gives them.
        folder: where `data/*.parquet`, `contact_sheet.png` and `crops.json` are written; made where it is absent.
        options: what to look for, with which detectors; at least one.
        name: of the data set, for the settings and messages.
        batch_size: pictures in a forward pass.
        rows_per_shard: rows in a Parquet file.
        limit: only so many rows of each split, from the first on.
        contact_sheet_rows: pictures on the contact sheet; 0 for no sheet.
        seed: decides which pictures these are.
        overwrite: replace the rows of another run.
        max_megapixels: the largest picture, see [`load_image`].

    Returns:
        What `crops.json` holds: settings, counts by split, labels by kind, what could not be read, versions. None
        where the folder was finished already, from the same rows and pictures; then no detector is loaded.

    Raises:
        ValueError: for options that are missing or out of range, and for what [`check_shareable`] refuses, since the
            folder has the pictures inside.
        JobError: for a detector or phrases that cannot be used, a folder that is in use, holds something else or
            cannot be written, and a batch that is too large for the device.
    """
    check_detectors(options)
    check_at_least_one(batch_size=batch_size, rows_per_shard=rows_per_shard, limit=limit)
    if contact_sheet_rows < 0:
        raise ValueError(f"contact_sheet_rows must be at least 0, got {contact_sheet_rows}.")
    check_shareable(data)
    data = first_rows(data, limit)
    features = next(iter(data.values())).features
    folder, shards = Path(folder), cut_shards(data, rows_per_shard)
    output = ResumableOutput(folder, work=folder / ".parts", parts=folder / "data", summary=folder / "crops.json")

    def begin() -> set[str] | None:
        settings: dict[str, Any] = {"dataset": without_folders(name), "limit": limit, "rows_per_shard": rows_per_shard}
        settings["max_megapixels"] = max_megapixels
        # The own crops of a kind are kept where there is no detector for it.
        kept = [f"{kind}_crops" for kind in CROP_KINDS if kind not in options.detectors]
        settings |= _detector_settings(options) | content_digests(data, ("image", *kept))
        finder = _phrase_finder(options, features)
        settings["phrases"] = finder and finder.settings
        return output.claim(settings, contents=("rows", "pictures"), overwrite=overwrite)

    def finish() -> dict[str, Any]:
        records = {part: output.record(part) for part in shards}
        pictures = [(part, row) for part in shards for row in records[part]["pictures"]]
        chosen = random.Random(seed).sample(range(len(pictures)), min(contact_sheet_rows, len(pictures)))
        detectors = {kind: Path(detector).name for kind, detector in options.detectors.items()}
        thresholds = {kind: getattr(options, f"{kind}_threshold") for kind in detectors}
        told = (f"{kind} {detector} above {thresholds[kind]:g}" for kind, detector in detectors.items())
        with writing(folder):
            title = f"{without_folders(name)}: {', '.join(told)}"
            _write_sheet(output, shards, [pictures[index] for index in sorted(chosen)], title, max_megapixels)
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        return output.finish({**_summary(data, shards, records), "versions": versions})

    def make_change(device: torch.device) -> Callable[..., Any]:
        return CropFinder(options, _phrase_finder(options, features), batch_size, device, max_megapixels).add_crops

    return write_shards(output, data, shards, begin, make_change, finish)


def check_detectors(options: ProposalOptions) -> None:
    """Raise ValueError where there is no detector."""
    if not options.detectors:
        raise ValueError("There is no detector. Name an aux_detector, an rcnn_detector or both.")


def _detector_settings(options: ProposalOptions) -> dict[str, Any]:
    """By kind. A detector that is absent, or not of its kind, is a ValueError."""
    settings: dict[str, Any] = {}
    for kind in CROP_KINDS:
        detector = options.detectors.get(kind)
        if detector is None:
            settings[kind] = "the data set's own"
            continue
        try:
            is_zero_shot = is_zero_shot_checkpoint(detector)
        except OSError as error:  # in which transformers does not always say what it looked for
            raise ValueError(f"{kind}_detector {detector}: {error}") from error
        options.check_kind(kind, is_zero_shot)
        settings[kind] = {
            "detector": without_folders(detector),
            "checkpoint": checkpoint_digest(detector),
            "threshold": getattr(options, f"{kind}_threshold"),
            "iou_threshold": options.iou_threshold,
            "max_crops": getattr(options, f"max_{kind}_crops"),
        }
    return settings


def _phrase_finder(options: ProposalOptions, features: datasets.Features) -> PhraseFinder | None:
    """What gives the phrases of each text for a zero-shot detector; None where there is no such detector."""
    if "aux" not in options.detectors:
        return None
    if "ner_tags" in features:
        types = tag_types(features["ner_tags"].feature.names)
    else:
        types = types_of_relations(features["relation"].names) if "relation" in features else []
    return PhraseFinder(options.phrases, options.spacy_model, types)


def _summary(splits: Iterable[str], shards: Shards, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Counts by split, labels by kind, the most frequent first, and what could not be read."""
    counts: dict[str, Counter[str]] = {split: Counter(rows=0) for split in splits}
    labels: dict[str, Counter[str]] = {kind: Counter() for kind in CROP_KINDS}
    unreadable = []
    for part, (split, _) in shards.items():
        counts[split].update(records[part]["counts"])
        for kind in CROP_KINDS:
            labels[kind].update(records[part]["labels"][kind])
        unreadable += [{"split": split, **problem} for problem in records[part]["unreadable"]]
    by_frequency = {kind: dict(of_kind.most_common()) for kind, of_kind in labels.items()}
    return {"splits": counts, "labels": by_frequency, "unreadable": unreadable}


def _write_sheet(
    output: ResumableOutput, shards: Shards, pictures: Sequence[tuple[str, int]], title: str, max_megapixels: float
) -> None:
    """Draw a contact sheet of pictures, by part and row; where there is none, there is no sheet."""
    entries = []
    for part, row_index in pictures:
        path = output.path(part)
        columns = {"id", "text", "tokens", "offsets", "image", *OBJECT_COLUMNS}.intersection(
            pq.read_schema(path).names
        )
        (row,) = pq.read_table(path, columns=sorted(columns)).slice(row_index, 1).to_pylist()
        split, _ = shards[part]
        of_row = as_list(row["image"])
        of_several = f", picture 1 of {len(of_row)}" if len(of_row) > 1 else ""
        objects = {
            kind: [
                DetectedObject(found["label"], found["score"], found["box"])
                for found in row[f"{kind}_objects"]
                if found.get("image", 0) == 0
            ]
            for kind in CROP_KINDS
        }
        picture = load_image(of_row[0], max_megapixels)
        shown_id = row["id"] if row["id"].startswith(split) else f"{split} {row['id']}"
        entries.append(SheetEntry(shown_id + of_several, row_words(row)[0], picture, objects))
    path = output.output / "contact_sheet.png"
    path.unlink(missing_ok=True)
    if entries:
        with replacing(path) as file:
            file.write(contact_sheet(entries, title))
