"""Which files a data set consists of, which split each of them is, and a digest that tells when they changed."""

import os
import re
import tempfile
from typing import NamedTuple

import datasets
from datasets.data_files import SPLIT_KEYWORDS

from processing.jobs.digests import digest, files_digest
from processing.rows.picture_files import PICTURE_ENDINGS

from .conll_tables import is_conll
from .tables import BINARY_ENDINGS, TEXT_ENDINGS, ending_of


# Names of columns, the line of CoNLL that names a picture, and endings of pictures in columns of any name.
_PICTURES = re.compile(
    "|".join(("image", "_crops", "IMGID", *map(re.escape, PICTURE_ENDINGS))).encode(), re.IGNORECASE
)

# The split of each of the names that `datasets` knows for it: "dev" is the validation split.
SPLIT_OF = {keyword: str(split) for split, keywords in SPLIT_KEYWORDS.items() for keyword in keywords}

# They lie beside the rows in folders that datasets or a builder of this project wrote.
LABEL_FILE = "label.json"  # the ids of tags that are numbers, as in the data sets of tner
_NO_TABLES = (
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "loading_report.json"),
    LABEL_FILE,
)
_SPLIT_FILE = re.compile(rf"({'|'.join(SPLIT_OF)})(?:-\d+-of-(\d+))?", re.IGNORECASE)

# The files of each split by its name, whatever that is. It is empty where there is no data set.
SplitFiles = dict[str, tuple[str, ...]]


class Tables(NamedTuple):
    """The files of a data set."""

    root: str  # the folder or file by its real path: one data set, however its path is written
    splits: SplitFiles  # in order
    unused: tuple[str, ...] = ()  # splits of other names than train, validation and test

    @property
    def first(self) -> str:
        return next(iter(self.splits.values()))[0]

    @property
    def folder(self) -> str:
        """Where pictures are by default, and to which the paths of files are shown relative."""
        return os.path.dirname(self.root) if os.path.isfile(self.root) else self.root


def find_tables(data_dir: str | os.PathLike) -> Tables:
    """
    The files of a data set: `data_dir` is

    - a file: the split that its name says, else train;
    - a folder with `train`, `validation` and `test` files (or of another name of `SPLIT_OF`, such as `dev`), all text
      or all Parquet, there or in `data/`, each whole or in parts such as `train-00000-of-00002.parquet`; else a lone
      file of text is train. A `.txt` that is not CoNLL is passed over;
    - what `save_to_disk` of `datasets` wrote, or a folder of Parquet files that `load_dataset` tells apart.

    Raises:
        FileNotFoundError: where there is none of these.
        ValueError: where several files would be the same split, and for a `.txt` that is not CoNLL.
    """
    root = os.path.abspath(os.path.expanduser(data_dir))
    if os.path.isfile(root):
        # A link's own name counts: the Hub's cache links files to others without an ending.
        root = os.path.join(os.path.realpath(os.path.dirname(root)), os.path.basename(root))
        if ending_of(root) == ".txt" and not is_conll(root):
            raise ValueError(
                f"{root}: expected a word and its tag on each line, and a blank line between tweets, since a .txt is "
                "data only in this form. Save texts with their entities as JSON lines, CSV or Parquet."
            )
        match = _SPLIT_FILE.fullmatch(os.path.splitext(os.path.basename(root))[0])
        return Tables(root, {SPLIT_OF[match[1].lower()] if match else "train": (root,)})
    root = os.path.realpath(root)
    if not os.path.isdir(root):
        raise FileNotFoundError(f"data_dir={os.fspath(data_dir)!r}: there is no such file or folder: {root}.")
    found = (
        _saved_to_disk(root)
        or _named_files(root)
        or _named_files(os.path.join(root, "data"))
        or _lone_file(root)
        or _as_datasets_finds(root)
    )
    known = {str(split): found[name] for split in SPLIT_KEYWORDS for name in found if SPLIT_OF.get(name) == split}
    if not known:
        entries = sorted(os.listdir(root))
        listing = ", ".join(entries[:20]) + (", ..." if len(entries) > 20 else "")
        saved = [entry for entry in entries if _is_saved_to_disk(os.path.join(root, entry))]
        remedy = "Name the files so, or pass the file itself."
        if saved:
            remedy = (
                f"save_to_disk wrote {', '.join(saved)}: pass one such folder, or save a DatasetDict with the splits."
            )
        raise FileNotFoundError(
            f"No data set at data_dir={os.fspath(data_dir)!r}: looked in {root} and in data/ below it for train, "
            "validation and test files ending in .jsonl, .json, .csv, .conll or .parquet, or in .txt with a word and "
            f"its tag on each line, or a folder written by save_to_disk; it holds {listing or 'nothing'}. {remedy}"
        )
    if len(known) < sum(name in SPLIT_OF for name in found):
        raise ValueError(f"{root}: several of its splits {list(found)} would be one split. Keep only one of them.")
    return Tables(root, known, tuple(name for name in found if name not in SPLIT_OF))


