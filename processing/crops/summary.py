"""What a folder of rows with crops holds: counts, problems, and a contact sheet of rows drawn from it."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image

from processing.columns import OBJECT_COLUMNS
from processing.detectors import DetectedObject
from processing.images import load_image
from processing.inspection.contact_sheet import SheetEntry, contact_sheet
from processing.rows.parquet_folder import shard_path
from processing.rows.row_features import CROP_KINDS

from .records import Records


# Where a row lies: split, shard, row of the shard.
Place = tuple[str, int, int]


def summarise(folder: Path, numbers: dict[str, int]) -> tuple[dict[str, Any], list[Place]]:
    """
    Read the shards, `numbers` of them for each split, and the records of what could not be read.

    Returns:
        Counts by split, labels by kind and what could not be read; and the rows that have a picture.
    """
    problems: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for batch in Records.read(folder / ".objects" / "unreadable"):
        for split, row_id, column, reason in batch:
            problems.setdefault((split, row_id), set()).add((column, reason))
    unreadable = []
    splits: dict[str, dict[str, int]] = {}
    labels: dict[str, Counter[str]] = {kind: Counter() for kind in CROP_KINDS}
    pictures: list[Place] = []
    # Of a picture the name alone: it is null where the picture is, and the bytes stay on the disk.
    columns = ["id", "image.path", *(f"{kind}_crops.list.element.path" for kind in CROP_KINDS), *OBJECT_COLUMNS]
    for split, number in numbers.items():
        counts: Counter[str] = Counter(rows=0, pictures=0, rows_without_picture=0, pictures_unreadable=0)
        for index in range(number):
            with pq.ParquetFile(shard_path(folder, split, index, number)) as file:
                rows = file.read(columns=columns).to_pylist()
            for row_index, row in enumerate(rows):
                has_picture = row["image"] is not None
                unread = {
                    (column, reason)
                    for column, reason in problems.get((split, row["id"]), ())
                    if column != "image" or not has_picture  # else it was read later on
                }
                for column, reason in sorted(unread):
                    unreadable.append({"split": split, "id": row["id"], "column": column, "reason": reason})
                counts["rows"] += 1
                if has_picture:
                    counts["pictures"] += 1
                    pictures.append((split, index, row_index))
                elif "image" in dict(unread):
                    counts["pictures_unreadable"] += 1
                else:
                    counts["rows_without_picture"] += 1
                for kind in CROP_KINDS:
                    counts[f"{kind}_crops"] += len(row[f"{kind}_crops"])
                    counts[f"pictures_without_{kind}_crops"] += has_picture and not row[f"{kind}_crops"]
                    labels[kind].update(detected["label"] for detected in row[f"{kind}_objects"])
        splits[split] = dict(counts)
    by_frequency = {kind: dict(counter.most_common()) for kind, counter in labels.items()}
    return {"splits": splits, "labels": by_frequency, "unreadable": unreadable}, pictures


def draw_sheet(
    folder: Path, numbers: dict[str, int], pictures: list[Place], max_rows: int, seed: int, title: str
) -> Image.Image | None:
    """
    A contact sheet of rows drawn from `pictures`, in their order; None where there is nothing to show.

    Args:
        folder: that of the rows.
        numbers: of shards, by split.
        pictures: rows that have a picture.
        max_rows: draw at most so many.
        seed: of the draw.
        title: above the sheet.
    """
    drawn = random.Random(seed).sample(pictures, min(max_rows, len(pictures)))
    if not drawn:
        return None
    entries = []
    for split, index, row_index in sorted(drawn, key=pictures.index):
        row = stored_row(shard_path(folder, split, index, numbers[split]), row_index)
        objects = {kind: [DetectedObject(**detected) for detected in row[f"{kind}_objects"]] for kind in CROP_KINDS}
        name = row["id"] if row["id"].startswith(split) else f"{split} {row['id']}"
        entries.append(SheetEntry(name, " ".join(row["tokens"]), load_image(row["image"]), objects))
    return contact_sheet(entries, title)


def stored_row(path: Path, row_index: int) -> dict[str, Any]:
    """
    Id, tokens, picture and objects of a row of a Parquet file, of which no more than its row group is read.

    Raises:
        IndexError: for a row beyond the file's end.
    """
    columns = ["id", "tokens", "image", *OBJECT_COLUMNS]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            number = file.metadata.row_group(group).num_rows
            if row_index < number:
                return file.read_row_group(group, columns=columns).slice(row_index, 1).to_pylist()[0]
            row_index -= number
    raise IndexError(f"{path} has no such row.")
