"""A page of HTML that shows a data set: counts, and samples of its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from processing.columns import CROP_COLUMNS, PICTURE_COLUMNS, as_list
from processing.context import CONTEXT, read_context
from processing.data.tasks import choose_split
from processing.images import MAX_MEGAPIXELS, ImageError, load_image
from processing.labels import entity_spans
from processing.rendering import escaped, tweet_html
from processing.rows.local_paths import leads_elsewhere, without_folders
from processing.rows.picture_files import NO_PICTURE
from processing.rows.row_features import label_names
from processing.tokenizing import row_words

from .html_page import FRAMES, OUTSIDE, page, table
from .statistics import statistics_table


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
    if any(number for of_split in statistics.values() for column in CROP_COLUMNS for number in of_split[column]):
        findings += f"<p>{FRAMES}</p>"
    samples = "".join(row_html(split, data[split], index, max_megapixels=max_megapixels) for split, index in rows)
    body = f'{table(header, lines)}{findings}<h2>Samples</h2><div class="tweets">{samples}</div>'
    return page(f"Data set {without_folders(name)}", body)


def row_html(
    split: str, rows: Dataset, index: int, notes: Sequence[str] = (), max_megapixels: float = MAX_MEGAPIXELS
) -> str:
    """
    One row of a split as HTML: its text with the gold names, or its gold relation, and its pictures; of crops those
    whose columns the rows have. Below the text stand its id, the notes and its context. See [`sample_page`] for the
    rest.
    """
    row = rows[index]
    text, _, offsets = row_words(row)
    relations, told = [], [f"{split}, {without_folders(row['id'])}", *notes]
    told += [f"{part['kind'] or CONTEXT}: {part['text']}" for part in read_context(row.get(CONTEXT))]
    if "ner_tags" in row:
        names = label_names(rows, "ner_tags")
        spans = entity_spans([names[tag] for tag in row["ner_tags"]])
    else:
        spans = [(name, row[name]["start"], row[name]["end"]) for name in ("head", "tail")]
        words = {name: row[name]["name"] for name in ("head", "tail")}
        relations = [{**words, "relation": label_names(rows, "relation")[row["relation"]]}]
        if spans[0][1] < spans[1][2] and spans[1][1] < spans[0][2]:
            spans = spans[:1]  # they overlap: the tail is named below
    entities = [
        {"entity_group": name, "start": offsets[start][0], "end": offsets[end - 1][1]} for name, start, end in spans
    ]
    crops = {column: _found(row, column) for column in CROP_COLUMNS}
    pictures = {column: as_list(row.get(column)) for column in PICTURE_COLUMNS}
    is_several = len(pictures["image"]) > 1
    for column, of_column in pictures.items():
        if crops.get(column) and any(pictures["image"]):  # the crops are parts of the picture that is shown
            pictures[column] = []
            continue
        for number, picture in enumerate(of_column):
            name = column if column == "image" and not is_several else f"{column} {number}"
            of_column[number] = None
            if picture is None:
                told.append(f"{name}: {NO_PICTURE}")
                continue
            if picture["bytes"] is None and leads_elsewhere(picture["path"]):
                told.append(f"{name}: {OUTSIDE}")
                continue
            try:
                of_column[number] = load_image(picture, max_megapixels)
            except ImageError as error:
                told.append(f"{name}: {error.problem.published}")
    nothing = "" if row["image"] else "There is no picture."
    return tweet_html(text, entities, pictures, crops, told, relations, nothing, max_megapixels)


def _found(row: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    """What a detector said of the crops of a column, where it is known of each of them."""
    objects = row.get(column.replace("_crops", "_objects")) or []
    is_known = len(objects) == len(row.get(column) or []) and all(found["box"] for found in objects)
    return objects if is_known else []
