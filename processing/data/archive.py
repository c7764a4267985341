"""What the published archives share: a text file for each split, lists of crops, and folders of pictures."""

import os
import pickle
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import datasets

from processing.jobs.digests import code_digest, digest, files_digest
from processing.rows.loading_report import LoadingReport
from processing.rows.picture_files import PictureFolder, PictureReader
from processing.rows.reporting_builder import ReportingBuilder, ReportingBuilderConfig


CropNames = dict[str | int, list[str]]  # of an image (MNRE's aux crops: of a row's number)


def read_crop_names(path: str) -> CropNames:
    """
    A `.pth` file of the published archives: a pickled dict from an image, or from a row's number, to the names of its
    crops. No code in it is run.

    Raises:
        ValueError: for a file that holds anything else.
    """
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


class ArchiveSplit(NamedTuple):
    """All that the archive says of one split; pictures are named, not yet looked for."""

    rows: tuple[ArchiveRow, ...]
    image_folders: tuple[str, ...]
    aux_folder: PictureFolder
    aux_names: CropNames
    rcnn_folder: PictureFolder
    rcnn_names: CropNames

    def image_folder(self, name: str) -> PictureFolder:
        """The first of the folders that has the picture, else the split's own."""
        folders = [PictureFolder(folder, folder) for folder in self.image_folders]
        return next((folder for folder in folders if os.path.isfile(folder.find(name) or "")), folders[0])


@dataclass(frozen=True)
class Archive(ABC):
    """
    The layout of a published archive: where in its folder lies what.

    Args:
        root: the folder.
        name: the name of the data set.
    """

    root: str
    name: str

    # Of each split its name in the names of files and folders.
    SPLIT_NAMES: ClassVar = {"train": "train", "validation": "val", "test": "test"}

    @classmethod
    def find(cls, data_dir: str | os.PathLike, name: str) -> "Archive":
        """
        The archive at `data_dir`, which is its folder or holds it under its name.

        Raises:
            FileNotFoundError: where the text files are not there.
        """
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        found = []
        for root in (data_dir, os.path.join(data_dir, name)):
            archive = cls(os.path.realpath(root), name)  # One folder, one cache, however its path is written.
            text_files = [archive.text_file(split) for split in cls.SPLIT_NAMES]
            if all(map(os.path.isfile, text_files)):
                return archive
            entries = sorted(os.listdir(root)) if os.path.isdir(root) else None
            listing = "is no folder" if entries is None else f"holds {', '.join(entries[:20]) or 'nothing'}"
            found.append(f"{root} {listing}{', ...' if entries and len(entries) > 20 else ''}")
        raise FileNotFoundError(
            f"No {name} archive at data_dir={data_dir!r}: looked for {', '.join(map(os.path.basename, text_files))} "
            f"in the folder and in {name}/ below it; {'; '.join(found)}. Pass the folder that holds the three files."
        )

    def path(self, *names: str) -> str:
        """A path below the folder."""
        return os.path.join(self.root, *names)

    def first_file(self, *paths: str) -> str:
        """The first of the paths below the folder that is there, else the first one."""
        places = [self.path(path) for path in paths]
        return next((place for place in places if os.path.isfile(place)), places[0])

    @abstractmethod
    def features(self) -> datasets.Features:
        """The columns of its rows."""

    @abstractmethod
    def rows(self, split: str) -> Iterator[ArchiveRow]:
        """
        Raises:
            ValueError: with file and line, for a text file with anything unexpected in it.
        """

    @abstractmethod
    def text_file(self, split: str) -> str:
        """The file of its rows."""

    @property
    @abstractmethod
    def images(self) -> str:
        """The folder of all images."""

    @abstractmethod
    def image_folders(self, split: str) -> list[str]:
        """Where the images of a split are looked for, in this order."""

    @abstractmethod
    def aux_folder(self, split: str) -> str:
        """The folder of its aux crops, to which their names are relative."""

    @abstractmethod
    def aux_names_file(self, split: str) -> str:
        """The list of its aux crops, by the name of the image or the number of the row."""

    @property
    @abstractmethod
    def rcnn_folder(self) -> str:
        """The folder of all rcnn crops; their names are relative to the archive's folder."""

    @abstractmethod
    def rcnn_names_file(self, split: str) -> str:
        """The list of its rcnn crops, by the name of the image up to its first dot."""

    def _lists(self) -> dict[str, list[str]]:
        """The lists of crops of each kind."""
        readers = {"aux": self.aux_names_file, "rcnn": self.rcnn_names_file}
        return {kind: list(dict.fromkeys(map(read, self.SPLIT_NAMES))) for kind, read in readers.items()}

    def notes(self) -> list[str]:
        """What the archive lacks as a whole, so that no row can have it."""
        lists = [(kind, path) for kind, paths in self._lists().items() for path in paths]
        absent = [(kind, path) for kind, path in lists if not os.path.isfile(path)]
        notes = []
        if not os.path.isdir(self.images):
            # Relative to the root: a data-set card publishes the notes.
            place = f"no images folder found at {os.path.relpath(self.images, self.root)}"
            if absent == lists:
                return [f"{place}: text only"]
            notes = [f"{place}: no row has its image"]
        for kind, path in absent:
            place = f"no list of {kind} crops found at {os.path.relpath(path, self.root)}"
            notes.append(f"{place}: none of the rows that it is for has any")
        return notes

    def read(self, split: str) -> ArchiveSplit:
        """
        Raises:
            ValueError: for a text file or a list of crops with anything unexpected in it.
        """
        aux_folder = self.aux_folder(split)
        aux_names, rcnn_names = self.aux_names_file(split), self.rcnn_names_file(split)
        return ArchiveSplit(
            rows=tuple(self.rows(split)),
            image_folders=tuple(filter(os.path.isdir, self.image_folders(split))),
            aux_folder=PictureFolder(aux_folder, aux_folder),
            aux_names=read_crop_names(aux_names) if os.path.isfile(aux_names) else {},
            rcnn_folder=PictureFolder(self.root, self.rcnn_folder),
            rcnn_names=read_crop_names(rcnn_names) if os.path.isfile(rcnn_names) else {},
        )

    def digest_files(self) -> list[str]:
        """The files whose content decides over the rows."""
        return [*map(self.text_file, self.SPLIT_NAMES), *(path for paths in self._lists().values() for path in paths)]

    def digest(self) -> str:
        """Changes with the text, the lists of crops and the listing of the pictures."""
        folders = [self.images, *map(self.aux_folder, self.SPLIT_NAMES), self.rcnn_folder]
        return files_digest(self.digest_files(), folders, self.root)


