"""What kinds of errors a model makes: each gold answer with the predicted one it is matched with, and their counts."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from processing.labels import entity_spans


CORRECT, MISSED, SPURIOUS = "correct", "missed", "spurious"
WRONG_TYPE, WRONG_BOUNDARY, BOTH_WRONG, WRONG_RELATION = "wrong type", "wrong boundary", "both wrong", "wrong relation"

# The kinds of errors and what they mean.
ENTITY_ERRORS = {
    MISSED: "a gold entity that no predicted one is matched with",
    WRONG_TYPE: "the same words, another type",
    WRONG_BOUNDARY: "words in common, the same type",
    BOTH_WRONG: "words in common, other boundaries and another type",
    SPURIOUS: "a predicted entity that no gold one is matched with",
}
RELATION_ERRORS = {
    MISSED: "a gold relation where none is predicted",
    WRONG_RELATION: "another relation is predicted",
    SPURIOUS: "a predicted relation where there is none",
}

LENGTHS = ("1", "2", "3", "4 or more")
CAPITALS = ("all lower case", "Title Case", "ALL CAPITALS", "mixed", "no letters with case")
NOVELTY = ("every word seen", "some words unseen", "no word seen")
DISTANCES, LAST_DISTANCES = ("0 to 2", "3 to 5", "6 to 10", "11 or more"), (2, 5, 10)


class Found(NamedTuple):
    """An entity with its words, or a relation with those between its head and tail; `end` is exclusive."""

    label: str
    start: int
    end: int


class Match(NamedTuple):
    """A gold and a predicted answer in a row that belong together; one is None where it belongs to none."""

    row: int
    kind: str
    gold: Found | None
    predicted: Found | None


class Criterion(NamedTuple):
    """By what answers are told apart: its name, its groups, and the index of an answer's group by the row's words."""

    name: str
    groups: Sequence[str]
    group_of: Callable[[Found, Sequence[str]], int]


@dataclass
class ErrorAnalysis:
    """
    The errors of a model on the rows of a split.

    Attributes:
        kinds: the kinds of errors that there can be, and what they mean.
        matches: of all answers, gold and predicted, each in exactly one.
        counts: by criterion and group, with "all" in front: how many answers are `gold` and how many `predicted`, and
            how many are of each kind. A spurious answer counts in the group of what is predicted, all else in that of
            what is gold.
    """

    kinds: Mapping[str, str]
    matches: Sequence[Match]
    counts: dict[str, dict[str, Counter[str]]]

    def rows_of(self, kind: str) -> list[int]:
        """The rows that have an error of this kind, in order."""
        return sorted({match.row for match in self.matches if match.kind == kind})

    def examples(self, kind: str, number: int) -> list[int]:
        """At most so many of [`rows_of`], evenly spread over them: they need no seed and come from the whole split."""
        rows = self.rows_of(kind)
        number = min(number, len(rows))
        return [rows[index * len(rows) // number] for index in range(number)]

    def confusions(self, number: int) -> list[tuple[str, str, int]]:
        """
        The most frequent pairs of a gold and a predicted label that differ, and how often they occur. Equally frequent
        ones stand in the order of the alphabet.
        """
        pairs = Counter(
            (match.gold.label, match.predicted.label)
            for match in self.matches
            if match.gold is not None and match.predicted is not None and match.gold.label != match.predicted.label
        )
        ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
        return [(*pair, count) for pair, count in ranked[:number]]


def match_entities(
    gold: Iterable[tuple[str, int, int]], predicted: Iterable[tuple[str, int, int]]
) -> list[tuple[str, Found | None, Found | None]]:
    """
    The entities of one text, each in exactly one triple of a kind, a gold entity and a predicted one.

    The kinds of mismatches are the five of Nejadgholi et al. (2020, https://aclanthology.org/2020.bionlp-1.19), which
    refine those of MUC and of SemEval-2013 task 9 (Segura-Bedmar et al., https://aclanthology.org/S13-2056). There an
    entity may overlap several others. Here it is matched with one at most: of all pairs that have words in common
    those of the same type come first, then those with more words in common, then the leftmost; a pair is taken if
    neither of its entities is taken yet. This does not depend on the order in which the entities are given. A pair of
    the same boundaries is always taken, since no other entity has a word in common with either.

    Args:
        gold, predicted: `(type, start, end)` in words, `end` exclusive, those of each without overlap among them, as
            [`entity_spans`] gives them.

    Returns:
        Triples from left to right. The gold or the predicted entity is None where it has no match.
    """
    gold, predicted = ([Found(*entity) for entity in entities] for entities in (gold, predicted))
    pairs = [(of, other) for of in gold for other in predicted if _common(of, other)]
    pairs.sort(key=lambda pair: (pair[0].label != pair[1].label, -_common(*pair), pair[0].start, pair[1].start))
    taken: list[tuple[Found, Found]] = []
    for of, other in pairs:
        if all(of != first and other != second for first, second in taken):
            taken.append((of, other))
    triples: list[tuple[str, Found | None, Found | None]] = [(_kind(*pair), *pair) for pair in taken]
    triples += [(MISSED, of, None) for of in gold if all(of != first for first, _ in taken)]
    triples += [(SPURIOUS, None, other) for other in predicted if all(other != second for _, second in taken)]
    return sorted(triples, key=lambda triple: (min(of.start for of in triple[1:] if of is not None), triple[0]))


def _common(one: Found, other: Found) -> int:
    """How many words two entities have in common."""
    return max(0, min(one.end, other.end) - max(one.start, other.start))


def _kind(gold: Found, predicted: Found) -> str:
    if gold == predicted:
        return CORRECT
    if gold[1:] == predicted[1:]:
        return WRONG_TYPE
    return WRONG_BOUNDARY if gold.label == predicted.label else BOTH_WRONG


def analyse_entities(
    tags: Iterable[tuple[Sequence[str], Sequence[str]]],
    tokens: Sequence[Sequence[str]],
    train_words: Iterable[str] | None = None,
) -> ErrorAnalysis:
    """
    The errors by the type of an entity, its length in words, its capitals, and its words that are unseen in training.

    Args:
        tags: of each text the gold and the predicted tags of its words.
        tokens: the words of each text.
        train_words: the words of the training split, compared without regard to case; None leaves this criterion out.
    """
    matches = [
        Match(row, *triple) for row, of_row in enumerate(tags) for triple in match_entities(*map(entity_spans, of_row))
    ]
    criteria = [
        _labels("type", matches),
        Criterion("length in words", LENGTHS, lambda found, _: min(found.end - found.start, len(LENGTHS)) - 1),
        Criterion("capitals", CAPITALS, lambda found, words: _capitals(words[found.start : found.end])),
    ]
    if train_words is not None:
        seen = {word.casefold() for word in train_words}
        criteria.append(
            Criterion("training words", NOVELTY, lambda found, words: _novelty(words[found.start : found.end], seen))
        )
    return ErrorAnalysis(ENTITY_ERRORS, matches, _counts(matches, tokens, criteria))


def analyse_relations(pairs: Iterable[Iterable[str | None]], rows: Mapping[str, Sequence[Any]]) -> ErrorAnalysis:
    """
    The errors by relation, and by the distance of head and tail: the number of words between them.

    Args:
        pairs: of each row the gold and the predicted relation, None for the negative one.
        rows: the columns `tokens`, `head` and `tail` of the rows.
    """
    matches = []
    for row, (pair, head, tail) in enumerate(zip(pairs, rows["head"], rows["tail"], strict=True)):
        start, end = min(head["end"], tail["end"]), max(head["start"], tail["start"])
        gold, predicted = (None if of is None else Found(of, start, max(start, end)) for of in pair)
        if gold is None and predicted is None:
            continue
        kind = MISSED if predicted is None else SPURIOUS if gold is None else WRONG_RELATION
        matches.append(Match(row, CORRECT if gold == predicted else kind, gold, predicted))
    distance = Criterion(
        "words between", DISTANCES, lambda found, _: bisect_left(LAST_DISTANCES, found.end - found.start)
    )
    counts = _counts(matches, rows["tokens"], [_labels("relation", matches), distance])
    return ErrorAnalysis(RELATION_ERRORS, matches, counts)


def _labels(name: str, matches: Iterable[Match]) -> Criterion:
    """By label, in the order of the alphabet."""
    labels = sorted({of.label for match in matches for of in (match.gold, match.predicted) if of is not None})
    return Criterion(name, labels, lambda found, _: labels.index(found.label))


def _capitals(words: Sequence[str]) -> int:
    """The index in [`CAPITALS`]. In Title Case each word begins with a capital and goes on in lower case."""
    text = " ".join(words)
    is_title = all(word.istitle() or word == word.capitalize() for word in words)
    if text.lower() == text.upper():
        return CAPITALS.index("no letters with case")
    return 0 if text.islower() else 2 if text.isupper() else 1 if is_title else 3


def _novelty(words: Sequence[str], seen: set[str]) -> int:
    """The index in [`NOVELTY`]."""
    unseen = [word.casefold() not in seen for word in words]
    return 2 if all(unseen) else 1 if any(unseen) else 0


def _counts(
    matches: Sequence[Match], tokens: Sequence[Sequence[str]], criteria: Sequence[Criterion]
) -> dict[str, dict[str, Counter[str]]]:
    """The `counts` of an [`ErrorAnalysis`]. Groups without an answer are left out."""
    whole = Criterion("all", ("",), lambda *_: 0)
    counts: dict[str, dict[str, Counter[str]]] = {}
    for name, groups, group_of in (whole, *criteria):
        of_groups: list[Counter[str]] = [Counter() for _ in groups]
        for match in matches:
            words = tokens[match.row]
            if match.gold is not None:
                of_groups[group_of(match.gold, words)].update(("gold", match.kind))
            if match.predicted is not None:
                of_group = of_groups[group_of(match.predicted, words)]
                of_group.update(("predicted", SPURIOUS) if match.gold is None else ("predicted",))
        counts[name] = {group: of_group for group, of_group in zip(groups, of_groups, strict=True) if of_group}
    return counts
