"""Data sets by name, from files of your own, or from the Hub, with the same columns."""

import itertools
import os
from contextlib import suppress
from typing import Any

from datasets import ClassLabel, Dataset, DatasetBuilder, DatasetDict, Image, List, config, load_dataset
from datasets.fingerprint import Hasher
from huggingface_hub.errors import HFValidationError

from processing.columns import PICTURE_COLUMNS
from processing.data.demo.builder import DemoBuilder
from processing.data.demo.captioned_tweets import DemoCaptions
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.demo.picture_tweets import DemoPictures
from processing.data.demo.relation_tweets import DemoRelations
from processing.data.own.file_mner import FileMNER
from processing.data.own.find_tables import find_tables
from processing.data.own.tables import BINARY_ENDINGS, TEXT_ENDINGS, ending_of, table_features
from processing.images import MAX_MEGAPIXELS
from processing.jobs.cache_errors import cache_errors
from processing.problems import ProblemError
from processing.rows.loading_report import LoadingReport
from processing.rows.local_paths import named_paths, real_path_below
from processing.rows.reporting_builder import ReportingBuilder
from processing.rows.row_features import is_list_column, ner_features, re_features, with_several_images

from .archive import ArchiveBuilder
from .label_ids import is_hidden
from .mnre import MNRE
from .own.spans import check_name
from .stored_tables import check_stored_table
from .tasks import ANSWERS
from .twitter_mner import TwitterMNER


DEMOS: dict[str, type[DemoBuilder]] = {
    "demo": DemoMNER,
    "demo_pictures": DemoPictures,
    "demo_context": DemoCaptions,
    "demo_re": DemoRelations,
}
ARCHIVES: dict[str, type[ArchiveBuilder]] = {"twitter2015": TwitterMNER, "twitter2017": TwitterMNER, "mnre": MNRE}
DATASETS = (*DEMOS, *ARCHIVES)


def load_data(
    name: str,
    data_dir: str | None = None,
    cache_dir: str | None = None,
    word_splitter: str = "unicode",
    verify_pictures: bool = False,
    task: str | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    **options: Any,
) -> tuple[DatasetDict, LoadingReport]:
    """
    A data set with the columns of [`ner_features`] or [`re_features`], its pictures encoded, and the report of what
    was loaded and what could not be. The report is empty for demo data, and for rows that have these columns already.

    Args:
        name: one of `DATASETS`, a file or folder of your own (see [`FileMNER`]), or a data set of the Hub. Rows that
            have these columns already, as `scripts/prepare_crops.py` and `scripts/push_to_hub.py` leave them, may hold
            relations too.
        data_dir: folder of the archive, for the published data sets.
        cache_dir: where the prepared rows are kept; the default of `datasets` if None.
        word_splitter: how texts of your own become words, see [`split_words`]. A trained model wants that of its
            processor, `processor.word_splitter`.
        verify_pictures: decode each picture in full, so that those that cannot be decoded are in the report and in no
            row. By default a file is only looked for, and [`prepare_features`] says which pictures it cannot use. Demo
            data, and rows that have these columns already, are not verified.
        task: with `re`, rows of your own that have entities and relations between them are read for the relations,
            else for the entities.
        max_megapixels: the largest picture that `verify_pictures` lets into the rows, see [`load_image`].
        **options: of the builder: `num_aux_crops` and `num_rcnn_crops`, and for data of your own `image_dir`,
            `tag_scheme`, `strict` and `entity_types`.

    Raises:
        ValueError: for an unknown name, columns that do not fit, options that do not apply, data without any labels,
            and whatever the builder finds wrong.
        OSError: where the cache cannot be written.
    """
    numbers: dict[str, Any] = {
        option: options.pop(option) for option in ("num_aux_crops", "num_rcnn_crops") if option in options
    }
    shared: dict[str, Any] = {**numbers, "verify_pictures": verify_pictures, "max_megapixels": max_megapixels}
    own = {option: value for option, value in options.items() if value is not None and value is not False}
    is_own = name not in DATASETS and os.path.exists(name)
    if own and not is_own:
        raise ValueError(f"{', '.join(own)} can be given only for files of your own, not for {name!r}.")
    if data_dir is not None and name not in ARCHIVES:
        hint = "" if name in DEMOS else " Name your folder as the data set itself."
        raise ValueError(f"data_dir can be given only for {', '.join(ARCHIVES)}, not for {name!r}.{hint}")
    if name in DEMOS:
        return _prepared(name, DEMOS[name](cache_dir=cache_dir), cache_dir)
    if name in ARCHIVES:
        builder = ARCHIVES[name](config_name=name, data_dir=data_dir, cache_dir=cache_dir, **shared)
        return _prepared(name, builder, cache_dir)
    tables = find_tables(name) if is_own else None
    # Class labels of relations are in this project's columns already.
    if tables is not None and not isinstance(table_features(tables.first).get("relation"), ClassLabel):
        own |= {"word_splitter": word_splitter, "task": task}
        return _prepared(name, FileMNER(data_dir=name, cache_dir=cache_dir, **shared, **own), cache_dir)
    files = {} if tables is None else {split: list(paths) for split, paths in tables.splits.items()}
    for path in itertools.chain.from_iterable(files.values()):
        check_stored_table(path)
    with cache_errors(cache_dir):
        if tables is None:
            data = _from_hub(name, cache_dir)
        else:
            data = load_dataset(ending_of(tables.first)[1:], data_files=files, cache_dir=cache_dir)
    known = encode_pictures(_with_known_columns(name, data))
    _check_names(name, known)
    folder = (cache_dir or config.HF_CACHE_HOME) if tables is None else tables.folder
    with cache_errors(cache_dir):
        known = DatasetDict({split: _with_real_paths(name, split, rows, folder) for split, rows in known.items()})
    return _labelled(name, known)


