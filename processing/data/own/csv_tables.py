"""Rows of CSV, in which one broken row costs no other."""

import ast
import csv
import itertools
import json
from collections.abc import Iterator
from typing import Any

from processing.problems import Problem, ProblemError

from .text_tables import MAX_ROW_BYTES, Row, parse_json, without_line_end


Lines = Iterator[tuple[int, str | Problem]]

# What a cell holds in columns that are no plain text: a list by its separator, or JSON.
LIST_SEPARATORS = {"tokens": " ", "ner_tags": " ", "aux_crops": ";", "rcnn_crops": ";"}
JSON_COLUMNS = ("spans", "entities", "aux_objects", "rcnn_objects")

# A quote that is never closed must not take all that follows into its field. The limit is low, since reading goes on
# so far from each line that opens a quote.
MAX_ROW_LINES = 100


def csv_rows(lines: Lines, path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    The rows below a header. The columns of `LIST_SEPARATORS` become lists (parts with the separator between, JSON, or
    Python's notation), those of `JSON_COLUMNS` what their JSON says.

    A row has at most 100 lines; one that is broken costs its first line only: reading goes on with the next one, so
    that a quote which is never closed takes no other row with it.

    Raises:
        ValueError: for a header that is no list of distinct names.
    """
    header: list[str] | None = None
    for line, cells in _records(lines):
        if header is None:
            if isinstance(cells, Problem):
                raise ValueError(f"{path}:{line}: expected a header with the names of the columns: {cells}.")
            if len(set(cells)) < len(cells) or "" in cells:
                raise ValueError(
                    f"{path}:{line}: expected a header of distinct names, none empty, got {cells!r:.200}."
                )
            header = cells
        else:
            yield line, cells if isinstance(cells, Problem) else _row(header, cells)


def _row(header: list[str], cells: list[str]) -> Row | Problem:
    row: dict[str, Any] = {}
    for name, cell in zip(header, cells, strict=True):
        if not cell:
            row[name] = None
        elif name in LIST_SEPARATORS:
            row[name] = _parts(cell, LIST_SEPARATORS[name])
        elif name in JSON_COLUMNS:
            try:
                row[name] = parse_json(cell)
            except ValueError as error:
                return Problem("must be JSON", name, details=f"(it is {cell[:60]!r}: {error})")
        else:
            row[name] = cell
    return row


def _parts(cell: str, separator: str) -> list[str]:
    """A cell as a list: JSON, or Python's notation, as pandas writes lists; else parts with the separator between."""
    if cell.startswith("[") and cell.endswith("]"):
        for parse in (json.loads, ast.literal_eval):
            try:
                parsed = parse(cell)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
            if isinstance(parsed, list) and parsed and all(isinstance(part, str) for part in parsed):
                return parsed
    return [part for part in cell.split(separator) if part]


def _records(lines: Lines) -> Iterator[tuple[int, list[str] | Problem]]:
    """The cells of each record, of which the first sets the number, and the line on which it starts."""
    ahead: list[tuple[int, str | Problem]] = []  # These lines were read in search of a closing quote.
    width = None
    while True:
        line, text = ahead.pop(0) if ahead else next(lines, (0, None))
        if text is None:
            return
        if isinstance(text, Problem):
            yield line, text
            continue
        if not without_line_end(text):
            continue
        try:
            cells, taken = _record(text, ahead, lines)
        except ProblemError as error:
            yield line, error.problem
            continue
        width = width or len(cells)
        if len(cells) != width:
            number = f"{len(cells)} in {f'lines {line} to {line + taken}' if taken else 'this line'}, {width} columns"
            yield line, Problem("the row must have a cell for each column of the header", details=f"({number})")
            continue
        del ahead[:taken]
        yield line, cells


def _record(text: str, ahead: list[tuple[int, str | Problem]], lines: Lines) -> tuple[list[str], int]:
    """The cells of the record that starts with a line, and how many more lines it takes; they are put into `ahead`."""
    taken, is_end = 0, False

    def following() -> Iterator[str]:
        nonlocal taken, is_end
        yield text
        size = len(text)
        while size <= MAX_ROW_BYTES and taken < MAX_ROW_LINES:
            if taken == len(ahead):
                ahead.extend(itertools.islice(lines, 1))
            _, more = ahead[taken] if taken < len(ahead) else (0, None)
            if not isinstance(more, str):
                break
            size += len(more)
            taken += 1
            yield more
        is_end = True

    try:
        # The csv module alone reads an unclosed quote to the end of the file, and cannot go back.
        return next(csv.reader(following(), strict=True)), taken
    except csv.Error as error:
        details = f"(lines looked at: {taken + 1})" if is_end else f"({error})"
        kind = "a quote is opened and not closed" if is_end or taken else "the line is not CSV"
        raise ProblemError(Problem(kind, details=details)) from error
