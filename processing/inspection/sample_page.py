"""A page of HTML that shows a data set: counts, and samples of its rows."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from processing.columns import CROP_KINDS, OBJECT_COLUMNS
from processing.data.tasks import choose_split
from processing.images import ImageError, load_image
from processing.labels import entity_spans
from processing.rendering import CROP_COLOURS, entity_text, picture_figure
from processing.rows.row_features import label_names
from processing.tokenizing import row_words

from .contact_sheet import NAMES
from .html_page import page, table
from .statistics import statistics_table


# Width of a picture and of a crop on the page, in pixels.
PICTURE_WIDTH, CROP_WIDTH = 360, 128


def choose_rows(
    data: DatasetDict, split: str | None = None, num_samples: int = 24, ids: Sequence[str] = (), seed: int = 0
) -> list[tuple[str, int]]:
    """
    Split and index of at most so many rows of one split or all, chosen at random, the same ones for the same seed; or
    of the rows with these ids, in each split that has them.

    Raises:
        ValueError: for an unknown split, ids that no row has, and a negative number of rows.
    """
    if num_samples < 0:
        raise ValueError(f"num_samples must be 0 or more, got {num_samples}.")
    splits = data if split is None else {split: choose_split(data, split)}
    places = [(name, index) for name, rows in splits.items() for index in range(len(rows))]
    if not ids:
        number = min(num_samples, len(places))
        order = np.random.default_rng(seed).choice(len(places), number, replace=False)
        return [places[index] for index in sorted(order)]
    row_ids = [row_id for rows in splits.values() for row_id in rows["id"]]
    unknown = [row_id for row_id in ids if row_id not in row_ids]
    if unknown:
        raise ValueError(f"No row has the id {', '.join(unknown)}. Ids look like {next(iter(row_ids), '')!r}.")
    return [place for wanted in ids for place, row_id in zip(places, row_ids, strict=True) if row_id == wanted]


def sample_page(
    data: DatasetDict,
    rows: Sequence[tuple[str, int]],
    statistics: dict[str, dict[str, Any]],
    *,
    name: str,
    report: str = "",
) -> str:
    """
    The page, which stands alone and carries no script: of a data set with pictures encoded, with [`split_statistics`]
    of each split and what loading had to tell, the rows that [`choose_rows`] gave.
    """
    header, lines = statistics_table(statistics)
    findings = "".join(f'<p class="note">{html.escape(line)}</p>' for line in report.splitlines())
    legend = ""
    if any(column in of_split.column_names for of_split in data.values() for column in OBJECT_COLUMNS):
        keys = (f'<span style="color:{CROP_COLOURS[kind]}">{html.escape(NAMES[kind])}</span>' for kind in CROP_KINDS)
        legend = f"<p>Boxes: {', '.join(keys)}</p>"
    samples = "".join(_sample(split, data[split], index) for split, index in rows)
    return page(f"Data set {name}", f"{table(header, lines)}{findings}<h2>Samples</h2>{legend}{samples}")


def _sample(split: str, rows: Dataset, index: int) -> str:
    """One row as HTML."""
    row = rows[index]
    text, _, offsets = row_words(row)
    if "ner_tags" in row:
        names = label_names(rows, "ner_tags")
        spans = entity_spans([names[tag] for tag in row["ner_tags"]])
        below = ""
    else:
        spans = [(name, row[name]["start"], row[name]["end"]) for name in ("head", "tail")]
        relation = label_names(rows, "relation")[row["relation"]]
        below = (
            f"<p>{html.escape(relation)}: {html.escape(row['head']['name'])}, {html.escape(row['tail']['name'])}</p>"
        )
        if spans[0][1] < spans[1][2] and spans[1][1] < spans[0][2]:
            spans = spans[:1]  # they overlap: the tail is named below
    entities = [
        {"entity_group": name, "start": offsets[start][0], "end": offsets[end - 1][1]} for name, start, end in spans
    ]
    boxes = [
        (f"{found['label']} {found['score']:.2f}", found["box"], CROP_COLOURS[kind])
        for kind in CROP_KINDS
        for found in row.get(f"{kind}_objects") or []
    ]
    pictures = [("image", row["image"], boxes, PICTURE_WIDTH)] if row["image"] is not None else []
    for kind in CROP_KINDS:
        pictures += [
            (f"{kind} crop {index}", crop, [], CROP_WIDTH) for index, crop in enumerate(row[f"{kind}_crops"] or [])
        ]
    figures = ['<p class="note">no image</p>'] if row["image"] is None else []
    for caption, picture, drawn, width in pictures:
        try:
            figures.append(picture_figure(load_image(picture), caption, drawn, width))
        except ImageError as error:
            figures.append(f'<p class="note">{html.escape(f"{caption}: {error}")}</p>')
    return (
        f'<article><p class="note">{html.escape(split)}, {html.escape(row["id"])}</p>'
        f'<p>{entity_text(text, entities)}</p>{below}<div class="pictures">{"".join(figures)}</div></article>'
    )
