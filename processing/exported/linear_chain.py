"""
The linear-chain CRF in NumPy, with the same results as `LinearChainCRF`, whose docstring has the formulas.

Shapes: B batch_size, L seq_length, K number of tags. Positions that are scored may start anywhere and lie apart; they
are brought to the front of their row first, and rows are laid out as (L, K, B), so that maxima and sums run over the
leading axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


IGNORE_INDEX = -100


@dataclass
class LinearChain:
    """
    The parameters of a trained CRF.

    Args:
        start, end: (K,) float32, scores of the first and the last tag.
        transitions: (K, K) float32, from the tag before to the tag.
        temperature: what all scores but those of `best_tags` are divided by.
    """

    start: np.ndarray
    transitions: np.ndarray
    end: np.ndarray
    temperature: float = 1.0

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "LinearChain":
        """The CRF that an export noted, by the names of the arguments."""
        scores = {name: np.array(facts[name], np.float32) for name in ("start", "transitions", "end")}
        return cls(**scores, temperature=facts["temperature"])

    def best_tags(self, emissions: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """
        The most likely tags of each row by Viterbi, (B, L) int64, -100 where `mask` (B, L) is False. `emissions` are
        (B, L, K). A row without any scored position is all -100.
        """
        order, lengths, steps = _aligned(emissions, mask)
        best = [self.start[:, None] + steps[0]]
        for emission in steps[1:]:
            best.append((best[-1][:, None] + self.transitions[:, :, None]).max(axis=0) + emission)
        rows = np.arange(len(lengths))
        last = np.maximum(lengths - 1, 0)
        tag = (np.stack(best)[last, :, rows] + self.end).argmax(axis=1)
        path = [tag]
        # The previous tag is found again from its score, as `LinearChainCRF` does, which settles ties in the same way.
        for i in range(len(steps) - 1, 0, -1):
            candidates = best[i - 1] + self.transitions[:, tag] + steps[i][tag, rows]
            tag = np.where(i < lengths, candidates.argmax(axis=0), tag)
            path.append(tag)
        return _scattered(np.stack(path[::-1], axis=1), order, mask, IGNORE_INDEX)

    def marginals(self, emissions: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The probability of each tag at each position, (B, L, K) float32, 0 where `mask` is False."""
        order, lengths, steps = _aligned(emissions / np.float32(self.temperature), mask)
        start, transitions, end = self._tempered()
        left = _messages(steps, start, transitions)
        # Behind a row's last position the message is that of its end.
        right = [np.broadcast_to(end[:, None], steps[0].shape)]
        for i in range(len(steps) - 2, -1, -1):
            message = _log_sum(((right[-1] + steps[i + 1])[None] + transitions[:, :, None]).swapaxes(0, 1))
            right.append(np.where(i + 1 < lengths, message, end[:, None]))
        joint = left + np.stack(right[::-1])  # (L, K, B)
        odds = np.exp(joint - joint.max(axis=1, keepdims=True))
        probabilities = (odds / odds.sum(axis=1, keepdims=True)).transpose(2, 0, 1)
        return _scattered(probabilities, order, mask, 0.0)

    def log_likelihood(self, emissions: np.ndarray, tags: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The log probability (B,) of `tags` (B, L), of which those where `mask` is False are not looked at."""
        order, lengths, steps = _aligned(emissions / np.float32(self.temperature), mask)
        start, transitions, end = self._tempered()
        tags = np.take_along_axis(np.where(mask, tags, 0), order, axis=1).T[: len(steps)]  # (L, B)
        rows, last = np.arange(len(lengths)), np.maximum(lengths - 1, 0)
        is_scored = np.arange(len(steps))[:, None] < lengths
        emitted = np.take_along_axis(steps, tags[:, None], axis=1)[:, 0] * is_scored
        moved = transitions[tags[:-1], tags[1:]] * is_scored[1:]
        score = start[tags[0]] + end[tags[last, rows]] + emitted.sum(axis=0) + moved.sum(axis=0)
        return score - _log_sum((_messages(steps, start, transitions)[last, :, rows] + end).T)

    def _tempered(self) -> tuple[np.ndarray, ...]:
        return tuple(scores / np.float32(self.temperature) for scores in (self.start, self.transitions, self.end))


def _aligned(emissions: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    The order (B, L) of positions with the scored ones first, how many these are (B,), and the emissions in that order,
    (most of these, K, B) float32.
    """
    length = mask.shape[1]
    order = np.where(mask, np.arange(length), np.arange(length) + length).argsort(axis=1, kind="stable")
    lengths = mask.sum(axis=1)
    order_of_scored = order[:, : max(lengths.max(initial=0), 1)]
    # 0 where nothing is scored: what is no number there would spread through a sum.
    emissions = np.where(mask[:, :, None], emissions, np.float32(0))
    steps = np.take_along_axis(emissions.astype(np.float32), order_of_scored[:, :, None], axis=1)
    return order, lengths, np.ascontiguousarray(steps.transpose(1, 2, 0))


def _scattered(values: np.ndarray, order: np.ndarray, mask: np.ndarray, fill: float) -> np.ndarray:
    """Aligned values (B, at most L, ...) at the positions (B, L, ...) that they came from, `fill` elsewhere."""
    placed = np.full((*mask.shape, *values.shape[2:]), fill, values.dtype)
    rows = np.arange(len(mask))[:, None]
    placed[rows, order[:, : values.shape[1]]] = values
    placed[~mask] = fill
    return placed


def _messages(steps: np.ndarray, start: np.ndarray, transitions: np.ndarray) -> np.ndarray:
    """At `[i, k]` the log sum over the tags of all positions before `i` given tag `k` at `i`, (L, K, B)."""
    messages = [start[:, None] + steps[0]]
    for emission in steps[1:]:
        messages.append(_log_sum(messages[-1][:, None] + transitions[:, :, None]) + emission)
    return np.stack(messages)


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """The logarithm of the sum of exponentials over the leading axis."""
    highest = scores.max(axis=0)
    return highest + np.log(np.exp(scores - highest).sum(axis=0))