def _prepared(name: str, builder: DatasetBuilder, cache_dir: str | None) -> tuple[DatasetDict, LoadingReport]:
    with cache_errors(cache_dir):
        builder.download_and_prepare()
    report = builder.report if isinstance(builder, ReportingBuilder) else LoadingReport()
    data = encode_pictures(builder.as_dataset())
    _check_splits(name, data)
    return data, report


def _check_splits(name: str, data: DatasetDict) -> None:
    if not data:
        raise ValueError(
            f"{name}: none of its rows has labels that may be used, so that nothing can be learnt or scored. Rows "
            "without labels are tagged by predict.py, with --input."
        )


def _from_hub(name: str, cache_dir: str | None) -> DatasetDict:
    if not name.strip("/") or name.startswith((".", "/", "~")) or name.endswith(("/", *TEXT_ENDINGS, *BINARY_ENDINGS)):
        raise ValueError(f"The data set {name!r} is named by a path, but there is no such file or folder.")
    try:
        return load_dataset(name, cache_dir=cache_dir)
    except (FileNotFoundError, ConnectionError, HFValidationError) as error:
        raise ValueError(
            f"dataset must be one of {', '.join(DATASETS)}, a file or folder that exists, or a data set on the Hub, "
            f"got {name!r}: {error}"
        ) from error


def _with_known_columns(name: str, data: DatasetDict) -> DatasetDict:
    """The rows in the columns of `ner_features` or `re_features`, numbers cast to their types."""
    known = DatasetDict()
    for split, rows in data.items():
        given = rows.features
        tags, relation = getattr(given.get("ner_tags"), "feature", None), given.get("relation")
        if isinstance(tags, ClassLabel):
            expected = ner_features(tags.names)
        elif isinstance(relation, ClassLabel):
            expected = re_features(relation.names)
        else:
            raise ValueError(
                f"{name}, split {split}: expected the column ner_tags, a list of class labels, or relation, a class "
                f"label; got {', '.join(f'{column}: {feature}' for column, feature in given.items())}. {_CONVERT}"
            )
        if isinstance(given.get("image"), List):
            expected = with_several_images(expected)
        if expected.keys() <= given.keys():
            pictures = [getattr(given[column], "feature", given[column]) for column in PICTURE_COLUMNS]
            if all(isinstance(feature, Image) for feature in pictures):
                rows = decode_pictures(DatasetDict({split: rows}))[split]
            for column, feature in expected.items():
                if rows.features[column] != feature:
                    with suppress(TypeError, ValueError, NotImplementedError):  # Arrow's errors are such
                        rows = rows.cast_column(column, feature)
        wrong = [column for column, feature in expected.items() if rows.features.get(column) != feature]
        if wrong:
            raise ValueError(
                f"{name}, split {split}: expected {', '.join(f'{column}: {expected[column]}' for column in wrong)}; "
                f"got {', '.join(f'{column}: {given.get(column)}' for column in wrong)}. {_CONVERT}"
            )
        known[split] = rows
    return known


