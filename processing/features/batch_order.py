"""The order of rows in which batches are padded least: those of similar size side by side."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from processing.columns import PIXEL_MASKS


def feature_sizes(features: Dataset) -> np.ndarray:
    """
    (number of rows, 2): tokens and bytes of pixels of each row.

    Args:
        features: as `prepare_features` returns them. No pixel is read.
    """
    columns = ["input_ids", *(name for name in PIXEL_MASKS if name in features.column_names)]
    sizes = []
    for table in features.select_columns(columns).with_format("arrow").iter(batch_size=1000):
        pixels = np.zeros(len(table), dtype=np.int64)
        for name in columns[1:]:
            pixels += pc.fill_null(pc.binary_length(table.column(name)), 0).to_numpy()
        sizes.append(np.stack([pc.list_value_length(table.column("input_ids")).to_numpy(), pixels], axis=1))
    return np.concatenate(sizes) if sizes else np.zeros((0, 2), dtype=np.int64)


def largest_first(sizes: np.ndarray | Sequence[tuple[int, int]]) -> list[int]:
    """
    Rows by tokens, then by bytes of pixels, so that the most memory is asked for at once. Ties keep their order.

    Args:
        sizes: (number of rows, 2), see [`feature_sizes`].
    """
    tokens, pixels = np.asarray(sizes, dtype=np.int64).reshape(-1, 2).T
    return np.lexsort((-pixels, -tokens)).tolist()
