"""
The tokens of a batch side by side, without padding and without what is absent. A layer computes almost everything
token by token: packed, it computes for real tokens alone. Only attention needs rows, and takes them one by one.

Where tokens stand depends on values: packing is for tensors that have theirs at hand (`values_at_hand`).

Shapes: B batch_size, L padded length, K keys, N real tokens of the batch, D hidden size, H heads of size E.
"""

from collections.abc import Sequence

import torch


def values_at_hand(tensor: torch.Tensor) -> bool:
    """
    Whether its values can be read for nothing: not on an accelerator, which would be waited for, nor in code that is
    compiled or traced, whose shapes and branches must not depend on them.
    """
    return tensor.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def ones_like_mask(mask: torch.Tensor | None, hidden_states: torch.Tensor) -> torch.Tensor:
    """`mask` (B, L) in the dtype of the hidden states (B, L, D); all ones where it is None."""
    return hidden_states.new_ones(hidden_states.shape[:2]) if mask is None else mask.to(hidden_states.dtype)


MaskedParts = Sequence[tuple[torch.Tensor | None, torch.Tensor]]  # mask (B, L), None for all, and states (B, L, D)


def additive_mask(parts: MaskedParts) -> torch.Tensor | None:
    """
    The mask over the parts that are attended to, side by side, (B, 1, 1, K): 0 where a position is real, else the
    minimum of the last part's dtype; None where all are.
    """
    if all(mask is None for mask, _ in parts):
        return None
    dtype = parts[-1][1].dtype
    real = torch.cat([ones_like_mask(*part) for part in parts], dim=1).to(dtype)
    return ((1.0 - real) * torch.finfo(dtype).min)[:, None, None, :]


def deepke_mask(parts: MaskedParts) -> torch.Tensor:
    """The published mask over visual tokens, where there are any, and text: +1 on those, -10000 on padding."""
    *visual, (mask, text) = parts
    additive = [text.new_ones(states.shape[:2]) for _, states in visual]
    return torch.cat([*additive, (1.0 - ones_like_mask(mask, text)) * -10000.0], dim=1)[:, None, None, :]


class PackedTokens:
    """
    Where the real tokens of a batch stand.

    Args:
        mask: (B, L) bool, which positions hold a real token.
    """

    def __init__(self, mask: torch.Tensor):
        self.shape = mask.shape
        self.positions = mask.flatten().nonzero().squeeze(1)  # (N,) in the flattened batch
        self.lengths: list[int] = mask.sum(dim=1).tolist()  # real tokens of each row

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (N, D)."""
        return padded.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (B, L, D), zeros where nothing is real."""
        padded = packed.new_zeros(self.shape.numel(), packed.shape[-1])
        return padded.index_copy(0, self.positions, packed).unflatten(0, self.shape)


class PackedRows:
    """
    Where the rows of a batch begin and end among packed tokens whose heads are split, (1, H, N, E). Attention takes a
    row at a time: nothing is padded or masked, and queries are not copied.

    Args:
        tokens: of the tower that attends.
        prefix: of the tower that lends its keys and values, or None.
    """

    def __init__(self, tokens: PackedTokens, prefix: PackedTokens | None):
        self.lengths = tokens.lengths
        self.prefix_lengths = [] if prefix is None else prefix.lengths

    def own(self, heads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(1, H, N, E) -> (1, H, length, E) of each row."""
        return heads.split(self.lengths, dim=2)

    def with_prefix(self, prefix: torch.Tensor | None, heads: torch.Tensor) -> Sequence[torch.Tensor]:
        """(1, H, N of the prefix, E) and (1, H, N, E) -> (1, H, prefix length + length, E) of each row."""
        if prefix is None:
            return self.own(heads)
        pairs = zip(prefix.split(self.prefix_lengths, dim=2), self.own(heads), strict=True)
        return [torch.cat(pair, dim=2) for pair in pairs]


def pack(hidden_states: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, PackedTokens]:
    """(B, L, D) and which positions are real (B, L), None for all -> (N, D), and where they belong."""
    tokens = PackedTokens(ones_like_mask(mask, hidden_states).bool())
    return tokens.pack(hidden_states), tokens
