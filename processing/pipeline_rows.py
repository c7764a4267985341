"""What a row of the pipelines may be, and what is read of it: its words, its pictures and its crops."""

import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from numbers import Real
from typing import Any

from PIL import Image

from .columns import CROP_COLUMNS, OBJECT_COLUMNS, PICTURE_COLUMNS, as_list, is_misnamed_image
from .context import CONTEXT
from .images import MAX_MEGAPIXELS, WRONG_TYPE, ImageError, full_size, load_image
from .object_proposals import encode_crops
from .problems import NO_UNICODE, Problem, ProblemError, shown, warn_once
from .tokenizing import EncodedText, Words, join_words, row_words, split_words


logger = logging.getLogger(__name__)

# Columns a row may have: what is read, and what the data sets have besides.
KNOWN_COLUMNS = {
    "text",
    "tokens",
    "offsets",
    *PICTURE_COLUMNS,
    *OBJECT_COLUMNS,
    "crops",
    "id",
    "image_id",
    "ner_tags",
    "head",
}
KNOWN_COLUMNS |= {"tail", "relation", CONTEXT}
CROP_CHOICES = ("auto", "none")

UNREADABLE_ROW = "the data set cannot give this row"
NO_ROW = "a row is a text, a list of words, or a mapping with text or tokens and pictures"
MISNAMED_IMAGE = "the picture of a row belongs in the column image"
NO_TEXT = "the row has neither text nor tokens"
WRONG_TEXT = "this is neither a string nor a list of words"
TEXT_AS_TOKENS = "tokens are a list of words; a text belongs in the column text"
TOO_MANY = "there are more pictures than the model takes; only the first are used"
NO_BOX = "a box is (xmin, ymin, xmax, ymax) in pixels with xmin < xmax and ymin < ymax"
NO_NUMBER = "the image of a box is the number of one of the row's pictures, from 0 on"
NO_CROPS = "crops are 'auto', 'none', boxes, or boxes by column (aux_crops, rcnn_crops)"
NO_IMAGE = "boxes are cut from the row's image, and there is none"
NO_SUCH_IMAGE = "the picture that the box is to be cut from is not there"
OUTSIDE = "the box lies outside the picture"


@dataclass
class PipelineRow:
    """
    A row on its way through a pipeline, see [`IFAformerPipeline.tokenize`].

    Attributes:
        columns: the row as a mapping.
        text, words, offsets: the text, its words, and `(start, end)` characters of each.
        tokens: what the model reads, None where it cannot be asked: the last of the problems says why.
        context: what is read behind the text, see [`read_context`].
        pair: of a row with two given entities, head and tail by name, each with `start` and `end`, in words.
        allowed: whether each relation may be taken for the pair, by id; empty: all of them.
        features: what the processor makes of it; of pixels also what is kept for finding relations.
        objects: by column of crops, `box` and, where known, `label` and `score` of each crop, and of several pictures
            the number of that which shows it as `image`; a column of crops that came as pictures alone has none.
        used_pictures: by column, the places of the pictures and crops that are used in the row's own list of them.
        images, pending: the pictures, by their place in the row's list, where crops are still to be proposed, and the
            kinds of those.
        relations: between its entities.
        left_out: types and relations of what was left out, see [`TaggedRow`].
        confidence: of the answer, see [`TaggedRow`].
        place: the row's number, for messages.
        raises: whether a problem ends the call.
        is_prepared: whether the features are there, see [`IFAformerPipeline.prepare`].
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None
    words: list[str] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)
    tokens: EncodedText | None = None
    context: list[dict[str, str | None]] = field(default_factory=list)
    pair: dict[str, dict[str, int]] = field(default_factory=dict)
    allowed: Sequence[bool] = ()
    features: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    used_pictures: dict[str, list[int]] = field(default_factory=dict)
    images: dict[int, Image.Image] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    relations: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    confidence: float | None = None
    problems: list[Problem] = field(default_factory=list)
    place: str = ""
    raises: bool = False
    is_prepared: bool = False

    @property
    def num_tokens(self) -> int:
        """How many tokens the model reads, 0 where it cannot be asked."""
        return 0 if self.tokens is None else len(self.tokens.input_ids)

    @property
    def crops(self) -> dict[str, list[dict[str, Any]]]:
        """The `objects` without the columns of no crop."""
        return {column: objects for column, objects in self.objects.items() if objects}

    def above(self, thresholds: Mapping[str, float], found: Any, key: str) -> Any:
        """
        Of entities or relations, whose type or name is their `key`, those whose score is not below its threshold. The
        others are noted as left out. Without thresholds it is what was found.
        """
        if not thresholds:
            return found
        self.left_out += [item[key] for item in found if item["score"] < thresholds.get(item[key], 0.0)]
        return [item for item in found if item["score"] >= thresholds.get(item[key], 0.0)]

    def report(self, problem: Problem, error_type: type[ProblemError] = ProblemError) -> None:
        """Add a problem, or raise it."""
        if self.raises:
            raise error_type(problem, self.place)
        self.problems.append(problem)

    def log(self, problem: Problem) -> None:
        """Log a problem of a row that is answered all the same, where no report will tell of it."""
        if self.raises:
            logger.warning(f"{self.place}: {problem}" if self.place else str(problem))


class NumberedRows:
    """Any sequence of rows, each row with its number; for one that it cannot give, the error."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, Any]:
        try:
            return number, self.rows[number]
        except Exception as error:  # `datasets` opens pictures here, and what is wrong with one is any kind of error.
            problem = Problem(UNREADABLE_ROW, details=f"({type(error).__name__}: {error})")
            return number, ProblemError(problem)


