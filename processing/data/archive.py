"""What the published archives share: a file of text for each split, lists of crops, and folders of pictures."""

import os
import pickle
import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import datasets

from processing.jobs.digests import code_digest, digest, files_digest
from processing.rows.loading_report import LoadingReport
from processing.rows.picture_files import PictureFolder
from processing.rows.reporting_builder import ReportingBuilder, ReportingBuilderConfig


# Of each split the names that it has in the names of files: one of the three in each pattern of a layout.
SPLIT_NAMES = {
    "train": {"val": "train", "valid": "train", "dev": "train"},
    "validation": {"val": "val", "valid": "valid", "dev": "dev"},
    "test": {"val": "test", "valid": "test", "dev": "test"},
}

# The names of the crops of each image, or of each row by its number.
CropNames = dict[str | int, list[str]]


def read_crop_names(path: str) -> CropNames:
    """
    A `.pth` file of the published archives: a pickled dict from an image, or from a row's number, to the names of its
    crops; empty where there is no such file. No code in it is run.

    Raises:
        ValueError: for a file that holds anything else.
    """
    if not os.path.isfile(path):
        return {}
    import torch  # Reading text, or prepared data, need not wait for it.

    expected = "expected a dict of str (or row numbers) to list of str, as torch.save writes it"
    try:
        crop_names = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own message advises to load the file all the same, hence `from None`.
        code = re.search(r"GLOBAL (\S+)", str(error))
        problem = f"loading it would run code ({code[1]})" if code else "it is no pickle of plain data, or damaged"
        raise ValueError(f"{path} was not loaded, because {problem}; {expected}.") from None
    except OSError:
        raise
    except Exception as error:  # Torch checks little before it unpacks: damage comes as nearly every kind of error.
        raise ValueError(f"{path} was not loaded, because it is damaged or cut off; {expected}.") from error
    if not isinstance(crop_names, dict):
        raise ValueError(f"{path}: {expected}, got {type(crop_names).__name__}.")
    for key, names in crop_names.items():
        is_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (isinstance(key, str | int) and is_names):
            raise ValueError(f"{path}: {expected}, got {key!r}: {names!r:.200}.")
    return crop_names


def decoded(line: bytes, where: str, encoding: str = "utf-8") -> str:
    """
    Raises:
        ValueError: with the place, for what is no UTF-8.
    """
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise ValueError(f"{where}: expected UTF-8, got byte 0x{byte:02x}; save the file as UTF-8.") from error


class ArchiveRow(NamedTuple):
    """
    A row of an archive's text.

    Attributes:
        image_name: the file name of its picture.
        columns: tokens and what is to be found in them, labels as ids.
    """

    image_id: str
    image_name: str
    columns: dict[str, Any]


class Layout(NamedTuple):
    """
    Where in an archive lies what: paths in which `{name}` is the archive's name, `{short}` the same without its `20`,
    and `{val}`, `{valid}` or `{dev}` the name of the split. Of several paths of a file the first that is there counts.

    Attributes:
        text: the rows of a split.
        images: the folder of all images.
        image_folders: where an image of a split is looked for, in this order.
        aux_names: the list of a split's aux crops, by image or by the number of the row.
        aux_folder: the folder to which their names are relative.
        rcnn_names: the list of a split's rcnn crops, by the name of the image up to its first dot.
        rcnn_folder: the folder of all rcnn crops; their names are relative to the archive's folder.
        others: files that decide over the rows too, each by its paths.
    """

    text: tuple[str, ...]
    images: str
    image_folders: tuple[str, ...]
    aux_names: tuple[str, ...]
    aux_folder: str
    rcnn_names: tuple[str, ...]
    rcnn_folder: str
    others: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Archive:
    """A published archive in a folder: its `root`, the name of the data set, and where in it lies what."""

    root: str
    name: str
    layout: Layout

    @classmethod
    def find(cls, data_dir: str | os.PathLike, name: str, layout: Layout) -> "Archive":
        """
        The archive at `data_dir`, which is its folder or holds it under its name.

        Raises:
            FileNotFoundError: where the text files are not there.
        """
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        found = []
        for root in (data_dir, os.path.join(data_dir, name)):
            archive = cls(os.path.realpath(root), name, layout)  # One folder, one cache, however its path is written.
            if all(os.path.isfile(archive.file(layout.text, split)) for split in SPLIT_NAMES):
                return archive
            entries = sorted(os.listdir(root)) if os.path.isdir(root) else None
            listing = "is no folder" if entries is None else f"holds {', '.join(entries[:20]) or 'nothing'}"
            found.append(f"{root} {listing}{', ...' if entries and len(entries) > 20 else ''}")
        raise FileNotFoundError(
            f"No {name} archive at data_dir={data_dir!r}: looked for {archive.text_names()} in the folder and in "
            f"{name}/ below it; {'; '.join(found)}. Pass the folder that holds the three files."
        )

    def path(self, pattern: str, split: str = "train") -> str:
        """The path for one of the layout's patterns."""
        names = {"name": self.name, "short": self.name.replace("20", "", 1), **SPLIT_NAMES[split]}
        return os.path.join(self.root, *pattern.format(**names).split("/"))

    def file(self, patterns: tuple[str, ...], split: str = "train") -> str:
        """The first of the files that is there, else the first one."""
        places = [self.path(pattern, split) for pattern in patterns]
        return next((place for place in places if os.path.isfile(place)), places[0])

    def text_names(self) -> str:
        """The names of the text files, to be shown."""
        return ", ".join(os.path.basename(self.path(self.layout.text[0], split)) for split in SPLIT_NAMES)

    def lists(self) -> dict[str, str]:
        """The lists of crops, and the kind of each."""
        kinds = {"aux": self.layout.aux_names, "rcnn": self.layout.rcnn_names}
        return {self.file(patterns, split): kind for kind, patterns in kinds.items() for split in SPLIT_NAMES}

    def notes(self) -> list[str]:
        """What the archive lacks as a whole, so that no row can have it."""
        lists, notes = self.lists(), []
        absent = {path: kind for path, kind in lists.items() if not os.path.isfile(path)}
        images = self.path(self.layout.images)
        # Paths relative to the root: a data-set card publishes the notes.
        if not os.path.isdir(images):
            place = f"no images folder found at {os.path.relpath(images, self.root)}"
            if absent == lists:
                return [f"{place}: text only"]
            notes = [f"{place}: no row has its image"]
        for path, kind in absent.items():
            place = f"no list of {kind} crops found at {os.path.relpath(path, self.root)}"
            notes.append(f"{place}: no row that it would be for has any")
        return notes

    def digest(self) -> str:
        """Changes with the text, the lists of crops and the listing of the pictures."""
        layout = self.layout
        files = [self.file(layout.text, split) for split in SPLIT_NAMES]
        files += [*self.lists(), *map(self.file, layout.others)]
        folders = [layout.images, layout.aux_folder.split("/")[0], layout.rcnn_folder]
        return files_digest(files, [self.path(folder) for folder in folders])


