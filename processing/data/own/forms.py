"""
Rows as annotation tools and other programs write them, brought into the columns of this project.

`FORMS` is the table of what is known: how a row is recognised by its own structure, and what becomes of it. Whatever
comes after (checks, splits, pictures, reports) sees the columns of this project alone.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from processing.context import CONTEXT
from processing.problems import Problem, ProblemError
from processing.rows.picture_files import PICTURE_ENDINGS
from processing.tokenizing import CUT_OFF

from .spans import SPAN_KEYS
from .text_tables import Row


REJECTED = "the row says of itself that it is not to be used"

_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
_REFUSALS = ("reject", "rejected", "ignore", "ignored", "skip", "skipped", "cancelled", "canceled", "discarded")
# By column, the values by which a row is no gold. Prodigy has `answer`, Label Studio `was_cancelled`, Argilla
# `status`.
VERDICTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("answer", "status", "state", "decision"), (*_REFUSALS, "deleted", "draft", "pending")),
    **{f"{was}{word}": _YES for word in (*_REFUSALS, "deleted") for was in ("", "is_", "was_")},
    **{f"{was}{word}": _NO for word in ("accepted", "approved", "confirmed", "gold") for was in ("", "is_", "was_")},
    "problems": (),  # of the pipeline, for which `rejection` looks itself
}

# Columns that the forms have besides those of this project; of Parquet and Arrow no others are read.
FORM_COLUMNS = ("label", "labels", "tags", "tokenized_text", "ner")

# The columns of which each says what the entities of a row are.
_ANSWERS = ("spans", "entities", "ner_tags", "relation")
# What Prodigy has besides where a person answered another question than for entities.
_OTHER_ANSWERS = ("label", "labels", "options", "accept")
_PICTURE = re.compile(rf".+(?:{'|'.join(map(re.escape, PICTURE_ENDINGS))})(?:\?.*)?", re.IGNORECASE)
_TEXT_NAME = re.compile(r"text|tweet|sentence|content|body|caption|message", re.IGNORECASE)
_SPAN_KEYS = {"start_offset": "start", "end_offset": "end", "entity_group": "label", "labels": "label"}


class Form(NamedTuple):
    """A form that rows have in the files of some program."""

    name: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Row]  # the row with `text` or `tokens`, and with `spans`, `entities` or `ner_tags`


def in_our_columns(row: Row) -> Row:
    """
    A row in the columns of this project, whichever of the `FORMS` it has; one of no known form stays as it is.

    Entities are `ner_tags`, or `spans` or `entities`: dicts with `start`, `end`, `label` and whatever else they had.
    `relations` stay as they are, see [`read_pairs`], and so do other columns, such as those that say that nobody
    accepted the row, see [`rejection`].

    Raises:
        ProblemError: for a row that is recognised as one of the forms and is not in all as that is written.
    """
    for form in FORMS:
        if form.fits(row):
            try:
                row = form.read(row)
            except ProblemError:
                raise
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                details = f"({type(error).__name__}: {error})"
                raise ProblemError(Problem(f"the row is not as {form.name} writes it", details=details)) from error
            break
    return row | {name: _spans(row[name]) for name in ("spans", "entities") if row.get(name) is not None}


def rejection(row: Mapping[str, Any]) -> Problem | None:
    """
    The column that says of a row that it was rejected, skipped or not confirmed, that nobody has annotated it, or that
    a model tagged it and did not read all of its words; None if no column says so.
    """
    if row.get("annotations") == []:
        return Problem(REJECTED, "annotations", details="(nobody has annotated it)")
    if CUT_OFF in str(row.get("problems")):
        return Problem(REJECTED, "problems", details="(a model tagged it, and did not read all of its words)")
    for column, value in row.items():
        if value is not None and str(value).strip().casefold() in VERDICTS.get(column.casefold(), ()):
            return Problem(REJECTED, column, details=f"(got {value!r:.80})")
    return None


def is_predicted(row: Mapping[str, Any]) -> bool:
    """Whether a row has scores that a model gave to its entities or its relation, and no verdict of a person."""
    spans = [span for name in ("spans", "entities") if _has_dicts(row.get(name)) for span in row[name]]
    has_scores = any(span.get("score") is not None for span in spans)
    if has_scores or (row.get("relation") is not None and row.get("score") is not None):
        return not any(name.casefold() in VERDICTS and name != "problems" for name in row)
    return False


def misnamed_column(row: Row) -> str:
    """What to rename in a row that cannot be read; empty where no column looks like a text or its entities."""
    words, text = row.get("tokens"), row.get("text")
    if words is None and text is None:
        texts = [name for name, value in row.items() if isinstance(value, str) and " " in value.strip()]
        return f"; rename the column {texts[0]} to text if it is the tweet" if texts else ""
    for name, value in row.items():
        items = value if isinstance(value, list) and name not in ("tokens", "ner_tags") else []
        are_tags = isinstance(words, list) and len(words) == len(items) and all(isinstance(tag, str) for tag in items)
        # A cell of CSV under a name that is not known is text.
        is_cell = isinstance(value, str) and value.startswith(("[{", "[["))
        if items and are_tags:
            return f"; rename the column {name} to ner_tags if it has a tag for each word"
        if is_cell or (items and all(isinstance(item, dict | list) for item in items)):
            return f"; rename the column {name} to spans if it has the entities, each with start, end and label"
    return ""


def _spans(spans: Any) -> Any:
    """The spans as dicts with `start`, `end` and `label`. Spans with other keys stay as they are."""
    if isinstance(spans, dict) and set(spans) >= set(SPAN_KEYS):
        # How datasets stores a sequence of dicts: a dict of lists.
        columns = list(spans.values())
        if all(isinstance(items, list) and len(items) == len(columns[0]) for items in columns):
            spans = [dict(zip(spans, span, strict=True)) for span in zip(*columns, strict=True)]
    return [_span(span) for span in spans] if isinstance(spans, list) else spans


def _span(span: Any) -> Any:
    if isinstance(span, list | tuple) and len(span) == 3:
        return dict(zip(SPAN_KEYS, span, strict=True))
    if not isinstance(span, Mapping):
        return span
    span = {key if _SPAN_KEYS.get(key, key) in span else _SPAN_KEYS[key]: value for key, value in span.items()}
    if isinstance(span.get("label"), list) and len(span["label"]) == 1:
        (span["label"],) = span["label"]
    return span


def _is_label_studio_task(row: Row) -> bool:
    return isinstance(row.get("data"), dict) and row.keys().isdisjoint(("text", "tokens"))


def _label_studio_task(row: Row) -> Row:
    """
    A task: its `data` are columns. An annotation that was cancelled does not count. Of several that say different
    things, the ground truth counts. A task that has `predictions` alone was made outside, see `predict.py --to`.
    """
    given: list[Row] = next((row[name] for name in ("annotations", "completions", "predictions") if name in row), [])
    valid = [one for one in given if not one.get("was_cancelled")]
    results = [one["result"] for one in [one for one in valid if one.get("ground_truth")] or valid]
    if len({_said(result) for result in results}) > 1:
        details = f"({len(results)} annotations)"
        raise ProblemError(Problem("annotations differ, and none is the ground truth", details=details))
    is_predicted_alone = row.keys().isdisjoint(("annotations", "completions"))
    spans = [
        {
            **item["value"],
            **({"score": item.get("score", "")} if is_predicted_alone else {}),
            "id": item.get("id"),
            "label": item["value"][item["type"]],
        }
        for item in (results[0] if results else [])
        if "start" in item.get("value", ())  # Choices, and boxes in the picture, have none.
    ]
    columns = _label_studio_data({"id": row.get("id"), **row["data"]})
    if not results:
        return {**columns, "was_cancelled": True} if given else {**columns, "annotations": []}
    # Where a person named no relation, there are no `labels`.
    relations = [{"labels": [], **item} for item in results[0] if item["type"] == "relation"]
    return {**columns, "spans": spans, "relations": relations}


def _said(result: list[Any]) -> frozenset[str]:
    """What an annotation says, without the ids, which are others in each."""
    values = {
        item.get("id", place): json.dumps(item.get("value"), sort_keys=True)
        for place, item in enumerate(result)
        if item["type"] != "relation"
    }
    relations = (
        f"{values[item['from_id']]} {item.get('labels')} {values[item['to_id']]} {item.get('direction')}"
        for item in result
        if item["type"] == "relation"
    )
    return frozenset([*values.values(), *relations])


def _own_file(image: Any) -> Any:
    """The path of one of Label Studio's own files; anything else as it is."""
    if not isinstance(image, str) or not image.startswith("/data/"):
        return image
    local = image.removeprefix("/data/local-files/?d=")
    return unquote(local) if local != image else image.removeprefix("/data/")


