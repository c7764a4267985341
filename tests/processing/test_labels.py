import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from processing.labels import (
    TWITTER_TAGS,
    align_labels,
    decode_entities,
    entity_spans,
    first_positions,
    label_maps,
    scheme_labels,
    tag_types,
    types_of_relations,
    word_scores,
    word_tags,
)
from processing.tokenizing import join_words, split_words


def test_tag_types():
    assert tag_types(["O", "B-PER", "I-PER", "B-creative-work", "X"]) == ["PER", "creative-work"]


def test_relations_name_the_types_of_their_entities():
    relations = ["None", "/per/loc/place_of_birth", "/per/org/member_of", "peer", "/loc/loc/contain"]
    assert types_of_relations(relations) == ["per", "loc", "org"]


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


WORD_IDS = [None, 0, 0, 2, 3, 3, None]  # word 1 has no token, word 4 is cut off


def test_first_positions():
    assert first_positions(WORD_IDS) == {0: 1, 2: 3, 3: 4}


def test_tag_of_a_word_is_that_of_its_first_token():
    id2label = dict(enumerate(("O", "B-PER", "I-PER")))
    assert word_tags([-100, 1, 0, 1, 1, 2, -100], WORD_IDS, 5, id2label) == ["B-PER", "O", "B-PER", "B-PER", "O"]


def test_a_word_without_a_token_splits_no_entity():
    """Not where tags are decoded: it is part of the entity around it, and has no say in the score."""
    text, _, offsets = join_words(["Ana", "\ufe0f", "\x07", "Maria", "\ufe0f", "Bo"])
    word_ids = [None, 0, 3, 3, 5, None]
    id2label = dict(enumerate(("O", "B-PER", "I-PER", "I-LOC")))
    tags = word_tags([-100, 1, 2, -100, 1, -100], word_ids, 6, id2label)
    assert tags == ["B-PER", "I-PER", "I-PER", "I-PER", "O", "B-PER"]
    scores = word_scores([0, 1.0, 0.5, 0, 0.25, 0], word_ids, 6)
    first, second = decode_entities(text, offsets, tags, scores)
    assert (first["word"], first["score"]) == ("Ana \ufe0f \x07 Maria", 0.75)
    assert (second["word"], second["score"]) == ("Bo", 0.25)
    assert word_tags([-100, 1, 3, -100, 0, -100], word_ids, 6, id2label)[:4] == ["B-PER", "O", "O", "I-LOC"]


@pytest.mark.parametrize("scheme", ["word", "deepke"])
def test_a_word_without_a_token_takes_no_beginning_away(scheme):
    """Nor in training: the next word with a token begins the entity."""
    labels = scheme_labels(TWITTER_TAGS, scheme)

    def learnt(tags: str, word_ids: list[int | None]) -> list[str]:
        words = tags.split()
        ids = align_labels(words, words, word_ids, TWITTER_TAGS, scheme)
        return [labels[label] for label, word in zip(ids, word_ids, strict=True) if word is not None]

    assert learnt("B-PER I-PER I-PER I-PER", [None, 2, 3, None]) == ["B-PER", "I-PER"]
    assert learnt("B-PER I-PER I-PER", [None, 0, 2, None]) == ["B-PER", "I-PER"]
    assert learnt("B-PER B-PER B-LOC I-PER", [None, 1, 3, None]) == ["B-PER", "I-PER"]


@pytest.mark.parametrize("label", ["PAD", "X", "[CLS]", "[SEP]"])
def test_special_labels_are_no_tags(label):
    labels = scheme_labels(TWITTER_TAGS, "deepke")
    tag_ids = [labels.index(label)] * len(WORD_IDS)
    assert word_tags(tag_ids, WORD_IDS, 5, dict(enumerate(labels))) == ["O"] * 5


def test_scores_of_words():
    assert word_scores([0, 0.5, 0.1, 0.25, 1, 0, 0], WORD_IDS, 5) == [0.5, None, 0.25, 1.0, None]


def test_score_of_an_entity_is_the_mean_over_its_words():
    text, _, offsets = join_words(["New", "York", "x"])
    [entity] = decode_entities(text, offsets, ["B-LOC", "I-LOC", "O"], [0.5, 1.0, 0.1])
    assert entity == {"entity_group": "LOC", "score": 0.75, "word": "New York", "start": 0, "end": 8}


@given(st.text(max_size=60), st.lists(st.sampled_from(TWITTER_TAGS), min_size=60, max_size=60))
def test_offsets_of_any_text(text, tags):
    text, words, offsets = split_words(text)
    assert [text[start:end] for start, end in offsets] == words
    assert not any(character.isspace() for word in words for character in word if character in " \t\n\r")
    tags = tags[: len(words)]
    entities = decode_entities(text, offsets, tags)
    assert len(entities) == len(entity_spans(tags))
    for entity, (_, first, end) in zip(entities, entity_spans(tags), strict=True):
        assert text[entity["start"] : entity["end"]] == entity["word"]
        assert entity["word"].startswith(words[first]) and entity["word"].endswith(words[end - 1])


@given(st.lists(st.text(min_size=1, max_size=5), max_size=10))
def test_offsets_of_any_words(words):
    text, same, offsets = join_words(words)
    assert same == words
    assert [text[start:end] for start, end in offsets] == words
