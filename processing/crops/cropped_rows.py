"""Rows of a data set with the crops that detectors give: each picture is opened once, looked at and cut."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import torch
from PIL import Image

from processing.columns import CROP_KINDS, PICTURE_COLUMNS, as_list
from processing.images import MAX_MEGAPIXELS, ImageError, load_image
from processing.jobs.digests import picture_id
from processing.jobs.processes import enough_memory
from processing.object_proposals import DetectedObject, ObjectProposer, ProposalOptions, encode_crops
from processing.problems import Problem
from processing.rows.picture_files import NO_PICTURE, renumbered
from processing.rows.row_features import is_list_column, with_objects
from processing.tokenizing import rows_words


Place = tuple[int, int]  # of a picture: the row, and which one of the row's pictures it is


@dataclass
class LookedAtPicture:
    """A picture that is read once, or the problem of one that cannot be read."""

    name: str | None  # of its file, without the folder, since the rows may be published; None for nameless bytes
    stored: dict[str, Any] | None = None  # its bytes and its name
    problem: Problem | None = None
    image: Image.Image | None = None  # until it is cut
    found: dict[str, list[tuple[DetectedObject, bytes]]] = field(default_factory=dict)  # objects and crops, by kind


def read_picture(source: dict[str, Any] | None, max_megapixels: float = MAX_MEGAPIXELS) -> LookedAtPicture:
    """Read a picture from its `bytes`, or else from the file at `path`; or say why it cannot be read, as None."""
    if source is None:
        return LookedAtPicture(None, problem=Problem(NO_PICTURE))
    name = source["path"] and os.path.basename(source["path"])
    try:
        image = load_image(source, max_megapixels)
    except ImageError as error:
        return LookedAtPicture(name, problem=error.problem)
    data = Path(source["path"]).read_bytes() if source["bytes"] is None else source["bytes"]
    return LookedAtPicture(name, {"bytes": data, "path": name}, image=image)


class CropFinder:
    """The detectors of a crop preparation, which give rows their objects and crops."""

    def __init__(
        self,
        options: ProposalOptions,
        find_phrases: Callable[[list[str]], list[list[str]]] | None,
        batch_size: int,
        device: torch.device | str,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        self.options, self.find_phrases, self.batch_size = options, find_phrases, batch_size
        self.proposer, self.max_megapixels = ObjectProposer(device), max_megapixels
        self._readers = ThreadPoolExecutor(min(8, os.cpu_count() or 1))

    def add_crops(
        self, rows: datasets.Dataset, progress: Callable[[int], Any] = lambda number: None
    ) -> tuple[datasets.Dataset, dict[str, Any]]:
        """
        The rows with objects and crops, and their pictures as bytes. Where a kind has no detector, the rows' own crops
        stay. A picture that cannot be read is left out with its crops. All rows are in memory.

        Batches are cut from the pictures of these rows, in order: a detector's result depends, a little, on what else
        is in the batch. A picture that several rows have with the same phrases is looked at once. `progress` is called
        with the number of rows that have been dealt with since the last call.

        Returns:
            The rows, and a record of them: `counts`, `labels` (how often, by kind), `pictures` (indices of the rows
            that have one) and `unreadable` (`id`, `column` and `reason` of each picture and crop left out).
        """
        columns: dict[str, Any] = rows[:]
        has_several = is_list_column(rows, "image")
        pictures = self._pictures(columns, progress)
        progress(len(rows) - len(pictures))
        unreadable = store_pictures(columns, pictures, has_several)
        for kind in CROP_KINDS:
            if kind not in self.options.detectors:
                unreadable += keep_own_crops(columns, kind, pictures if has_several else {}, self.max_megapixels)
                continue
            found = [
                [(number, *each) for number, picture in enumerate(of_row) for each in picture.found.get(kind, [])]
                for of_row in (readable(pictures.get(index, ())) for index in range(len(rows)))
            ]
            columns[f"{kind}_objects"] = [
                [
                    {**detected._asdict(), **({"image": number} if has_several else {})}
                    for number, detected, _ in of_row
                ]
                for of_row in found
            ]
            columns[f"{kind}_crops"] = [
                [{"bytes": crop, "path": f"{row_id}_{kind}_{index}.jpg"} for index, (*_, crop) in enumerate(of_row)]
                for row_id, of_row in zip(columns["id"], found, strict=True)
            ]
        cropped = with_stored_pictures(columns, with_objects(rows.features))
        return cropped, _record(columns, unreadable, len(rows) - len(pictures))

    def _pictures(self, columns: dict[str, Any], progress: Callable[[int], Any]) -> dict[int, list[LookedAtPicture]]:
        """What there is of the rows' pictures, by the row's index, in order; nothing of a row without a picture."""
        phrases: Sequence[list[str] | None] = [None] * len(columns["tokens"])
        if self.find_phrases is not None:
            phrases = self.find_phrases([text for text, _, _ in rows_words(columns)])
        sources, groups = grouped_places(columns["image"], phrases)
        found: dict[Place, LookedAtPicture] = {}
        batches = [groups[start : start + self.batch_size] for start in range(0, len(groups), self.batch_size)]
        for batch, pictures in zip(batches, self._read(sources, batches), strict=True):
            self._look_at(pictures, [phrases[places[0][0]] for places in batch])
            for places, picture in zip(batch, pictures, strict=True):
                found |= dict.fromkeys(places, picture)
            progress(sum(place == 0 for places in batch for _, place in places))
        return by_row(found)

    def _read(
        self, sources: Sequence[Sequence[dict[str, Any]]], batches: Sequence[Sequence[Sequence[Place]]]
    ) -> Iterator[list[LookedAtPicture]]:
        """The pictures of each batch; those of the next one are read while these are looked at."""
        ahead: list[Future[LookedAtPicture]] = []
        for batch in [*batches, ()]:
            first = [places[0] for places in batch]
            given = [(sources[index][place], self.max_megapixels) for index, place in first]
            ready, ahead = ahead, [self._readers.submit(read_picture, *each) for each in given]
            if ready:
                yield [picture.result() for picture in ready]

    def _look_at(self, pictures: Sequence[LookedAtPicture], phrases: Sequence[list[str] | None]) -> None:
        """Give the pictures of a batch their objects and crops."""
        shown = [(picture, picture.image) for picture in pictures if picture.image is not None]
        images = [image for _, image in shown]
        looked_for = [of_picture for picture, of_picture in zip(pictures, phrases, strict=True) if picture.image]
        for kind in self.options.detectors:
            with enough_memory(len(images)):
                found = self.proposer.propose(self.options, kind, images, looked_for)
            for (picture, image), objects in zip(shown, found, strict=True):
                crops = encode_crops(image, [detected.box for detected in objects])
                picture.found[kind] = list(zip(objects, crops, strict=True))
        for picture, _ in shown:
            picture.image = None


def grouped_places(
    images: Sequence[Any], phrases: Sequence[Sequence[str] | None]
) -> tuple[list[list[dict[str, Any]]], list[list[Place]]]:
    """
    The pictures of each row as a list, and the places of each picture: one that several rows have with the same
    phrases is looked at once.
    """
    sources = [as_list(given) for given in images]
    places_of: dict[Any, list[Place]] = {}
    for index, of_row in enumerate(sources):
        for place, source in enumerate(of_row):
            held = None if source is None else (source.get("path"), picture_id(source))
            key = (held, tuple(phrases[index] or ()))
            places_of.setdefault(key, []).append((index, place))
    return sources, list(places_of.values())


def by_row(found: Mapping[Place, LookedAtPicture]) -> dict[int, list[LookedAtPicture]]:
    """The pictures of each row that has any, in their order."""
    of_rows: dict[int, list[LookedAtPicture]] = {}
    for index, place in sorted(found):
        of_rows.setdefault(index, []).append(found[index, place])
    return of_rows


def readable(pictures: Iterable[LookedAtPicture]) -> list[LookedAtPicture]:
    return [picture for picture in pictures if picture.problem is None]


def store_pictures(
    columns: dict[str, Any], pictures: Mapping[int, Sequence[LookedAtPicture]], has_several: bool
) -> list[dict[str, str]]:
    """Put the pictures of rows into their column, as bytes, but for those that cannot be read; say which these are."""
    unreadable = []
    for index, of_row in pictures.items():
        unreadable += unreadable_of(columns["id"][index], "image", of_row)
        stored = [picture.stored for picture in readable(of_row)]
        columns["image"][index] = stored if has_several else next(iter(stored), None)
    return unreadable


def with_stored_pictures(columns: Mapping[str, Any], features: datasets.Features) -> datasets.Dataset:
    """The columns as rows with these features, whose pictures `datasets` opens."""
    for column in PICTURE_COLUMNS:
        is_list = isinstance(features[column], datasets.List)
        features[column] = datasets.List(datasets.Image()) if is_list else datasets.Image()
    return datasets.Dataset.from_dict({name: columns[name] for name in features}, features)


def keep_own_crops(
    columns: dict[str, Any],
    kind: str,
    pictures: Mapping[int, Sequence[LookedAtPicture]],
    max_megapixels: float,
) -> list[dict[str, str]]:
    """
    Leave the rows' own crops in place, as bytes, but for those that cannot be read; and say which these are. Where
    rows have several `pictures`, by row, their objects count those that can be read.
    """
    crops_column, objects_column = f"{kind}_crops", f"{kind}_objects"
    own_objects = columns.get(objects_column) or [[]] * len(columns["id"])
    columns[objects_column], unreadable = [], []
    for index, row_id in enumerate(columns["id"]):
        crops = [read_picture(source, max_megapixels) for source in columns[crops_column][index] or []]
        objects = own_objects[index] or []
        if len(objects) != len(crops):  # then they are not the objects of these crops
            objects = []
        unreadable += unreadable_of(row_id, crops_column, crops)
        columns[crops_column][index] = [crop.stored for crop in crops if crop.problem is None]
        columns[objects_column].append(
            [detected for detected, crop in zip(objects, crops, strict=False) if crop.problem is None]
        )
        if index in pictures:
            absent = {place for place, picture in enumerate(pictures[index]) if picture.problem is not None}
            columns[objects_column][index] = renumbered(columns[objects_column][index], absent)
    return unreadable


def unreadable_of(row_id: str, column: str, pictures: Sequence[LookedAtPicture]) -> list[dict[str, str]]:
    """What is wrong with those of the pictures that cannot be read."""
    return [
        {"id": row_id, "column": column, "reason": f"{picture.name or 'bytes'}: {picture.problem}"}
        for picture in pictures
        if picture.problem is not None
    ]


def _record(columns: dict[str, Any], unreadable: list[dict[str, str]], num_without: int) -> dict[str, Any]:
    numbers = [len(as_list(given)) for given in columns["image"]]  # of pictures in a row
    counts = {
        "rows": len(numbers),
        "pictures": sum(numbers),
        "rows_without_picture": num_without,
        "pictures_unreadable": sum(problem["column"] == "image" for problem in unreadable),
    }
    labels = {}
    for kind in CROP_KINDS:
        crops = columns[f"{kind}_crops"]
        counts[f"{kind}_crops"] = sum(map(len, crops))
        of_rows = zip(numbers, crops, columns[f"{kind}_objects"], strict=True)
        counts[f"pictures_without_{kind}_crops"] = sum(_num_without(*of_row) for of_row in of_rows)
        labels[kind] = Counter(found["label"] for objects in columns[f"{kind}_objects"] for found in objects)
    pictures = [index for index, number in enumerate(numbers) if number]
    return {"counts": counts, "labels": labels, "pictures": pictures, "unreadable": unreadable}


def _num_without(number: int, crops: Sequence[Any], objects: Sequence[dict[str, Any]]) -> int:
    """How many of a row's pictures have no crop, as far as objects tell which picture theirs is."""
    if number and objects:
        return number - len({found.get("image", 0) for found in objects} - {None})
    return 0 if crops else number
