"""Rows of your own files, checked: their text and entities, and their pictures."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import datasets

from processing.columns import OBJECT_COLUMNS
from processing.rows.loading_report import AbsentPicture, SplitReport
from processing.rows.picture_files import PictureFolder, PictureReader
from processing.rows.row_features import CROP_KINDS
from processing.tokenizing import split_words

from .tables import Row


LABEL_COLUMNS = ("id", "image_id", "text", "tokens", "ner_tags", "spans", "entities")
COLUMNS = (*LABEL_COLUMNS, "image", "aux_crops", "rcnn_crops", *OBJECT_COLUMNS)

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:")


class BadRow(ValueError):
    """A row that the data set will not have. The message is the reason."""


class Example(NamedTuple):
    """
    A row's text and entities.

    Attributes:
        tags: one a token, in the source's scheme, or IOB2 where `is_tagged` is false: they were made of spans.
        moved: characters of each span that were not whole words, and the words it was given.
        source: the row as it was read.
    """

    row_id: str
    tokens: list[str]
    tags: list[str]
    is_tagged: bool
    moved: list[tuple[str, str]]
    source: Row


class LabelNames(NamedTuple):
    """What ids mean in the source's columns, where they are class labels: tags, and types of spans."""

    tags: list[str] | None = None
    types: list[str] | None = None

    @classmethod
    def of(cls, features: Mapping[str, Any] | None) -> "LabelNames":
        def names(feature: Any) -> list[str] | None:
            feature = getattr(feature, "feature", feature)
            if isinstance(feature, Mapping):
                return names(feature.get("label"))
            return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

        features = features or {}
        return cls(names(features.get("ner_tags")), names(features.get("spans")) or names(features.get("entities")))


NO_NAMES = LabelNames()


def has_id(row: Row) -> bool:
    return row.get("id") is not None


def read_example(row: Row, row_id: str, names: LabelNames = NO_NAMES) -> Example:
    """
    Check a row's text and entities, all but its pictures. Tags are read where there are both tags and spans.

    Args:
        row_id: for a row without an `id`.

    Raises:
        BadRow: with what was expected and what came.
    """
    if has_id(row):
        if type(row["id"]) not in (str, int) or row["id"] == "":
            raise BadRow(f"expected id to be a string, got {row['id']!r:.80}")
        row_id = str(row["id"])
    if not isinstance(row.get("image_id"), str | int | None) or isinstance(row.get("image_id"), bool):
        raise BadRow(f"expected image_id to be a string, got {row['image_id']!r:.80}")
    moved: list[tuple[str, str]] = []
    is_tagged = row.get("ner_tags") is not None
    tokens, tags = _tokens_and_tags(row, names) if is_tagged else _tagged_words(row, names, moved)
    return Example(row_id, tokens, tags, is_tagged, moved, row)


def _tokens_and_tags(row: Row, names: LabelNames) -> tuple[list[str], list[str]]:
    tokens, tags = row.get("tokens"), row["ner_tags"]
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise BadRow(f"expected tokens to be a list of words, one for each of ner_tags, got {tokens!r:.80}")
    if not isinstance(tags, list):
        raise BadRow(f"expected ner_tags to be a list of tags, got {tags!r:.80}")
    if not tokens:
        raise BadRow("expected a word or more in tokens, got none")
    if "" in tokens:
        raise BadRow(f"expected words in tokens, got an empty string as number {tokens.index('') + 1}")
    if len(tokens) != len(tags):
        raise BadRow(f"expected a tag for each word, got {len(tokens)} tokens and {len(tags)} ner_tags")
    return tokens, [_label(tag, "a tag", names.tags) for tag in tags]