class LazyResults:
    """The results of all rows, computed batch by batch whenever it is iterated over."""

    def __init__(self, batches: Iterable[Any], run: Callable[[dict[str, Any]], list], rows: Any):
        self.batches, self.run, self.rows = batches, run, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield from self.run(batch)


def as_row(inputs: Any) -> Mapping[str, Any]:
    """
    A row as a mapping: a text or a list of words is one too. Columns that nobody looks at are logged. What is no row,
    or a picture under another name, is a ProblemError.
    """
    if isinstance(inputs, str):
        return {"text": inputs}
    if isinstance(inputs, list | tuple):
        return {"tokens": inputs}
    if isinstance(inputs, ProblemError):  # of NumberedRows
        raise inputs
    if not isinstance(inputs, Mapping):
        raise ProblemError(Problem(NO_ROW, details=f"(got {type(inputs).__name__})"))
    misnamed = [name for name in inputs if isinstance(name, str) and is_misnamed_image(name)]
    if misnamed and "image" not in inputs:
        raise ProblemError(Problem(MISNAMED_IMAGE, misnamed[0]))
    unknown = inputs.keys() - KNOWN_COLUMNS
    if unknown:
        warn_once(
            logger,
            f"Columns that are not looked at: {_names(unknown)}. Pictures are read from {', '.join(PICTURE_COLUMNS)}.",
        )
    return inputs


def read_words(row: Mapping[str, Any], splitter: str) -> Words:
    """The row's text, its words and their offsets. A row without a text is a ProblemError."""
    name = "text" if row.get("tokens") is None else "tokens"
    value = row.get(name)
    if value is None:
        raise ProblemError(Problem(NO_TEXT, details=f"(its columns are {_names(row)})"))
    is_text = isinstance(value, str)
    if is_text and name == "tokens":
        raise ProblemError(Problem(TEXT_AS_TOKENS, name, details=f"(got {shown(value)})"))
    words = [] if is_text else _strings(value)
    if words is None:
        raise ProblemError(Problem(WRONG_TEXT, name, details=f"(got {shown(value)})"))
    try:
        "".join([value] if is_text else words).encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, which no tokenizer takes
        raise ProblemError(Problem(NO_UNICODE, name, details=f"({shown(value)}: {error.reason})")) from error
    if is_text:
        return split_words(value, splitter)
    return row_words({**row, "tokens": words}) if name == "tokens" else join_words(words)


def _names(columns: Iterable[Any]) -> str:
    return ", ".join(sorted(f"{name:.80}" if isinstance(name, str) else shown(name) for name in columns))


def _strings(value: Any) -> list[str] | None:
    """The strings that a value holds; None for one that holds something else, or nothing at all."""
    strings = []
    try:
        for item in value:
            if not isinstance(item, str):
                return None
            strings.append(str(item))
    except TypeError:
        return None
    return strings


