"""Samples of a data set as HTML."""

import html
from collections.abc import Callable
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from processing.images import ImageError, load_image
from processing.labels import entity_spans
from processing.rendering import CROP_COLOURS, entity_text, picture_figure
from processing.rows.row_features import CROP_KINDS
from processing.tokenizing import join_words


def statistics_table(statistics: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a line for each count, a column for each split."""
    splits = list(statistics.values())
    lines: list[list[str]] = []

    def line(name: str, value: Callable[[dict[str, Any]], float]) -> None:
        numbers = [value(split) for split in splits]
        lines.append([name, *(f"{number:,.1f}" if isinstance(number, float) else f"{number:,}" for number in numbers)])

    line("rows", lambda split: split["rows"])
    for name in splits[0]["words"]:
        line(f"words, {name}", lambda split, name=name: split["words"][name])
    for column in ("entities", "relations"):
        for name in dict.fromkeys(name for split in splits for name in split.get(column, ())):
            line(f"{column}, {name}", lambda split, column=column, name=name: split[column].get(name, 0))
    if "entities" in splits[0]:
        line("rows without entity", lambda split: split["rows_without_entity"])
    line("rows without image", lambda split: split["without_image"])
    for column in (f"{kind}_crops" for kind in CROP_KINDS):
        for number in sorted({number for split in splits for number in split[column]}):
            name = f"rows with {number} {column.replace('_', ' ')}"
            line(name, lambda split, column=column, number=number: split[column].get(number, 0))
    return ["", *statistics], lines


def choose_rows(data: DatasetDict, arguments: Any) -> list[tuple[str, dict[str, Any]]]:
    """
    (split, row) of the rows to show.

    Raises:
        SystemExit: for an unknown split, or ids that no row has. An id of several splits is shown in each.
    """
    chosen = {arguments.split: data[arguments.split]} if arguments.split else data
    places = [(split, index) for split, rows in chosen.items() for index in range(len(rows))]
    if arguments.ids:
        by_id: dict[str, list[tuple[str, int]]] = {}
        for split, rows in chosen.items():
            for index, row_id in enumerate(rows["id"]):
                by_id.setdefault(row_id, []).append((split, index))
        unknown = [row_id for row_id in arguments.ids if row_id not in by_id]
        if unknown:
            raise SystemExit(f"No row has the id {', '.join(unknown)}; ids look like {next(iter(by_id))!r}.")
        drawn = [place for row_id in arguments.ids for place in by_id[row_id]]
    else:
        number = min(arguments.num_samples, len(places))
        order = np.random.default_rng(arguments.seed).choice(len(places), number, replace=False)
        drawn = [places[index] for index in sorted(order)]
    return [(split, chosen[split][index]) for split, index in drawn]


def sample(split: str, row: dict[str, Any], dataset: Dataset) -> str:
    """One row as HTML."""
    text, _, offsets = join_words(row["tokens"])
    if "ner_tags" in row:
        names = dataset.features["ner_tags"].feature.names
        spans = [*entity_spans([names[tag] for tag in row["ner_tags"]])]
        below = ""
    else:
        spans = [(name, row[name]["start"], row[name]["end"]) for name in ("head", "tail")]
        relation = dataset.features["relation"].int2str(row["relation"])
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
    pictures = [("image", row["image"], boxes, 360)] if row["image"] is not None else []
    for kind in CROP_KINDS:
        pictures += [(f"{kind} crop {index}", crop, [], 128) for index, crop in enumerate(row[f"{kind}_crops"] or [])]
    figures = []
    for caption, picture, drawn, width in pictures:
        try:
            figures.append(picture_figure(load_image(picture), caption, drawn, width))
        except ImageError as error:
            figures.append(f'<p class="note">{html.escape(f"{caption}: {error}")}</p>')
    if row["image"] is None:
        figures.insert(0, '<p class="note">no image</p>')
    return (
        f'<article><p class="note">{html.escape(split)}, {html.escape(row["id"])}</p>'
        f'<p>{entity_text(text, entities)}</p>{below}<div class="pictures">{"".join(figures)}</div></article>'
    )
