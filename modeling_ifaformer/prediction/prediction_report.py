"""What became of the rows that were tagged: counts, what was wrong with which rows, and the most frequent entities."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from processing.tagged_text import TaggedRow


MAX_EXAMPLES = 3


@dataclass
class PredictionReport:
    """
    Counts over the rows of a bulk prediction.

    Attributes:
        found: what the models find: `entities`, `relations`, or both.
        rows: the number of all rows.
        without_entities: the number of rows that were tagged and have no entity.
        entities: their number by type.
        left_out: the number of entities by type, and of relations by name, whose score is below the threshold.
        relations: their number by name. For rows with a given head and tail the negative relation is counted too.
        skipped: the number of rows that could not be tagged, by column and kind of the problem.
        problems: the number of other problems, in the same way: pictures and crops left out, words cut off.
        examples: the first problems of each column and kind as sentences, with the places of their rows.
        names: the number of entities by type and by how they are spelt; None where that is not counted. This alone
            grows with the number of distinct entities.
        seconds: of wall time by stage, the sum over all processes.
        rows_per_second: rows that this run tagged in a second; None where it tagged none, or wrote to no file.
    """

    found: Sequence[str] = ("entities",)
    rows: int = 0
    without_entities: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    relations: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    names: dict[str, Counter[str]] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    rows_per_second: float | None = None

    @property
    def tagged(self) -> int:
        """The number of rows that were tagged."""
        return self.rows - self.skipped.total()

    def add(self, place: str, result: TaggedRow) -> None:
        """Count one more row, which comes from `place`."""
        self.rows += 1
        relations: Sequence[Mapping[str, Any]] = [result] if result.is_tagged else []
        if "entities" in self.found:
            relations = result.get("relations", [])
            self.without_entities += result.is_tagged and not result["entities"]
            for entity in result["entities"]:
                entity_type = entity["entity_group"]
                self.entities[entity_type] += 1
                if self.names is not None:
                    self.names.setdefault(entity_type, Counter())[" ".join(entity["word"].split())] += 1
        self.relations.update(relation["relation"] for relation in relations)
        self.left_out.update(result.left_out)
        for index, problem in enumerate(result.found_problems, start=1):
            reason = f"{problem.column}: {problem.kind}" if problem.column else problem.kind
            # The last one says why a row was not tagged.
            is_why = not result.is_tagged and index == len(result.found_problems)
            (self.skipped if is_why else self.problems)[reason] += 1
            self._add_examples(reason, [f"{place}: {problem}"])

    def _add_examples(self, reason: str, examples: Sequence[str]) -> None:
        self.examples[reason] = [*self.examples.get(reason, ()), *examples][:MAX_EXAMPLES]

    def update(self, other: Mapping[str, Any]) -> None:
        """Count the rows of another report after those of this one; `other` is its `vars`, or JSON of them."""
        self.rows += other["rows"]
        self.without_entities += other["without_entities"]
        for name in ("entities", "relations", "left_out", "skipped", "problems"):
            getattr(self, name).update(other[name])
        for reason, examples in other["examples"].items():
            self._add_examples(reason, examples)
        for entity_type, names in (other["names"] or {}).items() if self.names is not None else ():
            self.names.setdefault(entity_type, Counter()).update(names)
        for stage, seconds in other["seconds"].items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def top_entities(self, number: int) -> dict[str, dict[str, int]]:
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
            top[entity_type] = {spelling[name]: count for name, count in ranked[:number]}
        return top

    def to_dict(self, top_entities: int | None = None) -> dict[str, Any]:
        """The counts for a user to read, the most frequent first, with so many entities of each type."""
        return {
            "rows": self.rows,
            "tagged": self.tagged,
            **({"without_entities": self.without_entities} if "entities" in self.found else {}),
            **{name: dict(getattr(self, name).most_common()) for name in self.found},
            **({"left_out": dict(self.left_out.most_common())} if self.left_out else {}),
            **{
                name: {
                    reason: {"count": number, "examples": self.examples[reason]}
                    for reason, number in getattr(self, name).most_common()
                }
                for name in ("skipped", "problems")
            },
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "rows_per_second": self.rows_per_second,
            **({} if top_entities is None else {"top_entities": self.top_entities(top_entities)}),
        }

    def summary(self, top_entities: int | None = None) -> str:
        """The counts as lines, with so many entities of each type."""
        lines = [f"{self.rows} rows, {self.tagged} tagged"]
        if "entities" in self.found:
            lines[0] += f", {self.without_entities} of them without entities"
        for name in self.found:
            counts = ", ".join(f"{count} {of}" for of, count in getattr(self, name).most_common())
            lines.append(f"{name}: {counts or 'none'}")
        if self.left_out:
            counts = ", ".join(f"{count} {of}" for of, count in self.left_out.most_common())
            lines.append(f"left out, with a score below the threshold: {counts}")
        for what, reasons in (("skipped", self.skipped), ("tagged, but", self.problems)):
            for reason, number in reasons.most_common():
                lines.append(f"{what}: {number} x {reason}")
                lines += [f"    {example}" for example in self.examples[reason]]
        if self.seconds:
            stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self.seconds.items())
            lines.append(f"seconds, the sum over all processes: {stages}")
        if self.rows_per_second is not None:
            lines.append(f"{self.rows_per_second} rows a second")
        for entity_type, names in self.top_entities(top_entities or 0).items():
            lines.append(f"{entity_type}: {', '.join(f'{name} {count}' for name, count in names.items())}")
        return "\n".join(lines)
