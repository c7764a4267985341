"""Rows of your own files, checked: their words, and a tag for each word, or pairs of entities and their relations."""

import itertools
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import datasets

from processing.columns import OBJECT_COLUMNS, PICTURE_COLUMNS
from processing.context import CONTEXT, read_context
from processing.data.label_ids import is_hidden, read_label_ids
from processing.labels import NO_RELATION, entity_spans
from processing.problems import Problem, ProblemError
from processing.tokenizing import Words, keeps_text, row_words, same_text, split_words

from .find_tables import LABEL_FILE
from .forms import FORM_COLUMNS, misnamed_column
from .spans import OWN_TEXT, bad_column, read_spans, words_of_spans
from .tables import table_features
from .tag_schemes import to_iob2
from .text_tables import Row


RELATION_COLUMNS = ("head", "tail", "relation", "relations")
TEXT_COLUMNS = ("text", "tokens", "offsets")
ANSWER_COLUMNS = ("ner_tags", "spans", "entities", *FORM_COLUMNS, *RELATION_COLUMNS)
LABEL_COLUMNS = ("id", "image_id", *TEXT_COLUMNS, CONTEXT, *ANSWER_COLUMNS)
COLUMNS = (*LABEL_COLUMNS, *PICTURE_COLUMNS, *OBJECT_COLUMNS)

NO_LABELS = "the row has no labels: it must have ner_tags, or text and spans (an empty list for no entity)"
NO_COLUMNS = "the row must have tokens and ner_tags, or text and spans (an empty list where there are no entities)"
NO_RELATION_OF_TWO = "each must have one name, and join two of the row's entities"
NO_PAIR = (
    "the row must have relation, head and tail, or entities and relations between them (an empty list where there are "
    "none)"
)


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
    context: list[dict[str, str | None]] = []  # noqa: RUF012  (what is read behind the text, see `read_context`)
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


def read_labelled_row(row: Row, row_id: str, names: LabelNames, word_splitter: str = "unicode") -> LabelledRow:
    """
    Check all of a row but its pictures; a ProblemError says why it cannot be used. Tags are read where there are both
    tags and spans, which [`check_spans_of`] compares. A row without an `id` gets the `row_id`.

    An entity is whole words: a span that is not becomes so, as [`words_of_spans`] does it, and is told in `moved`.

    Args:
        word_splitter: how a text becomes words, see [`split_words`].
    """
    own_id, image_id = (_id(row, column) for column in ("id", "image_id"))
    if own_id == "":
        raise bad_column("must be a string", "id", own_id)
    is_tagged = not (is_hidden(row.get("ner_tags")) and (row.get("tokens") or row.get("ner_tags") is None))
    words, tags, moved, shifted = (_given_words if is_tagged else _words_of_text)(row, names, word_splitter)
    text, tokens, offsets = words if not is_tagged or keeps_text(row) else (None, words[1], [])
    objects = {column: read_objects(row, column) for column in OBJECT_COLUMNS}
    given = (text, tokens, offsets, tags, is_tagged, moved, shifted, objects, row)
    return LabelledRow(own_id or row_id, own_id is not None, image_id, *given, read_context(row.get(CONTEXT)))


def check_spans_of(row: LabelledRow, names: LabelNames) -> None:
    """Compare the spans of a row that has tags too with these; where they say something else, it is a ProblemError."""
    column = next((name for name in ("spans", "entities") if row.is_tagged and row.source.get(name) is not None), None)
    text = row.source.get("text") or " ".join(row.tokens)
    if column is None or not isinstance(text, str):
        return
    try:
        spans = read_spans(row.source[column], column, text)
        types = [given_label(label, column, names.types) for label in spans.labels]
    except ProblemError as error:
        if error.problem.kind == OWN_TEXT:
            raise
        return  # The column holds something else.
    by_spans = [(of, text[start:end]) for of, (start, end) in zip(types, spans.offsets, strict=True)]
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
        raise bad_column("must be a string", column, value)
    return None if value is None else str(value)


Labelled = tuple[Words, list[str], list[tuple[str, str]], list[str]]  # words, tags, `moved` and `shifted`


