"""What a pipeline for relations does with rows and answers, whatever its model runs in."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations, product
from operator import index, itemgetter
from pathlib import Path
from typing import Any

from .base_pipeline import BasePipeline
from .context import CONTEXT, CONTEXT_CUT
from .labels import types_of_relations
from .pipeline_rows import PipelineRow
from .problems import Problem, ProblemError, distinct_keys, shown
from .tagged_text import TaggedRelation
from .tokenizing import EncodedText, same_text


SAME_WORDS = "head and tail are the same words, but a relation is one of two entities"
NOT_AN_ENTITY = (
    "an entity is given as it stands in the text, or as (start, end), end exclusive, in characters of a text or words "
    "of tokens"
)
OTHER_NAME = "the name that is given must be what start and end cut out"
NO_WORDS_THERE = "the entity lies outside the words of the row"
NO_WHOLE_WORDS = "the characters of the entity are no whole words"
NOT_ONCE_IN_TEXT = (
    "the entity must occur once in the text as whole words, letter case and spaces as they are there; where it does "
    "not, (start, end) says which is meant"
)
MANY_PAIRS = "the text has more pairs of entities than are looked at"
# Of a text, in order: with more than 12 entities they are cut.
MAX_PAIRS = 132
# In one forward pass.
PAIRS_AT_ONCE = 32


class BaseRelationPipeline(BasePipeline):
    """
    A mixin with all of a pipeline for relations that needs neither torch nor transformers, as [`BasePipeline`] is for
    entities.
    """

    def check_pictures(self, processor: Any) -> None:
        """
        Check that a tagger's processor makes the same of pictures as this pipeline's. A ValueError names every setting
        in which they differ.
        """
        one = {"max_images": 1}  # of a processor whose code knows one picture alone
        here, theirs = one | self.processor.pixel_settings, one | processor.pixel_settings
        different = [
            f"{name} is {value} for the tagger, {here[name]} for the relation extractor"
            for name, value in theirs.items()
            if value != here[name]
        ]
        if different:
            raise ValueError(
                f"Tagger and relation extractor look at pictures differently: {'; '.join(different)}. Train one of "
                "them anew with the settings of the other."
            )

    @property
    def claims(self) -> list[str]:
        """The relations but the negative one, which says that there is none."""
        return [name for name in self.processor.relations if name != self.processor.negative_relation]

    @property
    def _entity_types(self) -> list[str]:
        return types_of_relations(self.processor.relations)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:  # type: ignore[override]
        if kwargs.get("explain") is not None:
            raise ValueError("explain works only for entities: relations have no shares.")
        if kwargs.get("threshold") is not None:
            raise ValueError(
                "threshold works only for entities, and for relations between entities that a tagger has found: the "
                "relation of two given entities is always answered."
            )
        return super()._sanitize_parameters(**kwargs)

    def _read_text(self, inputs: Any) -> PipelineRow:
        row = super()._read_text(inputs)
        if not row.problems:
            try:
                row.pair = given_pair(row)
            except ProblemError as error:
                row.problems.append(error.problem)
        return row

    def _encode(self, rows: Sequence[PipelineRow]) -> list[EncodedText]:
        heads, tails = ([row.pair[name] for row in rows] for name in ("head", "tail"))
        encoded = self.processor.tokenize_pairs([row.words for row in rows], heads, tails)
        return self._with_contexts(encoded, rows)

    def relations(self, rows: list[Any], logits: Any) -> list[dict[str, Any]]:
        """`relation` and `score` of each row of a batch, of logits (batch_size, number of relations)."""
        every = [True] * len(self.processor.relations)
        return self.processor.post_process_relations(logits, [row.allowed or every for row in rows])

    def _result(self, row: PipelineRow, answer: Any, on_error: str) -> TaggedRelation:
        result = TaggedRelation({} if on_error == "raise" else {"text": row.text})
        result.text, result.crops = row.text, row.crops
        if answer is not None:
            result.confidence = answer["score"]
            result.holds = answer["relation"] != self.processor.negative_relation
            result |= answer | {name: _entity(row, **span) for name, span in row.pair.items()}
        if on_error == "raise":
            result.found_problems = row.problems
            return result
        result |= {"crops": row.crops} if row.crops else {}
        return result.with_problems(row.problems, is_tagged=answer is not None)

    def add_relations(
        self,
        rows: Sequence[PipelineRow],
        entities: Sequence[Sequence[Mapping[str, Any]]],
        relation_types: Mapping[str, Sequence[list[str]]],
    ) -> None:
        """
        To each row of a tagger, which has kept the pixels among its features, its relations between every two of its
        entities, the negative one left out: `head` and `tail` (places in its entities), `relation` and `score`. Each
        two are asked about in both directions, where their types allow a relation, and the better answer stays. Pairs
        that could not be looked at are added to the problems of the row.
        """
        allowed = self._allowed({entity["entity_group"] for of_row in entities for entity in of_row}, relation_types)
        pairs = []
        for row, of_row in zip(rows, entities, strict=True):
            of_words = [_words_between(row, entity["start"], entity["end"]) for entity in of_row]
            types = [entity["entity_group"] for entity in of_row]
            directions = permutations(range(len(of_row)), 2)
            places = [(head, tail) for head, tail in directions if (types[head], types[tail]) in allowed]
            if len(places) > MAX_PAIRS:
                # In a long text most pairs are too far apart to be read together.
                places.sort(key=lambda pair: _gap(*(of_words[place] for place in pair)))
                details = f"({len(places)} pairs, the nearest {MAX_PAIRS} are looked at)"
                row.problems.append(Problem(MANY_PAIRS, "relations", details=details))
            for head, tail in places[:MAX_PAIRS]:
                # A copy with the same lists of relations and problems.
                of_pair = replace(row, pair={"head": of_words[head], "tail": of_words[tail]})
                of_pair.allowed = allowed[types[head], types[tail]]
                pairs.append((of_pair, head, tail, f"{of_row[head]['word']!r} and {of_row[tail]['word']!r}"))
        if not pairs:
            return
        readable = []
        for (row, head, tail, words), tokens in zip(pairs, self._encode([row for row, *_ in pairs]), strict=True):
            if tokens.problem is None:
                readable.append((row, head, tail, tokens))
                # Its code may be that of a checkpoint from before there were contexts.
                if (num_cut := getattr(tokens, "num_cut_context", 0)) and not any(
                    problem.kind == CONTEXT_CUT for problem in row.problems
                ):
                    row.problems.append(Problem(CONTEXT_CUT, CONTEXT, details=f"({num_cut} tokens)"))
            else:
                details = f"{tokens.problem.details} ({words})".lstrip()
                row.problems.append(replace(tokens.problem, column="relations", details=details))
        for start in range(0, len(readable), PAIRS_AT_ONCE):
            some = readable[start : start + PAIRS_AT_ONCE]
            texts = self.processor.text_features([tokens for *_, tokens in some])
            features = [
                {name: values[index] for name, values in texts.items()} | row.features
                for index, (row, *_) in enumerate(some)
            ]
            outputs = self.forward({"rows": [row for row, *_ in some], "inputs": self.batch_of(features)})
            for (row, head, tail, _), answer in zip(some, outputs["answers"], strict=True):
                if answer["relation"] != self.processor.negative_relation:
                    row.relations.append({"head": head, "tail": tail, **answer})
        for row in rows:
            row.relations = better_directions(row.relations)

    def _allowed(
        self, types: Iterable[str], relation_types: Mapping[str, Sequence[list[str]]]
    ) -> dict[tuple[str, str], list[bool]]:
        """Of each head type and tail type that allow a relation but the negative one: which are allowed, by id."""
        relations, allowed = self.processor.relations, {}
        for head, tail in product(types, repeat=2):
            of_pair = [[head, tail] in relation_types.get(relation, [[head, tail]]) for relation in relations]
            named = dict(zip(relations, of_pair, strict=True)) | {self.processor.negative_relation: False}
            if any(named.values()):
                allowed[head, tail] = of_pair
        return allowed

    def read_relation_types(
        self, given: Mapping[str, Any] | str | os.PathLike, entity_types: Sequence[str]
    ) -> dict[str, list[list[str]]]:
        """
        The `relation_types` of [`IFAformerPipeline.__call__`], with the pairs of each relation in order. What is not
        of that form, or names a relation or a type that is not there, is a ValueError.
        """
        where = "relation_types"
        form = 'an object that lists the head types and tail types of relations, such as {"peer": [["PER", "PER"]]}'
        if not isinstance(given, Mapping):
            where = os.fspath(given)
            try:
                given = json.loads(Path(where).read_bytes(), object_pairs_hook=distinct_keys)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{where} must be JSON: {form}. {error}.") from error
        if not isinstance(given, Mapping):
            raise ValueError(f"{where} must be {form}, got {shown(given)}.")
        for relation, pairs in given.items():
            if relation not in self.processor.relations:
                known = ", ".join(self.processor.relations)
                raise ValueError(f"{where} names the relation {shown(relation)}, but the model knows only {known}.")
            if relation == self.processor.negative_relation:
                raise ValueError(f"{where} names {relation}, which stands for no relation. Leave it out.")
            if not _are_pairs(pairs):
                raise ValueError(f"{where} must be {form}, got {shown(pairs)} for {relation}.")
            for name in sorted({name for pair in pairs for name in pair}.difference(entity_types)):
                known = ", ".join(entity_types)
                raise ValueError(
                    f"{where} names the type {shown(name)} for {relation}, but the tagger knows only {known}."
                )
        return {relation: sorted(map(list, pairs)) for relation, pairs in given.items()}


def better_directions(relations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of two relations between the same two entities the one with the higher score, the first if they are equal."""
    better: dict[frozenset[int], dict[str, Any]] = {}
    for relation in sorted(relations, key=itemgetter("score"), reverse=True):
        better.setdefault(frozenset((relation["head"], relation["tail"])), relation)
    return sorted(better.values(), key=itemgetter("head", "tail"))


