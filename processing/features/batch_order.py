"""The order of rows in which batches are padded least: those of similar size lie side by side."""

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from processing.columns import PIXEL_MASKS


def largest_first(features: Dataset) -> list[int]:
    """
    The rows of what `prepare_features` returns by tokens, then by bytes of pixels, so that the first batch needs the
    most memory. Rows of one size keep their order. No pixel is read.
    """
    columns = [name for name in PIXEL_MASKS if name in features.column_names]
    sizes = [np.zeros((2, 0), dtype=int)]
    for table in features.select_columns(["input_ids", *columns]).with_format("arrow").iter(batch_size=1000):
        pixels = np.zeros(len(table), dtype=int)
        for name in columns:
            pixels += pc.fill_null(pc.binary_length(table.column(name)), 0).to_numpy()
        sizes.append(np.stack([pc.list_value_length(table.column("input_ids")).to_numpy(), pixels]))
    tokens, pixels = np.concatenate(sizes, axis=1)
    return np.lexsort((-pixels, -tokens)).tolist()