def _given_words(row: Row, names: LabelNames, word_splitter: str) -> Labelled:
    tokens, tags = row.get("tokens"), row["ner_tags"]
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise bad_column("must be a list of words, one for each of ner_tags", "tokens", tokens)
    if not isinstance(tags, list):
        raise bad_column("must be a list of tags", "ner_tags", tags)
    if not tokens or "" in tokens:
        raise bad_column("must be words, none of them empty", "tokens", tokens)
    if len(tokens) != len(tags):
        details = f"({len(tokens)} tokens, {len(tags)} ner_tags)"
        raise ProblemError(Problem("must have one tag for each word", "ner_tags", details=details))
    return row_words(row), [given_label(tag, "ner_tags", names.tags) for tag in tags], [], []


def given_label(value: Any, column: str, names: list[str] | None) -> str:
    """A label as text, which may be given as an id; what is neither is a ProblemError."""
    if isinstance(value, str) and value:
        return value
    if type(value) is int and names is None:
        kind = "must be strings: the file has no names for their ids"
        if column == "ner_tags":
            kind += f", and there is no {LABEL_FILE} beside it, a dict of each tag to its id"
        raise bad_column(kind, column, value)
    if type(value) is not int or names is None or not 0 <= value < len(names):
        raise bad_column("must be strings, or ids of the file's own names", column, value)
    return names[value]


def _words_of_text(row: Row, names: LabelNames, word_splitter: str) -> Labelled:
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
        raise bad_column("must be a string", "text", row["text"])
    words = split_words(row["text"], word_splitter)
    if not words[1]:
        raise bad_column("must have a word", "text", row["text"])
    (column,) = given
    spans = read_spans(row[column], column, row["text"])
    types = [given_label(label, column, names.types) for label in spans.labels]
    tags, moved = ["O"] * len(words[1]), []
    for entity_type, (start, end, span, whole) in zip(types, words_of_spans(spans, words, column), strict=True):
        tags[start:end] = [f"B-{entity_type}", *[f"I-{entity_type}"] * (end - start - 1)]
        if span != whole:
            moved.append((span, whole))
    return words, tags, moved, [spans.unit] * len(types) if spans.unit else []


def read_objects(row: Row, column: str) -> list[dict[str, Any]]:
    """The objects of a row, none where the column is absent."""
    objects, checked = row.get(column), []
    if objects is None:
        return []
    try:
        if not isinstance(objects, list):
            raise TypeError
        for item in objects:
            label, box = item["label"], [float(number) for number in item["box"]]
            score = None if item["score"] is None else float(item["score"])
            image = item.get("image")  # the number of the picture, where a row has several
            if not isinstance(label, str) or len(box) != 4 or type(image) not in (int, type(None)):
                raise ValueError
            of_several = {} if image is None else {"image": image}
            checked.append({"label": label, "score": score, "box": box, **of_several})
    except (TypeError, KeyError, ValueError, OverflowError) as error:  # JSON's whole numbers have no limit
        raise bad_column("must be a list of dicts with label, score and box", column, objects) from error
    return checked


