"""A small archive as those of Twitter-2015 and Twitter-2017, and a folder of files of one's own."""

import json
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image

from processing.data.own.file_mner import FileMNER
from processing.data.twitter_mner import TwitterMNER
from processing.rows.loading_report import LoadingReport


class TwitterFiles:
    """The files of one year in a folder: one sentence a split, with its image and one crop of each kind."""

    def __init__(self, root: Path, name: str = "twitter2017"):
        self.root, self.name, self.short = root, name, name.replace("20", "", 1)
        root.mkdir(parents=True)
        self.rcnn = {}
        for colour, (text_file, split) in enumerate((("train", "train"), ("valid", "val"), ("test", "test"))):
            self.write(text_file, self.sentence(f"{split}_1"))
            self.save_picture(self.image(f"{split}_1"), colour)
            self.save_picture(self.aux_crops(split) / f"{split}_1_aux.png", 100 + colour)
            self.save(f"{name}_{split}_dict.pth", {f"{split}_1.jpg": [f"{split}_1_aux.png"]})
            self.rcnn[f"{split}_1"] = [f"{self.short}_detect/{split}/crops/{split}_1_0.jpg"]
            self.save_picture(root / self.rcnn[f"{split}_1"][0], 200 + colour)
        self.save_rcnn()

    def write(self, text_file: str, *sentences: str) -> None:
        (self.root / f"{text_file}.txt").write_text("\n".join(sentences), encoding="utf-8", newline="\n")

    def image(self, image_id: str) -> Path:
        return self.root / f"{self.name}_images" / f"{image_id}.jpg"

    def aux_crops(self, split: str) -> Path:
        return self.root / f"{self.name}_aux_images" / split / "crops"

    def save(self, name: str, value) -> None:
        torch.save(value, self.root / name)

    def save_rcnn(self) -> None:
        self.save(f"{self.short}_detect/{self.short}_img2crop.pth", self.rcnn)

    def builder(self, **kwargs) -> TwitterMNER:
        options = {"config_name": self.name, "data_dir": self.root, "cache_dir": self.root.parent / "cache"}
        return TwitterMNER(**{**options, **kwargs})

    def prepare(self, **kwargs) -> tuple[datasets.DatasetDict, LoadingReport]:
        builder = self.builder(**kwargs)
        builder.download_and_prepare()
        return builder.as_dataset(), builder.report

    @staticmethod
    def reds(row: dict) -> tuple:
        """The colours that tell the pictures apart."""
        aux_crops, rcnn_crops = (
            [crop.getpixel((0, 0))[0] for crop in row[kind]] for kind in ("aux_crops", "rcnn_crops")
        )
        return row["image"] and row["image"].getpixel((0, 0))[0], aux_crops, rcnn_crops

    @staticmethod
    def counts(report: LoadingReport, split: str = "train") -> dict[str, int]:
        """The counts that are not zero."""
        return {name: count for name, count in report.splits[split].counts.items() if count}

    @staticmethod
    def sentence(image_id: str, *lines: str) -> str:
        return "\n".join([f"IMGID:{image_id}", *(lines or ["Paris\tB-LOC", "!\tO"]), ""])

    @staticmethod
    def save_picture(path: Path, colour: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (colour, 0, 0)).save(path, "PNG")


@pytest.fixture
def archive(tmp_path) -> TwitterFiles:
    return TwitterFiles(tmp_path / "twitter2017")


@pytest.fixture
def make_archive():
    """`make_archive(folder, name)` -> the files of another archive."""
    return TwitterFiles


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
