"""The first pass over the files of a data set of your own, which finds its label set."""

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from datasets import List

from processing.columns import OBJECT_COLUMNS, is_misnamed_image
from processing.labels import NO_RELATION, bio_tags, entity_spans
from processing.rows.loading_report import SkippedRow
from processing.rows.picture_files import PICTURE_ENDINGS
from processing.tokenizing import same_text

from .file_source import OTHER_COLUMNS, FileSource
from .forms import FORM_COLUMNS, REJECTED, VERDICTS, is_predicted
from .labelled_rows import COLUMNS, NO_LABELS, TEXT_COLUMNS, LabelledRow, LabelNames
from .tables import table_features
from .tag_schemes import TagSchemeDetector, split_tag, to_iob2


_NUM_LISTED = 5  # So many skipped rows are named for a split that has no others.
_NUM_COLUMNS = 100  # JSON may have other columns in every row; no more are remembered.


# What columns say of rows that are left out, beside that nobody accepted them.
_SAID: dict[str | None, str] = {
    "annotations": "nobody has annotated them",
    "problems": "a model tagged them and did not read all of their words (problems)",
}


class Survey:
    """
    What a first pass over all rows of a data set finds, before any is converted. Pictures are not read. A split other
    than train that has no labels is left out.

    Attributes:
        labels: the tags or the relations, in id order.
        num_rows, num_skipped: of each split, how many can be used, and how many cannot.
        ids: of each split, those that rows have in the source.
        keep_objects, keep_texts: whether the source has columns of objects, and whether a row has a text.
        has_several_images: whether a row has a list of pictures.
        num_contexts: how many rows have a context.
        notes: what is to be told.

    Raises:
        ValueError: for another split none of whose rows can be used, and for tags of no one scheme.
    """

    def __init__(self, source: FileSource):
        self.num_rows: dict[str, int] = {}
        self.num_skipped: dict[str, int] = {}
        self.ids: dict[str, set[str]] = {}
        self.keep_texts, self.has_several_images, self.num_contexts = False, False, 0
        self._source, self._detector = source, TagSchemeDetector()
        self._answers: dict[str, Counter[str]] = {}  # types of entities, or relations
        self._columns: dict[str, None] = {}  # They are kept in the order in which they appear.
        self._has_relations = False
        self._units: Counter[str] = Counter()
        self._other_texts: dict[tuple[str, str], list[str]] = {("text", "tokens"): [], ("tokens", "text"): []}
        self._rejected: Counter[str | None] = Counter()
        self._num_predicted = 0
        self._named_pictures: set[str] = set()  # columns of other names that hold paths of pictures
        left_out = []
        for split in source.tables.splits:
            skipped: list[SkippedRow] = []
            self.num_rows[split], self.ids[split], self._answers[split] = 0, set(), Counter()
            for where, row in source.rows(split, skipped, with_pictures=False):
                self._add(split, where, row)
            self.num_skipped[split] = len(skipped)
            self._rejected.update(row.problem.column for row in skipped if row.problem.kind == REJECTED)
            if not self.num_rows[split]:
                left_out.append(_left_out(source, split, skipped))
                del self.num_rows[split], self.ids[split], self._answers[split]
        paths = list(itertools.chain.from_iterable(source.tables.splits.values()))
        self._columns |= {name: None for path in paths for name in table_features(path) if name not in FORM_COLUMNS}
        # Of Parquet and Arrow no picture is read here.
        self.has_several_images |= any(isinstance(table_features(path).get("image"), List) for path in paths)
        self.keep_objects = not self._columns.keys().isdisjoint(OBJECT_COLUMNS)
        names = [LabelNames.of(path) for path in paths]
        if source.config.task == "re":
            self.labels = _relations(names, self._answers)
            self.notes = [*_answer_notes("relation", "pairs", self.labels, self._answers)]
        else:
            types, self.labels = _types_and_tags(source.config.entity_types, names, self._answers)
            self.notes = [_scheme_note(source, self._detector)]
            self.notes += _answer_notes("entity type", "entities", types, self._answers)
        self.notes += [*_id_notes(self.ids), *self._notes(left_out)]

    def _add(self, split: str, where: str, row: LabelledRow) -> None:
        self.num_rows[split] += 1
        self.keep_texts |= row.text is not None
        self.has_several_images |= isinstance(row.source.get("image"), list | tuple)
        self.num_contexts += bool(row.context)
        if row.has_own_id:
            self.ids[split].add(row.row_id)
        if row.pair is not None:
            self._answers[split][row.pair.relation] += 1
        else:
            self._answers[split].update(entity_type for entity_type, _, _ in entity_spans(to_iob2(row.tags)[0]))
            if row.is_tagged:
                self._detector.add(row.tags)
        self._has_relations = self._has_relations or bool(row.source.get("relations"))
        self._num_predicted += is_predicted(row.source)
        for name, value in row.source.items():
            if isinstance(value, str) and " " not in value and value.lower().endswith(PICTURE_ENDINGS):
                self._named_pictures.add(name)
        self._units.update(row.shifted)
        if len(self._columns) < _NUM_COLUMNS:
            self._columns |= dict.fromkeys(row.source)
        text, tokens, offsets = (row.source.get(name) for name in TEXT_COLUMNS)
        are_both = isinstance(tokens, list) and offsets is None
        if isinstance(text, str) and are_both and not same_text(text, "".join(map(str, tokens or ()))):
            self._other_texts[("text", "tokens") if row.text is None else ("tokens", "text")].append(where)

    def _notes(self, left_out: list[str]) -> Iterator[str]:
        if self._has_relations and self._source.config.task == "ner":
            yield "the relations between entities are not used; with the task re they are"
        yield from left_out
        if self.num_contexts:
            yield f"{self.num_contexts} rows have a context, which models with max_context_length read"
        for unit, count in self._units.items():
            yield f"the offsets of {count} spans were {unit}, as their own texts show"
        for name, count in self._rejected.items():
            said = _SAID.get(name, f"their column {name} says that nobody accepted them")
            yield f"{count} rows are left out, since {said}"
        if self._num_predicted:
            yield (
                f"{self._num_predicted} rows hold scores of a model: where nobody has corrected them, they are its "
                "predictions, and no gold"
            )
        for (other, used), places in self._other_texts.items():
            if places:
                said = f"the column {other} says something else than {used}, which are used, in {len(places)} rows: "
                yield f"{said}{', '.join(places[:_NUM_LISTED])}"
        known = {*COLUMNS, *VERDICTS} - set(FORM_COLUMNS)
        if unknown := [column for column in self._columns if not {column, column.casefold()} & known]:
            yield f"columns that are not used: {', '.join(unknown[:20])}{', ...' if len(unknown) > 20 else ''}"
        pictures = [name for name in unknown if name in self._named_pictures or is_misnamed_image(name)]
        if pictures and "image" not in self._columns:
            yield (
                f"NO PICTURE IS READ: they seem to be in the column {' or '.join(pictures)}, and pictures are read "
                "from the column image alone; rename it"
            )
        if self._source.tables.unused:
            yield f"splits that are not used: {', '.join(self._source.tables.unused)}"


def _left_out(source: FileSource, split: str, skipped: Sequence[SkippedRow]) -> str:
    """A note on a split of which no row can be used; where it cannot do without, it is a ValueError."""
    paths, kinds = source.tables.splits[split], {row.problem.kind for row in skipped}
    if split == "train" or not kinds or not kinds <= {NO_LABELS, REJECTED, OTHER_COLUMNS}:
        first = "".join(f"\n{row.where}: {row.problem}" for row in skipped[:_NUM_LISTED])
        listing = f"none of its {len(skipped)} rows can be used:{first}" if skipped else "it holds no rows."
        raise ValueError(f"{', '.join(paths)}: expected rows of the {split} split, but {listing}")
    reasons = ", or ".join(["have no labels", *sorted(kinds - {NO_LABELS})])
    files = ", ".join(os.path.relpath(path, source.tables.folder) for path in paths)
    return (
        f"the {split} split is left out, since its rows ({len(skipped)}) {reasons}; predict.py tags them with --input "
        f"{files}"
    )


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
        if shared := ids[one] & ids[other]:
            yield f"{len(shared)} ids are in {one} and in {other}: the same rows?"