def read_row_pictures(
    row: PipelineRow,
    limits: Mapping[str, int],
    crops: Any,
    proposed_kinds: Collection[str],
    max_megapixels: float = MAX_MEGAPIXELS,
    max_images: int = 1,
) -> dict[str, list[Any]]:
    """
    The pictures that the model takes of a row, by column; the row gets its `objects`, and `pending` with `images`
    where crops are still to be proposed. What cannot be used is reported and left out.

    Args:
        limits: how many pictures the model takes of `image` and of each column of crops.
        crops: `"auto"`, `"none"` or boxes, see [`given_boxes`]; the row's own `crops` win.
        proposed_kinds: of crops that a detector is there for.
        max_megapixels: the largest picture, see [`load_image`].
        max_images: how many pictures a row has at most, of which crops are cut.
    """
    if row.columns.get("crops") is not None:
        crops = row.columns["crops"]
    is_auto = isinstance(crops, str) and crops == "auto"
    boxes: dict[str, list[dict[str, Any]]] = {}
    try:
        boxes = given_boxes(crops, limits)
    except ProblemError as error:
        row.report(error.problem)
    pending = [kind for kind in proposed_kinds if is_auto and not as_list(row.columns.get(f"{kind}_crops"))]
    pictures: dict[str, list[Any]] = {}
    sources = as_list(row.columns.get("image"))
    if boxes and not sources:
        row.report(Problem(NO_IMAGE, "crops"))
    images: dict[int, Image.Image] = {}  # by place in the row's list
    if sources and not (limits["image"] or boxes or pending):
        warn_once(logger, "The column image is not looked at, since the model looks at no whole picture.")
    else:
        used = _first(row, sources, max_images, "image")
        for place, source in enumerate(used):
            image = _load(row, source, max_megapixels, "image", place if len(used) > 1 else None)
            if image is not None:
                images[place] = image
        row.used_pictures["image"] = list(images)
        if limits["image"]:
            pictures["image"] = [*images.values()]
    if images and pending:
        row.images, row.pending = images, tuple(pending)
    for column in CROP_COLUMNS:
        if column in boxes and images:
            is_several = max_images > 1
            pictures[column] = _cut(row, images, column, boxes[column], limits[column], is_several)
        elif is_auto:
            pictures |= _own_crops(row, column, limits[column], max_megapixels)
    has_crops = any(pictures.get(column) for column in CROP_COLUMNS)
    takes_crops = any(limits[column] for column in CROP_COLUMNS)
    if is_auto and takes_crops and not has_crops and not proposed_kinds and sources:
        done = "whole pictures alone" if limits["image"] else "the text alone"
        warn_once(
            logger,
            f"No crops and no detector to find any: tagging by {done}. The model takes crops: name an aux_detector, "
            "an rcnn_detector or both, or set crops='none'.",
        )
    return pictures


def given_boxes(crops: Any, limits: Mapping[str, int]) -> dict[str, list[dict[str, Any]]]:
    """
    Boxes as a user gives them, by column of crops; none for `"auto"` and `"none"`. What is neither is a ProblemError.

    Args:
        crops: a list of boxes for the first column of crops that the model takes, or `{"aux_crops": [...],
            "rcnn_crops": [...]}`. A box is (xmin, ymin, xmax, ymax) in pixels of the picture, or a mapping with that
            as `box`, and `label` and `score` where they are known. Of several pictures, `image` is the number of the
            one that is meant, by default 0.
        limits: how many crops the model takes of each column.
    """
    if isinstance(crops, str):
        if crops in CROP_CHOICES:
            return {}
        raise ProblemError(Problem(NO_CROPS, "crops", details=f"(got {shown(crops)})"))
    if hasattr(crops, "tolist"):  # an array or tensor
        crops = crops.tolist()
    if isinstance(crops, Mapping) and "box" not in crops:
        unknown = crops.keys() - set(CROP_COLUMNS)
        if unknown:
            raise ProblemError(Problem(NO_CROPS, "crops", details=f"(got columns {_names(unknown)})"))
        by_column = {column: as_list(crops.get(column)) for column in CROP_COLUMNS}
    else:
        if isinstance(crops, Sequence) and len(crops) == 4 and all(isinstance(side, Real) for side in crops):
            crops = [crops]
        column = next((column for column in CROP_COLUMNS if limits[column]), CROP_COLUMNS[0])
        by_column = {column: as_list(crops)}
    return {column: [_as_object(box) for box in boxes] for column, boxes in by_column.items() if boxes}


def given_thresholds(given: Any, names: Collection[str], best: Mapping[str, float] | None) -> dict[str, float]:
    """
    The scores below which something is left out, by entity type and relation, as a user gives them.

    Args:
        given: the `threshold` of [`IFAformerPipeline.__call__`].
        names: the entity types and relations that the models know.
        best: what `"best"` stands for; None where the model has no such thresholds.

    Raises:
        ValueError: for what is no such threshold, for names that no model knows, and for `"best"` without any.
    """
    if isinstance(given, str) and given == "best":
        if best is None:
            raise ValueError(
                "threshold='best' needs the thresholds that train.py chooses at the end of a training, and the "
                "configuration of this model has none. Take the folder of a run, not a checkpoint-N folder in it, or "
                "give a number, or numbers by entity type."
            )
        given = best
    thresholds = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, given)
    unknown = [name for name in thresholds if name not in names]
    if unknown:
        raise ValueError(f"threshold names {_names(unknown)}, but the models know only {', '.join(names)}.")
    for value in thresholds.values():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise ValueError(
                "threshold must be a number from 0 to 1, a mapping of entity types and relations to such numbers, or "
                f"'best', got {shown(value)}."
            )
    return thresholds


