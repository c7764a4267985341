"""
The tokens of a batch side by side, without padding and without what is absent. A layer computes almost everything
token by token: packed, it computes for real tokens alone. Only attention needs rows, and gets rows that are as long as
the most real tokens of a text and its picture, not as the longest text and the most crops together.

Where tokens stand depends on values: packing is for tensors that have theirs at hand (`values_at_hand`).

Shapes: B batch_size, L padded length, N real tokens of the batch, Q and K most queries and keys of a row, D hidden
size.
"""

import torch
from torch import nn


def values_at_hand(tensor: torch.Tensor) -> bool:
    """
    Whether its values can be read for nothing: not on an accelerator, which would be waited for, nor in compiled code,
    whose shapes and branches must not depend on them.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def additive_mask(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(B, K), True or 1 where real -> (B, 1, 1, K): 0 where real, else the dtype's minimum."""
    return ((1.0 - mask.to(dtype)) * torch.finfo(dtype).min)[:, None, None, :]


class PackedTokens:
    """
    Args:
        mask: (B, L) bool, which positions hold a real token.
    """

    def __init__(self, mask: torch.Tensor):
        self.shape = mask.shape
        self.positions = mask.flatten().nonzero().squeeze(1)  # (N,) in the flattened batch
        self.rows = self.positions // mask.shape[1]  # (N,) ascending

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (N, D)."""
        return padded.flatten(0, 1).index_select(0, self.positions)

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (B, L, D), zeros where nothing is real."""
        padded = packed.new_zeros(self.shape.numel(), packed.shape[-1])
        return padded.index_copy(0, self.positions, packed).unflatten(0, self.shape)


class AttentionPacking:
    """
    How packed queries, and packed keys and values with those of a prefix in front, become rows.

    Args:
        tokens: of the tower that attends.
        prefix: of the tower that lends its keys and values, or None.
        dtype: of the additive mask.

    Attributes:
        attention_mask: (B, 1, 1, K), or None where all rows are equally long.
    """

    def __init__(self, tokens: PackedTokens, prefix: PackedTokens | None, dtype: torch.dtype):
        batch_size = tokens.shape[0]
        self.query_index, query_mask = _rows_of_tokens(tokens.rows, batch_size)
        self.queries = PackedTokens(query_mask)
        key_rows = tokens.rows if prefix is None else torch.cat([prefix.rows, tokens.rows])
        self.key_index, key_mask = _rows_of_tokens(key_rows, batch_size)
        self.attention_mask = None if key_mask.all() else additive_mask(key_mask, dtype)

    def query_rows(self, packed: torch.Tensor) -> torch.Tensor:
        """(N, D) -> (B, Q, D)."""
        return _take(packed, self.query_index)

    def key_rows(self, packed: torch.Tensor) -> torch.Tensor:
        """(N of the prefix + N, D) -> (B, K, D)."""
        return _take(packed, self.key_index)

    def pack(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, Q, D) -> (N, D)."""
        return self.queries.pack(rows)


def _rows_of_tokens(rows: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N,) row of each token -> (B, longest row) indices of the tokens, left-aligned, and where they are real."""
    lengths = rows.bincount(minlength=batch_size)
    tokens = rows.argsort(stable=True).split(lengths.tolist())
    index = nn.utils.rnn.pad_sequence(list(tokens), batch_first=True)
    return index, torch.arange(index.shape[1]) < lengths[:, None]


def _take(packed: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return packed.index_select(0, index.flatten()).unflatten(0, index.shape)
