"""Checksums of the files of a folder, which later tell whether the files are still what was written."""

import json
from collections.abc import Iterator
from pathlib import Path

from .atomic_files import write_json
from .digests import file_digest


CHECKSUMS = "checksums.json"  # for each file, by its name below the folder, the SHA-256 of its content


def write_checksums(folder: Path) -> None:
    """
    Write the checksums of all files of a folder into it.

    Raises:
        OSError: where a file cannot be read or the checksums cannot be written.
    """
    write_json({path.relative_to(folder).as_posix(): file_digest(path) for path in _files(folder)}, folder / CHECKSUMS)


def damaged_files(folder: Path) -> list[str]:
    """
    The names of the files that are gone, or hold something else than when [`write_checksums`] saw them. A folder
    without checksums has none: nothing is known of its files.
    """
    try:
        checksums = json.loads((folder / CHECKSUMS).read_bytes())
        return [name for name, checksum in checksums.items() if _checksum(folder / name) != checksum]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError):
        return [CHECKSUMS]


def _checksum(path: Path) -> str | None:
    try:
        return file_digest(path)
    except FileNotFoundError:
        return None


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != CHECKSUMS)
