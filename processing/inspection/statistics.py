"""Counts over a split: rows, lengths, what is to be found, and the pictures that are there and that are not."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from processing.columns import PICTURE_COLUMNS
from processing.labels import entity_spans
from processing.rows.row_features import CROP_KINDS, label_names


def split_statistics(rows: Dataset) -> dict[str, Any]:
    """
    Counts over the rows, read batch by batch; no picture is decoded.

    Returns:
        `rows`; `words` (total, mean, median, 95th percentile and maximum a row); `entities` by type, or `relations` by
        name, most frequent first; `rows_without_entity`; `without_image`; `aux_crops` and `rcnn_crops`: by number of
        crops, the number of rows that have so many.
    """
    # Of pictures only their validity is read, and of crops their number: not their bytes.
    answers = [column for column in ("ner_tags", "relation") if column in rows.column_names]
    lengths: list[int] = []
    found: Counter[str] = Counter()
    without_entity = 0
    labels = {column: label_names(rows, column) for column in answers}
    for batch in rows.select_columns(["tokens", *answers]).iter(batch_size=1000):
        lengths += map(len, batch["tokens"])
        for tags in batch.get("ner_tags", []):
            spans = entity_spans([labels["ner_tags"][tag] for tag in tags])
            found.update(entity_type for entity_type, _, _ in spans)
            without_entity += not spans
        found.update(labels["relation"][relation] for relation in batch.get("relation", []))

    crops: dict[str, Counter[int]] = {f"{kind}_crops": Counter() for kind in CROP_KINDS}
    without_image = 0
    if not set(PICTURE_COLUMNS) <= set(rows.column_names):
        raise ValueError(f"Expected the columns {', '.join(PICTURE_COLUMNS)}, got {', '.join(rows.column_names)}.")
    for table in rows.select_columns(list(PICTURE_COLUMNS)).with_format("arrow").iter(batch_size=100):
        without_image += table.column("image").null_count
        for name, counts in crops.items():
            numbers = pc.fill_null(pc.list_value_length(table.column(name)), pa.scalar(0, pa.int32()))
            counts.update(numbers.to_pylist())
    statistics = {
        "rows": len(rows),
        "words": {
            "total": sum(lengths),
            "mean": float(np.mean(lengths)) if lengths else 0.0,
            **{
                name: int(np.percentile(lengths, percent)) if lengths else 0
                for name, percent in (("median", 50), ("95 %", 95), ("longest", 100))
            },
        },
        "entities" if "ner_tags" in answers else "relations": dict(found.most_common()),
        "without_image": without_image,
        **{name: dict(sorted(counts.items())) for name, counts in crops.items()},
    }
    if "ner_tags" in answers:
        statistics["rows_without_entity"] = without_entity
    return statistics
