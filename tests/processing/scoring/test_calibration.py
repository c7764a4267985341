import numpy as np
import pytest

from processing.scoring.calibration import (
    TEMPERATURES,
    ScoredAnswers,
    best_thresholds,
    calibration_error,
    entity_scores,
    fit_temperature,
    log_loss,
    tags_above_thresholds,
    thresholded_f1,
)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def test_the_error_is_the_mean_over_ten_bins():
    scores = np.array([1.0, 0.95, 0.31, 0.39, 0.0])
    is_right = np.array([True, False, False, True, False])
    # The bins 0.9 to 1, 0.3 to 0.4 and 0 to 0.1.
    assert calibration_error(scores, is_right) == pytest.approx(2 / 5 * (0.975 - 0.5) + 2 / 5 * (0.5 - 0.35))
    assert calibration_error(scores[:0], is_right[:0]) is None


@pytest.mark.parametrize("known", [0.6, 1.0, 2.5])
def test_a_known_temperature_is_found_again(known):
    """The first answers of 20,000 rows of logits whose labels are drawn at that temperature."""
    draw = np.random.default_rng(0)
    logits = 3 * draw.standard_normal((20_000, 4))
    gold = (softmax(logits / known).cumsum(axis=1) > draw.random((20_000, 1))).argmax(axis=1)
    is_right = logits.argmax(axis=1) == gold

    def loss(temperature):
        return log_loss(softmax(logits / temperature).max(axis=1), is_right)

    found = fit_temperature(loss)
    assert found == pytest.approx(known, rel=0.05)
    scores = [softmax(logits / temperature).max(axis=1) for temperature in (known * 2, found)]
    assert calibration_error(scores[0], is_right) > 0.05 > 0.02 > calibration_error(scores[1], is_right)


@pytest.mark.parametrize(("is_right", "bound"), [(True, TEMPERATURES[0]), (False, TEMPERATURES[1])])
def test_answers_that_are_all_right_or_all_wrong(is_right, bound, caplog):
    logits = np.array([[3.0, 0.0, 1.0], [0.0, 1.0, 0.5]])

    def loss(temperature):
        return log_loss(softmax(logits / temperature).max(axis=1), np.array([is_right] * 2))

    assert fit_temperature(loss) == bound
    assert f"The temperature of the scores is {bound}, the bound of what is looked for" in caplog.text


def test_scores_of_0_and_1_have_a_loss():
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False])))


def test_an_entity_is_right_where_words_and_type_are():
    """Two tokens for the first word, special tokens around, a row that no token stands for."""
    answers = entity_scores(
        [[-100, 1, -100, 2, 0, 3, -100], []],
        [[0, 0.9, 0, 0.5, 0.8, 0.6, 0], []],
        [[None, 0, 0, 1, 2, 3, None], []],
        [["B-PER", "I-PER", "O", "B-PER"], ["B-PER"]],
        dict(enumerate(["O", "B-PER", "I-PER", "B-LOC"])),
    )
    assert answers.names.tolist() == ["PER", "LOC"]
    assert answers.scores.tolist() == [pytest.approx(0.7), 0.6]
    assert answers.is_right.tolist() == [True, False]
    nothing = entity_scores([[0]], [[0.9]], [[0]], [["O"]], {0: "O"})
    assert [len(column) for column in nothing] == [0, 0, 0] and best_thresholds(nothing, 3) == {}


def test_thresholds_are_chosen_by_type_where_they_raise_f1():
    scores = np.array([0.9, 0.3, 0.2, 0.8, 0.25])
    is_right = np.array([True, False, False, True, True])
    answers = ScoredAnswers(np.array(["PER", "PER", "PER", "LOC", "LOC"]), scores, is_right)
    assert thresholded_f1(answers, 4, {}) == pytest.approx(2 * 3 / (5 + 4))
    # No entity of LOC is wrong. The lowest threshold above the wrong ones of PER:
    assert best_thresholds(answers, 4) == {"PER": 0.31}
    assert thresholded_f1(answers, 4, {"PER": 0.31}) == pytest.approx(2 * 3 / (3 + 4))
    assert thresholded_f1(answers, 4, {"PER": 0.3}) < thresholded_f1(answers, 4, {"PER": 0.31}), "0.3 is not below"


def test_tags_of_entities_below_a_threshold_become_outside():
    """A person of two words, a place beside it, and another place whose middle word no token stands for."""
    tags = [np.array([-100, 1, 2, 3, -100, 3, 4, -100]), np.array([])]
    given = tags[0].tolist()
    words = [[None, 0, 1, 2, 2, 3, 5, None], []]
    arguments = {
        "tag_ids": tags,
        "probabilities": [[0, 0.9, 0.5, 0.6, 0, 0.8, 0.7, 0], []],
        "word_ids": words,
        "word_labels": [["O"] * 6, ["O"]],
        "id2label": dict(enumerate(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])),
    }

    def kept(**thresholds):
        of_text, unread = tags_above_thresholds(**arguments, thresholds=thresholds)
        assert not len(unread)
        return of_text.tolist()

    assert kept() == kept(PER=0.7, LOC=0.6) == given, "a score that is the threshold is not below it"
    assert kept(PER=0.71) == [-100, 0, 0, 3, -100, 3, 4, -100]
    assert kept(LOC=0.7) == [-100, 1, 2, 0, -100, 3, 4, -100]
    assert kept(LOC=0.8) == [-100, 1, 2, 0, -100, 0, 0, -100]
    assert tags[0].tolist() == given, "what was given is left as it is"
