"""How far scores are from the share that is right; the temperature and the thresholds that are best for a split."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from processing.labels import decode_entities, entity_spans, first_positions, word_scores, word_tags


logger = logging.getLogger(__name__)

NUM_BINS = 10
# A split on which all answers are right asks for 0, one on which all are wrong for infinity.
TEMPERATURES = (0.25, 4.0)


class ScoredAnswers(NamedTuple):
    """Entities or relations that were found, each with its type or name, its `score`, and whether it is right: three
    arrays (number of answers,)."""

    names: np.ndarray
    scores: np.ndarray
    is_right: np.ndarray


def calibration_error(scores: np.ndarray, is_right: np.ndarray) -> float | None:
    """
    The expected calibration error of answers in ten bins of one width, from 0 to 1: the mean over the answers of how
    far the mean score of their bin is from the share of it that is right
    ([Guo et al., 2017](https://arxiv.org/abs/1706.04599)). None where there are no answers.

    Args:
        scores: of each answer (number of answers,), from 0 to 1.
        is_right: whether it is right, of the same shape.
    """
    if not len(scores):
        return None
    bins = np.minimum((NUM_BINS * scores).astype(int), NUM_BINS - 1)
    of_bins = [(bins == number).mean() * abs((scores - is_right)[bins == number].mean()) for number in set(bins)]
    return float(sum(of_bins))


def entity_scores(
    tag_ids: Any,
    probabilities: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> ScoredAnswers:
    """
    The entities that were found, with the `score` that the pipeline has for them. One is right where the same words
    are an entity of the same type in the gold answers.

    Args:
        probabilities: of each tag under the CRF, in the shape of `tag_ids`.
        tag_ids, word_ids, word_labels, id2label: as for [`entity_metrics`].
    """
    found = []
    answers = _entities(tag_ids, probabilities, word_ids, word_labels, id2label)
    for of_text, gold in zip(answers, word_labels, strict=True):
        there = set(entity_spans(gold))
        for entity in of_text:
            place = (entity["entity_group"], entity["start"], entity["end"])
            found.append((entity["entity_group"], entity["score"], place in there))
    names, scores, is_right = zip(*found, strict=True) if found else ((), (), ())
    return ScoredAnswers(np.array(names, dtype=str), np.array(scores, dtype=float), np.array(is_right, dtype=bool))


def _entities(
    tag_ids: Any,
    probabilities: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> Iterator[list[dict]]:
    """Of each text the entities that were found, as [`decode_entities`] gives them; `start` and `end` are words."""
    for of_text, its_probabilities, words, gold in zip(tag_ids, probabilities, word_ids, word_labels, strict=True):
        places = [(number, number + 1) for number in range(len(gold))]
        tags = word_tags(of_text, words, len(gold), id2label)
        yield decode_entities("", places, tags, word_scores(its_probabilities, words, len(gold)))


def tags_above_thresholds(
    tag_ids: Any,
    probabilities: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    thresholds: Mapping[str, float],
) -> list[np.ndarray]:
    """
    Of each text the tags without the entities that `thresholds` leave out: the words of an entity whose score is below
    the threshold of its type get the tag `O`. A type without a threshold keeps its entities. A special label of the
    `deepke` scheme is no entity here, and stays. The other arguments are those of [`entity_scores`].
    """
    outside = next(number for number, label in id2label.items() if label == "O")
    kept = [np.array(of_text, dtype=int) for of_text in tag_ids]
    answers = _entities(tag_ids, probabilities, word_ids, word_labels, id2label)
    for of_text, words, entities in zip(kept, word_ids, answers, strict=True):
        places = first_positions(words)
        for entity in entities:
            if entity["score"] < thresholds.get(entity["entity_group"], 0.0):
                of_text[[places[word] for word in range(entity["start"], entity["end"]) if word in places]] = outside
    return kept


def log_loss(scores: np.ndarray, is_right: np.ndarray) -> float:
    """Mean negative log likelihood of right and wrong answers (number of answers,) whose probabilities of being right
    are `scores`."""
    likelihoods = np.where(is_right, scores, 1 - scores)
    return float(-np.log(np.maximum(likelihoods, np.finfo(np.float32).tiny)).mean())


def fit_temperature(loss: Callable[[float], float]) -> float:
    """
    The temperature at which the loss is least, between the two of `TEMPERATURES` (Brent's method on the logarithm). A
    warning says where it lies at one of these.
    """
    bounds = tuple(map(math.log, TEMPERATURES))
    found = minimize_scalar(lambda x: loss(math.exp(x)), bounds=bounds, method="bounded", options={"xatol": 1e-3})
    for bound, temperature in zip(bounds, TEMPERATURES, strict=True):
        if abs(found.x - bound) < 1e-2:
            logger.warning(
                f"The temperature of the scores is {temperature}, the bound of what is looked for. The validation "
                "split is too small to tell, or nearly all answers to it are right, or nearly all are wrong."
            )
            return temperature
    return math.exp(found.x)


def thresholded_f1(answers: ScoredAnswers, num_gold: int, thresholds: Mapping[str, float]) -> float:
    """
    F1 of the answers whose score is not below the threshold of their name; one that is not named has none.

    Args:
        num_gold: the number of gold answers.
    """
    kept = answers.scores >= np.array([thresholds.get(str(name), 0.0) for name in answers.names])
    return float(2 * (kept & answers.is_right).sum() / max(kept.sum() + num_gold, 1))


def best_thresholds(answers: ScoredAnswers, num_gold: int) -> dict[str, float]:
    """
    The thresholds by name, in hundredths, that raise the F1 of all answers: one name after the other, the lowest of
    equally good ones. A name is absent where none is better than no threshold.
    """
    thresholds: dict[str, float] = {}
    for name in sorted(set(answers.names.tolist())):
        candidates = [{**thresholds, **({name: number / 100} if number else {})} for number in range(100)]
        thresholds = max(candidates, key=lambda candidate: thresholded_f1(answers, num_gold, candidate))
    return thresholds
