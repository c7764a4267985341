"""Rows of CSV, in which one broken row costs no other."""

import ast
import csv
import inspect
import itertools
import json
from collections.abc import Generator, Iterator
from typing import Any

from processing.problems import Problem

from .text_tables import MAX_ROW_BYTES, Row, parse_json, text_lines, without_line_end


Line = tuple[int, str | Problem]

# What a cell holds in columns that are no plain text: a list by its separator, or JSON.
LIST_SEPARATORS = {"tokens": " ", "ner_tags": " ", "aux_crops": ";", "rcnn_crops": ";"}
JSON_COLUMNS = ("spans", "entities", "relations", "aux_objects", "rcnn_objects")
# These hold JSON where they begin as a list: the entities in an export, but in other files a word; and a place of an
# entity, or its words.
MAYBE_JSON_COLUMNS = ("label", "labels", "head", "tail")

# A quote that is never closed must not take all that follows into its field. The limit is low, since reading goes on
# so far from each line that opens a quote.
MAX_ROW_LINES = 100


def csv_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    The rows below a header. The columns of `LIST_SEPARATORS` become lists (parts with the separator between, JSON, or
    Python's notation), those of `JSON_COLUMNS` what their JSON says.

    A row has at most 100 lines; one that is broken costs its first line only: reading goes on with the next one, so
    that a quote which is never closed takes no other row with it.
    """
    header: list[str] | None = None
    for line, cells in _records(path):
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
        elif name in JSON_COLUMNS or (name in MAYBE_JSON_COLUMNS and cell[0] in "[{"):
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


def _records(path: str) -> Iterator[tuple[int, list[str] | Problem]]:
    """The cells of each record, of which the first sets the number, and the line on which it starts."""
    lines = text_lines(path)
    ahead: list[Line] = []  # These lines were read in search of a closing quote.
    width = None
    while ahead or (ahead := list(itertools.islice(lines, 1))):
        line, text = ahead.pop(0)
        if isinstance(text, Problem):
            yield line, text
            continue
        if not without_line_end(text):
            continue
        # The csv module alone reads an unclosed quote to the end of the file, and cannot go back.
        record = _record_lines(text, ahead, lines)
        reader = csv.reader(record, strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            is_end = inspect.getgeneratorstate(record) == inspect.GEN_CLOSED  # More lines were asked for than it has.
            kind = "a quote is opened and not closed" if is_end or reader.line_num > 1 else "the line is not CSV"
            details = f"(lines looked at: {reader.line_num})" if is_end else f"({error})"
            yield line, Problem(kind, details=details)
            continue
        width, last = width or len(cells), line + reader.line_num - 1
        if len(cells) == width:
            del ahead[: last - line]
            yield line, cells
        else:
            place = f"lines {line} to {last}" if last > line else "this line"
            details = f"({len(cells)} in {place}, {width} columns)"
            yield line, Problem("the row must have a cell for each column of the header", details=details)


def _record_lines(text: str, ahead: list[Line], lines: Iterator[Line]) -> Generator[str, None, None]:
    """A line and those after it, as far as its record may go; what of them was not in `ahead` yet is put into it."""
    yield text
    size = len(text)
    for index in range(MAX_ROW_LINES):
        if index == len(ahead):
            ahead.extend(itertools.islice(lines, 1))
        more = ahead[index][1] if index < len(ahead) else None
        if not isinstance(more, str) or size > MAX_ROW_BYTES:
            return
        size += len(more)
        yield more