def read_pairs(row: Row, row_id: str, names: LabelNames, word_splitter: str = "unicode") -> list[LabelledRow]:
    """
    The pairs of entities in a row, each with its relation; a ProblemError says why the row cannot be used.

    - A row with `relation` is one pair. Its `head` and `tail` are given as a pipeline for relations takes them, see
      [`IFAformerRelationPipeline`]: `[start, end]`, a dict with `start` and `end`, or the entity as it stands in the
      text once.
    - A row with `relations` and entities, which are read as [`read_labelled_row`] does it, gives a row for each
      relation. One of Label Studio in both directions gives two. Two entities without a relation in either direction
      are a row of the relation `None`. A digest of the row's id chooses its head: were it always the first of the two,
      their order would tell that there is none. Nothing is said of the other direction of a relation.
    """
    if row.get("relation") is not None:
        return [_given_pair(row, row_id, names, word_splitter)]
    labelled = read_labelled_row(row, row_id, names, word_splitter)
    relations = row.get("relations")
    if not isinstance(relations, list):
        columns = ", ".join(name for name, value in row.items() if value is not None)
        raise ProblemError(Problem(NO_PAIR, details=f"(it has values for {columns or 'no column'})"))
    entities = [(start, end) for _, start, end in entity_spans(labelled.tags)]
    spans: list[Row] = next((row[name] for name in ("spans", "entities") if row.get(name) is not None), [])
    order = _order(spans, len(entities))
    pairs = []
    for item, relation in enumerate(relations):
        try:
            *ends, name = _relation(relation, spans)
            head, tail = (order[end] for end in ends if type(end) is int and end >= 0)
            if head == tail or not isinstance(name, str) or not name:
                raise ValueError
        except (KeyError, TypeError, ValueError, IndexError) as error:
            details = f"(got {relation!r:.200}, the row has {len(entities)} entities)"
            raise ProblemError(Problem(NO_RELATION_OF_TWO, "relations", item, details)) from error
        pairs.append((head, tail, name))
        if relation.get("direction") == "bi":
            pairs.append((tail, head, name))
    repeated = [pair for pair in itertools.combinations(pairs, 2) if pair[0][:2] == pair[1][:2]]
    if repeated:
        kind = "two entities must have one relation at most in each direction"
        raise ProblemError(Problem(kind, "relations", details=f"(got {[name for *_, name in repeated[0]]})"))
    joined = {frozenset(pair[:2]) for pair in pairs}
    for pair in itertools.combinations(range(len(entities)), 2):
        if frozenset(pair) not in joined:
            drawn = sha256(f"{labelled.row_id} {pair}".encode(errors="surrogatepass")).digest()[0]
            head, tail = pair if drawn % 2 == 0 else pair[::-1]
            pairs.append((head, tail, NO_RELATION))
    several = len(pairs) > 1
    return [
        labelled._replace(
            row_id=f"{labelled.row_id}-{number}" if several else labelled.row_id,
            pair=Pair(entities[head], entities[tail], relation),
            moved=labelled.moved if number == 0 else [],
        )
        for number, (head, tail, relation) in enumerate(pairs)
    ]


def _order(spans: list[Row], number: int) -> Sequence[int]:
    """Of each entity, in the order of the row, its place in the order of the text; tags have no other order."""
    if len(spans) != number:
        return range(number)
    given = sorted(range(number), key=lambda place: spans[place]["start"])
    return [given.index(place) for place in range(number)]


def _relation(relation: Any, spans: list[Row]) -> tuple[Any, Any, Any]:
    """
    The places of head and tail in the spans, and the name, as this project, Label Studio, doccano and Prodigy
    (https://prodi.gy/docs/api-interfaces#relations) write them. A relation of another form is some error.
    """
    if "head_span" in relation:
        of_span = {(span["start"], span["end"]): place for place, span in enumerate(spans)}
        head, tail = (of_span[relation[end]["start"], relation[end]["end"]] for end in ("head_span", "child_span"))
        return head, tail, relation["label"]
    if "from_id" not in relation:
        return relation["head"], relation["tail"], relation["relation"]
    places = {str(span.get("id")): place for place, span in enumerate(spans)}
    head, tail = (places[str(relation[end])] for end in ("from_id", "to_id"))
    if relation.get("direction") == "left":
        head, tail = tail, head
    # Label Studio calls each relation so, and its names are the labels.
    (name,) = relation["labels"] if {"labels", "direction"} & set(relation) else [relation["type"]]
    return head, tail, name


def _given_pair(row: Row, row_id: str, names: LabelNames, word_splitter: str) -> LabelledRow:
    # Torch takes seconds to import, and data with entities do not need it.
    from processing.base_relation_pipeline import given_pair
    from processing.pipeline_rows import PipelineRow

    relation = given_label(row["relation"], "relation", names.relations)
    tokens = row.get("tokens")
    no_entities = {"spans": []} if not isinstance(tokens, list) else {"ner_tags": ["O"] * len(tokens)}
    rest = {name: value for name, value in row.items() if name not in ("spans", "entities", "ner_tags", "relations")}
    labelled = read_labelled_row({**rest, **no_entities}, row_id, names, word_splitter)
    text, words, offsets = row_words(labelled._asdict())
    pair = given_pair(PipelineRow(columns=rest, text=text, words=words, offsets=offsets))
    head, tail = ((pair[name]["start"], pair[name]["end"]) for name in ("head", "tail"))
    return labelled._replace(pair=Pair(head, tail, relation))
