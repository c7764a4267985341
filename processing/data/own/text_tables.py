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
    """A JSON object on every line but the blank ones."""
    is_first = True
    for line, text in text_lines(path):
        if isinstance(text, Problem):
            yield line, text
        elif stripped := text.strip():
            if is_first and (stripped == "[" or re.match(r"\[\s*\{", stripped)):
                raise ValueError(
                    f"{path}: expected a JSON object on every line, got a JSON array; convert it, for example with "
                    "`jq -c '.[]'`."
                )
            is_first = False
            try:
                row, details = parse_json(stripped), f"(it is {stripped[:60]!r})"
            except ValueError as error:
                row, details = None, f"({error})"
            yield line, row if isinstance(row, dict) else Problem("the line is not a JSON object", details=details)


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
