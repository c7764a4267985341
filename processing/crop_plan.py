"""What a crop preparation has to do: the pictures to look at, what to look for, and whose the output folder is."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets

from .object_proposals import FindPhrases, phrase_finder, relation_types, tag_types
from .parquet_folder import remove_unfinished, replacing


# Settings that tell the data and not the options apart.
DIGESTS = ("rows", "pictures")


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


def picture_id(source: dict[str, Any]) -> str:
    """Tells a picture from others, and a file from what it was before it changed."""
    if source.get("bytes") is not None:
        return hashlib.sha256(source["bytes"]).hexdigest()
    try:
        status = os.stat(source["path"])
    except OSError:
        return f"{source['path']} absent"
    return f"{source['path']} {status.st_size} {status.st_mtime_ns}"


def digest(*values: Any) -> str:
    """Of any values that JSON or `str` can write, the same in every process."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def without_folders(name: str) -> str:
    """A name on the Hub as it is; of a path the last part, for `crops.json` may be published with the rows."""
    return Path(name).resolve().name if os.path.exists(name) else name


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


def finished_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of a folder whose rows are finished, else None."""
    return _read_json(folder / "crops.json").get("settings")


def claim_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """
    Make the folder this run's.

    Raises:
        ValueError: for a folder that holds the rows of another data set or other settings, or other Parquet files.
        OSError: where it cannot be written.
    """
    path = folder / ".objects" / "settings.json"
    shards = sorted((folder / "data").glob("*.parquet"))
    earlier = _read_json(path) or finished_settings(folder)
    if earlier is None and shards and not overwrite:
        raise ValueError(
            f"{folder} holds Parquet files, and no record of how they were made: name another --output_dir, or "
            "replace them by --overwrite."
        )
    if earlier is not None and earlier != settings and shards and not overwrite:
        names = sorted(name for name in earlier | settings if earlier.get(name) != settings.get(name))
        changes = "; ".join(
            f"other {name}" if name in DIGESTS else f"{name}: {earlier.get(name)} before, {settings.get(name)} now"
            for name in names
        )
        raise ValueError(
            f"{folder} holds rows of another data set or of other settings ({changes}): name another --output_dir, or "
            "replace them by --overwrite."
        )
    if overwrite or earlier != settings:
        (folder / "crops.json").unlink(missing_ok=True)
        for shard in shards:
            shard.unlink()
        shutil.rmtree(folder / ".objects" / "unreadable", ignore_errors=True)
    for part in (folder, folder / "data", folder / ".objects"):
        remove_unfinished(part)
    with replacing(path) as file:
        file.write(json.dumps(settings, indent=2).encode())


def _read_json(path: Path) -> dict[str, Any]:
    """An object that `prepare_crops` wrote; nothing where there is none."""
    return json.loads(path.read_bytes()) if path.exists() else {}