class ArchiveBuilder(ReportingBuilder):
    """
    Base of the builders of published archives, which say where in an archive lies what.

    Every picture is decoded once while preparing. What is absent or unreadable is None, or not in its list, and is in
    the `report`.
    """

    BUILDER_CONFIG_CLASS = ReportingBuilderConfig
    ARCHIVE: ClassVar[type[Archive]]

    def __init__(
        self,
        cache_dir: str | None = None,
        dataset_name: str | None = None,
        config_name: str | None = None,
        hash: str | None = None,
        *,
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
            text_files = (self.ARCHIVE("", config_name).text_file(split) for split in self.ARCHIVE.SPLIT_NAMES)
            raise ValueError(
                f"data_dir is needed: nothing is downloaded. Pass the folder of the {config_name} archive, the one "
                f"with {', '.join(map(os.path.basename, text_files))}, or the folder that holds it."
            )
        archive = self.ARCHIVE.find(data_dir, config_name)
        super().__init__(
            cache_dir=cache_dir,
            dataset_name=dataset_name,
            config_name=config_name,
            hash=hash or digest(code_digest(type(self)), archive.digest()),
            data_dir=archive.root,
            **kwargs,
        )

    @property
    def _archive(self) -> Archive:
        return self.ARCHIVE(self.config.data_dir, self.config.name)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.config.description, features=self._archive.features())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archive = self._archive
        self._report = LoadingReport(notes=archive.notes())
        # Read here, since datasets wraps what _generate_examples raises and hides file and line in the cause. The
        # source is no list: of lists, datasets makes shards.
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "source": archive.read(split)})
            for split in archive.SPLIT_NAMES
        ]

    def _generate_examples(self, split: str, source: ArchiveSplit) -> Iterator[tuple[str, dict[str, Any]]]:
        reader = PictureReader(self.config.data_dir, self._start_split(split))
        for index, (image_id, image_name, columns) in enumerate(source.rows):
            row_id = f"{split}-{index}"
            image = None
            if source.image_folders:
                image = reader.file(row_id, "images", source.image_folder(image_name), image_name)
            aux_names = source.aux_names.get(index, source.aux_names.get(image_name, []))
            rcnn_names = source.rcnn_names.get(image_name.split(".")[0], [])
            row = {
                "id": row_id,
                "image_id": image_id,
                **columns,
                "image": image,
                "aux_crops": reader.crops(row_id, source.aux_folder, aux_names, self.config.num_aux_crops),
                "rcnn_crops": reader.crops(row_id, source.rcnn_folder, rcnn_names, self.config.num_rcnn_crops),
            }
            reader.count(row)
            yield row_id, row
