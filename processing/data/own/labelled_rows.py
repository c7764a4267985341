"""Rows of your own files, checked: their words, and a tag for each word."""

import itertools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import datasets

from processing.columns import OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.data.forms import FORM_COLUMNS, misnamed_column
from processing.data.label_ids import is_hidden, read_label_ids
from processing.data.row_checks import OWN_TEXT, in_characters, own_text
from processing.labels import entity_spans
from processing.problems import Problem, ProblemError
from processing.tokenizing import Words, keeps_text, row_words, same_text, split_words

from .find_tables import LABEL_FILE
from .tables import table_features
from .tag_schemes import to_iob2
from .text_tables import Row


RELATION_COLUMNS = ("head", "tail", "relation", "relations")
TEXT_COLUMNS = ("text", "tokens", "offsets")
LABEL_COLUMNS = ("id", "image_id", *TEXT_COLUMNS, "ner_tags", "spans", "entities", *FORM_COLUMNS, *RELATION_COLUMNS)
COLUMNS = (*LABEL_COLUMNS, *PICTURE_COLUMNS, *OBJECT_COLUMNS)

SPAN_KEYS = ("start", "end", "label")

NO_LABELS = "the row has no labels: it must have ner_tags, or text and spans (an empty list for no entity)"
NO_COLUMNS = "the row must have tokens and ner_tags, or text and spans (an empty list where there are no entities)"
MAX_REST = 3  # characters: the ending of a plural or a case, an article or a preposition in front, `#`, `@`
INSIDE_WORD = f"each must be whole words, or leave out at most {MAX_REST} characters of the first or the last"


class Pair(NamedTuple):
    """Two entities of a row, words from start to end, end exclusive, and the relation between them."""

    head: tuple[int, int]
    tail: tuple[int, int]
    relation: str


class LabelledRow(NamedTuple):
    """The words of a row and their tags, or a pair of entities in it."""

    row_id: str  # the source's own, or the one that it was given
    has_own_id: bool
    image_id: str | None
    text: str | None  # as it was given; None for words
    tokens: list[str]
    offsets: list[tuple[int, int]]  # characters of each of the tokens in the text; none without one
    tags: list[str]  # one for each of the tokens, in the source's scheme, or in IOB2 where they were made of spans
    is_tagged: bool  # whether the source has tags, and no spans
    moved: list[tuple[str, str]]  # characters of each span that were not whole words, and the words that it was given
    shifted: list[str]  # what the offsets of each span were counted in that were not characters
    objects: dict[str, list[dict[str, Any]]]  # those of each of the `OBJECT_COLUMNS`
    source: Row  # as it was read
    pair: Pair | None = None  # where the task is to find relations


class LabelNames(NamedTuple):
    """What ids mean in the source's columns where they are class labels: tags, types of spans, relations."""

    tags: list[str] | None = None
    types: list[str] | None = None
    relations: list[str] | None = None

    @classmethod
    def of(cls, path: str) -> "LabelNames":
        """The names in the features of a file; for tags without any there, those of a `label.json` beside it."""
        features = table_features(path)

        def names(feature: Any) -> list[str] | None:
            feature = getattr(feature, "feature", feature)
            if isinstance(feature, Mapping):
                return names(feature.get("label"))
            return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

        tags = names(features.get("ner_tags") or features.get("tags"))
        beside = os.path.join(os.path.dirname(path), LABEL_FILE)
        if tags is None and os.path.isfile(beside):
            tags = read_label_ids(beside)
        types = names(features.get("spans")) or names(features.get("entities"))
        return cls(tags, types, names(features.get("relation")))


def bad_row(kind: str, column: str | None = None, got: Any = None) -> ProblemError:
    return ProblemError(Problem(kind, column, details=f"(got {got!r:.80})"))


