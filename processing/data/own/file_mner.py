"""
Datasets builder for your own tweets, words and tags or text and spans, in JSON lines, CSV, Parquet or as `datasets`
saves them.

    builder = FileMNER(data_dir="data/mine")
    builder.download_and_prepare()
    dataset = builder.as_dataset()
    print(builder.report)
"""

import hashlib
import inspect
import itertools
import os
import stat
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets

from processing.columns import OBJECT_COLUMNS
from processing.images import check_image
from processing.jobs.digests import files_digest
from processing.labels import bio_tags, entity_spans
from processing.rows.loading_report import LoadingReport, MovedSpan, SkippedRow, SplitReport
from processing.rows.picture_files import PictureReader
from processing.rows.reporting_builder import ReportingBuilder, ReportingBuilderConfig
from processing.rows.row_features import CROP_KINDS, ner_features, with_objects
from processing.tokenizing import split_words

from .own_rows import (
    COLUMNS,
    LABEL_COLUMNS,
    BadRow,
    Example,
    LabelNames,
    RowPictures,
    has_id,
    read_example,
    read_objects,
)
from .tables import BINARY_ENDINGS, RowError, Tables, find_tables, place_of, read_table, table_features
from .tag_schemes import TAG_SCHEMES, TagSchemeDetector, split_tag, to_iob2


_NUM_REASONS = 5  # of skipped rows, named where a split has no other


@dataclass
class FileMNERConfig(ReportingBuilderConfig):
    """
    Attributes:
        image_dir: pictures are named relative to it and stay below it; None is the data set's folder, the one that
            holds it where it is a file.
        tag_scheme: of `TAG_SCHEMES`; None finds it out.
        entity_types: the types there are, in id order; rows with others are skipped. None takes all that occur, sorted
            or in the order of the source's class labels.
        strict: stop at the first row that cannot be used, rather than skip it.
    """

    image_dir: str | None = None
    tag_scheme: str | None = None
    entity_types: Sequence[str] | None = None
    strict: bool = False


class Survey(NamedTuple):
    """What a first pass over all rows finds, before any is converted."""

    tags: list[str]  # in id order
    num_rows: dict[str, int]  # that can be used, of each split
    ids: dict[str, set[str]]  # that rows have in the source, of each split
    keep_objects: bool
    notes: list[str]


