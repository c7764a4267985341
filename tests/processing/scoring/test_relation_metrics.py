import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.scoring.relation_metrics import NO_PREDICTION, relation_confusion, relation_counts, relation_metrics


pytestmark = pytest.mark.filterwarnings("error")

NAMES = ("/per/org/member_of", "None", "/per/per/peer", "/misc/loc/held_on")
PEER, NONE, MEMBER = 2, 1, 0

relation_ids = st.integers(0, len(NAMES) - 1)


def by_hand(pairs, counted):
    """Precision, recall, F1 and support of some relations, counted pair by pair."""
    hits = sum(predicted == gold for predicted, gold in pairs if gold in counted)
    of_predicted, of_gold = (sum(pair[side] in counted for pair in pairs) for side in (0, 1))
    precision, recall = hits / (of_predicted or 1), hits / (of_gold or 1)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"precision": precision, "recall": recall, "f1": f1, "support": of_gold}


@given(
    st.lists(st.tuples(relation_ids | st.just(NO_PREDICTION), relation_ids), min_size=1, max_size=30),
)
@pytest.mark.parametrize("negative", ["None", None])
def test_against_counting(negative, pairs):
    predicted, gold = zip(*pairs, strict=True)
    absent = NONE if negative else NO_PREDICTION
    scores = relation_metrics(predicted, gold, NAMES, negative)
    pairs = [(absent if relation == NO_PREDICTION else relation, other) for relation, other in pairs]
    positive = set(range(len(NAMES))) - {absent}
    correct, of_predicted, of_gold = relation_counts(predicted, gold, NAMES, negative).sum(axis=0)
    assert (correct / (of_predicted or 1), correct / (of_gold or 1)) == (scores["precision"], scores["recall"])
    assert of_gold == scores["support"]
    found = {relation for pair in pairs for relation in pair} & positive
    assert list(scores["per_type"]) == sorted(NAMES[relation] for relation in found)
    for relation in found:
        assert scores["per_type"][NAMES[relation]] == pytest.approx(by_hand(pairs, {relation}))
    overall = {key: scores[key] for key in ("precision", "recall", "f1", "support")}
    assert overall == pytest.approx(by_hand(pairs, positive))
    assert scores["accuracy"] == pytest.approx(sum(one == other for one, other in pairs) / len(pairs))
    assert scores["unreadable_rows"] == predicted.count(NO_PREDICTION)
    json.dumps(scores)

    confusion = relation_confusion(predicted, gold, NAMES, negative)
    order = [*(NAMES.index(name) for name in confusion["types"]), absent]
    counts = Counter((one, other) for other, one in pairs)
    assert set(order) == found | {absent}
    assert confusion["counts"] == [[counts[one, other] for other in order] for one in order]
    assert confusion["negative"] == negative
    json.dumps(confusion)


def test_the_negative_relation_counts_where_another_is_predicted():
    scores = relation_metrics([PEER, PEER, NONE, NONE], [PEER, NONE, MEMBER, NONE], NAMES)
    assert (scores["accuracy"], scores["precision"], scores["recall"], scores["support"]) == (0.5, 0.5, 0.5, 2)
    assert scores["per_type"]["/per/org/member_of"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}


@pytest.mark.parametrize(
    ("predicted", "gold", "accuracy", "support"),
    [([NONE, NONE], [NONE, NONE], 1, 0), ([NONE, NONE], [PEER, NONE], 0.5, 1), ([PEER, NONE], [NONE, NONE], 0.5, 0)],
)
def test_nothing_predicted_and_only_negatives(predicted, gold, accuracy, support):
    scores = relation_metrics(np.array(predicted), np.array(gold), NAMES)
    assert (scores["accuracy"], scores["support"]) == (accuracy, support)
    assert scores["precision"] == scores["recall"] == scores["f1"] == 0
    assert len(scores["per_type"]) == len({*predicted, *gold} - {NONE})


def test_unreadable_rows_are_missed():
    predicted, gold = [NO_PREDICTION, PEER, NO_PREDICTION], [MEMBER, PEER, NONE]
    scores = relation_metrics(predicted, gold, NAMES)
    assert (scores["precision"], scores["recall"], scores["support"]) == (1, 0.5, 2)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert relation_metrics([NO_PREDICTION], [MEMBER], NAMES)["recall"] == 0
    assert relation_confusion(predicted, gold, NAMES) == {
        "types": ["/per/org/member_of", "/per/per/peer"],
        "counts": [[0, 0, 1], [0, 1, 0], [0, 0, 1]],
        "negative": "None",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], NAMES), "There are no rows to score"),
        (([0], [0, 1], NAMES), r"a gold relation id a row, got arrays of shape \(1,\) and \(2,\)"),
        (([[0]], [[0]], NAMES), r"got arrays of shape \(1, 1\) and \(1, 1\)"),
        (([4, -2], [0, -1], NAMES), r"must be in 0\.\.3, got \[-2, -1, 4\]"),
        (([0], [0], ("a", "b")), r"negative must be one of the relations \(a, b\), or None .* got 'None'"),
    ],
)
def test_what_is_refused(arguments, message):
    for score in (relation_metrics, relation_confusion):
        with pytest.raises(ValueError, match=message):
            score(*arguments)
