"""
A linear-chain conditional random field over chosen positions, on top of pytorch-crf.

pytorch-crf scores sequences that start at the first position and have no gaps. Named entity recognition scores the
first piece of each word, so here the scored positions of a row may start anywhere and lie apart: they are gathered to
the left, scored as neighbours, and the result is scattered back. The recursions are batched and, unlike pytorch-crf's,
never wait for the accelerator.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


try:
    from torchcrf import CRF
except ImportError as error:
    raise ImportError(
        "The CRF head of IFAformer needs pytorch-crf: pip install pytorch-crf "
        "(its import name is torchcrf, but the package called `torchcrf` is another project)."
    ) from error


IGNORE_INDEX = -100
# An empty row or a stray tag is reported by the device itself here, since reading it back would stall the queue.
# Elsewhere it raises ValueError. (Not every torch this project supports has `_assert_async` on other accelerators.)
ASYNC_ASSERT_DEVICES = ("cuda", "meta")


class LinearChainCRF(CRF):
    """
    Conditional random field (Lafferty, McCallum and Pereira, 2001) whose parameters are named as in pytorch-crf.

    A row whose scored positions carry tags `y_1 ... y_n` and emissions `e_1 ... e_n` scores

        start_transitions[y_1] + sum_i e_i[y_i] + sum_i transitions[y_{i-1}, y_i] + end_transitions[y_n]

    and the probability of those tags is the softmax of that score, divided by the temperature, over all tag sequences
    of length n. The temperature is the `calibration_temperature` of the `config`, 1 without one. The most likely tags
    are the same at every temperature.

    Everything is computed by a call of the module, as hooks such as those of offloading need it.

    Every method takes `emissions` (batch_size, seq_length, num_tags) and `mask` (batch_size, seq_length), a boolean
    tensor that is True at the positions to score; None scores all of them. A mask may have holes and may start
    anywhere. Values at other positions have no influence, not even NaN. Everything is computed in float32, under
    autocast too.

    Every method raises TypeError for a mask that is not boolean or tags that are not integers; ValueError for shapes
    that disagree, for a row without any scored position, and for a tag outside [0, num_tags) at a scored position. The
    last two depend on values: on CUDA they are device-side assertions, and compiled code does not check them (there,
    `viterbi_decode` and `marginals` give -100 and 0 for a row without any scored position).
    """

    def __init__(self, num_tags: int, config: Any = None) -> None:
        super().__init__(num_tags, batch_first=True)
        self.config = config

    @property
    def temperature(self) -> float:
        """What all scores but those of `viterbi_decode` are divided by, emissions and transitions alike."""
        return 1.0 if self.config is None else self.config.calibration_temperature

    def forward(  # type: ignore[override]
        self,
        emissions: torch.Tensor,
        tags: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        marginals: bool = False,
    ) -> torch.Tensor:
        """
        Log likelihood of each row's `tags` (not negated), the same as pytorch-crf's without its reduction:
        (batch_size,) float32. `tags` are (batch_size, seq_length) integers; anything, such as -100, where `mask` is
        False. Without `tags` it is `viterbi_decode`, or `marginals`.
        """
        if mask is None:
            mask = emissions.new_ones(emissions.shape[:2], dtype=torch.bool)
        self._validate(emissions, mask, tags)
        if tags is not None:
            return self._log_likelihood(emissions, tags, mask)
        return self._marginals(emissions, mask) if marginals else self._best_tags(emissions, mask)

    def viterbi_decode(self, emissions: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        The most likely tags of each row (Viterbi, 1967), ties broken as pytorch-crf breaks them: (batch_size,
        seq_length) int64, -100 where `mask` is False.
        """
        return self(emissions, mask=mask)

    def decode(self, emissions: torch.Tensor, mask: torch.Tensor | None = None) -> list[list[int]]:
        """`viterbi_decode` in the form of pytorch-crf's `decode`: per row, the list of the scored positions' tags."""
        rows = self.viterbi_decode(emissions, mask).tolist()
        return [[tag for tag in row if tag != IGNORE_INDEX] for row in rows]

    def marginals(self, emissions: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Probability of each tag at each position given the emissions: forward-backward (Rabiner, 1989) in log space.
        (batch_size, seq_length, num_tags) float32; sums to 1 over tags, all 0 where `mask` is False.
        """
        return self(emissions, mask=mask, marginals=True)

    def _log_likelihood(self, emissions, tags, mask) -> torch.Tensor:
        order = _scored_first(mask)
        # (seq_length, num_tags, batch_size), and twice (seq_length, batch_size)
        emissions = _gather(self._tempered_emissions(emissions, mask), order).permute(1, 2, 0).contiguous()
        tags = _gather(tags.long().masked_fill(~mask, 0), order).t()
        mask = _gather(mask, order).t()
        with without_autocast(emissions.device):
            start, end, transitions = (scores / self.temperature for scores in self._scores())
            last = _last_position(mask).unsqueeze(0)  # (1, batch_size)
            emitted = emissions.gather(1, tags.unsqueeze(1)).squeeze(1) * mask
            moved = transitions[tags[:-1], tags[1:]] * mask[1:]
            # (batch_size,)
            boundary = start[tags[0]] + end[tags.gather(0, last).squeeze(0)]
            score = boundary + emitted.sum(dim=0) + moved.sum(dim=0)
            # Log of the sum over all tag sequences of their exponentiated scores
            messages = _messages(emissions, start.unsqueeze(1), transitions.unsqueeze(2)) + emissions
            at_last = messages.gather(0, last.expand(self.num_tags, -1).unsqueeze(0)).squeeze(0)
            return score - (at_last + end.unsqueeze(1)).logsumexp(dim=0)

    def _scores(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Start and end transitions (num_tags,), and transitions (previous tag, tag), in float32."""
        return self.start_transitions.float(), self.end_transitions.float(), self.transitions.float()

    def _tempered_emissions(self, emissions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """float32 emissions, 0 where nothing is scored: NaN or infinity there would spread through a sum."""
        return emissions.float().masked_fill(~mask.unsqueeze(-1), 0.0) / self.temperature

    @torch.no_grad()
    def _best_tags(self, emissions, mask) -> torch.Tensor:
        order = _scored_first(mask)
        with without_autocast(emissions.device):
            start, end, transitions = self._scores()
            # seq_length times (num_tags, batch_size): reductions over the leading dimension are the fast ones on a CPU
            steps = _gather(emissions.float(), order).permute(1, 2, 0).contiguous().unbind()

            # best[i][k]: score of the best tags of the first i + 1 positions that end in tag k
            best = [start.unsqueeze(1) + steps[0]]
            for emission in steps[1:]:
                # (previous tag, 1, batch_size) + (previous tag, tag, 1) -> (tag, batch_size)
                best.append((best[-1].unsqueeze(1) + transitions.unsqueeze(2)).amax(dim=0) + emission)

            last = _last_position(mask.t()).expand(1, self.num_tags, -1)
            # (num_tags, batch_size) -> (batch_size,)
            tag = (torch.stack(best).gather(0, last).squeeze(0) + end.unsqueeze(1)).max(dim=0).indices

            # The previous tag is found again from its score, for the best path alone, which costs less than a table of
            # back pointers. The emission, the same for all candidates, is added because rounding may make two of them
            # equal, and max (not argmax, slow along this dimension) because it settles ties for pytorch-crf.
            path = [tag]
            # seq_length times (batch_size,)
            scored = _gather(mask, order).unbind(dim=1)
            for i in range(len(steps) - 1, 0, -1):
                # (previous tag, batch_size) + (previous tag, batch_size) + (1, batch_size)
                candidates = best[i - 1] + transitions.index_select(1, tag) + steps[i].gather(0, tag.unsqueeze(0))
                # Behind its last position a row keeps the tag that position will get.
                tag = torch.where(scored[i], candidates.max(dim=0).indices, tag)
                path.append(tag)
        # (batch_size, seq_length)
        return _scatter(torch.stack(path[::-1], dim=1), order).masked_fill(~mask, IGNORE_INDEX)

    def _marginals(self, emissions, mask) -> torch.Tensor:
        with without_autocast(emissions.device):
            emissions = self._tempered_emissions(emissions, mask)
            # The backward recursion is the forward one on the reversed row, with start and end swapped and transitions
            # transposed; both run side by side along a dimension of 2.
            orders = [_scored_first(mask), mask.size(1) - 1 - _scored_first(mask.flip(1))]
            # (seq_length, num_tags, 2, batch_size)
            aligned = torch.stack([_gather(emissions, order) for order in orders]).permute(2, 3, 0, 1).contiguous()
            start, end, transitions = (scores / self.temperature for scores in self._scores())
            # (previous tag, tag, 2, 1)
            transitions = torch.stack([transitions, transitions.t()], dim=-1).unsqueeze(-1)
            # (num_tags, 2)
            boundary = torch.stack([start, end], dim=-1)
            # twice (batch_size, seq_length, num_tags)
            left, right = _messages(aligned, boundary.unsqueeze(-1), transitions).permute(2, 3, 0, 1)
            joint = _scatter(left, orders[0]) + emissions + _scatter(right, orders[1])
            return joint.softmax(dim=-1).masked_fill(~mask.unsqueeze(-1), 0.0)

    def _validate(self, emissions: torch.Tensor, mask: torch.Tensor, tags: torch.Tensor | None) -> None:
        """Shapes and dtypes, then (where that costs nothing, see the class) the values of mask and tags."""
        if emissions.dim() != 3 or emissions.size(2) != self.num_tags or emissions.size(1) == 0:
            raise ValueError(
                f"emissions: expected shape (batch_size, seq_length, {self.num_tags}) with at least one position, "
                f"got {tuple(emissions.shape)}."
            )
        if mask.dtype != torch.bool:
            raise TypeError(
                f"mask: expected a boolean tensor (batch_size, seq_length), got {mask.dtype}; use mask.bool()."
            )
        if tags is not None and (tags.is_floating_point() or tags.is_complex() or tags.dtype == torch.bool):
            raise TypeError(f"tags: expected an integer dtype, got {tags.dtype}; use tags.long().")
        for name, values in (("mask", mask), ("tags", tags)):
            if values is not None and values.shape != emissions.shape[:2]:
                raise ValueError(
                    f"{name}: expected the first two dimensions of emissions, {tuple(emissions.shape[:2])}, "
                    f"got {tuple(values.shape)}."
                )
        if torch.compiler.is_compiling():
            return
        empty = ~mask.any(dim=1)  # (batch_size,)
        stray = torch.zeros_like(mask) if tags is None else mask & ((tags < 0) | (tags >= self.num_tags))
        if mask.device.type in ASYNC_ASSERT_DEVICES:
            torch._assert_async(
                ~empty.any(), "CRF: a row of the batch has no scored position (its mask is all False)."
            )
            torch._assert_async(~stray.any(), "CRF: a tag at a scored position is outside [0, num_tags).")
            return
        if empty.any():
            raise ValueError(
                f"mask: nothing is scored in rows {empty.nonzero().flatten().tolist()}, so they have no tag sequence. "
                "Leave such rows out of the batch, or set mask to True at one or more of their positions."
            )
        if tags is not None and stray.any():
            raise ValueError(
                f"tags: expected values in [0, {self.num_tags}) where mask is True, got "
                f"{tags[stray].unique().tolist()} in rows {stray.any(dim=1).nonzero().flatten().tolist()}. Set mask "
                "to False at positions without a tag."
            )


def _messages(emissions: torch.Tensor, start: torch.Tensor, transitions: torch.Tensor) -> torch.Tensor:
    """
    At `[i, k]` the log sum over the tags of all positions before `i` given tag `k` at `i`, without the emission there.
    Of `emissions` (seq_length, num_tags, ...), `start` (num_tags, ...) and `transitions` (previous tag, tag, ...).
    """
    messages = [start.expand_as(emissions[0])]
    for emission in emissions.unbind()[:-1]:
        # (previous tag, 1, ...) + (previous tag, tag, ...) -> (tag, ...)
        messages.append(((messages[-1] + emission).unsqueeze(1) + transitions).logsumexp(dim=0))
    return torch.stack(messages)


def _last_position(mask: torch.Tensor) -> torch.Tensor:
    """(seq_length, batch_size) -> (batch_size,): of the last scored position once aligned, 0 where there is none."""
    return (mask.sum(dim=0) - 1).clamp(min=0)


def _scored_first(mask: torch.Tensor) -> torch.Tensor:
    """(batch_size, seq_length): for each row, its positions with the scored ones first, otherwise in their order."""
    positions = torch.arange(mask.size(1), device=mask.device)
    # No two keys are equal, so that any sort keeps the order.
    return torch.where(mask, positions, positions + mask.size(1)).argsort(dim=1)


def _gather(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """`values` (batch_size, seq_length, ...) with the positions of each row in `order` (batch_size, seq_length)."""
    return values.gather(1, order.reshape(*order.shape, *[1] * (values.dim() - 2)).expand_as(values))


def _scatter(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """The inverse of `_gather`: `values` back at the positions they came from."""
    return _gather(values, order.argsort(dim=1))


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Recursions over many positions lose too much in half precision."""
    # Tensors without values have no autocast.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
