"""Kinds of errors in cases made by hand, and on random tags: every answer is counted once, as the scorer counts it."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.labels import bio_tags, entity_spans
from processing.scoring.entity_metrics import EntityScores
from processing.scoring.error_analysis import (
    BOTH_WRONG,
    CAPITALS,
    CORRECT,
    ENTITY_ERRORS,
    MISSED,
    NOVELTY,
    SPURIOUS,
    WRONG_BOUNDARY,
    WRONG_RELATION,
    WRONG_TYPE,
    analyse_entities,
    analyse_relations,
    match_entities,
)


tag_lists = st.lists(st.sampled_from(bio_tags(("PER", "LOC"))), min_size=1, max_size=9)
texts = st.lists(
    tag_lists.flatmap(lambda gold: st.tuples(st.just(gold), st.permutations(gold))), min_size=1, max_size=6
)


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        ([("PER", 0, 2)], [("PER", 0, 2)], [CORRECT]),
        ([("PER", 0, 2)], [], [MISSED]),
        ([], [("PER", 0, 2)], [SPURIOUS]),
        ([("PER", 0, 2)], [("LOC", 0, 2)], [WRONG_TYPE]),
        ([("PER", 0, 2)], [("PER", 1, 2)], [WRONG_BOUNDARY]),
        ([("PER", 0, 2)], [("LOC", 1, 4)], [BOTH_WRONG]),
        # They touch each other, and have no word in common.
        ([("PER", 0, 2)], [("PER", 2, 3)], [MISSED, SPURIOUS]),
        # One is predicted as two: the one of the same type is matched, though the other has more words in common.
        ([("PER", 0, 3)], [("LOC", 0, 2), ("PER", 2, 3)], [WRONG_BOUNDARY, SPURIOUS]),
        # Of the same type the one with more words in common, and of these the left one.
        ([("PER", 0, 3)], [("PER", 0, 1), ("PER", 1, 3)], [SPURIOUS, WRONG_BOUNDARY]),
        ([("PER", 0, 2)], [("PER", 0, 1), ("PER", 1, 2)], [WRONG_BOUNDARY, SPURIOUS]),
        # Two are predicted as one.
        ([("PER", 0, 1), ("LOC", 1, 2)], [("LOC", 0, 2)], [MISSED, WRONG_BOUNDARY]),
        # In a chain the pair that is taken first leaves the ends alone.
        ([("PER", 0, 2), ("PER", 3, 6)], [("PER", 1, 5), ("PER", 5, 7)], [MISSED, WRONG_BOUNDARY, SPURIOUS]),
    ],
)
def test_kinds(gold, predicted, kinds):
    found = match_entities(gold, predicted)
    assert Counter(kind for kind, *_ in found) == Counter(kinds)
    for kind, of_gold, of_predicted in found:
        assert (of_gold is None) == (kind == SPURIOUS) and (of_predicted is None) == (kind == MISSED)


def test_which_is_matched_with_which():
    found = match_entities([("PER", 0, 3)], [("LOC", 0, 2), ("PER", 2, 3)])
    assert found == [(SPURIOUS, None, ("LOC", 0, 2)), (WRONG_BOUNDARY, ("PER", 0, 3), ("PER", 2, 3))]


@given(tag_lists.flatmap(lambda gold: st.tuples(st.just(gold), st.permutations(gold))), st.randoms())
def test_the_order_does_not_matter(tags, random):
    gold, predicted = map(entity_spans, tags)
    found = match_entities(gold, predicted)
    random.shuffle(gold)
    random.shuffle(predicted)
    assert match_entities(gold, predicted) == found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of seqeval, where there is no entity
@given(texts)
def test_every_entity_is_counted_once_as_the_scorer_counts_it(tags):
    analysis = analyse_entities(tags, [["x"] * len(gold) for gold, _ in tags], train_words=["y"])
    for side, name in enumerate(("gold", "predicted")):
        matched = [(match.row, tuple(of)) for match in analysis.matches if (of := getattr(match, name)) is not None]
        assert sorted(matched) == sorted(
            (row, span) for row, of_row in enumerate(tags) for span in entity_spans(of_row[side])
        )
    scores = EntityScores().compute(predictions=[row[1] for row in tags], references=[row[0] for row in tags])
    groups = {"": scores, **scores["per_type"]}
    for group, counts in (analysis.counts["all"] | analysis.counts["type"]).items():
        assert counts["gold"] == groups[group]["support"]
        assert counts[CORRECT] == pytest.approx(groups[group]["recall"] * counts["gold"])
        assert counts[CORRECT] == pytest.approx(groups[group]["precision"] * counts["predicted"])
    for of_criterion in analysis.counts.values():
        total = sum(of_criterion.values(), Counter())
        assert total == analysis.counts["all"].get("", Counter())
        of_kinds = {kind: total[kind] for kind in ENTITY_ERRORS}
        assert total["gold"] == total[CORRECT] + sum(of_kinds.values()) - of_kinds[SPURIOUS]
        assert total["predicted"] == total[CORRECT] + sum(of_kinds.values()) - of_kinds[MISSED]
    for kind in ENTITY_ERRORS:
        assert analysis.rows_of(kind) == sorted({match.row for match in analysis.matches if match.kind == kind})


def group_of(words, criterion, train_words=None):
    """The group of an entity of these words."""
    tags = ["B-PER", *["I-PER"] * (len(words) - 1)]
    (group,) = analyse_entities([(tags, tags)], [words], train_words).counts[criterion]
    return group


@pytest.mark.parametrize(
    ("text", "group"),
    [
        ("new york", "all lower case"),
        ("New York", "Title Case"),
        ("Levi's", "Title Case"),
        ("Jean-Luc 2", "Title Case"),
        ("NEW YORK 2", "ALL CAPITALS"),
        ("A", "ALL CAPITALS"),
        ("iPhone", "mixed"),
        ("NBA Finals", "mixed"),
        ("Bank of America", "mixed"),
        ("2015", "no letters with case"),
        ("東京", "no letters with case"),
    ],
)
def test_capitals(text, group):
    assert group in CAPITALS and group_of(text.split(), "capitals") == group


@pytest.mark.parametrize(("number", "group"), [(1, "1"), (2, "2"), (3, "3"), (4, "4 or more"), (9, "4 or more")])
def test_length(number, group):
    assert group_of(["x"] * number, "length in words") == group


@pytest.mark.parametrize(
    ("text", "group"),
    [("new York", "every word seen"), ("New Haven", "some words unseen"), ("Oslo Haven", "no word seen")],
)
def test_words_of_the_training_split(text, group):
    assert group in NOVELTY and group_of(text.split(), "training words", ["NEW", "york"]) == group


def test_without_a_training_split():
    assert [*analyse_entities([], []).counts] == ["all", "type", "length in words", "capitals"]


def test_a_spurious_entity_is_in_the_group_of_what_is_predicted():
    analysis = analyse_entities([(["B-PER", "I-PER", "O"], ["B-PER", "O", "B-LOC"])], [["a", "b", "c"]])
    assert analysis.counts["length in words"] == {
        "1": {"predicted": 2, SPURIOUS: 1},
        "2": {"gold": 1, WRONG_BOUNDARY: 1},
    }
    assert analysis.counts["type"]["LOC"] == {"predicted": 1, SPURIOUS: 1}


def test_confusions_and_examples():
    gold, wrong, missed = ["B-PER"], ["B-LOC"], ["O"]
    rows = [(gold, predicted) for predicted in (gold, wrong, missed, wrong, wrong)] + [(wrong, gold), (missed, gold)]
    analysis = analyse_entities(rows, [["a"]] * len(rows))
    assert analysis.confusions(5) == [("PER", "LOC", 3), ("LOC", "PER", 1)]
    assert analysis.confusions(1) == [("PER", "LOC", 3)]
    assert analysis.rows_of(WRONG_TYPE) == [1, 3, 4, 5]
    assert analysis.examples(WRONG_TYPE, 2) == [1, 4] and analysis.examples(WRONG_TYPE, 9) == [1, 3, 4, 5]
    assert analysis.examples(BOTH_WRONG, 2) == []


def test_relations():
    pairs = [("peer", "peer"), ("peer", None), (None, "peer"), ("peer", "member"), (None, None)]
    spans = [((0, 1), (1, 2)), ((0, 1), (4, 5)), ((9, 10), (2, 3)), ((20, 21), (0, 1)), ((0, 1), (1, 2))]
    of_rows = [{"start": start, "end": end} for pair in spans for start, end in pair]
    rows = {"tokens": [["x"] * 30] * 5, "head": of_rows[::2], "tail": of_rows[1::2]}
    analysis = analyse_relations(pairs, rows)
    assert [(match.row, match.kind) for match in analysis.matches] == [
        (0, CORRECT),
        (1, MISSED),
        (2, SPURIOUS),
        (3, WRONG_RELATION),
    ]
    assert analysis.counts["all"] == {
        "": {"gold": 3, "predicted": 3, CORRECT: 1, MISSED: 1, SPURIOUS: 1, WRONG_RELATION: 1}
    }
    assert analysis.counts["relation"]["member"] == {"predicted": 1}
    assert analysis.counts["words between"] == {
        "0 to 2": {"gold": 1, "predicted": 1, CORRECT: 1},
        "3 to 5": {"gold": 1, MISSED: 1},
        "6 to 10": {"predicted": 1, SPURIOUS: 1},
        "11 or more": {"gold": 1, "predicted": 1, WRONG_RELATION: 1},
    }
    assert analysis.confusions(9) == [("peer", "member", 1)]


@pytest.mark.parametrize(
    ("distance", "group"),
    [(2, "0 to 2"), (3, "3 to 5"), (5, "3 to 5"), (6, "6 to 10"), (10, "6 to 10"), (11, "11 or more")],
)
def test_distances(distance, group):
    rows = {"tokens": [["x"] * 20], "head": [{"start": 0, "end": 1}], "tail": [{"start": 1 + distance, "end": 19}]}
    assert [*analyse_relations([("peer", None)], rows).counts["words between"]] == [group]


def test_head_and_tail_that_overlap_have_no_words_between_them():
    rows = {"tokens": [["x"] * 4], "head": [{"start": 0, "end": 4}], "tail": [{"start": 1, "end": 2}]}
    assert [*analyse_relations([("peer", "peer")], rows).counts["words between"]] == ["0 to 2"]
