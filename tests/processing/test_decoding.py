import pytest
from hypothesis import given
from hypothesis import strategies as st

from processing.decoding import decode_entities, first_positions, word_scores, word_tags
from processing.labels import TWITTER_TAGS, entity_spans, scheme_labels
from processing.processing_ifaformer import join_words, split_words


WORD_IDS = [None, 0, 0, 2, 3, 3, None]  # word 1 has no token, word 4 is cut off


def test_first_positions():
    assert first_positions(WORD_IDS) == {0: 1, 2: 3, 3: 4}


def test_tag_of_a_word_is_that_of_its_first_token():
    id2label = dict(enumerate(("O", "B-PER", "I-PER")))
    assert word_tags([-100, 1, 0, 2, 1, 2, -100], WORD_IDS, 5, id2label) == ["B-PER", "O", "I-PER", "B-PER", "O"]


@pytest.mark.parametrize("label", ["PAD", "X", "[CLS]", "[SEP]"])
def test_special_labels_are_no_tags(label):
    labels = scheme_labels(TWITTER_TAGS, "deepke")
    tag_ids = [labels.index(label)] * len(WORD_IDS)
    assert word_tags(tag_ids, WORD_IDS, 5, dict(enumerate(labels))) == ["O"] * 5


def test_scores_of_words():
    assert word_scores([0, 0.5, 0.1, 0.25, 1, 0, 0], WORD_IDS, 5) == [0.5, 0.0, 0.25, 1.0, 0.0]


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
