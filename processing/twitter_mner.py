"""
Datasets builder for Twitter-2015, Twitter-2017 and archives laid out alike, with or without their pictures.

    builder = TwitterMNER(config_name="twitter2017", data_dir="data/twitter2017")
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    print(builder.report)
"""

import functools
import inspect
import json
import logging
import os
import pickle
import posixpath
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import datasets
import PIL
from datasets.fingerprint import Hasher

from .images import NO_SUCH_FILE, check_image
from .labels import TWITTER_TAGS, bio_tags
from .rows import ner_features


logger = logging.getLogger(__name__)

# Split -> its text file, and the split's name in the names of the other files.
SPLIT_FILES = {"train": ("train.txt", "train"), "validation": ("valid.txt", "val"), "test": ("test.txt", "test")}
REPORT_FILENAME = "loading_report.json"


class Sentence(NamedTuple):
    line: int
    image_id: str
    tokens: list[str]
    tags: list[str]


def read_sentences(path: str) -> Iterator[Sentence]:
    """
    The sentences of a text file: an `IMGID:<id>` line, then a `token<TAB>tag` line per token, then a blank line.

    Type OTHER is called MISC; the tags are else as they stand, strict IOB2 or not.

    Raises:
        ValueError: with file and line, for anything else in the file.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ValueError(f"{path}:{number}: expected UTF-8, got byte 0x{byte:02x}; save the file as UTF-8.") from error

    image_id: str | None = None
    start = 0
    tokens: list[str] = []
    tags: list[str] = []
    # Only "\n" ends a line: tokens hold characters at which str.splitlines() breaks and which str.strip() removes. The
    # empty line behind is for the last sentence of a file that does not end in a blank line.
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.removesuffix("\r")
        is_header = line.startswith("IMGID:") and "\t" not in line
        if image_id is not None and (is_header or not line):
            if not tokens:
                raise ValueError(
                    f"{path}:{start}: a sentence without tokens: expected 'token<TAB>tag' lines after "
                    f"'IMGID:{image_id}'. Add them, or remove the sentence."
                )
            yield Sentence(start, image_id, tokens, tags)
            image_id = None
        if is_header:
            image_id, start, tokens, tags = line.removeprefix("IMGID:").strip(), number, [], []
            if not image_id:
                raise ValueError(f"{path}:{number}: expected 'IMGID:<id>', got no id: {line!r}.")
        elif line:
            columns = line.split("\t")
            if len(columns) != 2 or not columns[0]:
                raise ValueError(f"{path}:{number}: expected 'token<TAB>tag', got {len(columns)} column(s): {line!r}.")
            if image_id is None:
                raise ValueError(
                    f"{path}:{number}: expected an 'IMGID:<id>' line, got token {columns[0]!r}: every sentence "
                    "starts with its own, and has no blank line inside."
                )
            token, tag = columns
            if tag in ("B-OTHER", "I-OTHER"):
                tag = tag.replace("OTHER", "MISC")
            if tag not in TWITTER_TAGS:
                raise ValueError(
                    f"{path}:{number}: unknown tag {tag!r} of token {token!r}; expected one of {TWITTER_TAGS}, "
                    "or OTHER for MISC."
                )
            tokens.append(token)
            tags.append(tag)


def read_crop_names(path: str) -> dict[str, list[str]]:
    """
    A `.pth` file of the archive: a pickled dict from an image to the names of its crops. No code in it is run.

    Raises:
        ValueError: for a file that holds anything else.
    """
    import torch  # Reading text, or prepared data, need not wait for it.

    expected = "expected a dict of str to list of str, as torch.save writes it"
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
        if not (isinstance(key, str) and isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise ValueError(f"{path}: {expected}, got {key!r}: {names!r:.200}.")
    return crop_names


class PictureFolder(NamedTuple):
    """Names in the archive's lists are relative to `base` and have to stay below `folder`."""

    base: str
    folder: str

    def find(self, name: str) -> str | None:
        """
        The path for a name, or None where it leads out of the folder.

        By name only: a link inside the folder was put there by whoever keeps the data, and is followed.
        """
        path = os.path.normpath(os.path.join(self.base, name))
        return path if path.startswith(self.folder + os.sep) else None


