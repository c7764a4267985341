"""What a crop preparation has to do: the pictures to look at, what to look for, and whose the output folder is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from processing.jobs.digests import digest
from processing.phrases import FindPhrases, phrase_finder, relation_types, tag_types


@dataclass
class Task:
    """A picture to be looked at once, for all rows that have it with the same phrases."""

    key: str
    split: str
    row: int
    phrases: list[str] | None


@dataclass
class Plan:
    """What the main process decided, the same in all. `keys[kind][split]` are those of the rows' tasks."""

    folders: dict[str, Path] = field(default_factory=dict)
    keys: dict[str, dict[str, list[str | None]]] = field(default_factory=dict)
    batches: dict[str, list[list[Task]]] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    shards: list[tuple[str, int, int]] = field(default_factory=list)
    finished: bool = False


def cut_batches(
    pictures: dict[str, list[str | None]], phrases: dict[str, Sequence[list[str] | None]], batch_size: int
) -> tuple[list[list[Task]], dict[str, list[str | None]]]:
    """
    Tasks in row order, each once, in batches that stay within a split.

    Args:
        pictures: for each split, what [`picture_id`] gives for each row, None without a picture.
        phrases: for each split, what to look for in each row's picture, None for a detector of a closed set.
        batch_size: pictures a batch.

    Returns:
        The batches; and for each split the key of each row's task, None without a picture.
    """
    batches: list[list[Task]] = []
    keys: dict[str, list[str | None]] = {}
    seen: set[str] = set()
    for split, of_rows in pictures.items():
        keys[split] = []
        tasks: list[Task] = []
        for row, (picture, looked_for) in enumerate(zip(of_rows, phrases[split], strict=True)):
            if picture is None:
                keys[split].append(None)
                continue
            key = digest(picture, list(looked_for) if looked_for else None)
            keys[split].append(key)
            if key not in seen:
                seen.add(key)
                tasks.append(Task(key, split, row, looked_for))
        batches += [tasks[start : start + batch_size] for start in range(0, len(tasks), batch_size)]
    return batches, keys


def entity_types(features: datasets.Features) -> list[str]:
    """The types of entities that a data set's labels name: tags as B-PER, relations as /per/org/member_of."""
    if "ner_tags" in features:
        return tag_types(features["ner_tags"].feature.names)
    return relation_types(features["relation"].names) if "relation" in features else []


def phrase_source(
    given: list[str] | None, spacy_model: str | None, features: datasets.Features, name: str
) -> tuple[dict[str, Any], FindPhrases]:
    """
    Where grounding phrases come from, see [`phrase_finder`].

    Args:
        given, spacy_model: as there.
        features: of the data set, whose labels name entity types.
        name: of the data set.

    Raises:
        ValueError: for labels that name no entity types, and a model that finds no noun phrases.
        ImportError: for spaCy or a model that is not installed.
    """
    types = entity_types(features)
    if given is None and not types:
        raise ValueError(f"The labels of {name!r} name no entity types: say what to look for by --phrases.")
    return phrase_finder(given, spacy_model, types)
