import numpy as np
import pytest

from processing.labels import scheme_labels
from processing.scoring.entity_metrics import (
    PROTOCOLS,
    EntityScores,
    entity_confusion,
    entity_counts,
    entity_metrics,
    unreachable_counts,
)
from processing.tokenizing import encode_words, join_words


ID2LABEL = dict(enumerate(("O", "B-PER", "I-PER", "B-LOC", "I-LOC")))
LABEL2ID = {label: index for index, label in ID2LABEL.items()}
TEXTS = [["New", "York", "\u200d", "Jordan"], ["in", "Paris"]]
GOLD = [["B-LOC", "I-LOC", "O", "B-PER"], ["O", "B-LOC"]]


def encode(processor, texts, predictions):
    """Predicted ids at the first token of each word, -100 elsewhere; and the word of each token."""
    encoded = encode_words(processor.tokenizer, [join_words(words) for words in texts], processor.max_length)
    word_ids = [example.word_ids for example in encoded]
    rows = []
    for words, tags in zip(word_ids, predictions, strict=True):
        row, seen = [], set()
        for word in words:
            row.append(-100 if word is None or word in seen else LABEL2ID[tags[word]])
            seen.add(word)
        rows.append(row)
    return rows, word_ids


def test_perfect_prediction(make_processor):
    tag_ids, word_ids = encode(make_processor(), TEXTS, GOLD)
    for protocol in ("word", "published"):
        scores = entity_metrics(tag_ids, word_ids, GOLD, ID2LABEL, protocol)
        assert (scores["precision"], scores["recall"], scores["f1"], scores["support"]) == (1, 1, 1, 3)
        assert scores["per_type"]["LOC"] == {"precision": 1, "recall": 1, "f1": 1, "support": 2}
        assert scores["unreachable_words"] == 1


def test_one_wrong_type(make_processor):
    tag_ids, word_ids = encode(make_processor(), TEXTS, [["B-LOC", "I-LOC", "O", "B-LOC"], GOLD[1]])
    scores = entity_metrics(tag_ids, word_ids, GOLD, ID2LABEL)
    assert scores["f1"] == pytest.approx(2 / 3)
    assert scores["per_type"]["PER"]["recall"] == 0
    assert scores["per_type"]["LOC"]["precision"] == pytest.approx(2 / 3)


def test_what_is_cut_off_is_a_miss_here_and_vanishes_in_the_published_protocol(make_processor):
    processor = make_processor(max_length=4)  # two tokens: Jordan is cut off
    tag_ids, word_ids = encode(processor, TEXTS, GOLD)
    word = entity_metrics(tag_ids, word_ids, GOLD, ID2LABEL, "word")
    published = entity_metrics(tag_ids, word_ids, GOLD, ID2LABEL, "published")
    assert (word["support"], word["recall"]) == (3, pytest.approx(2 / 3))
    assert (published["support"], published["recall"]) == (2, 1)
    assert word["unreachable_entities"] == published["unreachable_entities"] == 1


def test_texts_without_a_token_are_missed(make_processor):
    texts, gold = [["\u200d", "\u200d"], *TEXTS], [["B-PER", "O"], *GOLD]
    tag_ids, word_ids = encode(make_processor(), texts, gold)
    assert word_ids[0] == tag_ids[0] == []
    scores = entity_metrics(tag_ids, word_ids, gold, ID2LABEL, "word")
    assert (scores["recall"], scores["unreachable_entities"], scores["unreachable_words"]) == (3 / 4, 1, 3)
    assert entity_metrics(tag_ids, word_ids, gold, ID2LABEL, "published")["recall"] == 1


def test_special_labels_cost_precision_in_the_published_protocol(make_processor):
    processor = make_processor(label_scheme="deepke", tags=list(ID2LABEL.values()))
    id2label = dict(enumerate(processor.labels))
    word_ids = [example.word_ids for example in processor.encode_text([["Jordan", "in"]], is_split_into_words=True)]
    separator = processor.labels.index("[SEP]")
    tag_ids = [[separator if word == 1 else 2 for word in word_ids[0]]]
    gold = [["B-PER", "O"]]
    assert entity_metrics(tag_ids, word_ids, gold, id2label, "word")["precision"] == 1
    assert entity_metrics(tag_ids, word_ids, gold, id2label, "published")["precision"] == 0.5


def test_unknown_protocol(make_processor):
    with pytest.raises(ValueError, match="protocol must be one of"):
        entity_metrics([], [], [], ID2LABEL, "strict")


def test_lenient_mode_counts_what_starts_with_i():
    scores = EntityScores().compute(predictions=[["I-PER", "O"]], references=[["B-PER", "O"]])
    assert scores["f1"] == 1


def test_unreachable_entity_in_part():
    labels = ["B-LOC", "I-LOC", "I-LOC"]
    for of_tokens, entities in (([None, 1, 2, 2, None], 1), ([None, 0, 1, None], 1), ([None, 0, 2, None], 0)):
        counts = unreachable_counts([of_tokens], [labels])
        assert counts == {"unreachable_words": 1, "unreachable_entities": entities}


def test_confusion(make_processor):
    predicted = [["B-LOC", "O", "O", "B-LOC"], ["B-PER", "B-LOC"], ["O"]]
    tag_ids, word_ids = encode(make_processor(), [*TEXTS, ["\u200d"]], predicted)
    # "New York" is missed, "New" spurious; Jordan is taken for a place; "in" is spurious; a text is out of reach
    assert entity_confusion(tag_ids, word_ids, [*GOLD, ["B-PER"]], ID2LABEL) == {
        "types": ["LOC", "PER"],
        "counts": [[1, 0, 1], [1, 0, 1], [1, 1, 0]],
    }
    perfect, word_ids = encode(make_processor(), TEXTS, GOLD)
    assert entity_confusion(perfect, word_ids, GOLD, ID2LABEL)["counts"] == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("label_scheme", ["word", "deepke"])
def test_counts_of_texts_add_up_to_the_scores(protocol, label_scheme):
    """Random tags, special labels and cut off words among them."""
    random, labels = np.random.default_rng(0), scheme_labels([*ID2LABEL.values()], label_scheme)
    gold = [random.choice([*ID2LABEL.values()], number).tolist() for number in random.integers(1, 9, 60)]
    word_ids = [[None, *range(random.integers(0, len(tags) + 1)), None] for tags in gold]
    tag_ids = [
        [
            labels.index(gold[text][word])
            if word is not None and random.random() < 0.7
            else random.integers(len(labels))
        ]
        for text, words in enumerate(word_ids)
        for word in words
    ]
    numbers = iter(of_token for (of_token,) in tag_ids)
    arguments = ([[next(numbers) for _ in words] for words in word_ids], word_ids, gold, dict(enumerate(labels)))
    counts, scores = entity_counts(*arguments, protocol), entity_metrics(*arguments, protocol)
    assert counts.shape == (60, 3)
    correct, predicted, of_gold = counts.sum(axis=0)
    assert 0 < correct < min(predicted, of_gold) and of_gold == scores["support"]
    assert (correct / predicted, correct / of_gold) == pytest.approx((scores["precision"], scores["recall"]))
    for text in range(60):
        alone = entity_counts(*([of[text]] for of in arguments[:3]), arguments[3], protocol)
        assert (alone == counts[text]).all()
    assert entity_counts([], [], [], ID2LABEL, protocol).shape == (0, 3)