def read_labelled_row(row: Row, row_id: str, names: LabelNames, word_splitter: str = "unicode") -> LabelledRow:
    """
    Check all of a row but its pictures; a ProblemError says why it cannot be used. Tags are read where there are both
    tags and spans, which [`check_spans_of`] compares. A row without an `id` gets the `row_id`.

    An entity is whole words. A span may leave out up to `MAX_REST` characters at the start of its first word and as
    many at the end of its last: it is widened to both words, and told in `moved`. Where it leaves out more, its words
    are no name any more, and the row cannot be used. What a span has beyond its words, such as a space, is left out.

    Args:
        word_splitter: how a text becomes words, see [`split_words`].
    """
    own_id, image_id = (_id(row, column) for column in ("id", "image_id"))
    if own_id == "":
        raise bad_row("must be a string", "id", own_id)
    moved: list[tuple[str, str]] = []
    shifted: list[str] = []
    is_tagged = not (is_hidden(row.get("ner_tags")) and (row.get("tokens") or row.get("ner_tags") is None))
    text: str | None
    if is_tagged:
        (text, tokens, offsets), tags = _given_words(row, names)
        if not keeps_text(row):
            text, offsets = None, []
    else:
        (text, tokens, offsets), tags = _words_of_text(row, names, word_splitter, moved, shifted)
    objects = {column: read_objects(row, column) for column in OBJECT_COLUMNS}
    return LabelledRow(
        own_id or row_id,
        own_id is not None,
        image_id,
        text,
        tokens,
        offsets,
        tags,
        is_tagged,
        moved,
        shifted,
        objects,
        row,
    )


def check_spans_of(row: LabelledRow, names: LabelNames) -> None:
    """Compare the spans of a row that has tags too with these; where they say something else, it is a ProblemError."""
    column = next((name for name in ("spans", "entities") if row.is_tagged and row.source.get(name) is not None), None)
    text = row.source.get("text") or " ".join(row.tokens)
    if column is None or not isinstance(text, str):
        return
    try:
        spans, _ = _spans(row.source[column], column, text, names)
    except ProblemError as error:
        if error.problem.kind == OWN_TEXT:
            raise
        return  # The column holds something else.
    by_spans = [(entity_type, text[start:end]) for start, end, entity_type in sorted(spans)]
    by_tags = [
        (entity_type, "".join(row.tokens[start:end])) for entity_type, start, end in entity_spans(to_iob2(row.tags)[0])
    ]
    pairs = itertools.zip_longest(by_spans, by_tags, fillvalue=("", ""))
    for (given, span), (tagged, words) in pairs:
        if given != tagged or not same_text(span, words):
            details = f"({given} {span!r:.80} by {column}, {tagged} {words!r:.80} by ner_tags; leave out one column)"
            raise ProblemError(Problem("must say the same as ner_tags", column, details=details))


def _id(row: Row, column: str) -> str | None:
    value = row.get(column)
    if value is not None and type(value) not in (str, int):
        raise bad_row("must be a string", column, value)
    return None if value is None else str(value)


def _given_words(row: Row, names: LabelNames) -> tuple[Words, list[str]]:
    tokens, tags = row.get("tokens"), row["ner_tags"]
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise bad_row("must be a list of words, one for each of ner_tags", "tokens", tokens)
    if not isinstance(tags, list):
        raise bad_row("must be a list of tags", "ner_tags", tags)
    if not tokens or "" in tokens:
        raise bad_row("must be words, none of them empty", "tokens", tokens)
    if len(tokens) != len(tags):
        details = f"({len(tokens)} tokens, {len(tags)} ner_tags)"
        raise ProblemError(Problem("must have one tag for each word", "ner_tags", details=details))
    return row_words(row), [given_label(tag, "ner_tags", names.tags) for tag in tags]


def given_label(value: Any, column: str, names: list[str] | None) -> str:
    """A label as text, which may be given as an id; what is neither is a ProblemError."""
    if isinstance(value, str) and value:
        return value
    if type(value) is int and names is None:
        kind = "must be strings: the file has no names for their ids"
        if column == "ner_tags":
            kind += f", and there is no {LABEL_FILE} beside it, a dict of each tag to its id"
        raise bad_row(kind, column, value)
    if type(value) is not int or names is None or not 0 <= value < len(names):
        raise bad_row("must be strings, or ids of the file's own names", column, value)
    return names[value]


