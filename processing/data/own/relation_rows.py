"""Rows of your own files with relations: one pair of entities in a row, or a text with all relations in it."""

import itertools
from collections.abc import Sequence
from typing import Any

from processing.labels import NO_RELATION, entity_spans
from processing.problems import Problem, ProblemError
from processing.tokenizing import row_words

from .labelled_rows import LabelledRow, LabelNames, Pair, given_label, read_labelled_row
from .text_tables import Row


NO_RELATION_OF_TWO = "each must have one name, and join two of the row's entities"
NO_PAIR = (
    "the row must have relation, head and tail, or entities and relations between them (an empty list where there are "
    "none)"
)


def read_pairs(row: Row, row_id: str, names: LabelNames, word_splitter: str = "unicode") -> list[LabelledRow]:
    """
    The pairs of entities in a row, each with its relation; a ProblemError says why the row cannot be used.

    - A row with `relation` is one pair. Its `head` and `tail` are given as a pipeline for relations takes them, see
      [`IFAformerRelationPipeline`]: `[start, end]`, a dict with `start` and `end`, or the entity as it stands in the
      text once.
    - A row with `relations` and entities, which are read as [`read_labelled_row`] does it, gives a row for each
      relation. One of Label Studio in both directions gives two. Two entities without a relation in either direction
      are a row of the relation `None`, whose head is the one that comes first. Nothing is said of the other direction
      of a relation.
    """
    if row.get("relation") is not None:
        return [_given_pair(row, row_id, names, word_splitter)]
    labelled = read_labelled_row(row, row_id, names, word_splitter)
    relations = row.get("relations")
    if not isinstance(relations, list):
        columns = ", ".join(name for name, value in row.items() if value is not None)
        raise ProblemError(Problem(NO_PAIR, details=f"(it has values for {columns or 'no column'})"))
    entities = [(start, end) for _, start, end in entity_spans(labelled.tags)]
    spans = _spans_of(row)
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
    pairs += [
        (head, tail, NO_RELATION)
        for head, tail in itertools.combinations(range(len(entities)), 2)
        if frozenset((head, tail)) not in joined
    ]
    several = len(pairs) > 1
    return [
        labelled._replace(
            row_id=f"{labelled.row_id}-{number}" if several else labelled.row_id,
            pair=Pair(entities[head], entities[tail], relation),
            moved=labelled.moved if number == 0 else [],
        )
        for number, (head, tail, relation) in enumerate(pairs)
    ]


def _spans_of(row: Row) -> list[Row]:
    spans = next((row[name] for name in ("spans", "entities") if row.get(name) is not None), [])
    if isinstance(spans, dict):  # Of rows that datasets stored as a sequence of dicts, it is a dict of lists.
        spans = [dict(zip(spans, values, strict=True)) for values in zip(*spans.values(), strict=True)]
    return spans


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
        places = {(span["start"], span["end"]): place for place, span in enumerate(spans)}
        head, tail = (places[relation[end]["start"], relation[end]["end"]] for end in ("head_span", "child_span"))
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
    from processing.pipeline_rows import PipelineRow
    from processing.relation_pipeline import given_pair

    relation = given_label(row["relation"], "relation", names.relations)
    tokens = row.get("tokens")
    no_entities = {"spans": []} if not isinstance(tokens, list) else {"ner_tags": ["O"] * len(tokens)}
    rest = {name: value for name, value in row.items() if name not in ("spans", "entities", "ner_tags", "relations")}
    labelled = read_labelled_row({**rest, **no_entities}, row_id, names, word_splitter)
    text, words, offsets = row_words(labelled._asdict())
    pair = given_pair(PipelineRow(columns=rest, text=text, words=words, offsets=offsets))
    head, tail = ((pair[name]["start"], pair[name]["end"]) for name in ("head", "tail"))
    return labelled._replace(pair=Pair(head, tail, relation))
