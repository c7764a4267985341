"""
Rows window by window: within one, batches are made of rows of like length, and results put back in input order. A
window is a function of the rows alone, so that whoever tags it, and whenever, batches are the same.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from processing import IFAformerPipeline, IFAformerProcessor
from processing.columns import PICTURE_COLUMNS
from processing.pipeline_rows import row_words
from processing.tagged_text import TaggedRow

from .input_rows import InputRow, number_of_crops, size_in_memory


WINDOW_BATCHES = 64
WINDOW_BYTES = 1 << 28  # of texts, and of pictures that come in the rows


def windows(rows: Iterable[InputRow], batch_size: int) -> Iterator[list[InputRow]]:
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


def token_counts(rows: Sequence[dict[str, Any]], processor: IFAformerProcessor) -> list[int]:
    """Tokens of each row that the model will see; 0 for a row without a text."""
    counts = [0] * len(rows)
    words: dict[int, list[str]] = {}
    for index, row in enumerate(rows):
        try:
            _, of_row, _ = row_words(row)
        except ValueError:  # told when the row is tagged
            continue
        if of_row:
            words[index] = of_row
    if words:
        limit = processor.max_length
        encoding = processor.tokenizer(
            list(words.values()), is_split_into_words=True, truncation=limit is not None, max_length=limit
        )
        for index, input_ids in zip(words, encoding["input_ids"], strict=True):
            counts[index] = len(input_ids)
    return counts


def by_length(rows: Sequence[dict[str, Any]], processor: IFAformerProcessor) -> list[int]:
    """
    Indices of rows in the order in which batches have the least padding: those without a picture first, for a batch
    that has none takes no pass of the vision tower; then by number of tokens; then by number of crops.
    """
    tokens = token_counts(rows, processor)

    def key(index: int) -> tuple[bool, int, int]:
        row = rows[index]
        return any(row.get(name) for name in PICTURE_COLUMNS), tokens[index], number_of_crops(row)

    return sorted(range(len(rows)), key=key)


def tag_window(window: Sequence[InputRow], tagger: IFAformerPipeline, batch_size: int) -> list[TaggedRow]:
    """Each row's text, entities or relation, crops and problems, in order."""
    results: dict[int, TaggedRow] = {}
    readable = []
    for index, row in enumerate(window):
        if row.problem is None:
            readable.append(index)
        else:
            results[index] = tagger.untagged(f"{row.place}: {row.problem}")
    columns = [window[index].columns for index in readable]
    order = by_length(columns, tagger.processor)
    tagged = tagger([columns[index] for index in order], batch_size=batch_size, on_error="report") if order else []
    for index, result in zip(order, tagged, strict=True):
        results[readable[index]] = result.with_id(columns[index])
    return [results[index] for index in range(len(window))]
