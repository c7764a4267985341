"""A page of HTML that shows a data set: counts, and samples of its rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from processing.columns import CROP_KINDS, OBJECT_COLUMNS
from processing.data.tasks import choose_split
from processing.images import MAX_MEGAPIXELS, ImageError, load_image
from processing.labels import entity_spans
from processing.rendering import CROP_COLOURS, entity_text, escaped, picture_figure
from processing.rows.local_paths import leads_elsewhere, without_folders
from processing.rows.row_features import label_names
from processing.tokenizing import row_words

from .contact_sheet import NAMES
from .html_page import OUTSIDE, page, table
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
    max_megapixels: float = MAX_MEGAPIXELS,
) -> str:
    """
    The page, which stands alone, carries no script, and can be passed on: the rows of a data set that [`choose_rows`]
    gave. A picture that lies outside of the folder of the data is not embedded.

    Args:
        data: as `load_data` gives it.
        statistics: of each split, as [`split_statistics`] counts them.
        name: of the data set; of a path the last part is shown.
        report: what loading had to tell, as it is published.
        max_megapixels: the largest picture, see [`load_image`].
    """
    header, lines = statistics_table(statistics)
    findings = "".join(f'<p class="note">{escaped(line)}</p>' for line in report.splitlines())
    legend = ""
    if any(column in of_split.column_names for of_split in data.values() for column in OBJECT_COLUMNS):
        keys = (
            f'<span class="key" style="border-color:{CROP_COLOURS[kind]}">{NAMES[kind]}</span>' for kind in CROP_KINDS
        )
        legend = f"<p>Boxes: {', '.join(keys)}</p>"
    samples = "".join(_sample(split, data[split], index, max_megapixels) for split, index in rows)
    body = f"{table(header, lines)}{findings}<h2>Samples</h2>{legend}{samples}"
    return page(f"Data set {without_folders(name)}", body)


def _sample(split: str, rows: Dataset, index: int, max_megapixels: float) -> str:
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
        below = f"<p>{escaped(relation)}: {escaped(row['head']['name'])}, {escaped(row['tail']['name'])}</p>"
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
        if picture["bytes"] is None and leads_elsewhere(picture["path"]):
            figures.append(f'<p class="note">{caption}: {OUTSIDE}</p>')
            continue
        try:
            figures.append(picture_figure(load_image(picture, max_megapixels), caption, drawn, width))
        except ImageError as error:
            figures.append(f'<p class="note">{escaped(f"{caption}: {error.problem.published}")}</p>')
    name = f"{split}, {without_folders(row['id'])}"
    sample = f'<article><p class="note">{escaped(name)}</p><p>{entity_text(text, entities)}</p>{below}'
    return f'{sample}<div class="pictures">{"".join(figures)}</div></article>'
