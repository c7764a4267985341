"""Rows of text files: lines, and JSON objects on them."""

import codecs
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from processing.problems import Problem


Row = dict[str, Any]

MAX_ROW_BYTES = 1 << 24


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
            line = file.readline(MAX_ROW_BYTES + 1)
            if not line:
                return
            if len(line) > MAX_ROW_BYTES:
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_ROW_BYTES)
                yield number, Problem("the line is too long", details=f"(more than {MAX_ROW_BYTES >> 20} MiB)")
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
    A JSON object on every line but the blank ones, or a file that is a JSON array of objects, which is in memory as a
    whole. `[text, {...}]`, as spaCy's training data have it, is the object with that `text`.
    """
    is_first = True
    for line, text in text_lines(path):
        if isinstance(text, Problem):
            yield line, text
        elif stripped := text.strip():
            if is_first and (stripped == "[" or re.match(r"\[\s*[\[{]", stripped)):
                yield from _array_rows(path)
                return
            is_first = False
            yield line, _json_row(stripped, "line")


def _json_row(text: str, place: str) -> Row | Problem:
    try:
        value, details = parse_json(text), f"(it is {text[:60]!r})"
    except ValueError as error:
        value, details = None, f"({error})"
    if isinstance(value, list) and [type(part) for part in value] == [str, dict]:
        value = {"text": value[0], **value[1]}
    return value if isinstance(value, dict) else Problem(f"the {place} is not a JSON object", details=details)


def _array_rows(path: str) -> Iterator[tuple[int, Row | Problem]]:
    """
    The items of a JSON array, and the line on which each begins. What is no array is a ValueError with file and line,
    since nothing behind it can be read.
    """
    lines = []
    for number, text in text_lines(path):
        if isinstance(text, Problem):
            raise ValueError(f"{path}:{number}: {text}.")
        lines.append(text)
    array, decoder = "".join(lines), json.JSONDecoder()
    line, counted, position = 1, 0, array.index("[")
    if re.match(r"\[\s*\]\s*$", array[position:]):
        return
    while array[position] != "]":
        position = _SPACE.match(array, position + 1).end()  # type: ignore[union-attr]
        line, counted = line + array.count("\n", counted, position), position
        try:
            _, end = decoder.raw_decode(array, position)
            position = _SPACE.match(array, end).end()  # type: ignore[union-attr]
            if array[position : position + 1] not in (",", "]"):
                raise json.JSONDecodeError("Expecting ',' or ']'", array, position)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}:{line}: expected the next item of a JSON array: {error}.") from error
        yield line, _json_row(array[counted:end], "item")


_SPACE = re.compile(r"\s*")


def parse_json(text: str) -> Any:
    """
    Raises:
        ValueError: for what is no JSON, and for half of a surrogate pair, which JSON can spell but which is no
            character: it can be neither written nor tokenized.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos + 1}") from error
    except RecursionError as error:  # There are too many brackets.
        raise ValueError(str(error)) from error
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"half of a surrogate pair, {half!r}, is no character") from error
    return value