def _words_of_text(
    row: Row, names: LabelNames, word_splitter: str, moved: list[tuple[str, str]], shifted: list[str]
) -> tuple[Words, list[str]]:
    """
    Words of a text and their tags by its spans; those that had to be moved to whole words are added to `moved`, and
    what was counted in the place of characters to `shifted`.
    """
    given = [name for name in ("spans", "entities") if row.get(name) is not None]
    if row.get("text") is None or not given:
        columns = ", ".join(name for name, value in row.items() if value is not None)
        hint = misnamed_column(row)
        has_words = row.get("text") is not None or (row.get("tokens") and not given)
        kind = NO_LABELS if has_words and not hint else NO_COLUMNS
        raise ProblemError(Problem(kind, details=f"(it has values for {columns or 'no column'}{hint})"))
    if len(given) == 2:
        raise ProblemError(Problem("the row must have spans or entities, not both"))
    if not isinstance(row["text"], str):
        raise bad_row("must be a string", "text", row["text"])
    text, words, offsets = split_words(row["text"], word_splitter)
    if not words:
        raise bad_row("must have a word", "text", text)

    (column,) = given
    tags = ["O"] * len(words)
    spans, unit = _spans(row[column], column, text, names)
    shifted += [unit] * len(spans) if unit else []
    last_end, last_word, previous = 0, 0, ""
    for start, end, entity_type in sorted(spans):
        span = text[start:end]
        covered = [index for index, (begin, stop) in enumerate(offsets) if begin < end and start < stop]
        if not covered:
            raise ProblemError(Problem("each must have a word", column, details=f"(got {span!r} at {start})"))
        first, last = covered[0], covered[-1]
        if start < last_end or first < last_word:
            details = f"({previous!r:.80} and {span!r:.80})"
            raise ProblemError(Problem("must not overlap once they are whole words", column, details=details))
        whole = text[offsets[first][0] : offsets[last][1]]
        if max(start - offsets[first][0], offsets[last][1] - end) > MAX_REST:
            raise ProblemError(Problem(INSIDE_WORD, column, details=f"(got {span!r:.80} of {whole!r:.80})"))
        if whole != span:
            moved.append((span, whole))
        tags[first : last + 1] = [f"B-{entity_type}", *[f"I-{entity_type}"] * (last - first)]
        last_end, last_word, previous = end, last + 1, span
    return (text, words, offsets), tags


def _spans(value: Any, column: str, text: str, names: LabelNames) -> tuple[list[tuple[int, int, str]], str]:
    """(start, end, type) of each in characters of the text, `end` exclusive; and what they were counted in if else."""
    if isinstance(value, dict) and set(value) >= set(SPAN_KEYS):
        # How datasets stores a sequence of dicts: a dict of lists.
        columns = list(value.values())
        if all(isinstance(items, list) and len(items) == len(columns[0]) for items in columns):
            value = [dict(zip(value, span, strict=True)) for span in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise bad_row("must be a list", column, value)
    given: list[tuple[int, int, str | None]] = []
    for span in value:
        if not isinstance(span, dict) or not set(span) >= set(SPAN_KEYS):
            raise bad_row("each must be a dict with start, end and label", column, span)
        start, end = span["start"], span["end"]
        if type(start) is not int or type(end) is not int:
            raise bad_row("start and end must be whole numbers", column, span)
        given.append((start, end, own_text(span, text)))
    offsets, unit = in_characters(text, given, column)
    for start, end in offsets:
        if not 0 <= start < end <= len(text):
            details = f"(got {start}:{end} in a text of {len(text)} characters)"
            raise ProblemError(Problem("must be 0 <= start < end <= length of the text", column, details=details))
    types = [given_label(span["label"], column, names.types) for span in value]
    return [(start, end, of_span) for (start, end), of_span in zip(offsets, types, strict=True)], unit


def read_objects(row: Row, column: str) -> list[dict[str, Any]]:
    """The objects of a row, none where the column is absent."""
    objects, checked = row.get(column), []
    if objects is None:
        return []
    try:
        if not isinstance(objects, list):
            raise TypeError
        for item in objects:
            label, score, box = item["label"], float(item["score"]), [float(number) for number in item["box"]]
            if not isinstance(label, str) or len(box) != 4:
                raise ValueError
            checked.append({"label": label, "score": score, "box": box})
    except (TypeError, KeyError, ValueError, OverflowError) as error:  # JSON's whole numbers have no limit
        raise bad_row("must be a list of dicts with label, score and box", column, objects) from error
    return checked
