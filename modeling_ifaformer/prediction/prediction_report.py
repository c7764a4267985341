"""What became of the rows that were tagged: counts, what was wrong with which rows, and the most frequent entities."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from processing.problems import Problem
from processing.tagged_text import TaggedRow


MAX_EXAMPLES = 3


@dataclass
class ProblemCount:
    """How many times a kind of problem occurs in a column, and the first of these problems, each with its place."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def update(self, other: "ProblemCount") -> None:
        self.count += other.count
        self.examples = (self.examples + other.examples)[:MAX_EXAMPLES]


Problems = dict[str, ProblemCount]  # by column and kind


@dataclass
class PredictionReport:
    """
    Counts over the rows of a bulk prediction.

    Attributes:
        found: what the models find: `entities`, `relations`, or both.
        rows: the number of all rows; those that were not tagged are in `skipped`.
        without_entities: the number of rows that were tagged and have no entity.
        entities: their number by type.
        relations: their number by name. For rows with a given head and tail the negative relation is counted too.
        skipped: rows that could not be tagged, by column and kind of the problem.
        problems: whatever else was wrong, in the same way: pictures and crops left out, words cut off.
        names: entities as they are spelt, by type; None where they are not counted. This alone grows with the number
            of distinct entities.
        seconds: of wall time by stage, the sum over all processes.
        rows_per_second: rows that this run tagged in a second; None where it tagged none, or wrote to no file.
    """

    found: Sequence[str] = ("entities",)
    rows: int = 0
    without_entities: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    skipped: Problems = field(default_factory=dict)
    problems: Problems = field(default_factory=dict)
    names: dict[str, Counter[str]] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    rows_per_second: float | None = None

    @property
    def tagged(self) -> int:
        """The number of rows that were tagged."""
        return self.rows - sum(problem.count for problem in self.skipped.values())

    def add(self, place: str, result: TaggedRow) -> None:
        """Count one more row, which comes from `place`."""
        self.rows += 1
        if "entities" in self.found:
            self._add_entities(result)
            relations = result.get("relations", [])
        else:
            relations = [result] if result.is_tagged else []
        self.relations.update(relation["relation"] for relation in relations)
        # Until results of all pipelines have their problems as values.
        left_out = list(getattr(result, "found_problems", map(Problem, result.get("problems", []))))
        if not result.is_tagged:
            _count(self.skipped, place, left_out.pop())
        for problem in left_out:
            _count(self.problems, place, problem)

    def _add_entities(self, result: TaggedRow) -> None:
        self.without_entities += result.is_tagged and not result["entities"]
        for entity in result["entities"]:
            entity_type = entity["entity_group"]
            self.entities[entity_type] += 1
            if self.names is not None:
                self.names.setdefault(entity_type, Counter())[" ".join(entity["word"].split())] += 1

    def update(self, other: "PredictionReport") -> None:
        """Count the rows of another report after those of this one."""
        self.rows += other.rows
        self.without_entities += other.without_entities
        self.entities.update(other.entities)
        self.relations.update(other.relations)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        for mine, others in ((self.skipped, other.skipped), (self.problems, other.problems)):
            for reason, problem in others.items():
                mine.setdefault(reason, ProblemCount()).update(problem)
        if self.names is not None:
            for entity_type, names in (other.names or {}).items():
                self.names.setdefault(entity_type, Counter()).update(names)

    def top_entities(self, number: int) -> dict[str, list[tuple[str, int]]]:
        """
        The most frequent entities of each type and how often they occur, upper and lower case taken as one; spelt as
        they are most often. Equally frequent ones stand in the order of the alphabet.
        """
        top = {}
        for entity_type, names in sorted((self.names or {}).items()):
            counts: Counter[str] = Counter()
            spelling: dict[str, str] = {}
            for name, count in sorted(names.items(), key=lambda item: (-item[1], item[0])):
                counts[name.casefold()] += count
                spelling.setdefault(name.casefold(), name)
            ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            top[entity_type] = [(spelling[name], count) for name, count in ranked[:number]]
        return top

    def to_dict(self) -> dict[str, Any]:
        """All attributes as JSON takes them, see [`from_dict`]."""
        return json.loads(json.dumps(self, default=vars))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PredictionReport":
        """The report of [`to_dict`]."""
        names = values["names"]
        return cls(
            **values
            | {name: Counter(values[name]) for name in ("entities", "relations")}
            | {
                name: {reason: ProblemCount(**problem) for reason, problem in values[name].items()}
                for name in ("skipped", "problems")
            }
            | {"names": names and {entity_type: Counter(of_type) for entity_type, of_type in names.items()}}
        )

    def published(self, top_entities: int | None = None) -> dict[str, Any]:
        """The counts for a user to read, the most frequent first, with so many entities of each type."""

        def by_count(problems: Problems) -> dict[str, Any]:
            ranked = sorted(problems.items(), key=lambda item: -item[1].count)
            return {reason: asdict(problem) for reason, problem in ranked}

        values = {
            "rows": self.rows,
            "tagged": self.tagged,
            **({"without_entities": self.without_entities} if "entities" in self.found else {}),
            **{name: dict(getattr(self, name).most_common()) for name in self.found},
            "skipped": by_count(self.skipped),
            "problems": by_count(self.problems),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "rows_per_second": self.rows_per_second,
        }
        if top_entities is not None:
            top = self.top_entities(top_entities)
            values["top_entities"] = {entity_type: dict(of_type) for entity_type, of_type in top.items()}
        return values

    def summary(self, top_entities: int | None = None) -> str:
        """The counts as lines, with so many entities of each type."""
        counts = self.published(top_entities)
        lines = [f"{self.rows} rows, {self.tagged} tagged"]
        if "entities" in self.found:
            lines[0] += f", {self.without_entities} of them without entities"
        for name in self.found:
            lines.append(f"{name}: {', '.join(f'{count} {of}' for of, count in counts[name].items()) or 'none'}")
        for name, what in (("skipped", "skipped"), ("problems", "tagged, but")):
            for reason, problem in counts[name].items():
                lines.append(f"{what}: {problem['count']} x {reason}")
                lines += [f"    {example}" for example in problem["examples"]]
        if self.seconds:
            stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in counts["seconds"].items())
            lines.append(f"seconds, the sum over all processes: {stages}")
        if self.rows_per_second is not None:
            lines.append(f"{self.rows_per_second} rows a second")
        for entity_type, names in counts.get("top_entities", {}).items():
            lines.append(f"{entity_type}: {', '.join(f'{name} {count}' for name, count in names.items())}")
        return "\n".join(lines)


def _count(problems: Problems, place: str, problem: Problem) -> None:
    reason = f"{problem.column}: {problem.kind}" if problem.column else problem.kind
    problems.setdefault(reason, ProblemCount()).update(ProblemCount(1, [f"{place}: {problem}"]))
