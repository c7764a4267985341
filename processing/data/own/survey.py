"""The first pass over the files of a data set of your own, which finds its label set."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from processing.columns import OBJECT_COLUMNS
from processing.labels import bio_tags, entity_spans
from processing.rows.loading_report import SkippedRow

from .file_source import FileMNERConfig, FileSource
from .labelled_rows import COLUMNS, LabelNames, has_id
from .tables import table_features
from .tag_schemes import TagSchemeDetector, split_tag, to_iob2


_NUM_LISTED = 5  # So many skipped rows are named for a split that has no others.
_NUM_COLUMNS = 100  # JSON may have other columns in every row; no more are remembered.


class Survey(NamedTuple):
    """
    What a first pass over all rows finds, before any is converted.

    Attributes:
        tags: in id order.
        num_rows: number of rows of each split that can be used.
        ids: those that rows have in the source, by split.
        keep_objects: whether the source has columns of objects.
        notes: for the report.
    """

    tags: list[str]
    num_rows: dict[str, int]
    ids: dict[str, set[str]]
    keep_objects: bool
    notes: list[str]


def survey_rows(source: FileSource, config: FileMNERConfig) -> Survey:
    """
    Read all rows but their pictures.

    Raises:
        ValueError: as `FileSource.rows`, for a split none of whose rows can be used, and for tags of no one scheme.
    """
    detector = TagSchemeDetector()
    entities: dict[str, Counter[str]] = {}
    num_rows: dict[str, int] = {}
    ids: dict[str, set[str]] = {}
    columns: dict[str, None] = {}  # They are kept in the order in which they appear.
    for split, paths in source.tables.splits.items():
        skipped: list[SkippedRow] = []
        counts = entities[split] = Counter()
        num_rows[split], ids[split] = 0, set()
        for path in paths:
            columns.update(dict.fromkeys(table_features(path) or ()))
        for _, row in source.rows(split, config, skipped, with_pictures=False):
            num_rows[split] += 1
            if has_id(row.source):
                ids[split].add(row.row_id)
            if row.is_tagged:
                detector.add(row.tags)
            counts.update(entity_type for entity_type, _, _ in entity_spans(to_iob2(row.tags)[0]))
            if len(columns) < _NUM_COLUMNS:
                columns.update(dict.fromkeys(row.source))
        if not num_rows[split]:
            first = "".join(f"\n{row.where}: {row.problem}" for row in skipped[:_NUM_LISTED])
            listing = f"none of its {len(skipped)} rows can be used:{first}" if skipped else "it holds no rows."
            raise ValueError(f"{', '.join(paths)}: expected rows of the {split} split, but {listing}")

    types, tags = _label_set(source, config, set().union(*entities.values()))
    return Survey(
        tags=tags,
        num_rows=num_rows,
        ids=ids,
        keep_objects=not columns.keys().isdisjoint(OBJECT_COLUMNS),
        notes=[
            _scheme_note(source, detector, config),
            *_type_notes(types, entities),
            *_id_notes(ids),
            *_unused_notes(source, columns),
        ],
    )


def _label_set(source: FileSource, config: FileMNERConfig, found: set[str]) -> tuple[list[str], list[str]]:
    """Entity types in order, and their tags in id order."""
    if config.entity_types is not None:
        return list(config.entity_types), bio_tags(config.entity_types)
    names = [LabelNames.of(table_features(path)) for paths in source.tables.splits.values() for path in paths]
    ordered = [name for labels in names for name in (*_types_of(labels.tags or ()), *(labels.types or ()))]
    types = list(dict.fromkeys([*ordered, *sorted(found)]))
    tags = bio_tags(types)
    own = [labels.tags for labels in names if labels.tags is not None]
    # The source's ids, where its tags are the same ones in another order.
    return types, next((list(names) for names in own if sorted(names) == sorted(tags)), tags)


def _types_of(tags: Iterable[str]) -> Iterator[str]:
    for tag in tags:
        try:
            _, entity_type = split_tag(tag)
        except ValueError:
            continue  # Rows that use it are skipped.
        if entity_type:
            yield entity_type


def _scheme_note(source: FileSource, detector: TagSchemeDetector, config: FileMNERConfig) -> str:
    try:
        scheme = config.tag_scheme or detector.scheme
    except ValueError as error:
        raise ValueError(
            f"{source.tables.root}: {error}. Correct the tags, or name the scheme (tag_scheme) to skip the rows of "
            "others."
        ) from error
    if not detector.prefixes:
        return "tags made of character spans"
    if scheme is None:
        return "the tag scheme cannot be told, for every tag is O"
    return f"tag scheme: {scheme}, {'as named' if config.tag_scheme else 'as found'}; now IOB2"


def _type_notes(types: list[str], entities: Mapping[str, Counter[str]]) -> Iterator[str]:
    """The label set with counts, and the types that cannot be learnt."""
    if not types:
        yield "no entity in any row"
        return
    counts = [f"{name} {' / '.join(str(counts[name]) for counts in entities.values())}" for name in types]
    yield f"{len(types)} entity types, with entities in {' / '.join(entities)}: {', '.join(counts)}"
    for split, counted in entities.items():
        for name in types:
            if "train" in entities and counted[name] and not entities["train"][name]:
                yield f"entity type {name} has {counted[name]} entities in {split} and none in train"


def _id_notes(ids: Mapping[str, set[str]]) -> Iterator[str]:
    """Ids of two splits: a row of both is learnt and then scored."""
    for one, other in itertools.combinations(ids, 2):
        shared = ids[one] & ids[other]
        if shared:
            yield f"{len(shared)} ids are in {one} and in {other}, {min(shared)!r:.80} for example: the same rows?"


def _unused_notes(source: FileSource, columns: Iterable[str]) -> Iterator[str]:
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        yield f"columns that are not used: {', '.join(unknown[:20])}{', ...' if len(unknown) > 20 else ''}"
    if source.tables.unused:
        yield f"splits that are not used: {', '.join(source.tables.unused)}"
