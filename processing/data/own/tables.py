"""
Rows of a file, one by one: JSON lines, CSV, plain text, Parquet or Arrow. A row that cannot be read is an error of its
own, and reading goes on; memory does not grow with the file (of Parquet: with its largest row group).
"""

import ast
import csv
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq


class RowError(NamedTuple):
    """Why a row cannot be read."""

    reason: str


Row = dict[str, Any]

TEXT_ENDINGS = (".jsonl", ".json", ".csv", ".txt")
BINARY_ENDINGS = (".parquet", ".arrow")

# What a cell of CSV holds in columns that are no plain text: a list by its separator, or JSON.
LIST_SEPARATORS = {"tokens": " ", "ner_tags": " ", "aux_crops": ";", "rcnn_crops": ";"}
JSON_COLUMNS = ("spans", "entities", "aux_objects", "rcnn_objects")

# A quote that is never closed must not take all that follows into its field; each line that opens one is followed so
# far, hence a low limit.
MAX_ROW_LINES = 100
MAX_ROW_BYTES = 1 << 24
BATCH_ROWS = 128

_SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
# Beside the rows in folders that datasets or a builder of this project wrote.
_NO_TABLES = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "loading_report.json")
_SPLIT_FILE = re.compile(rf"({'|'.join(SPLIT_ALIASES)})(?:-\d+-of-(\d+))?", re.IGNORECASE)


def read_table(
    path: str | os.PathLike, columns: Collection[str] | None = None
) -> Iterator[tuple[int, Row | RowError]]:
    """
    The rows of a file and the place of each: the line on which it starts, or in Parquet and Arrow its number from 0.

    | ending | a row is |
    |---|---|
    | `.jsonl`, `.json` | a JSON object on a line; blank lines are skipped |
    | `.csv` | the cells below a header of names, commas between; an empty cell is None; blank lines are skipped |
    | `.txt` | `{"text": line}`, blank lines too |
    | `.parquet`, `.arrow` | what it holds, as plain Python values |

    Text is UTF-8, with or without a byte order mark. In CSV the columns of `LIST_SEPARATORS` become lists (parts with
    the separator between, JSON, or Python's notation), those of `JSON_COLUMNS` what their JSON says. A CSV row has at
    most 100 lines; one that is broken costs its first line only: reading goes on with the next one, so that a quote
    which is never closed takes no other row with it.

    Args:
        columns: all that is needed; Parquet and Arrow give no others, and do not read them from the disk.

    Raises:
        OSError: for a file that cannot be opened.
        ValueError: with the file's name, for an unknown ending, Parquet or Arrow that is none or damaged, UTF-16, a
            JSON array, a CSV header that is no list of distinct names.
    """
    path = os.fspath(path)
    ending = os.path.splitext(path)[1].lower()
    if ending in BINARY_ENDINGS:
        yield from _binary_rows(path, columns)
        return
    if ending not in TEXT_ENDINGS:
        raise ValueError(f"{path}: expected a file ending in {', '.join(TEXT_ENDINGS + BINARY_ENDINGS)}.")
    with open(path, "rb") as file:
        lines = _text_lines(file, path)
        if ending == ".csv":
            yield from _csv_rows(lines, path)
        elif ending == ".txt":
            for line, text in lines:
                yield line, text if isinstance(text, RowError) else {"text": _without_line_end(text)}
        else:
            yield from _json_rows(lines, path)


def place_of(path: str, place: int) -> str:
    """How a place given by `read_table` is written: `file:line`, or `file, row 7`."""
    is_text = os.path.splitext(path)[1].lower() in TEXT_ENDINGS
    return f"{path}:{place}" if is_text else f"{path}, row {place}"


