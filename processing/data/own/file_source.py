"""The files of a data set of your own: how they are read, and the rows that can be used."""

import functools
import itertools
import os
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from processing.columns import OBJECT_COLUMNS
from processing.problems import Problem, ProblemError
from processing.rows.loading_report import SkippedRow
from processing.rows.reporting_builder import ReportingBuilderConfig

from .conll_tables import num_columns
from .find_tables import Tables
from .forms import REJECTED, VERDICTS, in_our_columns, rejection
from .labelled_rows import (
    COLUMNS,
    LABEL_COLUMNS,
    LabelledRow,
    LabelNames,
    check_spans_of,
    read_labelled_row,
    read_pairs,
)
from .tables import CONLL_ENDINGS, ending_of, placed_rows, read_table, table_features
from .tag_schemes import inside, is_bare_type, split_tag


OTHER_COLUMNS = "the CoNLL files must have the same number of columns: which one has the tags cannot be told else"


@dataclass
class FileMNERConfig(ReportingBuilderConfig):
    """
    How the files of a data set are read.

    Attributes:
        image_dir: pictures are named relative to it and stay below it; None is the data set's folder, the one that
            holds it where it is a file.
        tag_scheme: of `TAG_SCHEMES`; None finds it out.
        entity_types: the types there are, in id order; rows with others are skipped. None takes all that occur, sorted
            or in the order of the source's class labels.
        word_splitter: how texts become words, see [`split_words`].
        strict: stop at the first row that cannot be used, rather than skip it. One that says of itself that it is no
            gold is left out all the same.
        task: `ner`, or `re` for rows of pairs of entities, see [`read_pairs`].
    """

    image_dir: str | None = None
    tag_scheme: str | None = None
    entity_types: Sequence[str] | None = None
    word_splitter: str = "unicode"
    strict: bool = False
    task: str = "ner"


@dataclass(frozen=True)
class FileSource:
    """The files of a data set, and how they are read."""

    tables: Tables
    config: FileMNERConfig

    @functools.cached_property
    def scheme(self) -> str | None:
        """
        The tag scheme that is named. Without a name it is IO where some tags are `O` and the others are bare types,
        and else None: single rows do not tell it. Reading goes as far as the first tag that is neither.
        """
        if self.config.tag_scheme is not None:
            return self.config.tag_scheme
        seen = set()
        for path in itertools.chain.from_iterable(self.tables.splits.values()):
            names = LabelNames.of(path).tags
            for _, row in read_table(path, ["ner_tags", "tags"]):
                tags = None if isinstance(row, Problem) else row.get("ner_tags") or row.get("tags")
                for tag in tags if isinstance(tags, list) else ():
                    if type(tag) is int and names and 0 <= tag < len(names):
                        tag = names[tag]
                    if not isinstance(tag, str) or not is_bare_type(tag):
                        return None
                    seen.add(tag)
        return "IO" if "O" in seen and len(seen) > 1 else None

    @functools.cached_property
    def num_columns(self) -> int:
        """Of the first CoNLL file with tags how many columns it has, 0 where there is none."""
        paths = itertools.chain.from_iterable(self.tables.splits.values())
        numbers = (num_columns(path) for path in paths if ending_of(path) in CONLL_ENDINGS)
        return next((number for number in numbers if number > 1), 0)

    def rows(
        self, split: str, skipped: list[SkippedRow], with_pictures: bool, ids: Container[str] = ()
    ) -> Iterator[tuple[str, LabelledRow]]:
        """
        Rows of a split that can be used, and where they are; the others are added to `skipped`, or end in a ValueError
        with `config.strict`. `ids` are all that rows have in the source; a row without one gets another.
        """
        places: dict[str, str] = {}  # It holds where each id was seen first.
        index = -1
        for path in self.tables.splits[split]:
            names = LabelNames.of(path)
            has_other_columns = ending_of(path) in CONLL_ENDINGS and num_columns(path) != self.num_columns
            shown = os.path.relpath(path, self.tables.folder)
            # Pictures are most of a file that holds them; a pass that needs none does not read them.
            columns = COLUMNS if with_pictures else (*LABEL_COLUMNS, *OBJECT_COLUMNS)
            verdicts = [name for name in table_features(path) if name.casefold() in VERDICTS]
            for where, row in placed_rows(path, shown, (*columns, *verdicts)):
                index += 1
                try:
                    if isinstance(row, Problem):
                        raise ProblemError(row)
                    if has_other_columns and "ner_tags" in row:
                        details = f"({shown} has {num_columns(path)}, and others have {self.num_columns})"
                        raise ProblemError(Problem(OTHER_COLUMNS, details=details))
                    row = in_our_columns(row)
                    if (verdict := rejection(row)) is not None:
                        raise ProblemError(verdict)
                    row_id = _new_id(f"{split}-{index}", ids)
                    read = (row, row_id, names, self.config.word_splitter)
                    found = [read_labelled_row(*read)] if self.config.task == "ner" else read_pairs(*read)
                    for number, labelled in enumerate(found):
                        _check_tags(labelled, self.scheme, self.config.entity_types)
                        if labelled.is_tagged and self.scheme == "IO":
                            found[number] = labelled._replace(tags=[inside(tag) for tag in labelled.tags])
                        check_spans_of(found[number], names)
                        if labelled.has_own_id and places.setdefault(labelled.row_id, where) != where:
                            details = f"({labelled.row_id!r} is also at {places[labelled.row_id]})"
                            raise ProblemError(Problem("must be another one in each row", "id", details=details))
                except ProblemError as error:
                    if self.config.strict and error.problem.kind != REJECTED:
                        where = os.path.join(self.tables.folder, where)
                        raise ValueError(
                            f"{where}: {error}. Correct the row, or load without strict to skip it."
                        ) from error
                    skipped.append(SkippedRow(where, error.problem))
                else:
                    yield from ((where, labelled) for labelled in found)


def task_of(tables: Tables, wanted: str | None) -> str:
    """
    What the first row that can be read is for: `re` if it is a pair, which has a `relation`; also if it has entities
    and `relations` between them, where `re` is wanted; else `ner`.
    """
    for path in itertools.chain.from_iterable(tables.splits.values()):
        for _, row in read_table(path, LABEL_COLUMNS):
            with suppress(ProblemError):
                row = row if isinstance(row, Problem) else in_our_columns(row)
            if isinstance(row, dict):
                is_pair = row.get("relation") is not None
                return "re" if is_pair or (wanted == "re" and row.get("relations") is not None) else "ner"
    return "ner"


def _check_tags(row: LabelledRow, scheme: str | None, entity_types: Sequence[str] | None) -> None:
    column = "ner_tags" if row.is_tagged else None
    for tag in set(row.tags):
        try:
            _, entity_type = split_tag(tag, scheme if row.is_tagged else None)
        except ValueError as error:
            raise ProblemError(Problem("a tag does not belong to the scheme", column, details=f"({error})")) from error
        if entity_type and entity_types is not None and entity_type not in entity_types:
            details = f"({entity_type!r} is none of {', '.join(entity_types)})"
            raise ProblemError(Problem("an entity type is unknown", column, details=details))


def _new_id(row_id: str, ids: Container[str]) -> str:
    """For a row that has none: no other row's."""
    candidates = itertools.chain([row_id], (f"{row_id}-{number}" for number in itertools.count(2)))
    return next(candidate for candidate in candidates if candidate not in ids)
