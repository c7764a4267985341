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


def additive_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, K), True or 1 where real -> (B, 1, 1, K): 0 where real, else the dtype's minimum."""
    return ((1.0 - mask.to(dtype)) * torch.finfo(dtype).min)[:, None, None, :]


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