def table_features(path: str | os.PathLike) -> dict[str, Any] | None:
    """
    Columns of a Parquet or Arrow file and the `datasets` feature of each, with the names of class labels where
    `datasets` wrote it; None for a column of a type that has none there. None for text.

    Raises:
        OSError, ValueError: as `read_table`.
    """
    path = os.fspath(path)
    if os.path.splitext(path)[1].lower() not in BINARY_ENDINGS:
        return None
    with _arrow_errors(path):
        if path.lower().endswith(".parquet"):
            schema = pq.read_schema(path)
        else:
            with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
                schema = reader.schema
        return {column.name: _feature(pa.schema([column], schema.metadata)) for column in schema}


def _feature(schema: pa.Schema) -> Any:
    try:
        (feature,) = datasets.Features.from_arrow_schema(schema).values()
    except ValueError:  # a map, for example, which a column that is not used may hold
        return None
    return feature


class Tables(NamedTuple):
    """Files of each split, in order; `unused` are splits of other names than train, validation and test."""

    root: str  # of the data set, a folder or a file, by its real path: one data set, however its path is written
    splits: dict[str, tuple[str, ...]]
    unused: tuple[str, ...] = ()


def find_tables(data_dir: str | os.PathLike) -> Tables:
    """
    The files of a data set: `data_dir` is

    - a file: the split that its name says, else train;
    - a folder with `train`, `validation` (or `valid`, `val`, `dev`) and `test` files of one ending, there or in
      `data/`, each whole or in parts such as `train-00000-of-00002.parquet`; else a lone file of text is train;
    - what `save_to_disk` of `datasets` wrote, or a folder of Parquet files that `load_dataset` tells apart.

    Raises:
        FileNotFoundError: where there is none of these.
        ValueError: where several files would be the same split.
    """
    root = os.path.abspath(os.path.expanduser(data_dir))
    if os.path.isfile(root):
        # A link's own name counts: the Hub's cache links files to others without an ending.
        root = os.path.join(os.path.realpath(os.path.dirname(root)), os.path.basename(root))
        match = _SPLIT_FILE.fullmatch(os.path.splitext(os.path.basename(root))[0])
        return Tables(root, {_split_of(match) if match else "train": (root,)})
    root = os.path.realpath(root)
    if not os.path.isdir(root):
        raise FileNotFoundError(f"data_dir={os.fspath(data_dir)!r}: no such file or folder: {root}.")
    found = (
        _saved_to_disk(root)
        or _named_files(root)
        or _named_files(os.path.join(root, "data"))
        or _lone_file(root)
        or _as_datasets_finds(root)
    )
    known = {split: found[name] for split in _SPLITS for name in found if SPLIT_ALIASES.get(name) == split}
    if not known:
        entries = sorted(os.listdir(root))
        listing = ", ".join(entries[:20]) + (", ..." if len(entries) > 20 else "")
        raise FileNotFoundError(
            f"No data set at data_dir={os.fspath(data_dir)!r}: looked in {root} and in data/ below it for train, "
            "validation and test files ending in .jsonl, .json, .csv or .parquet, or a folder written by "
            f"save_to_disk; it holds {listing or 'nothing'}. Name the files so, or pass the file itself."
        )
    if len(known) < sum(name in SPLIT_ALIASES for name in found):
        raise ValueError(f"{root}: several of its splits {list(found)} would be one split. Keep only one of them.")
    return Tables(root, known, tuple(name for name in found if name not in SPLIT_ALIASES))


def _split_of(match: re.Match) -> str:
    return SPLIT_ALIASES[match[1].lower()]


Found = dict[str, tuple[str, ...]]  # files by the name of their split, whatever that is; empty for no data set


def _file_names(folder: str, endings: tuple[str, ...]) -> list[str]:
    names = sorted(name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in endings)
    return [name for name in names if os.path.isfile(os.path.join(folder, name)) and name not in _NO_TABLES]


def _lone_file(folder: str) -> Found:
    names = _file_names(folder, (".jsonl", ".json", ".csv"))
    return {"train": (os.path.join(folder, names[0]),)} if len(names) == 1 else {}


