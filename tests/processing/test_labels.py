import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from processing.labels import TWITTER_TAGS, entity_spans, label_maps, scheme_labels


def test_label_schemes():
    assert scheme_labels(TWITTER_TAGS, "word") == TWITTER_TAGS
    published = "PAD O B-MISC I-MISC B-PER I-PER B-ORG I-ORG B-LOC I-LOC X [CLS] [SEP]"
    assert scheme_labels(TWITTER_TAGS, "deepke") == published.split()


def test_label_maps_agree():
    maps = label_maps(["O", "B-A"])
    assert maps == {"id2label": {0: "O", 1: "B-A"}, "label2id": {"O": 0, "B-A": 1}}


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("O B-PER I-PER O", [("PER", 1, 3)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("O I-LOC I-LOC", [("LOC", 1, 3)]),  # starts nothing, counts all the same
        ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),
        ("B-ORG I-ORG", [("ORG", 0, 2)]),
        ("O O", []),
    ],
)
def test_entity_spans(tags, spans):
    assert entity_spans(tags.split()) == spans


@given(st.lists(st.sampled_from(TWITTER_TAGS), max_size=12))
def test_entity_spans_are_seqeval_s(tags):
    assert entity_spans(tags) == [(kind, start, end + 1) for kind, start, end in get_entities(tags)]
