"""Digests that tell files, pictures, checkpoints and settings apart."""

import functools
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pyarrow as pa
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig

from processing.columns import PICTURE_COLUMNS


def checkpoint_digest(name_or_path: str | os.PathLike) -> str:
    """What identifies a checkpoint's content: its commit on the Hub, or a digest of the folder's files."""
    folder = Path(name_or_path)
    if not folder.is_dir():
        return f"commit {getattr(AutoConfig.from_pretrained(name_or_path), '_commit_hash', None)}"
    endings = (".json", ".txt", ".safetensors", ".bin")
    files = [str(path) for path in sorted(folder.iterdir()) if path.suffix in endings]
    return f"sha256 {files_digest(files)}"


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def picture_id(source: Any) -> str:
    """
    Tells what a picture holds from what others hold, whatever the size and the time of its file. The file is read for
    it, some 0.6 GB a second.
    """
    if isinstance(source, dict):
        source = source.get("path") if source.get("bytes") is None else source["bytes"]
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    if isinstance(source, str | os.PathLike):
        try:
            if os.path.isfile(source):  # Opening a pipe would wait for ever.
                return file_digest(source)
        except (OSError, ValueError):
            pass
    return digest("absent", source)


def content_digests(data: Mapping[str, Dataset], columns: Iterable[str]) -> dict[str, str]:
    """Of the rows of a data set and of its pictures in these columns: two data sets may have the same name."""
    rows = {split: of_split.remove_columns(list(PICTURE_COLUMNS))[:] for split, of_split in data.items()}
    return {"rows": digest(rows), "pictures": pictures_digest(data, columns)}


def pictures_digest(data: Mapping[str, Any], columns: Iterable[str]) -> str:
    """Of the pictures of the splits of a data set in these columns, encoded, by what they hold."""
    return digest(
        [
            [picture_id(source) for source in (value if isinstance(value, list) else [value])]
            for rows in data.values()
            for column in columns
            for value in rows[column]
        ]
    )


def rows_digest(rows: Dataset) -> str:
    """Of what is in the rows, wherever they are stored."""
    content = hashlib.sha256()
    for table in rows.with_format("arrow").iter(batch_size=100):
        stream = pa.BufferOutputStream()
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table.combine_chunks())
        content.update(stream.getvalue())
    return content.hexdigest()


def digest(*values: Any) -> str:
    """Of pictures, arrays and any values that JSON or `str` can write, the same in every process."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=_as_json).encode()).hexdigest()


def _as_json(value: Any) -> Any:
    """What `str` writes of a picture has its address in memory, and of a long array it leaves out the middle."""
    if isinstance(value, Image.Image):
        return [value.mode, value.size, value.getpalette(), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    return str(value)


def tokenizer_digest(tokenizer: Any) -> str:
    """Of what a tokenizer makes of texts, wherever it was loaded from and whatever it was called with before."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        # Calls leave these behind.
        return digest(type(tokenizer).__name__, content | {"truncation": None, "padding": None})
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(path).read_bytes() for path in tokenizer.save_vocabulary(folder)]
    options = {name: value for name, value in tokenizer.init_kwargs.items() if isinstance(value, bool | int)}
    return digest(type(tokenizer).__name__, files, options, tokenizer.get_added_vocab())


@functools.cache
def code_digest() -> str:
    """Of the files of `processing`, whose code makes all that is cached: a change of any of them makes caches anew."""
    room = Path(__file__).parents[1]
    return digest({path.relative_to(room).as_posix(): path.read_text("utf-8") for path in room.rglob("*.py")})


def files_digest(files: Sequence[str], folders: Sequence[str] = (), passed: Container[str] = ()) -> str:
    """
    Changes with the content of the files and with the listing (name, size, times) of the folders, where they are
    there; files and folders whose real paths are `passed` are left out. One of the times nobody can set, so that a
    changed file is found out whose size and time are as before.
    """
    parts: list[Any] = [PIL.__version__]
    for path in filter(os.path.isfile, files):
        parts.append((os.path.basename(path), file_digest(path)))
    parts += [sorted(_files_below(folder, passed)) for folder in filter(os.path.isdir, folders)]
    return digest(*parts)


def _files_below(folder: str, passed: Container[str]) -> Iterator[tuple[str, int, int, int]]:
    """Path below the folder, size and times of every file; links are followed, and no folder is looked at twice."""
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # Of two ways to one folder always the same one is taken.
        real = os.path.realpath(place)
        if real in seen or (real in passed and place != folder):
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            path = os.path.join(place, name)
            if os.path.join(real, name) in passed:
                continue
            try:
                status = os.stat(path)
            except OSError:  # a link to nothing, or a file that was just removed
                continue
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, folder), status.st_size, status.st_mtime_ns, status.st_ctime_ns