def _named_files(folder: str) -> Found:
    if not os.path.isdir(folder):
        return {}
    names = _file_names(folder, (".jsonl", ".json", ".csv", *BINARY_ENDINGS))
    found: dict[str, dict[tuple[str, str | None, str], list[str]]] = {}
    for name in names:
        stem, ending = os.path.splitext(name)
        if match := _SPLIT_FILE.fullmatch(stem):
            kind = (match[1], match[2], ending)  # match[2] is the number of parts
            found.setdefault(_split_of(match), {}).setdefault(kind, []).append(name)
    for split, kinds in found.items():
        if len(kinds) > 1:
            rivals = ", ".join(name for group in kinds.values() for name in group)
            raise ValueError(f"{folder}: several files would be the {split} split: {rivals}. Leave only one there.")
        ((_, number, _), group), *_ = kinds.items()
        if number and len(group) != int(number):
            parts = ", ".join(group)
            raise ValueError(
                f"{folder}: expected {int(number)} parts of the {split} split, got {parts}. Add the others."
            )
    files = {split: next(iter(kinds.values())) for split, kinds in found.items()}
    if len({os.path.splitext(name)[1].lower() for group in files.values() for name in group}) > 1:
        mixed = ", ".join(name for group in files.values() for name in group)
        raise ValueError(f"{folder}: expected files of one ending, got {mixed}. Convert or remove the others.")
    return {split: tuple(os.path.join(folder, name) for name in group) for split, group in files.items()}


def _saved_to_disk(root: str) -> Found:
    def load(*names: str) -> Any:
        path = os.path.join(root, *names)
        try:
            with open(path, encoding="utf-8") as file:
                return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON as save_to_disk writes it: {error}.") from error

    def files(folder: str, state: Any) -> tuple[str, ...]:
        try:
            return tuple(os.path.join(root, folder, part["filename"]) for part in state["_data_files"])
        except (KeyError, TypeError) as error:
            path = os.path.join(root, folder, "state.json")
            raise ValueError(f"{path}: expected a list _data_files as save_to_disk writes it.") from error

    if os.path.isfile(os.path.join(root, "dataset_dict.json")):
        content = load("dataset_dict.json")
        names = content.get("splits") if isinstance(content, dict) else None
        if not isinstance(names, list):
            path = os.path.join(root, "dataset_dict.json")
            raise ValueError(f"{path}: expected an object with a list of splits as save_to_disk writes it.")
        return {name: files(name, load(name, "state.json")) for name in names}
    if os.path.isfile(os.path.join(root, "state.json")):
        state = load("state.json")
        split = state.get("_split") if isinstance(state, dict) else None
        return {split if split in SPLIT_ALIASES else "train": files("", state)}
    return {}


def _as_datasets_finds(root: str) -> Found:
    """Parquet files by the rules of `load_dataset`: other names, sub-folders, or a README's `data_files`."""
    if not any(name.endswith(".parquet") for _, _, names in os.walk(root) for name in names):
        return {}
    # Only asked for its file names; it would leave a lock in the user's cache.
    with tempfile.TemporaryDirectory() as cache:
        try:
            data_files = datasets.load_dataset_builder(root, cache_dir=cache).config.data_files or {}
        except (datasets.exceptions.DatasetsError, OSError, ValueError):
            return {}
    found = {str(split): tuple(map(str, paths)) for split, paths in data_files.items()}
    is_parquet = all(path.endswith(".parquet") for paths in found.values() for path in paths)
    return found if is_parquet else {}  # It takes a folder of many pictures for a data set of pictures.


# Text


