"""What the published archives share: a file of text for each split, lists of crops, and folders of pictures."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import datasets

from processing.data.own.text_tables import text_lines, without_line_end
from processing.data.plain_pickles import load_plain_pickle
from processing.jobs.digests import digest, files_digest
from processing.problems import Problem
from processing.rows.loading_report import LoadingReport, SkippedRow
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
    """The crops that a `.pth` file of an archive lists, none where there is no such file."""
    if not os.path.isfile(path):
        return {}
    expected = "expected a dict of str (or row numbers) to list of str, as torch.save writes it"
    crop_names = load_plain_pickle(path, expected)
    if not isinstance(crop_names, dict):
        raise ValueError(f"{path}: {expected}, got {type(crop_names).__name__}.")
    checked: set[int] = set()  # A list may be that of many images.
    for key, names in crop_names.items():
        if id(names) in checked and isinstance(key, str | int):
            continue
        is_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not (isinstance(key, str | int) and is_names):
            of = f"{key!r:.80}: " if isinstance(key, str | int) else f"a {type(key).__name__} as a key: "
            raise ValueError(f"{path}: {expected}, got {of}{_kind(names)}.")
        checked.add(id(names))
    return crop_names


def _kind(value: Any) -> str:
    """What a value is. What is in a file of somebody else may have no end, and is not shown."""
    others = [type(item).__name__ for item in value if not isinstance(item, str)] if isinstance(value, list) else []
    return f"a list with {others[0]}" if others else type(value).__name__


def read_lines(path: str) -> Iterator[tuple[str, str | Problem]]:
    """The place of each line, as file:line, and the line without its end, or what keeps it from being text."""
    for number, line in text_lines(path):
        yield f"{os.path.basename(path)}:{number}", line if isinstance(line, Problem) else without_line_end(line)


class ArchiveRow(NamedTuple):
    """A row of an archive's text: `image_name` is a file, the `columns` are tokens and their labels as ids."""

    image_id: str
    image_name: str
    columns: dict[str, Any]


class Layout(NamedTuple):
    """
    Where in an archive lies what: paths in which `{name}` is the archive's name, `{short}` the same without its `20`,
    and `{val}`, `{valid}` or `{dev}` the name of the split. Of several paths of a file the first that is there counts.
    The folders of pictures may lie beside the archive's folder instead of in it.
    """

    text: tuple[str, ...]  # the rows of a split
    images: str  # the folder of all images
    image_folders: tuple[str, ...]  # where an image of a split is looked for, in this order
    aux_names: tuple[str, ...]  # the list of a split's aux crops, by image or by the number of the row
    aux_folder: str  # the folder to which their names are relative
    rcnn_names: tuple[str, ...]  # the list of a split's rcnn crops, by the name of the image up to its first dot
    rcnn_folder: str  # the folder of all rcnn crops; their names are relative to the archive's folder
    others: tuple[tuple[str, ...], ...] = ()  # files that decide over the rows too, each by its paths


class Archive(NamedTuple):
    """A published archive in a folder: its `root`, the name of the data set, and where in it lies what."""

    root: str
    name: str
    layout: Layout

    def path(self, pattern: str, split: str = "train") -> str:
        names = {"name": self.name, "short": self.name.replace("20", "", 1), **SPLIT_NAMES[split]}
        return os.path.join(self.root, *pattern.format(**names).split("/"))

    def folder(self, pattern: str, split: str = "train") -> str:
        """A folder of pictures: in the archive, or beside it where only there its first part is."""
        beside = self._replace(root=os.path.dirname(self.root))
        first = pattern.split("/")[0]
        is_beside = os.path.isdir(beside.path(first)) and not os.path.isdir(self.path(first))
        return (beside if is_beside else self).path(pattern, split)

    def file(self, patterns: tuple[str, ...], split: str = "train") -> str:
        """The first of the files that is there, else the first one."""
        places = [self.path(pattern, split) for pattern in patterns]
        return next(filter(os.path.isfile, places), places[0])

    def texts(self) -> dict[str, str]:
        """The text file of each split, whether it is there or not."""
        return {split: self.file(self.layout.text, split) for split in SPLIT_NAMES}

    def splits(self) -> list[str]:
        """The splits whose texts are there."""
        return [split for split, path in self.texts().items() if os.path.isfile(path)]

    def lists(self) -> dict[str, str]:
        """The lists of crops of these, and the kind of each."""
        kinds = {"aux": self.layout.aux_names, "rcnn": self.layout.rcnn_names}
        return {self.file(patterns, split): kind for kind, patterns in kinds.items() for split in self.splits()}

    def notes(self) -> list[str]:
        """What the archive lacks as a whole, so that no row can have it. Data-set cards publish the notes."""
        lists, images = self.lists(), self.folder(self.layout.images)
        notes = [
            f"There is no {split} split, for there is no {os.path.relpath(path, self.root)}."
            for split, path in self.texts().items()
            if split not in self.splits()
        ]
        no_lists = [
            f"There is no list of {kind} crops at {os.path.relpath(path, self.root)}, so that its split has none."
            for path, kind in lists.items()
            if not os.path.isfile(path)
        ]
        if os.path.isdir(images):
            return [*notes, *no_lists]
        absent = f"There is no images folder at {os.path.relpath(images, self.root)}, so that no row has a picture"
        return [*notes, *([f"{absent} or a crop."] if len(no_lists) == len(lists) else [f"{absent}.", *no_lists])]

    def digest(self) -> str:
        """Changes with the text, the lists of crops and the listing of the pictures."""
        layout = self.layout
        folders = [layout.images, layout.aux_folder.split("/")[0], layout.rcnn_folder]
        files = [*self.texts().values(), *self.lists(), *map(self.file, layout.others)]
        places = [self.folder(folder) for folder in folders]
        # The rows have the paths of the pictures, which are others beside the archive's folder.
        return digest(files_digest(files, places), [os.path.relpath(place, self.root) for place in places])