def _check_names(name: str, data: DatasetDict) -> None:
    """Refuse relations whose `start` and `end` are not those of the name, for example characters and not words."""
    for split, rows in data.items():
        if "relation" in rows.features:
            for number, row in enumerate(rows.select_columns(["tokens", "head", "tail"])):
                for column in ("head", "tail"):
                    entity = row[column]
                    try:
                        if entity and entity["name"]:
                            check_name(entity["name"], row["tokens"], entity["start"], entity["end"], column)
                    except ProblemError as error:
                        raise ProblemError(error.problem, f"{name}, split {split}, row {number}") from error


def _with_real_paths(name: str, split: str, rows: Dataset, folder: str) -> Dataset:
    """
    Rows whose pictures have real paths, see [`leads_elsewhere`]. Pictures that a foreign file names anywhere on this
    machine are refused: the rows may be shared.
    """
    real_paths: dict[str, str] = {}
    for number, column, path in named_paths(rows):
        real = real_path_below(path, folder)
        if real is None:
            raise ValueError(
                f"{name}, split {split}, row {number}, {column}: expected a picture inside the file, or a path below "
                f"{folder}; got {path!r:.200}."
            )
        if real != path:
            real_paths[path] = real

    def with_real_path(pictures: Any) -> Any:
        if isinstance(pictures, list):
            return [with_real_path(picture) for picture in pictures]
        is_file = pictures is not None and pictures["bytes"] is None
        return {**pictures, "path": real_paths.get(pictures["path"], pictures["path"])} if is_file else pictures

    def resolve(row: dict[str, Any]) -> dict[str, Any]:
        return {column: with_real_path(row[column]) for column in PICTURE_COLUMNS}

    return rows.map(resolve, features=rows.features) if real_paths else rows


def _labelled(name: str, data: DatasetDict) -> tuple[DatasetDict, LoadingReport]:
    """The splits that have labels, with train in any case; the report tells of the others."""
    report = LoadingReport()
    for split, rows in list(data.items()):
        column = next(column for column in ANSWERS.values() if column in rows.features)
        if split != "train" and len(rows) and all(map(is_hidden, rows[column])):
            report.notes.append(f"the {split} split is left out, since its rows ({len(rows)}) have no labels")
            del data[split]
    _check_splits(name, data)
    return data, report


_CONVERT = (
    "Rows in other columns are converted where they are files of your own, or save_to_disk() wrote the folder; class "
    "labels of relations need these columns, as datasets.Features of processing.rows.re_features(relations)."
)


def encode_pictures(data: DatasetDict) -> DatasetDict:
    """
    Pictures as `{"bytes", "path"}` until the processor reads them: `datasets` would turn them as their EXIF tag says,
    which the published code does not, and fail on a broken one without naming its row.
    """
    return _with_picture_feature(data, Image(decode=False))


def decode_pictures(data: DatasetDict) -> DatasetDict:
    """Pictures as `datasets` gives them by default: opened by Pillow when a row is read."""
    return _with_picture_feature(data, Image())


def _with_picture_feature(data: DatasetDict, picture: Image) -> DatasetDict:
    """The same tables under other features: `cast_column` would write all lists of pictures anew."""
    result = DatasetDict()
    for split, rows in data.items():
        info = rows.info.copy()
        info.features = rows.features.copy()
        lists = [column for column in PICTURE_COLUMNS if is_list_column(rows, column)]
        info.features |= {"image": picture, **dict.fromkeys(lists, List(picture))}
        fingerprint = Hasher.hash([rows._fingerprint, picture.decode])
        result[split] = Dataset(rows.data, info, rows.split, indices_table=rows._indices, fingerprint=fingerprint)
    return result