def _text_lines(file: BinaryIO, path: str) -> Iterator[tuple[int, str | RowError]]:
    """Lines with their ends. Only a line feed ends one: texts hold characters at which str.splitlines() breaks."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError(f"{path}: expected UTF-8, got UTF-16; save the file as UTF-8.")
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > MAX_ROW_BYTES:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_ROW_BYTES)
            yield number, RowError(f"expected at most {MAX_ROW_BYTES >> 20} MiB on a line, got more")
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            yield number, RowError(f"expected UTF-8, got byte 0x{byte:02x} as byte {error.start + 1} of the line")
            continue
        if "\0" in text:
            yield number, RowError(f"expected text, got NUL (0x00) as character {text.index(chr(0)) + 1} of the line")
        else:
            yield number, text


def _without_line_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


def _json_rows(lines: Iterator[tuple[int, str | RowError]], path: str) -> Iterator[tuple[int, Row | RowError]]:
    is_first = True
    for line, text in lines:
        if isinstance(text, RowError):
            yield line, text
            continue
        stripped = text.strip()
        if not stripped:
            continue
        if is_first and (stripped == "[" or re.match(r"\[\s*\{", stripped)):
            raise ValueError(
                f"{path}: expected a JSON object on every line, got a JSON array; convert it, for example with "
                "`jq -c '.[]'`."
            )
        is_first = False
        yield line, _json_row(stripped)


def _json_row(text: str) -> Row | RowError:
    row = _parsed_json(text)
    if isinstance(row, RowError):
        return RowError(f"expected a JSON object on the line: {row.reason}")
    if not isinstance(row, dict):
        return RowError(f"expected a JSON object on the line, got {text[:60]!r}")
    return row


def _parsed_json(text: str) -> Any:
    """
    The value, or a RowError; also where a string holds half of a surrogate pair, which JSON can spell but which is no
    character: it can be neither written nor tokenized.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return RowError(f"{error.msg.removesuffix(' at')} at character {error.pos + 1}")
    except (ValueError, RecursionError) as error:  # a number of too many digits; too many brackets
        return RowError(str(error))
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            return RowError(f"half of a surrogate pair, {error.object[error.start]!r}, is no character")
    return value


def _csv_rows(lines: Iterator[tuple[int, str | RowError]], path: str) -> Iterator[tuple[int, Row | RowError]]:
    header: list[str] | None = None
    for line, cells in _csv_records(lines):
        if header is None:
            if isinstance(cells, RowError):
                raise ValueError(f"{path}:{line}: expected a header with the names of the columns: {cells.reason}.")
            if len(set(cells)) < len(cells) or "" in cells:
                raise ValueError(
                    f"{path}:{line}: expected a header of distinct names, none empty, got {cells!r:.200}."
                )
            header = cells
        else:
            yield line, cells if isinstance(cells, RowError) else _csv_row(header, cells)


def _csv_row(header: list[str], cells: list[str]) -> Row | RowError:
    row: Row = {}
    for name, cell in zip(header, cells, strict=True):
        if not cell:
            row[name] = None
        elif name in LIST_SEPARATORS:
            row[name] = _list_cell(cell, LIST_SEPARATORS[name])
        elif name in JSON_COLUMNS:
            row[name] = _parsed_json(cell)
            if isinstance(row[name], RowError):
                return RowError(f"expected JSON in column {name}, got {cell[:60]!r}: {row[name].reason}")
        else:
            row[name] = cell
    return row


def _list_cell(cell: str, separator: str) -> list[str]:
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


def _csv_records(lines: Iterator[tuple[int, str | RowError]]) -> Iterator[tuple[int, list[str] | RowError]]:
    """
    Cells of each record, of which the first sets the number. The csv module alone reads an unclosed quote to the end
    of the file, and cannot go back.
    """
    ahead: list[tuple[int, str | RowError]] = []  # lines read in search of a closing quote
    width = None
    while True:
        line, text = ahead.pop(0) if ahead else next(lines, (0, None))
        if text is None:
            return
        if isinstance(text, RowError):
            yield line, text
            continue
        if not _without_line_end(text):
            continue
        try:
            record, taken = _whole_record(text, ahead, lines)
            rows = list(csv.reader([record], strict=True))
            (cells,) = rows
            if width is not None and len(cells) != width:
                last = f" (lines {line} to {line + taken})" if taken else ""
                raise csv.Error(f"expected {width} columns as in the header, got {len(cells)}{last}")
        except csv.Error as error:
            yield line, RowError(str(error))
            continue
        width = len(cells)
        del ahead[:taken]
        yield line, cells


