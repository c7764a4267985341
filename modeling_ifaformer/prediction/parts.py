"""
The output of predict.py while it is made: a part for each window of rows, in a folder beside it, each there whole or
not at all. A run that was killed goes on with the windows that have none; at the end the parts become one file.
"""

import glob
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from processing.columns import CROP_COLUMNS
from processing.jobs.atomic_files import TEMPORARY, remove_unfinished, replacing
from processing.jobs.processes import JobError
from processing.tagged_text import TaggedRow


OUTPUT_ENDINGS = (".jsonl", ".json", ".parquet")
CONTENTS = (
    "input_content",
    "model_content",
    "relation_model_content",
)  # settings that tell contents and not options apart

_CROP = {"label": pa.string(), "score": pa.float64(), "box": pa.list_(pa.float64())}
_PLACE = {"word": pa.string(), "start": pa.int64(), "end": pa.int64()}
_ENTITY = {"entity_group": pa.string(), "score": pa.float64(), **_PLACE}
_RELATION = {"relation": pa.string(), "score": pa.float64()}
_TRIPLE = {"head": pa.int64(), "tail": pa.int64(), **_RELATION}
_SHARES = {"shares": pa.list_(pa.struct({"source": pa.string(), **_CROP, "share": pa.float64()}))}


def json_line(result: TaggedRow) -> str:
    # An id may be a date or whatever else Parquet holds.
    return json.dumps(result, ensure_ascii=False, default=str) + "\n"


def output_schema(task: str = "ner", is_explained: bool = False, with_relations: bool = False) -> pa.Schema:
    """
    Columns of Parquet output: those of a JSON line, null where it lacks them; an id is text.

    Args:
        task: of the model.
        is_explained: whether entities have shares.
        with_relations: whether there are relations between the entities.
    """
    if task == "re":
        found = {**_RELATION, "head": pa.struct(_PLACE), "tail": pa.struct(_PLACE)}
    else:
        found = {"entities": pa.list_(pa.struct(_ENTITY | (_SHARES if is_explained else {})))}
        found |= {"relations": pa.list_(pa.struct(_TRIPLE))} if with_relations else {}
    return pa.schema(
        {
            "id": pa.string(),
            "text": pa.string(),
            **found,
            "crops": pa.struct({column: pa.list_(pa.struct(_CROP)) for column in CROP_COLUMNS}),
            "problems": pa.list_(pa.string()),
        }
    )


class Parts:
    """
    The parts of an output, and the folder for them.

    Args:
        output: the file to be made, JSON lines or Parquet by its ending.
        schema: columns of Parquet, by default those of entities.
    """

    def __init__(self, output: Path, schema: pa.Schema | None = None) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.parts")
        self.report = output.with_name(f"{output.name}.report.json")
        self.is_parquet = output.suffix.lower() == ".parquet"
        self.schema = schema or output_schema()
        self._lock = FileLock(self.folder / "lock")

    def claim(self, settings: dict[str, Any], overwrite: bool) -> set[int] | None:
        """
        Make the output this run's.

        Args:
            settings: all that decides what is in it, as JSON can write it.
            overwrite: start anew, whatever is there.

        Returns:
            The windows that have a part already; None where the output is finished.

        Raises:
            JobError: for an output of another run, one of unknown origin, and one that is being made.
            OSError: where it cannot be written.
        """
        self.folder.mkdir(exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise JobError(f"Another run is at work on {self.output}: wait until it has ended.") from None
        path = self.folder / "settings.json"
        try:
            is_finished = self._compare(path, json.loads(json.dumps(settings)), overwrite)
        except JobError:
            self._lock.release()
            if not path.exists():
                self.remove()
            raise
        if is_finished:
            self.remove()
            return None
        if overwrite or not path.exists():
            self._clear(path)
        for left in self.output.parent.glob(TEMPORARY.format(name=glob.escape(self.output.name), process="*")):
            left.unlink(missing_ok=True)
        remove_unfinished(self.folder)
        with replacing(path) as file:
            file.write(json.dumps(settings, indent=2).encode())
        return {int(part.stem) for part in self.folder.glob(f"*{self._ending}") if part.stem.isdigit()}

    def _compare(self, path: Path, settings: dict[str, Any], overwrite: bool) -> bool:
        """Whether the output is finished; see [`claim`] for what it raises."""
        if overwrite:
            return False
        finished = _read_json(self.report).get("settings") if self.output.exists() else None
        if finished == settings:
            return True
        earlier = _read_json(path) or finished
        if earlier is None and self.output.exists():
            raise JobError(
                f"{self.output} is there, and no record of how it was made: name another --output, or replace it by "
                "--overwrite."
            )
        if earlier is not None and earlier != settings:
            raise JobError(
                f"{self.output} is of other rows, another model or other options ({_changes(earlier, settings)}): "
                "name another --output, or replace it by --overwrite."
            )
        return False

    def _clear(self, settings: Path) -> None:
        """
        Of the output nothing is left. The settings go first: parts without any are not gone on with, wherever a kill
        falls.
        """
        for path in (settings, self.report, self.output, *self.folder.iterdir()):
            if path.name != "lock":
                path.unlink(missing_ok=True)

    def write(self, index: int, results: Sequence[TaggedRow], record: dict[str, Any]) -> None:
        """
        The part of a window, and what there is to know of it besides.

        Raises:
            OSError: where it cannot be written; earlier parts stay.
            JobError: for results that Parquet cannot hold.
        """
        with replacing(self._record(index)) as file:  # first: a window with a part is done
            file.write(json.dumps(record, default=str).encode())
        with replacing(self._part(index)) as file:
            if self.is_parquet:
                pq.write_table(self._table(results), file)
            else:
                file.writelines(json_line(result).encode() for result in results)

    def _table(self, results: Sequence[TaggedRow]) -> pa.Table:
        rows = [{**result, "id": str(result["id"]) if "id" in result else None} for result in results]
        try:
            return pa.Table.from_pylist(rows, schema=self.schema)
        except pa.ArrowException as error:  # a row's own boxes may have labels and scores of any type
            raise JobError(
                f"Parquet cannot hold one of the results: {error}. Write JSON lines: --output {self.output.stem}.jsonl"
            ) from error

    def records(self, number: int) -> Iterator[dict[str, Any]]:
        """Of the first windows, in order."""
        return (json.loads(self._record(index).read_bytes()) for index in range(number))

    def merge(self, number: int) -> None:
        """The parts of the first windows as one file, in order. No more than a part is in memory."""
        with replacing(self.output) as file:
            if self.is_parquet:
                with pq.ParquetWriter(file, self.schema) as writer:
                    for index in range(number):
                        writer.write_table(pq.read_table(self._part(index)))
            else:
                for index in range(number):
                    with open(self._part(index), "rb") as part:
                        shutil.copyfileobj(part, file)

    def remove(self) -> None:
        """The folder, once the output is there."""
        self._lock.release()
        shutil.rmtree(self.folder)

    @property
    def _ending(self) -> str:
        return ".parquet" if self.is_parquet else ".jsonl"

    def _part(self, index: int) -> Path:
        return self.folder / f"{index:07d}{self._ending}"

    def _record(self, index: int) -> Path:
        return self.folder / f"{index:07d}.json"


def _changes(earlier: dict[str, Any], settings: dict[str, Any]) -> str:
    names = sorted(name for name in earlier | settings if earlier.get(name) != settings.get(name))
    return "; ".join(
        f"other {name}" if name in CONTENTS else f"{name}: {earlier.get(name)} before, {settings.get(name)} now"
        for name in names
    )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes()) if path.exists() else {}