def _as_object(box: Any) -> dict[str, Any]:
    given = box._asdict() if hasattr(box, "_asdict") else box if isinstance(box, Mapping) else {"box": box}
    try:
        xmin, ymin, xmax, ymax = sides = [float(side) for side in islice(given["box"], 5)]
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:  # the last is torch's
        raise ProblemError(Problem(NO_BOX, "crops", details=f"(got {shown(box)})")) from error
    if not all(map(math.isfinite, sides)) or xmin >= xmax or ymin >= ymax:
        raise ProblemError(Problem(NO_BOX, "crops", details=f"(got {sides})"))
    described: dict[str, Any] = {"box": sides}
    label, score = given.get("label"), given.get("score")
    if label is not None:
        described["label"] = label if isinstance(label, str) else shown(label)
    if isinstance(score, Real):
        described["score"] = score
    if given.get("image") is not None:
        if type(given["image"]) is not int or given["image"] < 0:
            raise ProblemError(Problem(NO_NUMBER, "crops", details=f"(got {shown(given['image'])})"))
        described["image"] = given["image"]
    return described


def _first(row: PipelineRow, values: list[Any], limit: int, column: str) -> list[Any]:
    if len(values) > limit:
        row.report(Problem(TOO_MANY, column, details=f"({len(values)} are given, {limit} are used)"))
    return values[:limit]


def _load(
    row: PipelineRow, source: Any, max_megapixels: float, column: str, item: int | None = None
) -> Image.Image | None:
    try:
        return load_image(source, max_megapixels)
    except ImageError as error:
        details = error.problem.details
        if error.problem.kind != WRONG_TYPE:  # whose details are the type, and so is its name
            details = f"{details} ({error.where})".lstrip()
        row.report(replace(error.problem, column=column, item=item, details=details), ImageError)
        return None


def _own_crops(row: PipelineRow, column: str, limit: int, max_megapixels: float) -> dict[str, list[Image.Image]]:
    """The row's own crops, where the model takes any; with the objects beside them where there is one for each."""
    sources = as_list(row.columns.get(column))
    if sources and limit == 0:
        warn_once(logger, f"The column {column} is not looked at, since the model takes no crops of this kind.")
        return {}
    used = _first(row, sources, limit, column)
    loaded = [_load(row, source, max_megapixels, column, item) for item, source in enumerate(used)]
    objects = as_list(row.columns.get(column.replace("_crops", "_objects")))
    if len(objects) == len(sources):  # else they are not those of the crops
        of_crops = zip(objects[:limit], loaded, strict=True)
        try:
            row.objects[column] = [_as_object(detected) for detected, crop in of_crops if crop is not None]
        except ProblemError as error:
            row.report(error.problem)
    usable = {item: crop for item, crop in enumerate(loaded) if crop is not None}
    row.used_pictures[column] = list(usable)
    return {column: [*usable.values()]}


def _cut(
    row: PipelineRow,
    images: Mapping[int, Image.Image],
    column: str,
    boxes: list[dict[str, Any]],
    limit: int,
    is_several: bool,
) -> list[bytes]:
    """
    The crops of boxes. The row gets the boxes as far as they lie in their picture, with its number where a row may
    have several; one outside is reported.
    """
    kept, crops = [], []
    for item, described in enumerate(_first(row, boxes, limit, column)):
        number = described.get("image", 0)
        if number not in images:
            row.report(Problem(NO_SUCH_IMAGE, column, item, f"(got the number {number})"))
            continue
        width, height = full_size(images[number])
        xmin, ymin, xmax, ymax = described["box"]
        clipped = [max(xmin, 0.0), max(ymin, 0.0), min(xmax, float(width)), min(ymax, float(height))]
        if clipped[0] < clipped[2] and clipped[1] < clipped[3]:
            kept.append({**described, "box": clipped, **({"image": number} if is_several else {})})
            crops += encode_crops(images[number], [clipped])
        else:
            details = f"({described['box']} in a picture of {width} x {height} pixels)"
            row.report(Problem(OUTSIDE, column, item, details))
    row.objects[column] = kept
    return crops
