"""The file that bulk prediction writes, JSON lines or Parquet by its ending: its columns, its parts, and the whole."""

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from processing.columns import CROP_COLUMNS, as_list
from processing.context import CONTEXT, read_context
from processing.jobs.atomic_files import replacing
from processing.jobs.processes import JobError
from processing.problems import ProblemError
from processing.tagged_text import TaggedRow


OUTPUT_ENDINGS = (".jsonl", ".json", ".parquet")

_CROP = {"label": pa.string(), "score": pa.float64(), "box": pa.list_(pa.float64())}
_PLACE = {"word": pa.string(), "start": pa.int64(), "end": pa.int64()}
_ENTITY = {"entity_group": pa.string(), "score": pa.float64(), **_PLACE}
_RELATION = {"relation": pa.string(), "score": pa.float64()}
_TRIPLE = {"head": pa.int64(), "tail": pa.int64(), **_RELATION}


def check_output(output: Path, inputs: Sequence[str]) -> None:
    """
    Refuse, before any work is done, an output with another ending, one whose folder is not there, and one that would
    replace a file that is read or that the same files, folders and patterns would find later.
    """
    if output.suffix.lower() not in OUTPUT_ENDINGS:
        raise ValueError(f"The output must end in {', '.join(OUTPUT_ENDINGS)}, got '{output}'.")
    place = Path(os.path.realpath(output))  # Other than `Path.resolve`, it takes a link to itself.
    for name in inputs:
        path = Path(os.path.realpath(name))
        is_in_folder = path.is_dir() and place.parent == path
        # For `match`, ** is one folder; for `fnmatch`, * is of any depth.
        is_at_any_depth = "**" in name and fnmatch(str(place), str(path).replace("**/", "*"))
        if place == path or is_in_folder or is_at_any_depth or place.match(str(path)):
            raise ValueError(
                f"The output {output} would be one of the files that are read ({name}). Give it another name, or put "
                "it into another folder."
            )
    if not place.parent.is_dir():
        raise FileNotFoundError(f"{output} cannot be written, because there is no folder {output.parent}.")


def output_schema(
    found: Sequence[str], is_explained: bool = False, has_confidence: bool = False, has_several_images: bool = False
) -> pa.Schema:
    """
    The columns of Parquet: those of a JSON line, null where it lacks them; an id is text, and `image` is a list where
    the model takes several. `found` is what the models find, as in [`PredictionReport`].
    """
    crop = {**_CROP, "image": pa.int64()} if has_several_images else _CROP
    shares = {"shares": pa.list_(pa.struct({"source": pa.string(), **crop, "share": pa.float64()}))}
    if "entities" not in found:
        columns = {**_RELATION, "head": pa.struct(_PLACE), "tail": pa.struct(_PLACE)}
    else:
        columns = {"entities": pa.list_(pa.struct(_ENTITY | (shares if is_explained else {})))}
        columns |= {"relations": pa.list_(pa.struct(_TRIPLE))} if "relations" in found else {}
    return pa.schema(
        {
            "id": pa.string(),
            "text": pa.string(),
            **columns,
            **({"confidence": pa.float64()} if has_confidence else {}),
            "crops": pa.struct({column: pa.list_(pa.struct(crop)) for column in CROP_COLUMNS}),
            "problems": pa.list_(pa.string()),
            "image": pa.list_(pa.string()) if has_several_images else pa.string(),
            **{column: pa.list_(pa.string()) for column in CROP_COLUMNS},
            CONTEXT: pa.list_(pa.struct({"kind": pa.string(), "text": pa.string()})),
        }
    )


def json_line(result: TaggedRow) -> str:
    """The result as a line of JSON, with its end."""
    # An id may be a date or whatever else Parquet holds.
    return json.dumps(result, ensure_ascii=False, default=str) + "\n"


def write_results(results: Sequence[TaggedRow], path: Path, schema: pa.Schema) -> None:
    """Write results as a file that is there whole or not at all; a JobError for those that Parquet cannot hold."""
    with replacing(path) as file:
        if not _is_parquet(path):
            file.writelines(json_line(result).encode() for result in results)
            return
        rows = [{**result, "id": str(result["id"]) if "id" in result else None} for result in results]
        # A model of one picture reads the first of a list, and a line in `problems` says so.
        has_several = pa.types.is_list(schema.field("image").type)
        for row in rows:
            images = as_list(row.get("image"))
            row["image"] = images if has_several else next(iter(images), None)
            with suppress(ProblemError):  # of which a line in `problems` tells
                row[CONTEXT] = read_context(row.pop(CONTEXT, None)) or None
        try:
            table = pa.Table.from_pylist(rows, schema=schema)
        except pa.ArrowException as error:  # a row's own boxes may have labels and scores of any type
            raise JobError(
                f"Parquet cannot hold one of the results: {error}. Give an output that ends in .jsonl."
            ) from error
        pq.write_table(table, file)


def merge_results(parts: Iterable[Path], output: Path, schema: pa.Schema) -> None:
    """Put files of results together, in their order. No more than one of them is in memory."""
    with replacing(output) as file:
        if _is_parquet(output):
            with pq.ParquetWriter(file, schema) as writer:
                for part in parts:
                    writer.write_table(pq.read_table(part))
        else:
            for part in parts:
                with open(part, "rb") as lines:
                    shutil.copyfileobj(lines, file)


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"
