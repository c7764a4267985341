"""Rows of your own files with relations: one pair of entities in a row, or a text with all relations in it."""

import itertools
from collections.abc import Sequence

from processing.labels import NO_RELATION, entity_spans
from processing.problems import Problem, ProblemError
from processing.tokenizing import row_words

from .labelled_rows import LabelledRow, LabelNames, Pair, given_label, read_labelled_row
from .text_tables import Row


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
      relation. Two entities without a relation in either direction are a row of the relation `None`, whose head is the
      one that comes first. Nothing is said of the other direction of a relation.
    """
    if row.get("relation") is not None:
        return [_given_pair(row, row_id, names, word_splitter)]
    labelled = read_labelled_row(row, row_id, names, word_splitter)
    relations = row.get("relations")
    if not isinstance(relations, list):
        columns = ", ".join(name for name, value in row.items() if value is not None)
        raise ProblemError(Problem(NO_PAIR, details=f"(it has values for {columns or 'no column'})"))
    entities = [(start, end) for _, start, end in entity_spans(labelled.tags)]
    order = _order(row, len(entities))
    pairs = []
    for item, relation in enumerate(relations):
        ends = [relation.get(end) if isinstance(relation, dict) else None for end in ("head", "tail")]
        places = [end for end in ends if type(end) is int and 0 <= end < len(entities)]
        if len(set(places)) < 2:
            details = f"(got {relation!r:.80}, the row has {len(entities)} entities)"
            raise ProblemError(Problem("must join two of the row's entities", "relations", item, details))
        head, tail = (order[place] for place in places)
        pairs.append((head, tail, given_label(relation.get("relation"), "relations", None)))
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


def _order(row: Row, number: int) -> Sequence[int]:
    """Of each entity, in the order of the row, its place in the order of the text."""
    spans = next((row[name] for name in ("spans", "entities") if row.get(name) is not None), None)
    if spans is None or row.get("ner_tags") is not None:
        return range(number)
    # Of rows that datasets stored as a sequence of dicts, the column is a dict of lists.
    starts = spans["start"] if isinstance(spans, dict) else [span["start"] for span in spans]
    given = sorted(range(number), key=starts.__getitem__)
    return [given.index(place) for place in range(number)]


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
