"""
What became of the rows that were tagged: counts of entities or relations, what was wrong with which rows, and the
entities by name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from processing.columns import PICTURE_COLUMNS
from processing.tagged_text import TaggedRelation, TaggedRow


MAX_EXAMPLES = 3
MAX_REASONS = 50  # an error of a library may name something else each time
OTHER_REASONS = "other reasons"

# What differs between two rows with the same thing wrong, in this order.
_DETAILS = (
    (re.compile(r"(?:, got |; words lie at ).*", re.DOTALL), ""),
    (re.compile(rf"^({'|'.join(PICTURE_COLUMNS)})( \d+)?: .*?: ", re.DOTALL), r"\1: "),  # the picture's name
    (re.compile(r"^(\w+: )['\"].*(?= is (?:empty|no ))", re.DOTALL), r"\1the text"),
    (re.compile(r"(['\"]).*\1", re.DOTALL), "..."),
    (re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"), "N"),
)


def reason_of(problem: str) -> str:
    """A problem without names, values and numbers, so that problems of one kind can be counted."""
    for pattern, replacement in _DETAILS:
        problem = pattern.sub(replacement, problem)
    return problem


@dataclass
class Finding:
    """How often something was wrong, and the first of them, each with its place."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def update(self, other: "Finding") -> None:
        self.count += other.count
        self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]


@dataclass
class PredictionReport:
    """
    Counts over rows.

    Attributes:
        found: what the model finds, and is counted: `entities`, `relations`, or both.
        rows: all of them; those that were not tagged are in `skipped`.
        without_entities: rows that were tagged and have none.
        entities: by type.
        relations: by name; of rows with a given pair the negative one too.
        skipped: rows that could not be tagged, by reason.
        problems: whatever else was wrong, by reason: pictures and crops left out, words cut off. The row is tagged.
        names: entities as they are spelt, by type. It grows with the number of distinct ones, all else does not.
        seconds: by stage, of all processes together.
    """

    found: Sequence[str] = ("entities",)
    rows: int = 0
    without_entities: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, Finding] = field(default_factory=dict)
    problems: dict[str, Finding] = field(default_factory=dict)
    names: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)

    @property
    def tagged(self) -> int:
        return self.rows - sum(finding.count for finding in self.skipped.values())

    def add(self, place: str, result: TaggedRow) -> None:
        """One row more."""
        self.rows += 1
        if isinstance(result, TaggedRelation):
            relations = [result] if result.is_tagged else []
        else:
            relations = result.get("relations", [])
            self._add_entities(result)
        self.relations.update(relation["relation"] for relation in relations)
        *others, last = result.get("problems") or [None]
        if not result.is_tagged:
            _count(self.skipped, place, last)
        elif last is not None:
            others.append(last)
        for problem in others:
            _count(self.problems, place, problem)

    def _add_entities(self, result: TaggedRow) -> None:
        self.without_entities += result.is_tagged and not result["entities"]
        for entity in result["entities"]:
            entity_type = entity["entity_group"]
            self.entities[entity_type] += 1
            self.names.setdefault(entity_type, Counter())[" ".join(entity["word"].split())] += 1

    def update(self, other: "PredictionReport", with_names: bool = True) -> None:
        """The rows of another report after those of this one; its names only where they are wanted."""
        self.rows += other.rows
        self.without_entities += other.without_entities
        self.entities.update(other.entities)
        self.relations.update(other.relations)
        self.seconds.update(other.seconds)
        for mine, others in ((self.skipped, other.skipped), (self.problems, other.problems)):
            for reason, finding in others.items():
                _finding(mine, reason).update(finding)
        for entity_type, names in other.names.items() if with_names else ():
            self.names.setdefault(entity_type, Counter()).update(names)

    def top_entities(self, number: int) -> dict[str, list[tuple[str, int]]]:
        """
        Of each type the most frequent entities and how often they occur, whatever their case; spelt as they are most
        often. Of equally frequent ones the first by the alphabet.
        """
        top = {}
        for entity_type, names in sorted(self.names.items()):
            counts: Counter[str] = Counter()
            spelling: dict[str, str] = {}
            for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0])):
                counts[name.casefold()] += count
                spelling.setdefault(name.casefold(), name)
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            top[entity_type] = [(spelling[name], count) for name, count in ranked[:number]]
        return top

    def to_dict(self) -> dict[str, Any]:
        findings = {
            name: {reason: asdict(finding) for reason, finding in getattr(self, name).items()}
            for name in ("skipped", "problems")
        }
        return {**vars(self), **findings}  # asdict() alone would not know a Counter

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PredictionReport":
        findings = {
            name: {reason: Finding(**finding) for reason, finding in values[name].items()}
            for name in ("skipped", "problems")
        }
        return cls(
            found=tuple(values["found"]),
            rows=values["rows"],
            without_entities=values["without_entities"],
            entities=Counter(values["entities"]),
            relations=Counter(values["relations"]),
            names={entity_type: Counter(names) for entity_type, names in values["names"].items()},
            seconds=Counter(values["seconds"]),
            **findings,
        )

    def published(self) -> dict[str, Any]:
        """The counts for a user to read, the most frequent first, without the names."""

        def by_count(findings: dict[str, Finding]) -> dict[str, Any]:
            return {
                reason: asdict(finding)
                for reason, finding in sorted(findings.items(), key=lambda item: -item[1].count)
            }

        return {
            "rows": self.rows,
            "tagged": self.tagged,
            **({"without_entities": self.without_entities} if "entities" in self.found else {}),
            **{name: dict(getattr(self, name).most_common()) for name in self.found},
            "skipped": by_count(self.skipped),
            "problems": by_count(self.problems),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }

    def summary(self) -> str:
        """The counts as lines."""
        counts = self.published()
        lines = [f"{self.rows} rows, {self.tagged} tagged"]
        if "entities" in self.found:
            lines[0] += f", {self.without_entities} of them without entities"
        for name in self.found:
            lines.append(f"{name}: {', '.join(f'{count} {of}' for of, count in counts[name].items()) or 'none'}")
        for name, what in (("skipped", "skipped"), ("problems", "tagged, but")):
            for reason, finding in counts[name].items():
                lines.append(f"{what}: {finding['count']} x {reason}")
                lines += [f"    {example}" for example in finding["examples"]]
        if self.seconds:
            stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in counts["seconds"].items())
            lines.append(f"seconds, of all processes: {stages}")
        return "\n".join(lines)


def top_lines(top: dict[str, list[tuple[str, int]]]) -> Iterable[str]:
    """A line a type."""
    return (f"{entity_type}: {', '.join(f'{name} {count}' for name, count in of)}" for entity_type, of in top.items())


def _count(findings: dict[str, Finding], place: str, problem: str) -> None:
    without_place = problem.removeprefix(f"{place}: ")
    _finding(findings, reason_of(without_place)).update(Finding(1, [f"{place}: {without_place}"]))


def _finding(findings: dict[str, Finding], reason: str) -> Finding:
    if reason not in findings and len(findings) >= MAX_REASONS:
        reason = OTHER_REASONS
    return findings.setdefault(reason, Finding())