class ArchiveBuilder(ReportingBuilder):
    """
    Base of the builders of published archives, which say where in an archive lies what, and how its text is read.

    Every picture is decoded once while preparing. What is absent or unreadable is None, or not in its list, and is in
    the `report`.

    Args:
        config_name: the name of the data set.
        data_dir: the folder of the archive, or the one that holds it under its name.
        hash, kwargs: see [`ReportingBuilder`].

    Raises:
        ValueError: for no or an unknown `config_name`, no `data_dir`, or one of another data set.
        FileNotFoundError: for a `data_dir` without the text files.
    """

    BUILDER_CONFIG_CLASS = ReportingBuilderConfig
    LAYOUT: ClassVar[Layout]

    def __init__(
        self,
        *,
        config_name: str | None = None,
        hash: str | None = None,
        data_dir: str | os.PathLike | None = None,
        **kwargs: Any,
    ):
        names = tuple(self.builder_configs)
        if config_name is None and len(names) == 1:
            config_name = names[0]
        # With a data_dir and no name, datasets would make up a configuration.
        if config_name is None or config_name not in names:
            raise ValueError(f"config_name must be one of {names}, got {config_name!r}.")
        if data_dir is None:
            raise ValueError(
                f"data_dir is needed: nothing is downloaded. Pass the folder of the {config_name} archive, the one "
                f"with {Archive('', config_name, self.LAYOUT).text_names()}, or the folder that holds it."
            )
        archive = Archive.find(data_dir, config_name, self.LAYOUT)
        self.check_archive(archive)
        hash = hash or digest(code_digest(type(self)), archive.digest())
        super().__init__(config_name=config_name, hash=hash, data_dir=archive.root, **kwargs)

    def check_archive(self, archive: Archive) -> None:
        """
        Raises:
            ValueError: for the archive of another data set.
        """

    @abstractmethod
    def features_of(self, archive: Archive) -> datasets.Features:
        """The columns of its rows."""

    @abstractmethod
    def rows_of(self, archive: Archive, path: str) -> Iterator[ArchiveRow]:
        """
        The rows of a text file.

        Raises:
            ValueError: with file and line, for anything unexpected in it.
        """

    @property
    def archive(self) -> Archive:
        """The archive that is read."""
        return Archive(self.config.data_dir, self.config.name, self.LAYOUT)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.config.description, features=self.features_of(self.archive))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archive, layout = self.archive, self.LAYOUT
        self._report = LoadingReport(notes=archive.notes())
        # All is read here, since datasets wraps what _generate_examples raises and hides file and line in the cause.
        # The rows are no list: of lists, datasets makes shards.
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={
                    "split": split,
                    "rows": tuple(self.rows_of(archive, archive.file(layout.text, split))),
                    "aux_names": read_crop_names(archive.file(layout.aux_names, split)),
                    "rcnn_names": read_crop_names(archive.file(layout.rcnn_names, split)),
                },
            )
            for split in SPLIT_NAMES
        ]

    def _generate_examples(
        self, split: str, rows: tuple[ArchiveRow, ...], aux_names: CropNames, rcnn_names: CropNames
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        archive, layout = self.archive, self.LAYOUT
        paths = (layout.images, layout.aux_folder, layout.rcnn_folder)
        images, aux_folder, rcnn_folder = (archive.path(path, split) for path in paths)
        folders = {
            "image": PictureFolder(images, images),
            "aux_crops": PictureFolder(aux_folder, aux_folder),
            "rcnn_crops": PictureFolder(archive.root, rcnn_folder),
        }
        reader = self._start_split(split, archive.root, folders)
        has_images = os.path.isdir(images)
        # An image may lie in the folder of another split; its name is given relative to the folder of all images.
        bases = [os.path.relpath(archive.path(path, split), images) for path in layout.image_folders]
        for index, (image_id, name, columns) in enumerate(rows):
            row_id = f"{split}-{index}"
            places = [os.path.normpath(os.path.join(base, name)) for base in bases]
            there = (place for place in places if os.path.isfile(os.path.join(images, place)))
            given = {
                "image": next(there, places[0]) if has_images else None,
                "aux_crops": aux_names.get(index, aux_names.get(name)),
                "rcnn_crops": rcnn_names.get(name.split(".")[0]),
            }
            pictures, _ = reader.read(row_id, given)
            yield row_id, {"id": row_id, "image_id": image_id, **columns, **pictures}