def source_digest(tables: Tables, image_dir: str, cache_dir: str | None) -> str:
    """
    Changes with the text, the size and times of Parquet and Arrow files, and the listing of the files below the image
    folder if any are named. A cache below the image folder is not listed: what is prepared there changes it.
    """
    paths = [path for paths in tables.splits.values() for path in paths]
    texts = [path for path in paths if ending_of(path) not in BINARY_ENDINGS]
    stored = [os.stat(path) for path in paths if path not in texts]
    label_files = {os.path.join(os.path.dirname(path), LABEL_FILE) for path in paths}
    is_listed = image_dir != os.sep  # The listing of a whole machine takes minutes and changes all the time.
    folders = [image_dir] if is_listed and (stored or any(map(_names_pictures, texts))) else []
    cache = os.path.expanduser(cache_dir or datasets.config.HF_DATASETS_CACHE)
    return digest(
        {split: [*map(os.path.basename, paths)] for split, paths in tables.splits.items()},
        [(status.st_size, status.st_mtime_ns, status.st_ctime_ns) for status in stored],
        files_digest(
            [*texts, *sorted(filter(os.path.isfile, label_files))],
            folders,
            passed={os.path.realpath(path) for path in (cache, *paths)},
        ),
    )


def _names_pictures(path: str) -> bool:
    """Whether a text may name pictures; where it does not, their folder, maybe a large one, need not be listed."""
    with open(path, "rb") as file:
        end = b""  # A word may lie across two chunks.
        while chunk := file.read(1 << 20):
            if _PICTURES.search(end + chunk):
                return True
            end = chunk[-5:]
    return False


def _file_names(folder: str, endings: tuple[str, ...]) -> list[str]:
    with os.scandir(folder) as entries:
        tables = [entry for entry in entries if ending_of(entry.name) in endings and entry.name not in _NO_TABLES]
        return sorted(entry.name for entry in tables if entry.is_file())  # an OSError for a link to itself


def _lone_file(folder: str) -> SplitFiles:
    endings = tuple(ending for ending in TEXT_ENDINGS if ending != ".txt")  # It may be a README of any kind.
    names = _file_names(folder, endings) or [name for name in _file_names(folder, (".txt",)) if _is_data(folder, name)]
    return {"train": (os.path.join(folder, names[0]),)} if len(names) == 1 else {}


def _is_data(folder: str, name: str) -> bool:
    return ending_of(name) != ".txt" or is_conll(os.path.join(folder, name))


def _named_files(folder: str) -> SplitFiles:
    """
    Files whose whole name is that of a split. `datasets` would also take a `train_old.csv` for a part of the training
    data, and not miss a part that is absent.
    """
    if not os.path.isdir(folder):
        return {}
    found: dict[str, list[str]] = {}
    # The files of one split must agree in their name, in their number of parts and in their ending.
    kinds: dict[str, set[tuple[str, str | None, str]]] = {}
    for name in _file_names(folder, (*TEXT_ENDINGS, *BINARY_ENDINGS)):
        stem, ending = os.path.splitext(name)
        # An empty file is told of, and not passed over.
        if (match := _SPLIT_FILE.fullmatch(stem)) and (
            _is_data(folder, name) or not os.path.getsize(os.path.join(folder, name))
        ):
            split = SPLIT_OF[match[1].lower()]
            found.setdefault(split, []).append(name)
            kinds.setdefault(split, set()).add((match[1], match[2], ending))
    for split, names in found.items():
        listing = ", ".join(names)
        if len(kinds[split]) > 1:
            raise ValueError(f"{folder}: several files would be the {split} split: {listing}. Leave only one there.")
        ((_, number, _),) = kinds[split]
        if number and len(names) != int(number):
            raise ValueError(
                f"{folder}: expected {int(number)} parts of the {split} split, got {listing}. Add the others."
            )
    every = [name for names in found.values() for name in names]
    endings = set(map(ending_of, every))
    if len(endings) > 1 and not endings <= set(TEXT_ENDINGS):
        raise ValueError(
            f"{folder}: expected files of text alone, or of Parquet alone, got {', '.join(every)}. Convert "
            "those of one kind, or put them into another folder."
        )
    return {split: tuple(os.path.join(folder, name) for name in names) for split, names in found.items()}


def _is_saved_to_disk(folder: str) -> bool:
    marks = (datasets.config.DATASETDICT_JSON_FILENAME, datasets.config.DATASET_STATE_JSON_FILENAME)
    return any(os.path.isfile(os.path.join(folder, mark)) for mark in marks)


def _saved_to_disk(root: str) -> SplitFiles:
    if not _is_saved_to_disk(root):
        return {}
    try:
        saved = datasets.load_from_disk(root, keep_in_memory=False)
    except Exception as error:  # It checks nothing: damage comes as nearly every kind of error.
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{root}: cannot be read as what save_to_disk writes: {reason}.") from error
    if isinstance(saved, datasets.Dataset):
        saved = {str(saved.split) if str(saved.split) in SPLIT_OF else "train": saved}
    return {name: tuple(file["filename"] for file in rows.cache_files) for name, rows in saved.items()}


def _as_datasets_finds(root: str) -> SplitFiles:
    """Parquet files by the rules of `load_dataset`: other names, sub-folders, or a README's `data_files`."""
    if not any(name.endswith(".parquet") for _, _, names in os.walk(root) for name in names):
        return {}
    # It is only asked for its file names; it would leave a lock in the user's cache.
    with tempfile.TemporaryDirectory() as cache:
        try:
            data_files = datasets.load_dataset_builder(root, cache_dir=cache).config.data_files or {}
        except (datasets.exceptions.DatasetsError, OSError, ValueError):
            return {}
    found = {str(split): tuple(map(str, paths)) for split, paths in data_files.items()}
    is_parquet = all(path.endswith(".parquet") for paths in found.values() for path in paths)
    return found if is_parquet else {}  # It takes a folder of many pictures for a data set of pictures.