def _are_pairs(pairs: Any) -> bool:
    """Whether this is a list of two names each."""

    def is_list(of: Any) -> bool:
        return isinstance(of, list | tuple)

    return is_list(pairs) and all(
        is_list(pair) and len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in pairs
    )


def given_pair(row: PipelineRow) -> dict[str, dict[str, int]]:
    """
    The `head` and the `tail` that a row gives, see [`IFAformerRelationPipeline`]: `start` and `end` of each in words,
    end exclusive. What is no pair of entities of its text is a ProblemError.
    """
    pair = {name: _word_span(name, row) for name in ("head", "tail")}
    if pair["head"] == pair["tail"]:
        raise ProblemError(Problem(SAME_WORDS))
    return pair


def _word_span(name: str, row: PipelineRow) -> dict[str, int]:
    """The words of an entity of the row. One that is absent or no span of words is a ProblemError."""
    entity, columns = row.columns.get(name), row.columns
    if isinstance(entity, str):
        return _words_between(row, *_place_of(name, entity.strip(), row), name)
    of_words = columns.get("tokens") is not None or not isinstance(columns.get("text"), str)
    try:
        start, end = (entity["start"], entity["end"]) if isinstance(entity, Mapping) else entity  # type: ignore[misc]
        start, end = index(start), index(end)
    except (TypeError, KeyError, ValueError):
        raise ProblemError(Problem(NOT_AN_ENTITY, name, details=f"(got {shown(entity)})")) from None
    if not of_words:
        span = _words_between(row, start, end, name)
    elif 0 <= start < end <= len(row.words):
        span = {"start": start, "end": end}
    else:
        details = f"(got {shown((start, end))}, the row has {len(row.words)} words)"
        raise ProblemError(Problem(NO_WORDS_THERE, name, details=details))
    there = _entity(row, **span)["word"]
    given = [entity[key] for key in ("name", "word", "text") if key in entity] if isinstance(entity, Mapping) else []
    if given and isinstance(given[0], str) and not same_text(given[0], there):
        details = f"({shown(given[0])} is given, {start} to {end} is {shown(there)})"
        raise ProblemError(Problem(OTHER_NAME, name, details=details))
    return span


