"""Rows of CSV, in which one broken row costs no other."""

import csv
import inspect
import itertools
import re
from collections.abc import Generator, Iterator
from typing import Any

from processing.context import CONTEXT
from processing.data.literals import parse_value
from processing.problems import Problem
from processing.rows.picture_files import PICTURE_ENDINGS

from .text_tables import MAX_LINE_BYTES, Row, text_lines, without_line_end


Line = tuple[int, str | Problem]

# Columns of lists, and what else may stand between the items; columns of other values; and columns that hold such
# values or plain text.
LIST_SEPARATORS = {"tokens": " ", "ner_tags": " ", "aux_crops": ";", "rcnn_crops": ";"}
VALUE_COLUMNS = ("spans", "entities", "relations", "aux_objects", "rcnn_objects", "offsets")
MIXED_COLUMNS = ("image", "head", "tail", "crops", "label", "labels")

# A caption may stand in brackets: of a context, only what begins as a dict or a list of texts or dicts is a value.
_BEGINS_AS_CONTEXT = re.compile(r"\[\s*['\"{]|\{\s*['\"]")
# Words, a path or an entity do not begin so: it is a value, maybe one that was cut off.
_BEGINS_AS_VALUE = re.compile(
    r"""\[.*\]\Z|\(['"](?=.*\)\Z).*,|\{(?=.*\}\Z)(['"].*,|['"]\w+['"]:|\d+:)|\[['"{]|\w+\([\[{]""", re.DOTALL
)
_NUMBER = r"\s*(?:(?:np|numpy)\.\w+\(\d+\)|\d+)\s*"
_NUMBERS = re.compile(rf"\((?:{_NUMBER},)+(?:{_NUMBER})?\)")
_QUOTED = re.compile(r"(['\"])\w([^'\"]*\w)?\1")
_NO_PART_OF_A_TAG = re.compile(r"[^\S ]|[,;|'\"\[\](){}]")

# Those between the cells of other programs, where the header has no comma.
OTHER_DELIMITERS = ";\t"
# Above its row numbers pandas writes no name; it gives them this one where it reads them as a column.
_ROW_NUMBERS = re.compile(r"(Unnamed: \d+)?")

# A quote that is never closed must not take all that follows into its field. The limit is low, since reading goes on
# so far from each line that opens a quote.
MAX_ROW_LINES = 100


def csv_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    The rows below a header. Between the cells are commas, or semicolons or tabs where the header has no comma. The
    columns of `LIST_SEPARATORS` become lists (parts with the separator between, or what [`parse_value`] reads), those
    of `VALUE_COLUMNS` what it reads, and those of `MIXED_COLUMNS`, and `context`, that or text. Row numbers of pandas
    are left out.

    A row has at most 100 lines; one that is broken costs its first line only: reading goes on with the next one, so
    that a quote which is never closed takes no other row with it.
    """
    header: list[str] | None = None
    for line, cells in _records(path):
        if header is None:
            if isinstance(cells, Problem):
                raise ValueError(f"{path}:{line}: expected a header with the names of the columns: {cells}.")
            if len(set(cells)) < len(cells) or "" in cells[1:]:
                raise ValueError(
                    f"{path}:{line}: expected a header of distinct names, none empty, got {cells!r:.200}."
                )
            header = cells
        else:
            yield line, cells if isinstance(cells, Problem) else _row(header, cells)


def _row(header: list[str], cells: list[str]) -> Row | Problem:
    row: Row = {}
    for name, cell in zip(header, cells, strict=True):
        if _ROW_NUMBERS.fullmatch(name):
            continue
        try:
            row[name] = _value(name, cell) if cell else None
        except ValueError as error:
            kind = "must be a list or dict, as JSON, Python or numpy write them"
            if name in LIST_SEPARATORS:
                kind = f"must be a list, as JSON, Python or numpy write it, or have {LIST_SEPARATORS[name]!r} between"
            return Problem(kind, name, details=f"(it is {cell[:60]!r}: {error})")
    return row


def _value(column: str, cell: str) -> Any:
    is_value = _BEGINS_AS_VALUE.match(cell.strip())
    if column in LIST_SEPARATORS:
        parts = [part for part in cell.split(LIST_SEPARATORS[column]) if part]
        are_words = [*parts[:1], *parts[-1:]] in (["[", "]"], ["{", "}"]) and not _QUOTED.search(cell)
        if not is_value or are_words:
            wrong = _NO_PART_OF_A_TAG.search(cell) if column == "ner_tags" else None
            if wrong:
                raise ValueError(f"{wrong[0]!r} is no part of a tag")
            return parts
        value = parse_value(cell)
        if not isinstance(value, list):
            raise ValueError(f"this is a {type(value).__name__}")
        return value
    if column == CONTEXT:
        return parse_value(cell) if _BEGINS_AS_CONTEXT.match(cell.strip()) else cell
    if column == "image" and not is_value and ";" in cell:
        paths = [part.strip() for part in cell.split(";") if part.strip()]
        # A name may have a semicolon in it.
        return paths if all(path.lower().endswith(PICTURE_ENDINGS) for path in paths) else cell
    if column in VALUE_COLUMNS or (column in MIXED_COLUMNS and (is_value or _NUMBERS.fullmatch(cell.strip()))):
        return parse_value(cell)
    return cell


def _records(path: str) -> Iterator[tuple[int, list[str] | Problem]]:
    """The cells of each record, of which the first sets the number, and the line on which it starts."""
    lines = text_lines(path)
    ahead: list[Line] = []  # These lines were read in search of a closing quote.
    width, delimiter = None, ","
    while ahead or (ahead := list(itertools.islice(lines, 1))):
        line, text = ahead.pop(0)
        if isinstance(text, Problem):
            yield line, text
            continue
        if not without_line_end(text):
            continue
        if width is None and "," not in text:
            delimiter = next((other for other in OTHER_DELIMITERS if other in text), ",")
        # The csv module alone reads an unclosed quote to the end of the file, and cannot go back.
        record = _record_lines(text, ahead, lines)
        reader = csv.reader(record, delimiter=delimiter, strict=True)
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
        if not isinstance(more, str) or size > MAX_LINE_BYTES:
            return
        size += len(more)
        yield more
