"""What a builder loaded, and what it could not load: counts, and every picture, row and span by name."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from processing.problems import Problem, visible

from .local_paths import without_folders


MAX_LISTED = 20  # of each kind of findings

COUNTS = (
    "rows",
    *("rows_skipped", "spans_moved", "tags_normalised"),
    *("images", "aux_crops", "rcnn_crops"),
    *("rows_without_image", "rows_without_aux_crops", "rows_without_rcnn_crops"),
    *("images_missing", "images_unreadable", "images_outside"),
    *("crops_missing", "crops_unreadable", "crops_outside", "crops_surplus"),
)


class AbsentPicture(NamedTuple):
    """
    A picture that the source names and that no row has. `path` is relative to the source where it lies below it; the
    problem has the column, and of crops the item.
    """

    row_id: str
    path: str
    problem: Problem

    @property
    def published(self) -> str:
        return f"{without_folders(self.row_id)}: {self.problem.published}"

    def __str__(self) -> str:
        # The path stands between the place and what is wrong there.
        said = replace(self.problem, column=None, item=None)
        return ": ".join(filter(None, (self.row_id, self.problem.place, self.path, str(said))))


class SkippedRow(NamedTuple):
    """A row of the source that the data set does not have. `where` is file:line, or file and row number."""

    where: str
    problem: Problem

    @property
    def published(self) -> str:
        return f"{self.where}: skipped: {self.problem.published}"

    def __str__(self) -> str:
        return f"{self.where}: skipped: {self.problem}"


class MovedSpan(NamedTuple):
    """An entity whose characters are not whole words, and the words that it was given."""

    where: str
    span: str
    words: str

    @property
    def published(self) -> str:
        return f"{self.where}: the characters of an entity are not whole words, and it was given whole ones"

    def __str__(self) -> str:
        return f"{self.where}: {self.span!r} became {self.words!r}"


@dataclass
class SplitReport:
    """
    What was loaded for one split and what is absent, counted row by row: a picture of two rows counts twice.

    `images`, `aux_crops` and `rcnn_crops` are loaded; `outside` are those that the source looks for outside their
    folder; `crops_surplus` are listed beyond the number asked for, and not looked for.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    absent: list[AbsentPicture] = field(default_factory=list)
    skipped: list[SkippedRow] = field(default_factory=list)
    moved: list[MovedSpan] = field(default_factory=list)


@dataclass
class LoadingReport:
    """
    What of a source was loaded and what is absent. It is false where there is nothing to tell.

    Printed, it says what stood where something is wrong, and names the file of this machine that holds all of it.
    Cards and pages show `published()`, which names rows, columns and kinds of problems, and has no value of a row and
    no path of this machine.

    Attributes:
        splits: the report of each split.
        notes: what holds for the source as a whole.
        path: of the JSON file that holds the report, None where the rows were not prepared on the disk.
    """

    splits: dict[str, SplitReport] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    path: str | None = field(default=None, compare=False)

    def __bool__(self) -> bool:
        return bool(self.splits or self.notes)

    @property
    def absent(self) -> list[AbsentPicture]:
        return [picture for split in self.splits.values() for picture in split.absent]

    @property
    def skipped(self) -> list[SkippedRow]:
        return [row for split in self.splits.values() for row in split.skipped]

    @property
    def moved(self) -> list[MovedSpan]:
        return [span for split in self.splits.values() for span in split.moved]

    def to_dict(self) -> dict[str, Any]:
        return {"splits": {name: asdict(split) for name, split in self.splits.items()}, "notes": self.notes}

    @classmethod
    def from_dict(cls, values: dict[str, Any], path: str | None = None) -> "LoadingReport":
        splits = {
            name: SplitReport(
                counts=dict(split["counts"]),
                absent=[AbsentPicture(row_id, name, Problem(**problem)) for row_id, name, problem in split["absent"]],
                skipped=[SkippedRow(where, Problem(**problem)) for where, problem in split["skipped"]],
                moved=[MovedSpan(*span) for span in split["moved"]],
            )
            for name, split in values["splits"].items()
        }
        return cls(splits, list(values["notes"]), path)

    def __str__(self) -> str:
        return self._lines(str, self.path)

    def published(self) -> str:
        """The report as it can be published: a line per split, the notes, and the first findings of each kind."""
        return self._lines(lambda finding: finding.published)

    def _lines(self, say: Callable[[Any], str], path: str | None = None) -> str:
        lines = []
        for name, split in self.splits.items():
            counts = [f"{count} {what.replace('_', ' ')}" for what, count in split.counts.items() if count]
            lines.append(f"{name}: {', '.join(counts) or 'nothing'}")
        lines += self.notes
        for name in ("absent", "skipped", "moved"):
            found = getattr(self, name)
            lines += map(say, found[:MAX_LISTED])
            if len(found) > MAX_LISTED:
                more = f"and {len(found) - MAX_LISTED} more"
                lines.append(more if path is None else f"{more}, all of them in {path}, `{name}`")
        return "\n".join(map(visible, lines))