def _whole_record(
    text: str, ahead: list[tuple[int, str | RowError]], lines: Iterator[tuple[int, str | RowError]]
) -> tuple[str, int]:
    """The record that starts with a line, and how many more lines it takes; these are put into `ahead`."""
    parts, size = [text], len(text)
    is_open = _ends_in_quotes(text, False)
    while is_open:
        taken = len(parts) - 1
        if taken == len(ahead):
            following = next(lines, None)
            if following is None:
                raise csv.Error("a quote is opened and not closed before the end of the file")
            ahead.append(following)
        line, more = ahead[taken]
        if isinstance(more, RowError):
            raise csv.Error(f"a quote is opened and not closed before line {line}, which cannot be read")
        parts.append(more)
        size += len(more)
        if len(parts) > MAX_ROW_LINES or size > MAX_ROW_BYTES:
            raise csv.Error(f"a quote is opened and not closed within {len(parts) - 1} lines")
        try:
            is_open = _ends_in_quotes(more, True)
        except csv.Error as error:
            raise csv.Error(f"a quote is opened, and the next one, on line {line}, does not close it") from error
    return "".join(parts), len(parts) - 1


def _ends_in_quotes(line: str, in_quotes: bool) -> bool:
    """Whether a quoted field goes on behind the line, as one went on before it or not."""
    position = 0
    while True:
        if not in_quotes and line.startswith('"', position):
            in_quotes, position = True, position + 1
        if in_quotes:
            quote = line.find('"', position)
            while quote >= 0 and line.startswith('"', quote + 1):  # Two quotes are one in the text.
                quote = line.find('"', quote + 2)
            if quote < 0:
                return True
            if not line.startswith((",", "\n", "\r\n"), quote + 1) and quote + 1 < len(line):
                raise csv.Error(f"expected a comma or the row's end behind a closing quote, got {line[quote:][:20]!r}")
            in_quotes, position = False, quote + 1
        comma = line.find(",", position)
        if comma < 0:
            return False
        position = comma + 1


# Parquet and Arrow


@contextmanager
def _arrow_errors(path: str) -> Iterator[None]:
    """pyarrow's errors say nothing of the file."""
    with open(path, "rb"):  # The system's own error for a file that is absent or may not be read.
        pass
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        expected = "Parquet" if path.lower().endswith(".parquet") else "Arrow as datasets writes it"
        raise ValueError(f"{path}: cannot be read as {expected}: {str(error).rstrip('.')}.") from error


def _binary_rows(path: str, columns: Collection[str] | None) -> Iterator[tuple[int, Row | RowError]]:
    number = 0
    batches = _batches(path, columns)
    while True:
        with _arrow_errors(path):
            batch = next(batches, None)
        if batch is None:
            return
        for row in _batch_rows(batch):
            yield number, row
            number += 1


def _batches(path: str, columns: Collection[str] | None) -> Iterator[pa.RecordBatch]:
    if path.lower().endswith(".parquet"):
        with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            # Without these two a row group, with all its pictures, is in memory as a whole.
            names = _names(file.schema_arrow, columns)
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=names)
    else:
        with pa.memory_map(path) as source, pa.ipc.open_stream(source) as reader:
            names = _names(reader.schema, columns)
            for batch in reader:
                batch = batch.select(names)
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)


def _names(schema: pa.Schema, columns: Collection[str] | None) -> list[str]:
    repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if repeated:
        raise ValueError(f"columns {repeated} are there twice")
    return [name for name in schema.names if columns is None or name in columns]


def _batch_rows(batch: pa.RecordBatch) -> Iterator[Row | RowError]:
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError, pa.ArrowException):
        pass  # One of the rows; pyarrow checks no value before it is asked for.
    for index in range(batch.num_rows):
        try:
            yield batch.slice(index, 1).to_pylist()[0]
        except (ValueError, OverflowError, pa.ArrowException) as error:
            yield RowError(f"a value cannot be read: {error}")