class SplitSource(NamedTuple):
    """All that the archive says of one split; pictures are named, not yet looked for."""

    sentences: tuple[Sentence, ...]
    images: PictureFolder | None
    aux_folder: PictureFolder
    aux_names: dict[str, list[str]]
    rcnn_folder: PictureFolder
    rcnn_names: dict[str, list[str]]


@dataclass(frozen=True)
class TwitterArchive:
    """
    The layout of one year of the published archive, `name` being `twitter2015` or `twitter2017`.

    | below `root` | holds |
    |---|---|
    | `train.txt`, `valid.txt`, `test.txt` | the sentences |
    | `<name>_images/<image id>.jpg` | the images |
    | `<name>_<split>_dict.pth` | `<image id>.jpg` -> names in `<name>_aux_images/<split>/crops/` |
    | `twitterYY_detect/twitterYY_img2crop.pth` | image id up to its first dot -> paths `twitterYY_detect/...` |

    All but the sentences may be absent.
    """

    root: str
    name: str

    @classmethod
    def find(cls, data_dir: str | os.PathLike, name: str, other_names: tuple[str, ...] = ()) -> "TwitterArchive":
        """
        The archive at `data_dir`, which is the year's folder or holds it.

        Raises:
            FileNotFoundError: where the text files are not there.
            ValueError: where the folder holds another year.
        """
        data_dir = os.path.abspath(os.path.expanduser(data_dir))
        text_files = [text_file for text_file, _ in SPLIT_FILES.values()]
        found = []
        for root in (data_dir, os.path.join(data_dir, name)):
            entries = sorted(os.listdir(root)) if os.path.isdir(root) else None
            if entries is not None and set(text_files) <= set(entries):
                break
            listing = "is no folder" if entries is None else f"holds {', '.join(entries[:20]) or 'nothing'}"
            found.append(f"{root} {listing}{', ...' if entries and len(entries) > 20 else ''}")
        else:
            raise FileNotFoundError(
                f"No {name} archive at data_dir={data_dir!r}: looked for {', '.join(text_files)} in the folder and in "
                f"{name}/ below it; {'; '.join(found)}. Pass the folder that holds the three files."
            )
        marks = {entry.split("_")[0] for entry in entries}
        for other in other_names:
            if name not in marks and (other in marks or os.path.basename(root) == other):
                raise ValueError(
                    f"{root} holds {other}, not {name}: pass config_name={other!r}, or data_dir=the folder of {name}."
                )
        return cls(os.path.realpath(root), name)  # One folder, one cache, however its path is written.

    def path(self, *names: str) -> str:
        return os.path.join(self.root, *names)

    @property
    def images(self) -> str:
        return self.path(f"{self.name}_images")

    @property
    def aux_images(self) -> str:
        return self.path(f"{self.name}_aux_images")

    @property
    def detect(self) -> str:
        return self.path(f"{self.name.replace('20', '', 1)}_detect")

    def aux_names_file(self, split: str) -> str:
        return self.path(f"{self.name}_{SPLIT_FILES[split][1]}_dict.pth")

    @property
    def rcnn_names_file(self) -> str:
        """Among the crops; the paths in the published code lead to two other places."""
        name = f"{self.name.replace('20', '', 1)}_img2crop.pth"
        places = (os.path.join(self.detect, name), self.path(name), self.path(f"{self.name}_img2crop.pth"))
        return next((place for place in places if os.path.isfile(place)), places[0])

    def notes(self) -> list[str]:
        """What the archive lacks as a whole, so that no row can have it."""
        no_images = not os.path.isdir(self.images)
        no_aux = [path for path in map(self.aux_names_file, SPLIT_FILES) if not os.path.isfile(path)]
        no_rcnn = not os.path.isfile(self.rcnn_names_file)
        if no_images and no_rcnn and len(no_aux) == len(SPLIT_FILES):
            return [f"no images folder found at {self.images}: text only"]
        notes = [f"no images folder found at {self.images}: no row has its image"] if no_images else []
        notes += [f"no list of aux crops found at {path}: no row of the split has any" for path in no_aux]
        return notes + ([f"no list of rcnn crops found at {self.rcnn_names_file}: no row has any"] if no_rcnn else [])

    def read(self, split: str) -> SplitSource:
        """
        Raises:
            ValueError: for a text file or a list of crops with anything unexpected in it.
        """
        text_file, name = SPLIT_FILES[split]
        aux_folder = os.path.join(self.aux_images, name, "crops")
        return SplitSource(
            sentences=tuple(read_sentences(self.path(text_file))),
            images=PictureFolder(self.images, self.images) if os.path.isdir(self.images) else None,
            aux_folder=PictureFolder(aux_folder, aux_folder),
            aux_names=self._crop_names(self.aux_names_file(split)),
            rcnn_folder=PictureFolder(self.root, self.detect),
            rcnn_names=self._crop_names(self.rcnn_names_file),
        )

    @staticmethod
    def _crop_names(path: str) -> dict[str, list[str]]:
        return read_crop_names(path) if os.path.isfile(path) else {}

    def digest(self) -> str:
        """Changes with the text, the lists, the listing of the pictures, and the code that reads them."""
        code = [__file__, *map(inspect.getfile, (check_image, bio_tags, ner_features))]
        texts = [self.path(text_file) for text_file, _ in SPLIT_FILES.values()]
        lists = [*map(self.aux_names_file, SPLIT_FILES), self.rcnn_names_file]
        parts: list[Any] = [PIL.__version__]
        for path in [*code, *texts, *filter(os.path.isfile, lists)]:
            with open(path, "rb") as file:
                parts.append((os.path.basename(path), Hasher.hash_bytes(file.read())))
        for folder in filter(os.path.isdir, (self.images, self.aux_images, self.detect)):
            files = ((entry.path.removeprefix(self.root), entry.stat()) for entry in _files_below(folder))
            parts.append(sorted((name, status.st_size, status.st_mtime_ns) for name, status in files))
        return Hasher.hash_bytes(json.dumps(parts).encode())


