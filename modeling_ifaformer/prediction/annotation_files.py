"""
Results as files that annotation tools import, for people to correct and to complete. What these export afterwards is a
data set of one's own, see [`processing.data.own.forms`].
"""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from transformers.utils import logging

from processing.columns import PICTURE_COLUMNS
from processing.context import CONTEXT
from processing.data.own.tables import read_table
from processing.images import is_address
from processing.jobs.atomic_files import replacing
from processing.jobs.processes import JobError
from processing.problems import Problem

from .input_rows import RowSource


logger = logging.get_logger(__name__)

Result = Mapping[str, Any]  # a line of the output


OF_ROW = ("id", "text", *PICTURE_COLUMNS, CONTEXT)  # what a result has of its row


def annotation_path(output: Path, to: str | None) -> Path:
    """The file that [`write_annotation_file`] writes beside the output."""
    return output.with_name(output.name + (TOOLS[to][0] if to else ".least_certain.jsonl"))


def write_annotation_file(
    source: RowSource, output: Path, to: str | None, model: str, least_certain: int | None = None
) -> int:
    """
    Write the results of a finished bulk prediction, with the names of their pictures, to [`annotation_path`]. Rows
    without a text are left out. Pictures that the input holds as bytes have no names: a warning counts their rows.

    Args:
        source: the rows that were tagged.
        output: the file of the results, which have a `confidence` where the least certain ones are wanted.
        to: the tool, one of `TOOLS`; None for lines as those of the output.
        model: the name of the model, for Label Studio.
        least_certain: write so many rows, those with the lowest confidence, the lowest first; None for all rows in
            their order.

    Returns:
        How many rows were written.

    Raises:
        JobError: where the rows are others than those of the output.
        OSError, ValueError: for an output that cannot be read, and a file that cannot be written.
    """
    num_held: Counter[str] = Counter()
    results = _results_with_pictures(source, output, num_held)
    if least_certain is not None:
        sure = (result for result in results if result.get("confidence") is not None)
        results = iter(heapq.nsmallest(least_certain, sure, key=lambda result: result["confidence"]))
    count, as_record = 0, TOOLS[to][1] if to else (lambda result, model: result)
    with replacing(annotation_path(output, to)) as file:
        for count, result in enumerate(results, start=1):
            line = json.dumps(as_record(result, model), ensure_ascii=False, default=str)
            if to == "label_studio":  # It imports an array, not lines.
                line = f"{'[' if count == 1 else ','}{line}"
            file.write(f"{line}\n".encode())
        if to == "label_studio":
            file.write(b"]\n" if count else b"[]\n")
    if num_held:
        counts = ", ".join(f"{name} of {number} rows" for name, number in num_held.items())
        logger.warning(
            f"{annotation_path(output, to)} is without the pictures that the input holds as bytes: {counts}. To show "
            "them in the tool, save them as files, and name their paths in the input."
        )
    return count


def _results_with_pictures(source: RowSource, output: Path, num_held: Counter[str]) -> Iterator[Result]:
    """The results that have a text; rows with pictures that are no files of their own are counted by the column."""
    for row, read in zip_longest(source.read(), read_table(output)):
        if row is None or read is None or isinstance(read[1], Problem):
            raise JobError(f"{output} does not have the rows of the input. Make it anew with overwrite.")
        result = {name: value for name, value in read[1].items() if value is not None}
        if result.get("text"):
            num_held.update(name for name in PICTURE_COLUMNS if row.columns.get(name) and name not in row.pictures)
            yield result | dict(row.pictures)


def label_studio_task(result: Result, model: str) -> dict[str, Any]:
    """
    A task with its predictions, https://labelstud.io/guide/predictions: the entities for a `Labels` control called
    `label` on a `Text` called `text`, whose value is `$text`; the picture is `$image`. A path becomes that of a file
    in local storage, https://labelstud.io/guide/storage#Local-storage, below the folder of the pictures.
    """
    text, entities, relations = result["text"], *_entities_and_relations(result)
    data = {name: result[name] for name in OF_ROW if name in result}
    if "image" in data:
        given = data["image"]
        data["image"] = [_local_file(path) for path in given] if isinstance(given, list) else _local_file(given)
    marks: list[dict[str, Any]] = [
        {
            "id": str(place),
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {"start": start, "end": end, "text": text[start:end], "labels": [label]},
            **({} if score is None else {"score": score}),
        }
        for place, (start, end, label, score) in enumerate(entities)
    ]
    marks += [
        {"type": "relation", "from_id": str(head), "to_id": str(tail), "direction": "right", "labels": [relation]}
        for head, tail, relation in relations
    ]
    scores = [score for *_, score in entities if score is not None]
    score = result.get("confidence", sum(scores) / len(scores) if scores else None)
    prediction = {"model_version": model, **({} if score is None else {"score": score}), "result": marks}
    return {"data": data, "predictions": [prediction]}


def doccano_document(result: Result, model: str) -> dict[str, Any]:
    """
    A line of doccano's JSONL: `label` for a project of sequence labelling, or `entities` and `relations` where these
    are looked for, see the import and export formats at https://doccano.github.io/doccano/tutorial.
    """
    rest = {name: result[name] for name in OF_ROW if name in result}
    entities, relations = _entities_and_relations(result)
    if "entities" in result and "relations" not in result:
        return rest | {"label": [[start, end, label] for start, end, label, _ in entities]}
    return rest | {
        "entities": [
            {"id": place, "label": label, "start_offset": start, "end_offset": end}
            for place, (start, end, label, _) in enumerate(entities)
        ],
        "relations": [
            {"id": number, "from_id": head, "to_id": tail, "type": relation}
            for number, (head, tail, relation) in enumerate(relations)
        ],
    }


# The ending of the file of each tool, and how a result is written there.
TOOLS: dict[str, tuple[str, Callable[[Result, str], Result]]] = {
    "label_studio": (".label_studio.json", label_studio_task),
    "doccano": (".doccano.jsonl", doccano_document),
}


Entity = tuple[int, int, str, float | None]  # start, end, label and score


def _entities_and_relations(result: Result) -> tuple[list[Entity], list[tuple[int, int, str]]]:
    """
    The entities, and `(head, tail, relation)` with places in these. The two entities that a relation model was asked
    about have no type: they are labelled `head` and `tail`.
    """
    entities: list[Entity]
    if "relation" in result:
        entities = [(result[name]["start"], result[name]["end"], name, None) for name in ("head", "tail")]
        return entities, [(0, 1, result["relation"])]
    entities = [
        (entity["start"], entity["end"], entity["entity_group"], entity["score"])
        for entity in result.get("entities", ())
    ]
    return entities, [(of["head"], of["tail"], of["relation"]) for of in result.get("relations", ())]


def _local_file(path: str) -> str:
    return path if is_address(path) or path.startswith("/data/") else f"/data/local-files/?d={quote(path)}"