def _label(value: Any, what: str, names: list[str] | None) -> str:
    if isinstance(value, str) and value:
        return value
    if type(value) is int and names is not None and 0 <= value < len(names):
        return names[value]
    if type(value) is int and names is None:
        raise BadRow(f"expected {what} as a string, got {value}: the file has no names for such ids")
    meaning = f" or an id below {len(names)}" if names is not None else ""
    raise BadRow(f"expected {what} as a string{meaning}, got {value!r:.80}")


def _tagged_words(row: Row, names: LabelNames, moved: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Words of a text and their tags by its spans; those that had to be moved to whole words are added to `moved`."""
    given = [name for name in ("spans", "entities") if row.get(name) is not None]
    if row.get("text") is None or not given:
        columns = ", ".join(name for name, value in row.items() if value is not None)
        raise BadRow(
            f"expected tokens and ner_tags, or text and spans, got values for {columns or 'no column'}; "
            "where a text has no entities, give an empty list"
        )
    if len(given) == 2:
        raise BadRow("expected spans or entities, got both")
    if not isinstance(row["text"], str):
        raise BadRow(f"expected text to be a string, got {row['text']!r:.80}")
    text, words, offsets = split_words(row["text"])
    if not words:
        raise BadRow(f"expected a word or more in text, got {text!r:.80}")

    tags = ["O"] * len(words)
    last_end, last_word, previous = 0, 0, ""
    for start, end, entity_type in sorted(_spans(row[given[0]], given[0], len(text), names)):
        span = text[start:end]
        if start < last_end:
            raise BadRow(f"expected spans apart from each other, but {previous!r:.80} and {span!r:.80} overlap")
        covered = [index for index, (begin, stop) in enumerate(offsets) if begin < end and start < stop]
        if not covered:
            raise BadRow(f"expected a word in each span, got {span!r} at {start}")
        first, last = covered[0], covered[-1]
        whole = text[offsets[first][0] : offsets[last][1]]
        if first < last_word:
            raise BadRow(f"{previous!r:.80} and {span!r:.80} overlap once they are whole words")
        if whole != span:
            moved.append((span, whole))
        tags[first : last + 1] = [f"B-{entity_type}", *[f"I-{entity_type}"] * (last - first)]
        last_end, last_word, previous = end, last + 1, span
    return words, tags


def _spans(value: Any, column: str, length: int, names: LabelNames) -> Iterator[tuple[int, int, str]]:
    """(start, end, type) of each, `end` exclusive, inside a text of that length."""
    expected = "a dict with start, end and label"
    if isinstance(value, dict) and set(value) >= {"start", "end", "label"}:
        # How datasets stores a sequence of dicts: a dict of lists.
        columns = [value[name] for name in ("start", "end", "label")]
        if all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
            value = [dict(zip(("start", "end", "label"), span, strict=True)) for span in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise BadRow(f"expected {column} to be a list, each {expected}, got {value!r:.80}")
    for span in value:
        if not isinstance(span, dict) or not set(span) >= {"start", "end", "label"}:
            raise BadRow(f"expected each of {column} to be {expected}, got {span!r:.80}")
        start, end = span["start"], span["end"]
        if type(start) is not int or type(end) is not int:
            raise BadRow(f"expected start and end of a span to be whole numbers, got {span!r:.80}")
        if start >= end:
            raise BadRow(
                f"expected start < end, got {'an empty' if start == end else 'a reversed'} span {start}:{end}"
            )
        if start < 0 or end > length:
            raise BadRow(f"expected spans inside the text, 0 to {length}, got {start}:{end}")
        yield start, end, _label(span["label"], "a span's label", names.types)


def _picture(value: Any) -> dict[str, Any] | None:
    """
    A picture of a row as `{"path", "bytes"}`, at most one of them None; None where it is absent.

    Raises:
        ValueError: for what is no picture.
    """
    if value is None:
        return None
    data, path = value, None
    if isinstance(value, str):
        data, path = None, value
    elif isinstance(value, dict) and set(value) <= {"bytes", "path"}:
        data, path = value.get("bytes"), value.get("path")
        if data is None and path is None:  # So datasets stores an absent picture at times.
            return None
    if not isinstance(path, str | None) or not isinstance(data, bytes | None) or not (data or path):
        raise ValueError(f"expected a path, bytes or a dict of the two, got {value!r:.80}")
    if data is None and path is not None and "\0" in path:  # which no file has in its name
        raise ValueError(f"expected a path without NUL (0x00), got {path!r:.80}")
    return {"path": path, "bytes": data}


def read_objects(row: Row, column: str) -> list[dict[str, Any]]:
    """
    The objects of a row, none where the column is absent.

    Raises:
        BadRow: for anything else than a list of dicts with label, score and a box of four numbers.
    """
    objects = row.get(column)
    if objects is None:
        return []
    checked = []
    try:
        if not isinstance(objects, list):
            raise TypeError
        for item in objects:
            label, score, box = item["label"], float(item["score"]), [float(number) for number in item["box"]]
            if not isinstance(label, str) or len(box) != 4:
                raise ValueError
            checked.append({"label": label, "score": score, "box": box})
    except (TypeError, KeyError, ValueError, OverflowError) as error:  # JSON's whole numbers have no limit
        raise BadRow(
            f"expected {column} to be a list of dicts with label, score and box, got {objects!r:.80}"
        ) from error
    return checked


class RowPictures:
    """Pictures and objects of one split's rows, below one folder."""

    def __init__(self, image_dir: str, report: SplitReport, limits: Mapping[str, int]):
        self.folder = PictureFolder(image_dir, image_dir)
        self.report = report
        self.reader = PictureReader(image_dir, report)
        self.limits = limits  # of crops, by kind

    def of(self, row_id: str, row: Row, keep_objects: bool) -> dict[str, Any]:
        """
        The picture columns of a row, and with `keep_objects` its objects; those of a crop that cannot be used or is
        beyond the number asked for go with it, since both are in the same order.
        """
        columns: dict[str, Any] = {"image": self._usable(row_id, "images", row.get("image"))}
        for kind in CROP_KINDS:
            listed, number = row.get(f"{kind}_crops") or [], self.limits[kind]
            if not isinstance(listed, list):
                reason = f"expected {kind}_crops to be a list of pictures, got {type(listed).__name__}"
                self._absent(row_id, "crops_unreadable", str(listed), reason)
                listed = []
            self.report.counts["crops_surplus"] += max(len(listed) - number, 0)
            crops = [self._usable(row_id, "crops", value) for value in listed[:number]]
            columns[f"{kind}_crops"] = [crop for crop in crops if crop is not None]
            if keep_objects:
                absent = {index for index, crop in enumerate(crops) if crop is None}
                objects = read_objects(row, f"{kind}_objects")[:number]
                columns[f"{kind}_objects"] = [item for index, item in enumerate(objects) if index not in absent]
        return columns

    def _usable(self, row_id: str, kind: str, value: Any) -> dict[str, Any] | None:
        try:
            picture = _picture(value)
        except ValueError as error:
            self._absent(row_id, f"{kind}_unreadable", str(value), str(error))
            return None
        if picture is None:
            return None
        if picture["bytes"] is not None:
            usable = self.reader.embedded(row_id, kind, [picture])
        elif _URL.match(picture["path"]):
            reason = "a URL, and nothing is downloaded: name a file below the image folder"
            self._absent(row_id, f"{kind}_outside", picture["path"], reason)
            return None
        else:
            path = picture["path"]
            if os.path.isabs(path) and self.folder.find(path) is None:
                # It may be written by way of a link; the folder is known here by its real path.
                path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            usable = self.reader.named(row_id, kind, self.folder, [path])
        return usable[0] if usable else None

    def _absent(self, row_id: str, count: str, path: str, reason: str) -> None:
        self.report.counts[count] += 1
        self.report.absent.append(AbsentPicture(row_id, path[:200], reason))