@dataclass(frozen=True)
class FileSource:
    """The files of a data set and the folder of its pictures."""

    tables: Tables
    image_dir: str

    @classmethod
    def find(cls, data_dir: str | os.PathLike, image_dir: str | os.PathLike | None = None) -> "FileSource":
        """
        Raises:
            FileNotFoundError: for no such file or folder, a folder without a data set, no such `image_dir`.
            ValueError: where several files would be the same split.
        """
        tables = find_tables(data_dir)
        source = cls(tables, "")
        folder = source.folder if image_dir is None else os.path.realpath(os.path.expanduser(image_dir))
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"image_dir={image_dir!r}: no such folder.")
        return cls(tables, folder)

    @property
    def root(self) -> str:
        return self.tables.root

    @property
    def folder(self) -> str:
        """Where pictures are by default, and to which the paths of files are shown relative."""
        return os.path.dirname(self.root) if os.path.isfile(self.root) else self.root

    def rows(
        self,
        split: str,
        config: FileMNERConfig,
        skipped: list[SkippedRow],
        with_pictures: bool,
        ids: Container[str] = (),
    ) -> Iterator[tuple[str, Example]]:
        """
        Rows of a split that can be used, and where they are; the others are added to `skipped`.

        Args:
            ids: all that rows have in the source; a row without one gets another.

        Raises:
            ValueError: for a file that cannot be read, or with `config.strict` for the first row that cannot be used.
        """
        places: dict[str, str] = {}  # of each id in the source
        index = -1
        for path in self.tables.splits[split]:
            names = LabelNames.of(table_features(path))
            shown = os.path.relpath(path, self.folder)
            # Pictures are most of a file that holds them; a pass that needs none does not read them.
            for place, row in read_table(path, COLUMNS if with_pictures else (*LABEL_COLUMNS, *OBJECT_COLUMNS)):
                index += 1
                try:
                    if isinstance(row, RowError):
                        raise BadRow(row.reason)
                    example = read_example(row, _new_id(f"{split}-{index}", ids), names)
                    _check_tags(example, config)
                    for column in OBJECT_COLUMNS:
                        read_objects(row, column)
                    if has_id(row) and example.row_id in places:
                        raise BadRow(f"expected each id once, {example.row_id!r} is also at {places[example.row_id]}")
                except BadRow as error:
                    if config.strict:
                        raise ValueError(
                            f"{place_of(path, place)}: {error}. Correct the row, or load without strict to skip it."
                        ) from error
                    skipped.append(SkippedRow(place_of(shown, place), str(error)))
                    continue
                where = place_of(shown, place)
                if has_id(example.source):
                    places[example.row_id] = where
                yield where, example

    def survey(self, config: FileMNERConfig) -> Survey:
        """
        The first pass over all rows, which finds the label set.

        Raises:
            ValueError: as `rows`, for a split none of whose rows can be used, and for tags of no one scheme.
        """
        detector = TagSchemeDetector()
        entities: dict[str, Counter[str]] = {}
        num_rows: dict[str, int] = {}
        ids: dict[str, set[str]] = {}
        columns: dict[str, None] = {}  # in order of appearance
        for split, paths in self.tables.splits.items():
            skipped: list[SkippedRow] = []
            counts = entities[split] = Counter()
            num_rows[split], ids[split] = 0, set()
            for path in paths:
                columns.update(dict.fromkeys(table_features(path) or ()))
            for _, example in self.rows(split, config, skipped, with_pictures=False):
                num_rows[split] += 1
                if has_id(example.source):
                    ids[split].add(example.row_id)
                if example.is_tagged:
                    detector.add(example.tags)
                counts.update(entity_type for entity_type, _, _ in entity_spans(to_iob2(example.tags)[0]))
                if len(columns) < 100:  # JSON may have other columns in every row.
                    columns.update(dict.fromkeys(example.source))
            if not num_rows[split]:
                first = "".join(f"\n{row.where}: {row.reason}" for row in skipped[:_NUM_REASONS])
                files = ", ".join(paths)
                listing = f"none of its {len(skipped)} rows can be used:{first}" if skipped else "it holds no rows."
                raise ValueError(f"{files}: expected rows of the {split} split, but {listing}")

        types, tags = self._label_set(config, {name for counts in entities.values() for name in counts})
        return Survey(
            tags=tags,
            num_rows=num_rows,
            ids=ids,
            keep_objects=not columns.keys().isdisjoint(OBJECT_COLUMNS),
            notes=[
                *self._scheme_notes(detector, config),
                *_type_notes(types, entities),
                *_id_notes(ids),
                *self._source_notes(columns),
            ],
        )

    def _label_set(self, config: FileMNERConfig, found: set[str]) -> tuple[list[str], list[str]]:
        """Entity types in order, and their tags in id order."""
        if config.entity_types is not None:
            return list(config.entity_types), bio_tags(config.entity_types)
        paths = [path for group in self.tables.splits.values() for path in group]
        names = [LabelNames.of(table_features(path)) for path in paths]
        ordered = [name for labels in names for name in (*_types_of(labels.tags or ()), *(labels.types or ()))]
        types = list(dict.fromkeys([*ordered, *sorted(found)]))
        tags = bio_tags(types)
        own = [labels.tags for labels in names if labels.tags is not None]
        # The source's ids, where its tags are the same ones in another order.
        return types, next((list(names) for names in own if sorted(names) == sorted(tags)), tags)

    def _scheme_notes(self, detector: TagSchemeDetector, config: FileMNERConfig) -> list[str]:
        try:
            scheme = config.tag_scheme or detector.scheme
        except ValueError as error:
            raise ValueError(
                f"{self.root}: {error}. Correct the tags, or name the scheme (tag_scheme) to skip the rows of others."
            ) from error
        if not detector.prefixes:
            return ["tags made of character spans"]
        if scheme is None:
            return ["tag scheme: not to be told, every tag is O"]
        return [f"tag scheme: {scheme}, {'as named' if config.tag_scheme else 'as found'}; now IOB2"]

    def _source_notes(self, columns: Iterable[str]) -> list[str]:
        notes = []
        unknown = [column for column in columns if column not in COLUMNS]
        if unknown:
            shown = ", ".join(unknown[:20]) + (", ..." if len(unknown) > 20 else "")
            notes.append(f"columns that are not used: {shown}")
        if self.tables.unused:
            notes.append(f"splits that are not used: {', '.join(self.tables.unused)}")
        return notes

    def digest(self, cache_dir: str | None = None) -> str:
        """
        Changes with the text, the size and time of Parquet and Arrow files, the listing of the files below the image
        folder if any are named, and the code that reads them.

        Args:
            cache_dir: not listed if it is below the image folder, for what is prepared there changes it; the default
                of `datasets` if None.
        """
        parts: list[Any] = [check_image, bio_tags, ner_features, PictureReader, SplitReport, ReportingBuilder]
        parts += [find_tables, to_iob2, split_words, read_example]
        digest = hashlib.blake2b(files_digest([__file__, *map(inspect.getfile, parts)], [], "").encode())
        names_pictures = False
        for split, paths in self.tables.splits.items():
            for path in paths:
                digest.update(f"{split} {os.path.basename(path)}\n".encode())
                if path.lower().endswith(BINARY_ENDINGS):
                    status = os.stat(path)
                    digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
                    names_pictures = True
                    continue
                with open(path, "rb") as file:
                    end = b""
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
                        # A text without these words names no picture, and its folder, maybe a large one, need not be
                        # listed. The end is for a word that lies across two chunks.
                        names_pictures = names_pictures or b"image" in end + chunk or b"_crops" in end + chunk
                        end = chunk[-5:]
        if names_pictures:
            passed = os.path.realpath(os.path.expanduser(cache_dir or datasets.config.HF_DATASETS_CACHE))
            tables = {os.path.realpath(path) for paths in self.tables.splits.values() for path in paths}
            for name, size, time in sorted(_files_below(self.image_dir, {passed, *tables})):
                digest.update(f"{name} {size} {time}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]


def _check_tags(example: Example, config: FileMNERConfig) -> None:
    for tag in set(example.tags):
        try:
            _, entity_type = split_tag(tag, config.tag_scheme if example.is_tagged else None)
        except ValueError as error:
            raise BadRow(str(error)) from error
        if entity_type and config.entity_types is not None and entity_type not in config.entity_types:
            raise BadRow(f"expected an entity type of {', '.join(config.entity_types)}, got {entity_type!r}")


def _types_of(tags: Iterable[str]) -> Iterator[str]:
    for tag in tags:
        try:
            _, entity_type = split_tag(tag)
        except ValueError:
            continue  # Rows that use it are skipped.
        if entity_type:
            yield entity_type


def _type_notes(types: Sequence[str], entities: Mapping[str, Counter[str]]) -> list[str]:
    """The label set with counts, and the types that cannot be learnt."""
    if not types:
        return ["no entity in any row"]
    counts = [f"{name} {' / '.join(str(counts[name]) for counts in entities.values())}" for name in types]
    notes = [f"{len(types)} entity types, with entities in {' / '.join(entities)}: {', '.join(counts)}"]
    for split, others in entities.items():
        for name in types:
            if "train" in entities and others[name] and not entities["train"][name]:
                notes.append(f"entity type {name} has {others[name]} entities in {split} and none in train")
    return notes


def _id_notes(ids: Mapping[str, set[str]]) -> Iterator[str]:
    """Ids of two splits: a row of both is learnt and then scored."""
    for one, other in itertools.combinations(ids, 2):
        shared = ids[one] & ids[other]
        if shared:
            yield f"{len(shared)} ids are in {one} and in {other}, {min(shared)!r:.80} for example: the same rows?"


def _new_id(row_id: str, ids: Container[str]) -> str:
    """For a row that has none: no other row's."""
    candidates = itertools.chain([row_id], (f"{row_id}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in ids)


def _files_below(folder: str, passed: Container[str]) -> Iterator[tuple[str, int, int]]:
    """
    Path below the folder, size and time of every file, for a picture may have any name; links are followed once.

    Args:
        passed: real paths of files and folders below it that are left out.
    """
    seen = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # Of two ways to one folder always the same one is taken.
        real = os.path.realpath(place)
        if real in seen or (real in passed and place != folder):
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            path = os.path.join(place, name)
            if os.path.join(real, name) in passed:
                continue
            try:
                status = os.stat(path)
            except OSError:  # a link to nothing, or a file that was just removed
                continue
            if stat.S_ISREG(status.st_mode):
                yield os.path.relpath(path, folder), status.st_size, status.st_mtime_ns


class FileMNER(ReportingBuilder):
    """
    Tweets of your own, each with entities and maybe a picture and crops of it.

    | column | holds |
    |---|---|
    | `tokens`, `ner_tags` | words and a tag for each; in CSV separated by spaces |
    | `text`, `spans` or `entities` | or a text and `[{"start", "end", "label"}]`, `end` exclusive; in CSV as JSON |
    | `image` | a path below the image folder, or bytes, or `{"path", "bytes"}` |
    | `aux_crops`, `rcnn_crops` | lists of such; in CSV paths separated by `;` |
    | `id`, `image_id` | a missing id becomes `<split>-<number of the row>`, or `...-2` where a row has that |
    | `aux_objects`, `rcnn_objects` | `[{"label", "score", "box"}]`, in the order of the crops |

    Tags of every usual scheme become IOB2. A span that is not on word boundaries is widened to whole words. A row that
    cannot be used is skipped, a picture that cannot is None or not in its list; the `report` names each of them, the
    label set and its counts. The `info.features` are known once the rows have been read.

    Args:
        data_dir: a file, or a folder of files; see `find_tables`.
        image_dir, tag_scheme, entity_types, strict: see `FileMNERConfig`.
        num_aux_crops, num_rcnn_crops: see `ReportingBuilderConfig`.
        cache_dir, hash, kwargs: as in `datasets.DatasetBuilder`. The default `hash` changes with the files and with
            this code, so that data prepared from others are not taken for these.

    Raises:
        ValueError: for no `data_dir`, an option that is none, several files of one split. While preparing also for a
            file or a whole split that cannot be used, tags of no one scheme, and with `strict` any row.
        FileNotFoundError: for a `data_dir` without a data set, or no such `image_dir`.
        OSError: for a cache directory that is full or cannot be written.
    """

    BUILDER_CONFIG_CLASS = FileMNERConfig
    BUILDER_CONFIGS = [  # noqa: RUF012
        FileMNERConfig(name="file", description="Tweets with entities, from files of your own.")
    ]

    def __init__(
        self,
        cache_dir: str | None = None,
        dataset_name: str | None = None,
        config_name: str | None = None,
        hash: str | None = None,
        *,
        data_dir: str | os.PathLike | None = None,
        image_dir: str | os.PathLike | None = None,
        entity_types: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        if data_dir is None:
            raise ValueError("data_dir is needed: pass a file, or the folder with train, validation and test files.")
        if kwargs.get("tag_scheme") is not None and kwargs["tag_scheme"] not in TAG_SCHEMES:
            raise ValueError(f"tag_scheme must be one of {TAG_SCHEMES}, got {kwargs['tag_scheme']!r}.")
        if entity_types is not None:
            is_names = not isinstance(entity_types, str) and all(
                isinstance(name, str) and name for name in entity_types
            )
            if not is_names or not entity_types or len(set(entity_types)) < len(entity_types):
                raise ValueError(f"entity_types must be distinct names, such as ['PER', 'LOC'], got {entity_types!r}.")
            entity_types = list(entity_types)
        self._source = FileSource.find(data_dir, image_dir)
        self._survey: Survey | None = None
        super().__init__(
            cache_dir=cache_dir,
            dataset_name=dataset_name,
            config_name=config_name or "file",  # With a data_dir and no name, datasets would make one up.
            hash=hash or self._source.digest(cache_dir),
            data_dir=self._source.root,
            image_dir=self._source.image_dir,
            entity_types=entity_types,
            **kwargs,
        )

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=self.config.description)

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        # Surveyed here, since datasets wraps what _generate_examples raises and hides file and line in the cause.
        survey = self._survey = self._source.survey(self.config)
        features = ner_features(survey.tags)
        self.info.features = with_objects(features) if survey.keep_objects else features
        self._report = LoadingReport(notes=list(survey.notes))
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"split": split}) for split in self._source.tables.splits
        ]

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        assert self._survey is not None  # made by _split_generators
        survey = self._survey
        report = self._start_split(split)
        tag_ids = {tag: index for index, tag in enumerate(survey.tags)}
        limits = {kind: getattr(self.config, f"num_{kind}_crops") for kind in CROP_KINDS}
        pictures = RowPictures(self._source.image_dir, report, limits)
        changed = f"{self._source.root} was changed while it was read; load it again."

        ids = survey.ids[split]
        for where, example in self._source.rows(split, self.config, report.skipped, with_pictures=True, ids=ids):
            tags, num_normalised = to_iob2(example.tags)
            if not set(tags) <= tag_ids.keys():
                raise RuntimeError(changed)
            row: dict[str, Any] = {
                "id": example.row_id,
                "image_id": None if example.source.get("image_id") is None else str(example.source["image_id"]),
                "tokens": example.tokens,
                "ner_tags": [tag_ids[tag] for tag in tags],  # Streaming does not encode.
                **pictures.of(example.row_id, example.source, survey.keep_objects),
            }
            report.counts["rows_skipped"] = len(report.skipped)
            report.counts["tags_normalised"] += num_normalised
            report.counts["spans_moved"] += len(example.moved)
            report.moved += [MovedSpan(where, span, words) for span, words in example.moved]
            pictures.reader.count(row)
            yield example.row_id, row
        report.counts["rows_skipped"] = len(report.skipped)
        if report.counts["rows"] != survey.num_rows[split]:
            raise RuntimeError(changed)
