"""Rows of text files: lines, and JSON objects on them."""

import codecs
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from processing.data.literals import parse_json
from processing.problems import Problem


Row = dict[str, Any]

MAX_LINE_BYTES = 1 << 24


def text_lines(path: str) -> Iterator[tuple[int, str | Problem]]:
    """
    The lines of a file, with their ends, and their numbers from 1. Only a line feed ends a line: texts hold characters
    at which `str.splitlines()` breaks.
    """
    with open(path, "rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise ValueError(f"{path}: expected UTF-8, got UTF-16; save the file as UTF-8.")
        file.seek(0)
        for number in itertools.count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                yield number, Problem("the line is too long", details=f"(more than {MAX_LINE_BYTES >> 20} MiB)")
            else:
                yield number, _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)


def _decoded(line: bytes) -> str | Problem:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        details = f"(its byte {error.start + 1} is 0x{line[error.start]:02x})"
        return Problem("the line is not UTF-8", details=details)
    if "\0" in text:
        return Problem("the line is not text", details=f"(its character {text.index(chr(0)) + 1} is NUL, 0x00)")
    return text


def without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def line_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """Every line as a row `{"text": line}`."""
    for line, text in text_lines(path):
        yield line, text if isinstance(text, Problem) else {"text": without_line_end(text)}


def json_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    A JSON object on every line but the blank ones, or a file that is a JSON array of objects. `[text, {...}]`, as
    spaCy's training data have it, is the object with that `text`.
    """
    with open(path, "rb") as file:
        beginning = file.read(_NUM_PEEKED).removeprefix(codecs.BOM_UTF8)
    if _BEGINS_ARRAY.match(beginning):
        yield from _array_rows(path)
        return
    for line, text in text_lines(path):
        if isinstance(text, Problem):
            yield line, text
        elif stripped := text.strip():
            yield line, _json_row(stripped, "line")


_NUM_PEEKED = 1 << 16
# An array of objects, or of the pairs of spaCy, and not such a pair on the first line.
_BEGINS_ARRAY = re.compile(rb"\s*\[\s*[\[{]|\s*\[[ \t\r]*(?:\n|\Z)")


def _json_row(text: str, place: str) -> Row | Problem:
    try:
        value, details = parse_json(text), f"(it is {text[:60]!r})"
    except ValueError as error:
        return Problem(f"the {place} cannot be read as JSON", details=f"({error})")
    if isinstance(value, list) and [type(part) for part in value] == [str, dict]:
        value = {"text": value[0], **value[1]}
    return value if isinstance(value, dict) else Problem(f"the {place} is not a JSON object", details=details)


def _array_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    The items of a JSON array, and the line on which each begins. What is no array is a ValueError with file and line,
    since nothing behind it can be read.
    """
    # The values are read again from the text of their item: a number that is too long costs its row alone, as does a
    # byte that is no UTF-8.
    decode = json.JSONDecoder(parse_int=len, parse_float=len, strict=False).raw_decode
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        text = file.read(_NUM_PEEKED)
        position, counted, line = text.index("["), 0, 1
        if _EMPTY.match(text, position):
            return
        while text[position] != "]":
            begin = _SPACE.match(text, position + 1).end()  # type: ignore[union-attr]
            try:
                _, end = decode(text, begin)
                end = _SPACE.match(text, end).end()  # type: ignore[union-attr]
                if text[end : end + 1] not in (",", "]"):
                    raise json.JSONDecodeError("Expecting ',' or ']'", text, end)
            except (json.JSONDecodeError, RecursionError) as error:
                size = len(text) - position
                more = file.read(max(size, _NUM_PEEKED)) if size <= MAX_LINE_BYTES else ""
                if more:  # The item goes on behind what has been read.
                    line += text.count("\n", counted, position)
                    text, position, counted = text[position:] + more, 0, 0
                    continue
                line += text.count("\n", counted, begin)
                raise ValueError(
                    f"{path}:{line}: expected the next item of a JSON array ({getattr(error, 'msg', error)})."
                ) from error
            line, counted = line + text.count("\n", counted, begin), begin
            yield line, _array_row(text[begin:end])
            position = end
        rest = text[position + 1 :] + file.read(_NUM_PEEKED)
        if rest.strip():
            raise ValueError(f"{path}:{line}: expected nothing behind the ] that ends the JSON array.")


def _array_row(text: str) -> Row | Problem:
    wrong = None if text.isascii() else re.search("[\udc80-\udcff]", text)  # as `surrogateescape` writes a byte
    if wrong:
        details = f"(its character {wrong.start() + 1} is the byte 0x{ord(wrong[0]) - 0xDC00:02x})"
        return Problem("the item is not UTF-8", details=details)
    return _json_row(text, "item")


_SPACE, _EMPTY = re.compile(r"\s*"), re.compile(r"\[\s*\]")
