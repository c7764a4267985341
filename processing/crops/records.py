"""What the processes of one crop preparation have to tell each other and a later run, as JSON lines on the disk."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from processing.detectors import DetectedObject


class Records:
    """
    JSON lines that survive a kill: each is appended whole and flushed to the disk; processes write files of their own
    and read all. A last line that a kill cut off is passed over.
    """

    def __init__(self, folder: Path, process: int) -> None:
        self.path = folder / f"rank-{process}.jsonl"

    def append(self, record: Any) -> None:
        """
        Raises:
            OSError: where it cannot be written; earlier records stay.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # cut off by a kill
                    file.write(b"\n")
            file.write(json.dumps(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    @staticmethod
    def read(folder: Path) -> Iterator[Any]:
        """The records of all processes; none where the folder is absent."""
        for path in sorted(folder.glob("rank-*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def recorded_objects(folder: Path) -> tuple[dict[str, list[DetectedObject]], dict[str, str]]:
    """What was found, by task, and why the pictures of other tasks could not be read."""
    found: dict[str, list[DetectedObject]] = {}
    unreadable: dict[str, str] = {}
    for batch in Records.read(folder):
        for key, objects, reason in batch:
            if objects is None:
                unreadable[key] = reason
            else:
                found[key] = [DetectedObject(label, score, tuple(box)) for label, score, box in objects]
    return found, {key: reason for key, reason in unreadable.items() if key not in found}