def _label_studio_data(columns: Row) -> Row:
    """
    The columns with the text as `text` and the picture as `image`, whatever their names are. What a row has marked
    does not count: else of the same file rows without entities would be read in another way.
    """
    texts = [name for name, value in columns.items() if isinstance(value, str) and name not in ("id", "image")]
    pictures = [name for name in texts if _PICTURE.fullmatch(columns[name]) and name != "text"]
    if "image" not in columns and len(pictures) == 1:
        columns["image"] = columns.pop(pictures[0])
    image = columns.get("image")
    if image is not None:
        columns["image"] = list(map(_own_file, image)) if isinstance(image, list) else _own_file(image)
    if "text" not in columns:
        texts = [name for name in texts if name in columns]
        texts = [name for name in texts if name != CONTEXT] or texts
        texts = [name for name in texts if _TEXT_NAME.search(name)] or texts
        if len(texts) != 1:
            details = f"(got {', '.join(columns)}); rename the column that holds it to text"
            raise ProblemError(Problem("must have the tweet as text", "data", details=details))
        columns["text"] = columns.pop(texts[0])
    return columns


def _spans_column(row: Row) -> str | None:
    """The column that holds the entities of a row with a text, if it has a name that this project does not read."""
    if isinstance(row.get("text"), str) and row.keys().isdisjoint(_ANSWERS):
        for name, value in row.items():
            is_known = name in ("label", "labels") and isinstance(value, list)
            # Label Studio names it as the labelling configuration does.
            if is_known or (_has_dicts(value) and all("labels" in item for item in value)):
                return name
    return None


