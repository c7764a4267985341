"""The first pass over the files of a data set of your own, which finds its label set."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from processing.columns import OBJECT_COLUMNS
from processing.data.row_checks import REJECTED, VERDICTS
from processing.labels import NO_RELATION, bio_tags, entity_spans
from processing.rows.loading_report import SkippedRow
from processing.tokenizing import same_text

from .file_source import OTHER_COLUMNS, FileSource
from .labelled_rows import COLUMNS, NO_LABELS, LabelNames
from .tables import table_features
from .tag_schemes import TagSchemeDetector, split_tag, to_iob2


_NUM_LISTED = 5  # So many skipped rows are named for a split that has no others.
_NUM_COLUMNS = 100  # JSON may have other columns in every row; no more are remembered.


class Survey(NamedTuple):
    """What a first pass over all rows finds, before any is converted."""

    labels: list[str]  # the tags or the relations, in id order
    num_rows: dict[str, int]  # of each split, how many can be used
    ids: dict[str, set[str]]  # of each split, those that rows have in the source
    keep_objects: bool  # whether the source has columns of objects
    keep_texts: bool  # whether a row has a text
    notes: list[str]  # for the report


def survey_rows(source: FileSource) -> Survey:
    """
    Read all rows but their pictures. A split without any labels is left out, but for train. A ValueError tells another
    split none of whose rows can be used, and tags of no one scheme.
    """
    detector = TagSchemeDetector()
    answers: dict[str, Counter[str]] = {}  # types of entities, or relations
    num_rows: dict[str, int] = {}
    ids: dict[str, set[str]] = {}
    columns: dict[str, None] = {}  # They are kept in the order in which they appear.
    file_names: list[LabelNames] = []
    has_relations = keep_texts = False
    units: Counter[str] = Counter()
    other_texts: list[str] = []
    unlabelled: list[str] = []
    rejected: Counter[str | None] = Counter()
    for split, paths in source.tables.splits.items():
        skipped: list[SkippedRow] = []
        counts = answers[split] = Counter()
        num_rows[split], ids[split] = 0, set()
        for path in paths:
            columns.update(dict.fromkeys(table_features(path)))
            file_names.append(LabelNames.of(path))
        for where, row in source.rows(split, skipped, with_pictures=False):
            num_rows[split] += 1
            keep_texts |= row.text is not None
            if row.has_own_id:
                ids[split].add(row.row_id)
            has_relations = has_relations or bool(row.source.get("relations"))
            if row.pair is not None:
                counts[row.pair.relation] += 1
            else:
                counts.update(entity_type for entity_type, _, _ in entity_spans(to_iob2(row.tags)[0]))
                if row.is_tagged:
                    detector.add(row.tags)
            units.update(row.shifted)
            text = row.source.get("text")
            if (
                row.is_tagged
                and row.text is None
                and isinstance(text, str)
                and not same_text(text, "".join(row.tokens))
            ):
                other_texts.append(where)
            if len(columns) < _NUM_COLUMNS:
                columns.update(dict.fromkeys(row.source))
        rejected.update(row.problem.column for row in skipped if row.problem.kind == REJECTED)
        if num_rows[split]:
            continue
        kinds = {row.problem.kind for row in skipped}
        if split != "train" and kinds and kinds <= {NO_LABELS, REJECTED, OTHER_COLUMNS}:
            files = ", ".join(os.path.relpath(path, source.tables.folder) for path in paths)
            unlabelled.append(
                f"the {split} split is left out, since its rows ({len(skipped)}) have no labels"
                f"{''.join(f', or {kind}' for kind in sorted(kinds - {NO_LABELS}))}; predict.py tags them with "
                f"--input {files}"
            )
            for of_split in (num_rows, ids, answers):
                del of_split[split]
        else:
            first = "".join(f"\n{row.where}: {row.problem}" for row in skipped[:_NUM_LISTED])
            listing = f"none of its {len(skipped)} rows can be used:{first}" if skipped else "it holds no rows."
            raise ValueError(f"{', '.join(paths)}: expected rows of the {split} split, but {listing}")

    if source.config.task == "re":
        labels = _relations(file_names, answers)
        notes = [*_answer_notes("relation", "pairs", labels, answers), *_id_notes(ids)]
    else:
        types, labels = _types_and_tags(source.config.entity_types, file_names, answers)
        notes = [_scheme_note(source, detector), *_answer_notes("entity type", "entities", types, answers)]
        notes += _id_notes(ids)
    if has_relations and source.config.task == "ner":
        notes.append("the relations between entities are not used; with the task re they are")
    notes += unlabelled
    notes += [f"the offsets of {count} spans were {unit}, as their own texts show" for unit, count in units.items()]
    notes += [f"{count} rows are left out, since their column {name} says so" for name, count in rejected.items()]
    if other_texts:
        notes.append(
            f"the column text says something else than tokens, which are used, in {len(other_texts)} rows: "
            f"{', '.join(other_texts[:_NUM_LISTED])}"
        )
    unknown = [column for column in columns if column not in COLUMNS and column.casefold() not in VERDICTS]
    if unknown:
        notes.append(f"columns that are not used: {', '.join(unknown[:20])}{', ...' if len(unknown) > 20 else ''}")
    if source.tables.unused:
        notes.append(f"splits that are not used: {', '.join(source.tables.unused)}")
    keep_objects = not columns.keys().isdisjoint(OBJECT_COLUMNS)
    return Survey(labels, num_rows, ids, keep_objects, keep_texts, notes)


def _relations(file_names: Iterable[LabelNames], answers: Mapping[str, Counter[str]]) -> list[str]:
    """In the order of the source's class labels; others by name, the one of pairs between which none holds first."""
    named = [name for names in file_names for name in names.relations or ()]
    found = sorted(set().union(*answers.values()), key=lambda name: (name != NO_RELATION, name))
    return list(dict.fromkeys([*named, *found]))


