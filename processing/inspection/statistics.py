"""Counts over the splits of a data set: rows, lengths, what is to be found, and which pictures there are."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from processing.columns import CROP_COLUMNS, PICTURE_COLUMNS
from processing.labels import entity_spans
from processing.problems import visible
from processing.rows.row_features import is_list_column, label_names


def split_statistics(rows: Dataset) -> dict[str, Any]:
    """
    Counts over the rows, read batch by batch; no picture is decoded.

    Returns:
        `rows`; `words` (total, mean, median, 95th percentile and maximum a row); `entities` by type, or `relations` by
        name, most frequent first; of relations also `head_first` and `tail_first`: by name, in how many rows the head
        begins in front of the tail, and the tail in front of the head; `rows_without_entity`; `without_image`; of rows
        with lists of pictures `images`; `aux_crops` and `rcnn_crops`: by number of crops, the number of rows that have
        so many.
    """
    answers = [column for column in ("ner_tags", "relation") if column in rows.column_names]
    pair = ["head", "tail"] if "relation" in answers else []
    columns = ["tokens", *answers, *pair, *PICTURE_COLUMNS]
    if not set(columns) <= set(rows.column_names):
        raise ValueError(f"Expected the columns {', '.join(columns)}, got {', '.join(rows.column_names)}.")
    labels = {column: label_names(rows, column) for column in answers}
    lengths: list[int] = []
    found: Counter[str] = Counter()
    first: dict[str, Counter[str]] = {f"{name}_first": Counter() for name in pair}
    crops: dict[str, Counter[int]] = {column: Counter() for column in CROP_COLUMNS}
    images: Counter[int] = Counter()  # of rows with lists of pictures, by the number of these
    without_entity = without_image = 0
    for table in rows.select_columns(columns).with_format("arrow").iter(batch_size=100):
        lengths += pc.list_value_length(table["tokens"]).to_pylist()
        for tags in table["ner_tags"].to_pylist() if "ner_tags" in answers else ():
            spans = entity_spans([labels["ner_tags"][tag] for tag in tags])
            found.update(entity_type for entity_type, _, _ in spans)
            without_entity += not spans
        if pair:
            starts = [pc.struct_field(table[name], "start").to_pylist() for name in pair]
            for relation, head, tail in zip(table["relation"].to_pylist(), *starts, strict=True):
                found[labels["relation"][relation]] += 1
                if head != tail:
                    first["head_first" if head < tail else "tail_first"][labels["relation"][relation]] += 1
        # Of pictures only their validity is read, and of crops their number: not their bytes.
        if is_list_column(rows, "image"):
            images.update(number or 0 for number in pc.list_value_length(table["image"]).to_pylist())
            without_image = images[0]
        else:
            without_image += table["image"].null_count
        for name, counts in crops.items():
            counts.update(number or 0 for number in pc.list_value_length(table[name]).to_pylist())
    total, lengths = sum(lengths), lengths or [0]
    percentiles = np.percentile(lengths, (50, 95, 100)).astype(int).tolist()
    words = {"total": total, "mean": float(np.mean(lengths))}
    statistics = {
        "rows": len(rows),
        "words": words | dict(zip(("median", "95 %", "longest"), percentiles, strict=True)),
        "entities" if "ner_tags" in answers else "relations": dict(found.most_common()),
        **{
            name: {relation: counts[relation] for relation, _ in found.most_common()} for name, counts in first.items()
        },
        "without_image": without_image,
        **({"images": dict(sorted(images.items()))} if images else {}),
        **{name: dict(sorted(counts.items())) for name, counts in crops.items()},
    }
    if "ner_tags" in answers:
        statistics["rows_without_entity"] = without_entity
    return statistics


def has_pictures(statistics: Mapping[str, Any], columns: Collection[str] = PICTURE_COLUMNS) -> bool:
    """Whether any row of a split has a picture or a crop of these, by its [`split_statistics`] or the JSON of them."""
    crops = [int(number) for column in CROP_COLUMNS if column in columns for number in statistics.get(column, {})]
    return ("image" in columns and statistics["without_image"] < statistics["rows"]) or any(crops)


def seldom_first(statistics: Mapping[str, Any], negative_relation: str, swap_probability: float = 0.0) -> str | None:
    """
    What seldom comes first in pairs of the negative relation, `head` or `tail`: in fewer than one in twenty of at
    least twenty, by the [`split_statistics`], where the two change places with that probability. None where both
    orders are there.
    """
    heads, tails = (statistics[name].get(negative_relation, 0) for name in ("head_first", "tail_first"))
    swapped = swap_probability * (heads - tails)
    counts = {"head": heads - swapped, "tail": tails + swapped}
    total = heads + tails
    return next((name for name, count in counts.items() if total >= 20 and count < 0.05 * total), None)


def statistics_table(statistics: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table: a line for each count, a column for each split."""
    splits = list(statistics.values())
    counts: dict[str, list[float]] = {"rows": [split["rows"] for split in splits]}
    counts |= {f"words, {name}": [split["words"][name] for split in splits] for name in splits[0]["words"]}
    for column in ("entities", "relations"):
        for name in dict.fromkeys(name for split in splits for name in split.get(column, ())):
            counts[f"{column}, {name}"] = [split[column].get(name, 0) for split in splits]
    for name in dict.fromkeys(name for split in splits for name in split.get("tail_first", ())):
        counts[f"tail first, {name}"] = [split["tail_first"].get(name, 0) for split in splits]
    if "entities" in splits[0]:
        counts["rows without entity"] = [split["rows_without_entity"] for split in splits]
    counts["rows without image"] = [split["without_image"] for split in splits]
    for number in sorted({number for split in splits for number in split.get("images", ()) if number}):
        counts[f"rows with {number} images"] = [split.get("images", {}).get(number, 0) for split in splits]
    for column in CROP_COLUMNS:
        for number in sorted({number for split in splits for number in split[column]}):
            name = f"rows with {number} {column.replace('_', ' ')}"
            counts[name] = [split[column].get(number, 0) for split in splits]
    lines = [
        [name, *(f"{number:,.1f}" if isinstance(number, float) else f"{number:,}" for number in numbers)]
        for name, numbers in counts.items()
    ]
    return ["", *statistics], lines


def text_table(lines: Sequence[Sequence[str]], num_names: int = 1) -> str:
    """Cells as lines of text, columns one below the other: so many of names on the left, then those of numbers."""
    lines = [list(map(visible, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (
        [*map(str.ljust, line[:num_names], widths), *map(str.rjust, line[num_names:], widths[num_names:])]
        for line in lines
    )
    return "\n".join("  ".join(row).rstrip() for row in rows)
