import json
from pathlib import Path

import pytest
from PIL import Image

from processing.data.own.file_mner import FileMNER


@pytest.fixture
def write(tmp_path):
    """Content to a file, and its rows."""

    def write(content, name):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    return write


def write_json_lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="session")
def write_rows():
    """Rows, or lines as they are, to a file of JSON lines."""
    return write_json_lines


class Folder:
    """A folder of JSON lines and a cache beside it."""

    def __init__(self, place: Path):
        self.root, self.cache = place / "mine", place / "cache"

    def write(self, split: str = "train", *rows) -> "Folder":
        write_json_lines(self.root / f"{split}.jsonl", rows)
        return self

    def save_picture(self, name: str | Path, colour: int = 0) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (colour, 0, 0)).save(path, "PNG")

    def builder(self, **kwargs) -> FileMNER:
        return FileMNER(**{"data_dir": self.root, "cache_dir": str(self.cache), **kwargs})

    def prepare(self, **kwargs):
        builder = self.builder(**kwargs)
        builder.download_and_prepare()
        return builder.as_dataset(), builder.report


@pytest.fixture
def folder(tmp_path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="session")
def tags_of():
    """The tags of each row by name."""

    def tags(dataset) -> list[list[str]]:
        names = dataset.features["ner_tags"].feature.names
        return [[names[tag] for tag in row] for row in dataset["ner_tags"]]

    return tags