def _types_and_tags(
    types: Sequence[str] | None, file_names: Iterable[LabelNames], answers: Mapping[str, Counter[str]]
) -> tuple[list[str], list[str]]:
    if types is not None:
        return list(types), bio_tags(types)
    named = [name for names in file_names for name in (*_types_of(names.tags or ()), *(names.types or ()))]
    types = list(dict.fromkeys([*named, *sorted(set().union(*answers.values()))]))
    tags = bio_tags(types)
    # The source's ids, where its tags are the same ones in another order.
    return types, next((names.tags for names in file_names if names.tags and sorted(names.tags) == sorted(tags)), tags)


def _types_of(tags: Iterable[str]) -> Iterator[str]:
    for tag in tags:
        try:
            _, entity_type = split_tag(tag)
        except ValueError:
            continue  # Rows that use it are skipped.
        if entity_type:
            yield entity_type


def _scheme_note(source: FileSource, detector: TagSchemeDetector) -> str:
    named = source.config.tag_scheme
    try:
        scheme = source.scheme or detector.scheme
    except ValueError as error:
        raise ValueError(
            f"{source.tables.root}: {error}. Correct the tags, or name the scheme (tag_scheme) to skip the rows of "
            "others."
        ) from error
    if not detector.prefixes:
        return "tags made of character spans"
    if scheme is None:
        return "the tag scheme cannot be told, for every tag is O"
    return f"tag scheme: {scheme}, {'as named' if named else 'as found'}; now IOB2"


def _answer_notes(kind: str, things: str, names: Iterable[str], answers: Mapping[str, Counter[str]]) -> Iterator[str]:
    """The label set with counts, and what of it cannot be learnt; `things` are what its labels are given to."""
    counts = [f"{name} {' / '.join(str(counts[name]) for counts in answers.values())}" for name in names]
    if not counts:
        yield f"no {kind.removesuffix(' type')} in any row"
        return
    yield f"{len(counts)} {kind}s, with {things} in {' / '.join(answers)}: {', '.join(counts)}"
    for split, counted in answers.items():
        if not counted:
            yield f"no {kind.removesuffix(' type')} in any row of {split}"
        for name in names:
            if "train" in answers and counted[name] and not answers["train"][name]:
                yield f"{kind} {name} has {counted[name]} {things} in {split} and none in train"


def _id_notes(ids: Mapping[str, set[str]]) -> Iterator[str]:
    """Ids of two splits: a row of both is learnt and then scored."""
    for one, other in itertools.combinations(ids, 2):
        shared = ids[one] & ids[other]
        if shared:
            yield f"{len(shared)} ids are in {one} and in {other}, {min(shared)!r:.80} for example: the same rows?"