def _place_of(name: str, entity: str, row: PipelineRow) -> tuple[int, int]:
    """Characters of an entity given as it stands in the text, where whole words must be that exactly once."""
    text, ends = row.text or "", {stop for _, stop in row.offsets}
    places = {
        begin for begin, _ in row.offsets if entity and text.startswith(entity, begin) and begin + len(entity) in ends
    }
    if len(places) != 1:
        raise ProblemError(Problem(NOT_ONCE_IN_TEXT, name, details=f"({shown(entity)} occurs {len(places)} times)"))
    (start,) = places
    return start, start + len(entity)


def _gap(one: Mapping[str, int], other: Mapping[str, int]) -> int:
    """How many words lie between two entities."""
    return max(one["start"], other["start"]) - min(one["end"], other["end"])


def _words_between(row: PipelineRow, start: int, end: int, name: str = "entity") -> dict[str, int]:
    """Words, end exclusive, at these characters. Where they are no whole words, it is a ProblemError."""
    first = next((word for word, (begin, _) in enumerate(row.offsets) if begin == start), None)
    last = next((word for word, (_, stop) in enumerate(row.offsets) if stop == end), None)
    if first is None or last is None or last < first:
        words = ", ".join(f"{begin}-{stop}" for begin, stop in row.offsets[:20])
        details = f"(got characters {shown((start, end))}; words lie at {words})"
        raise ProblemError(Problem(NO_WHOLE_WORDS, name, details=details))
    return {"start": first, "end": last + 1}


def _entity(row: PipelineRow, start: int, end: int) -> dict[str, Any]:
    start, stop = row.offsets[start][0], row.offsets[end - 1][1]
    return {"word": (row.text or "")[start:stop], "start": start, "end": stop}
