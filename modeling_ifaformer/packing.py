"""
The tokens of a batch side by side, without padding and without what is absent. A layer computes almost everything
token by token: packed, it computes for real tokens alone. Only attention needs rows, and takes them one by one.

Where tokens stand depends on values: packing is for tensors that have theirs at hand (`values_at_hand`).

Shapes: B batch_size, L padded length, K keys, N real tokens of the batch, D hidden size, H heads of size E.
"""

from typing import NamedTuple

import torch


def values_at_hand(tensor: torch.Tensor) -> bool:
    """
    Whether its values can be read for nothing: not on an accelerator, which would be waited for, nor in code that is
    compiled or traced, whose shapes and branches must not depend on them.
    """
    return tensor.device.type == "cpu" and not (torch.compiler.is_compiling() or torch.jit.is_tracing())


def additive_mask(parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """
    The mask over the parts that are attended to, side by side, (B, 1, 1, K): 0 where a position is real, else the
    minimum of the dtype. `parts` say which of their positions are real, each (B, L) bool.
    """
    return ((~torch.cat(parts, dim=1)).to(dtype) * torch.finfo(dtype).min)[:, None, None, :]


def deepke_mask(parts: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """The published mask over visual tokens, where there are any, and text: +1 on those, -10000 on padding."""
    *visual, text = parts
    additive = [torch.ones_like(part, dtype=dtype) for part in visual]
    return torch.cat([*additive, (~text).to(dtype) * -10000.0], dim=1)[:, None, None, :]


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


class RowLengths(NamedTuple):
    """
    How many packed tokens each row has, of the tower that attends and of the one that lends it keys and values.
    Attention takes a row at a time: nothing is padded or masked, and queries are not copied.
    """

    own: list[int]
    prefix: list[int]


# What a row attends to: packed tokens, or the keys that a mask (B, 1, 1, K) leaves, all of them where it is None.
Attended = RowLengths | torch.Tensor | None
