"""What a builder loaded, and what it could not: counts, and every picture, row and span by name."""

import re
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple


COUNTS = (
    "rows",
    *("rows_skipped", "spans_moved", "tags_normalised"),
    *("images", "aux_crops", "rcnn_crops"),
    *("rows_without_image", "rows_without_aux_crops", "rows_without_rcnn_crops"),
    *("images_missing", "images_unreadable", "images_outside"),
    *("crops_missing", "crops_unreadable", "crops_outside", "crops_surplus"),
)


class AbsentPicture(NamedTuple):
    """A picture that the source names and that no row has. `path` is relative to the source where it lies below."""

    row_id: str
    path: str
    reason: str


class SkippedRow(NamedTuple):
    """A row of the source that the data set has not. `where` is file:line, or file and row number."""

    where: str
    reason: str


class MovedSpan(NamedTuple):
    """An entity whose characters are not whole words, and the words it was given."""

    where: str
    span: str
    words: str


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
    """What of a source was loaded and what is absent, by split; `notes` are what holds for it as a whole."""

    splits: dict[str, SplitReport] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

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
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LoadingReport":
        splits = {
            name: SplitReport(
                counts=dict(split["counts"]),
                absent=[AbsentPicture(*picture) for picture in split["absent"]],
                skipped=[SkippedRow(*row) for row in split["skipped"]],
                moved=[MovedSpan(*span) for span in split["moved"]],
            )
            for name, split in values["splits"].items()
        }
        return cls(splits, list(values["notes"]))

    def __str__(self) -> str:
        return self.summary()

    def summary(self, max_listed: int = 20, path: str | None = None) -> str:
        """
        A line per split, the notes, and of each kind of finding the first `max_listed`.

        Args:
            path: of the file that holds the report, named where findings are left out. See `without_path`.
        """
        lines = []
        for name, split in self.splits.items():
            counts = [f"{count} {what.replace('_', ' ')}" for what, count in split.counts.items() if count]
            lines.append(f"{name}: {', '.join(counts) or 'nothing'}")
        lines += self.notes
        findings = {
            "absent": [f"{picture.row_id}: {picture.path}: {picture.reason}" for picture in self.absent],
            "skipped": [f"{row.where}: skipped: {row.reason}" for row in self.skipped],
            "moved": [f"{span.where}: {span.span!r} became {span.words!r}" for span in self.moved],
        }
        for name, listed in findings.items():
            lines += listed[:max_listed]
            if len(listed) > max_listed:
                where = "the report's" if path is None else f"{path},"
                lines.append(f"and {len(listed) - max_listed} more, all of them in {where} `{name}`")
        return "\n".join(lines)


def without_path(text: str) -> str:
    """A summary without the file of this machine that it may name, to be published."""
    return re.sub(r"^(and \d+ more), all of them in .*`\w+`$", r"\1", text, flags=re.MULTILINE)
