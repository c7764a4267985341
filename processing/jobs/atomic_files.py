"""Files that are there whole or not at all."""

import glob
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


# Hidden, so that no reader of the folder takes it for data.
TEMPORARY = ".{name}.{process}.tmp"


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """
    A file to write to that takes the place of `path` once it is complete and on the disk; else nothing changes.

    What is no regular file, such as /dev/stdout, is written to directly: root could replace even a device.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        with open(path, "wb") as file:
            yield file
        return
    temporary = path.with_name(TEMPORARY.format(name=path.name, process=os.getpid()))
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # A full disk does not say which file it could not take.
        raise
    if os.name == "posix":  # The new name is on the disk only when its folder is. (Windows opens no folders.)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_unfinished(folder: str | os.PathLike, name: str | None = None) -> None:
    """
    Remove what a killed process left of the file of that name in a folder, or of all its files, which it was writing.
    Call it only while no other process writes them.
    """
    for path in Path(folder).glob(TEMPORARY.format(name="*" if name is None else glob.escape(name), process="*")):
        path.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write a file of text that is there whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode(errors="replace"))  # the name of a file may hold what is no text


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file that is there whole or not at all. A value that JSON does not know is written as its text."""
    write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", path)


def read_json(path: Path) -> dict[str, Any]:
    """
    What [`write_json`] wrote.

    Raises:
        ValueError: for a file that is damaged, which the message names.
        OSError: for a file that cannot be read.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: expected a JSON object ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object, got {type(content).__name__}.")
    return content
