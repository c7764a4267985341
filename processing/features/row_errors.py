"""The row of a data set that an error is about, by its id."""

from collections.abc import Callable, Mapping
from typing import Any

from processing.images import ImageError
from processing.processing_ifaformer import IFAformerProcessor


def by_row(
    rows: Mapping[str, list],
    encode: Callable[[Mapping[str, list], IFAformerProcessor], Any],
    processor: IFAformerProcessor,
) -> Any:
    """
    What `encode` makes of a batch of rows, whose errors count the texts and pictures of the batch.

    Args:
        rows: columns of a batch, `id` among them.

    Raises:
        ValueError: with the id of the first row that cannot be encoded; ImageError where that is for its pictures.
    """
    try:
        return encode(rows, processor)
    except (ValueError, TypeError):
        for row, row_id in enumerate(rows["id"]):
            try:
                encode({name: [values[row]] for name, values in rows.items()}, processor)
            except ImageError as error:
                raise ImageError(
                    f"Row {row_id!r} cannot be prepared: {error}. It could be read when the data set was loaded: load "
                    "it again, then it is counted as absent."
                ) from error
            except (ValueError, TypeError) as error:
                raise ValueError(f"Row {row_id!r} cannot be prepared: {error}") from error
        raise
