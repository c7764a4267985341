"""
Rows window by window. Within a window, batches are made of rows of like length, and the results are put back into the
order of the rows. A window depends on the rows alone, so that batches are the same whoever tags it, and whenever.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from processing.base_pipeline import BasePipeline
from processing.columns import PICTURE_COLUMNS
from processing.context import CONTEXT
from processing.tagged_text import TaggedRow

from .input_rows import InputRow


WINDOW_BATCHES = 64
WINDOW_BYTES = 1 << 28  # of texts, and of pictures that come in the rows


def cut_windows(rows: Iterable[InputRow], batch_size: int) -> Iterator[list[InputRow]]:
    """Rows by `WINDOW_BATCHES` batches; a window ends earlier where `WINDOW_BYTES` are reached."""
    window: list[InputRow] = []
    size = 0
    for row in rows:
        window.append(row)
        size += size_in_memory(row.columns)
        if len(window) == WINDOW_BATCHES * batch_size or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def pictures_of(columns: dict[str, Any]) -> list[Any]:
    """The pictures and crops of a row, as they were given."""
    given = [columns.get(name) for name in PICTURE_COLUMNS]
    every = [picture for of in given for picture in (of if isinstance(of, list | tuple) else [of])]
    return [picture for picture in every if picture is not None]


def size_in_memory(columns: dict[str, Any]) -> int:
    """About the bytes of a row's texts and of the pictures that are in the row itself, not in files of their own."""
    size = len(str(columns.get("tokens") or columns.get("text"))) + len(str(columns.get(CONTEXT) or ""))
    for picture in pictures_of(columns):
        stored = picture.get("bytes") if isinstance(picture, dict) else picture
        size += len(stored) if isinstance(stored, bytes) else getattr(stored, "nbytes", 0)
    return size


def tag_window(window: Sequence[InputRow], tagger: BasePipeline, batch_size: int) -> list[TaggedRow]:
    """
    The results of the rows in their order, see [`BulkPrediction.hand_over`]. Problems of a row without a text begin
    with its place, for nothing else says which row it is. Pictures in files of their own are named as the row names
    them, and its context is repeated, so that a result is a row of a data set too.
    """
    results = [tagger.untagged(row.problem) if row.problem else TaggedRow() for row in window]
    readable = [index for index, row in enumerate(window) if row.problem is None]
    rows = dict(zip(readable, tagger.tokenize(window[index].columns for index in readable), strict=True))

    def length(index: int) -> tuple[bool, int]:
        # A batch without any picture takes no pass of the vision tower, so rows without one stand together.
        return bool(pictures_of(window[index].columns)), rows[index].num_tokens

    order = sorted(rows, key=length)
    tagged = tagger([rows[index] for index in order], batch_size=batch_size, on_error="report") if order else []
    for index, result in zip(order, tagged, strict=True):
        results[index] = with_id(result, window[index].columns)
    for row, result in zip(window, results, strict=True):
        result.update(row.pictures)
        if row.columns.get(CONTEXT):
            result[CONTEXT] = row.columns[CONTEXT]
        if result["text"] is None:
            result["problems"] = [f"{row.place}: {problem}" for problem in result["problems"]]
    return results


def with_id(result: TaggedRow, columns: dict[str, Any]) -> TaggedRow:
    """The same with the `id` of the row's columns in front, where they have one."""
    named = type(result)({**({"id": columns["id"]} if "id" in columns else {}), **result})
    vars(named).update(vars(result))
    return named