def _files_below(folder: str) -> Iterator[os.DirEntry]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files_below(entry.path)
            elif entry.is_file():
                yield entry


COUNTS = (
    "sentences",
    *("images", "aux_crops", "rcnn_crops"),
    *("rows_without_image", "rows_without_aux_crops", "rows_without_rcnn_crops"),
    *("images_missing", "images_unreadable", "images_outside"),
    *("crops_missing", "crops_unreadable", "crops_outside", "crops_surplus"),
)


class AbsentPicture(NamedTuple):
    """A picture that the archive names and that no row has. `path` is relative to the archive."""

    row_id: str
    path: str
    reason: str


@dataclass
class SplitReport:
    """
    What was loaded for one split and what is absent, counted row by row: a picture of two rows counts twice.

    `images`, `aux_crops` and `rcnn_crops` are loaded; `outside` are those that the archive looks for outside their
    folder; `crops_surplus` are listed beyond the number asked for, and not looked for.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    absent: list[AbsentPicture] = field(default_factory=list)


@dataclass
class LoadingReport:
    """What of an archive was loaded and what is absent, by split; `notes` are what it lacks as a whole."""

    splits: dict[str, SplitReport] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def absent(self) -> list[AbsentPicture]:
        return [picture for split in self.splits.values() for picture in split.absent]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LoadingReport":
        splits = {
            name: SplitReport(dict(split["counts"]), [AbsentPicture(*picture) for picture in split["absent"]])
            for name, split in values["splits"].items()
        }
        return cls(splits, list(values["notes"]))

    def __str__(self) -> str:
        return self.summary()

    def summary(self, max_listed: int = 20) -> str:
        """A line per split, the notes, and the first `max_listed` pictures that are absent."""
        lines = []
        for name, split in self.splits.items():
            counts = [f"{count} {what.replace('_', ' ')}" for what, count in split.counts.items() if count]
            lines.append(f"{name}: {', '.join(counts) or 'nothing'}")
        lines += self.notes
        lines += [f"{picture.row_id}: {picture.path}: {picture.reason}" for picture in self.absent[:max_listed]]
        if len(self.absent) > max_listed:
            lines.append(f"and {len(self.absent) - max_listed} more, all of them in the report's `absent`")
        return "\n".join(lines)


@dataclass
class TwitterMNERConfig(datasets.BuilderConfig):
    """`num_aux_crops` and `num_rcnn_crops`: how many of the crops listed for an image are used, from the first on."""

    version: datasets.Version | str = "1.0.0"
    num_aux_crops: int = 3
    num_rcnn_crops: int = 3


class TwitterMNER(datasets.GeneratorBasedBuilder):
    """
    Twitter-2015 and Twitter-2017: tweets, each with a picture, crops of it, and entities tagged in the text.

    Every picture is decoded once while preparing. What is absent or unreadable is None, or not in its list, and is in
    the `report`.

    Args:
        config_name: `"twitter2015"` or `"twitter2017"`.
        data_dir: the folder of that year, or the one that holds it. See `TwitterArchive` for the layout.
        num_aux_crops, num_rcnn_crops: see `TwitterMNERConfig`.
        cache_dir, hash, kwargs: as in `datasets.DatasetBuilder`. The default `hash` changes with the raw files and
            with this code, so that data prepared from others are not taken for these.

    Raises:
        ValueError: for no or an unknown `config_name`, no `data_dir`, or one of another year.
        FileNotFoundError: for a `data_dir` without the text files.
    """

    BUILDER_CONFIG_CLASS = TwitterMNERConfig
    BUILDER_CONFIGS = [  # noqa: RUF012
        TwitterMNERConfig(
            name="twitter2015", description="Zhang et al. 2018, Adaptive Co-attention Network for NER in Tweets"
        ),
        TwitterMNERConfig(
            name="twitter2017", description="Lu et al. 2018, Visual Attention Model for Name Tagging in Social Media"
        ),
    ]

    _report: LoadingReport | None = None

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
        # With a data_dir and no name, datasets would make up a configuration.
        if config_name is None or config_name not in names:
            raise ValueError(f"config_name must be one of {names}, got {config_name!r}.")
        if data_dir is None:
            raise ValueError(
                f"data_dir is needed: nothing is downloaded. Pass the folder of the {config_name} archive, the one "
                "with train.txt, valid.txt and test.txt, or the folder that holds it."
            )
        archive = TwitterArchive.find(data_dir, config_name, tuple(name for name in names if name != config_name))
        super().__init__(
            cache_dir=cache_dir,
            dataset_name=dataset_name,
            config_name=config_name,
            hash=hash or archive.digest(),
            data_dir=archive.root,
            **kwargs,
        )
        for number in ("num_aux_crops", "num_rcnn_crops"):
            value = getattr(self.config, number)
            if type(value) is not int or value < 0:
                raise ValueError(f"{number} must be an int, 0 or more, got {value!r}.")

    @property
    def report(self) -> LoadingReport:
        """
        What was loaded and what is absent: of the prepared data, also where they come from the cache, or of the rows
        that a streaming dataset has read so far in this process.

        Raises:
            RuntimeError: before anything was prepared or streamed.
        """
        if self._report is None:
            path = posixpath.join(self._output_dir, REPORT_FILENAME)
            if not self._fs.exists(path):
                raise RuntimeError("No report yet: call download_and_prepare() or as_streaming_dataset() first.")
            with self._fs.open(path, "r", encoding="utf-8") as file:
                self._report = LoadingReport.from_dict(json.load(file))
        return self._report

    def download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        """As in `datasets.DatasetBuilder`; logs the report, as a warning if anything is absent."""
        super().download_and_prepare(*args, **kwargs)
        self._report = None  # Read it from the file, written now or by an earlier run.
        level = logging.WARNING if self.report.absent or self.report.notes else logging.INFO
        logger.log(level, "%s from %s:\n%s", self.config.name, self.config.data_dir, self.report)

    def _download_and_prepare(self, *args: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(*args, **kwargs)
        # `_output_dir` is now the temporary folder, which replaces the real one as a whole once all is written.
        with self._fs.open(posixpath.join(self._output_dir, REPORT_FILENAME), "w", encoding="utf-8") as file:
            assert self._report is not None  # made by _split_generators
            json.dump(self._report.to_dict(), file, indent=1)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description=self.config.description,
            features=ner_features(TWITTER_TAGS),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        archive = TwitterArchive(self.config.data_dir, self.config.name)
        self._report = LoadingReport(notes=archive.notes())
        # Read here, since datasets wraps what _generate_examples raises and hides file and line in the cause. The
        # source is no list: of lists, datasets makes shards.
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split, "source": archive.read(split)})
            for split in SPLIT_FILES
        ]

    def _generate_examples(self, split: str, source: SplitSource) -> Iterator[tuple[str, dict[str, Any]]]:
        assert self._report is not None  # made by _split_generators
        report = self._report.splits[split] = SplitReport()  # A second pass over a stream counts afresh.
        counts = report.counts
        check = functools.cache(check_image)  # Several sentences may share a picture.

        def load(row_id: str, kind: str, folder: PictureFolder, names: list[str]) -> list[dict[str, Any]]:
            pictures = []
            for name in names:
                path = folder.find(name)
                reason = check(path) if path else f"outside {os.path.basename(folder.folder)}, not followed"
                if reason is None:
                    pictures.append({"path": path, "bytes": None})
                    continue
                problem = "outside" if path is None else "missing" if reason == NO_SUCH_FILE else "unreadable"
                counts[f"{kind}_{problem}"] += 1
                shown = os.path.relpath(path, self.config.data_dir) if path else name
                report.absent.append(AbsentPicture(row_id, shown, reason))
            return pictures

        def crops(row_id: str, folder: PictureFolder, names: list[str], number: int) -> list[dict[str, Any]]:
            counts["crops_surplus"] += max(len(names) - number, 0)
            return load(row_id, "crops", folder, names[:number])

        for index, sentence in enumerate(source.sentences):
            row_id = f"{split}-{index}"
            file_name = f"{sentence.image_id}.jpg"
            aux_names = source.aux_names.get(file_name, [])
            rcnn_names = source.rcnn_names.get(file_name.split(".")[0], [])
            images = load(row_id, "images", source.images, [file_name]) if source.images else []
            row: dict[str, Any] = {
                "id": row_id,
                "image_id": sentence.image_id,
                "tokens": sentence.tokens,
                "ner_tags": [TWITTER_TAGS.index(tag) for tag in sentence.tags],  # Streaming does not encode.
                "image": images[0] if images else None,
                "aux_crops": crops(row_id, source.aux_folder, aux_names, self.config.num_aux_crops),
                "rcnn_crops": crops(row_id, source.rcnn_folder, rcnn_names, self.config.num_rcnn_crops),
            }
            counts["sentences"] += 1
            counts["images"] += len(images)
            counts["rows_without_image"] += not images
            for kind in ("aux_crops", "rcnn_crops"):
                counts[kind] += len(row[kind])
                counts[f"rows_without_{kind}"] += not row[kind]
            yield row_id, row