def _has_spans_column(row: Row) -> bool:
    # JSON_MIN has no such column where a person found no entity.
    return _spans_column(row) is not None or ({"annotation_id", "text"} <= set(row) and not _has_answer(row))


def _with_spans(row: Row) -> Row:
    column = _spans_column(row)
    return {"spans": [], **{("spans" if name == column else name): value for name, value in row.items()}}


def _has_dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _has_answer(row: Row) -> bool:
    return not row.keys().isdisjoint(_ANSWERS)


def _is_prodigy(row: Row) -> bool:
    return "text" in row and (row.get("answer") in ("accept", "reject", "ignore") or _has_dicts(row.get("tokens")))


def _prodigy(row: Row) -> Row:
    """The row without `tokens` that are no words; without any answer to another question it is a text of no entity."""
    row = {name: value for name, value in row.items() if name != "tokens" or not _has_dicts(value)}
    return row if _has_answer(row) or not row.keys().isdisjoint(_OTHER_ANSWERS) else {**row, "spans": []}


def _gliner(row: Row) -> Row:
    words = row["tokenized_text"]
    tags = ["O"] * len(words)
    for start, end, label in row["ner"]:  # The end is inclusive.
        if not 0 <= start <= end < len(words) or set(tags[start : end + 1]) != {"O"}:
            details = f"(got {[start, end, label]!r:.80})"
            raise ProblemError(
                Problem("each must be words of the text, and of no other entity", "ner", details=details)
            )
        tags[start : end + 1] = [f"B-{label}", *[f"I-{label}"] * (end - start)]
    rest = {name: value for name, value in row.items() if name not in ("tokenized_text", "ner")}
    return {**rest, "tokens": words, "ner_tags": tags}


def _tner(row: Row) -> Row:
    return {("ner_tags" if name == "tags" else name): value for name, value in row.items()}


# What only spells spans or relations in its own way is read by `in_our_columns` for every row: doccano's export with
# relations, spaCy's training data (https://v2.spacy.io/usage/training) and this project's own results.
FORMS = (
    # https://labelstud.io/guide/task_format
    Form("Label Studio", _is_label_studio_task, _label_studio_task),
    # https://github.com/urchade/GLiNER, its data for training
    Form("GLiNER", lambda row: "tokenized_text" in row, _gliner),
    # https://github.com/asahi417/tner, its custom data sets; numbers are those of a label.json beside the file
    Form("tner", lambda row: {"tokens", "tags"} <= set(row) and not _has_answer(row), _tner),
    # https://doccano.github.io/doccano/tutorial, and Label Studio's JSON_MIN, https://labelstud.io/guide/export
    Form("doccano or Label Studio", _has_spans_column, _with_spans),
    # https://prodi.gy/docs/api-interfaces#ner; behind the others, since it may have no column of its own
    Form("Prodigy", _is_prodigy, _prodigy),
)