class ArchiveBuilder(ReportingBuilder):
    """
    Base of the builders of published archives, which say where in an archive lies what, and how its text is read.

    A picture that is absent, and with `verify_pictures` one that cannot be decoded, is None, or not in its list. It is
    in the `report`, and so is a row that cannot be used. The others keep their numbers.

    Args:
        config_name: the name of the data set.
        data_dir: the folder of the archive, or the one that holds it under its name.
        kwargs: see [`ReportingBuilder`].
    """

    BUILDER_CONFIG_CLASS = ReportingBuilderConfig
    LAYOUT: ClassVar[Layout]
    FOUND_ELSEWHERE = (
        "Put the folders of pictures into the archive's folder or beside it, or move away the lists that name crops."
    )

    def __init__(self, *, config_name: str | None = None, data_dir: str | os.PathLike | None = None, **kwargs: Any):
        names = tuple(self.builder_configs)
        if config_name is None and len(names) == 1:
            config_name = names[0]
        # With a data_dir and no name, datasets would make up a configuration.
        if config_name is None or config_name not in names:
            raise ValueError(f"config_name must be one of {names}, got {config_name!r}.")
        archive = self._find(config_name, data_dir)
        super().__init__(content=archive.digest(), config_name=config_name, data_dir=archive.root, **kwargs)

    def _find(self, name: str, data_dir: str | os.PathLike | None) -> Archive:
        """The archive at `data_dir`, which is its folder or holds it under its name."""
        texts = ", ".join(map(os.path.basename, Archive("", name, self.LAYOUT).texts().values()))
        if data_dir is None:
            raise ValueError(
                f"data_dir is needed: nothing is downloaded. Pass the folder of the {name} archive, the one with "
                f"{texts}, or the folder that holds it."
            )
        found = []
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        for root in (data_dir, os.path.join(data_dir, name)):
            # One folder, one cache, however its path is written.
            archive = Archive(os.path.realpath(root), name, self.LAYOUT)
            entries = sorted(os.listdir(root)) if os.path.isdir(root) else None
            if "train" in archive.splits():
                marks = {entry.split("_")[0] for entry in entries or ()} | {os.path.basename(archive.root)}
                for other in self.builder_configs:
                    if other in marks and name not in marks:
                        raise ValueError(
                            f"{archive.root} holds {other}, not {name}: pass config_name={other!r}, or data_dir=the "
                            f"folder of {name}."
                        )
                return archive
            listing = "is no folder" if entries is None else f"holds {', '.join(entries[:20]) or 'nothing'}"
            found.append(f"{root} {listing}{', ...' if entries and len(entries) > 20 else ''}")
        raise FileNotFoundError(
            f"No {name} archive at data_dir={data_dir!r}: looked for {texts} in the folder and in "
            f"{name}/ below it; {'; '.join(found)}. Pass the folder that holds these files."
        )

    @abstractmethod
    def row_features(self) -> datasets.Features:
        """The columns of the rows."""

    @abstractmethod
    def read_rows(self, path: str) -> Iterator[ArchiveRow | SkippedRow]:
        """The rows of a text file, and those that cannot be used."""

    def _usable_rows(self, path: str) -> tuple[ArchiveRow | SkippedRow, ...]:
        rows = tuple(self.read_rows(path))
        skipped = [row for row in rows if isinstance(row, SkippedRow)]
        if len(skipped) == len(rows):
            first = "".join(f"\n{row.where}: {row.problem}" for row in skipped[:5])
            listing = f"none of its {len(rows)} rows can be used:{first}" if rows else "it holds no rows."
            raise ValueError(f"{path}: {listing}")
        return rows

    @property
    def archive(self) -> Archive:
        """The archive that is read."""
        return Archive(self.config.data_dir, self.config.name, self.LAYOUT)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.config.description, features=self.row_features())

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
                    "rows": self._usable_rows(archive.file(layout.text, split)),
                    "aux_names": read_crop_names(archive.file(layout.aux_names, split)),
                    "rcnn_names": read_crop_names(archive.file(layout.rcnn_names, split)),
                },
            )
            for split in archive.splits()
        ]

    def _generate_examples(
        self, split: str, rows: tuple[ArchiveRow | SkippedRow, ...], aux_names: CropNames, rcnn_names: CropNames
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        archive, layout = self.archive, self.LAYOUT
        paths = (layout.images, layout.aux_folder, layout.rcnn_folder)
        images, aux_folder, rcnn_folder = (archive.folder(path, split) for path in paths)
        folders = {
            "image": PictureFolder(images, images),
            "aux_crops": PictureFolder(aux_folder, aux_folder),
            "rcnn_crops": PictureFolder(os.path.dirname(rcnn_folder), rcnn_folder),
        }
        reader = self._start_split(split, archive.root, folders)
        has_images = os.path.isdir(images)
        # An image may lie in the folder of another split; its name is given relative to the folder of all images.
        bases = [os.path.relpath(archive.folder(path, split), images) for path in layout.image_folders]
        for index, row in enumerate(rows):
            if isinstance(row, SkippedRow):
                reader.report.skipped.append(row)
                reader.report.counts["rows_skipped"] += 1
                continue
            image_id, name, columns = row
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
