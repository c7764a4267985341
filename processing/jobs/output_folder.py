"""Outputs that are made in parts: a run claims one, and another run goes on with it where the first was killed."""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from .atomic_files import read_json, remove_unfinished, write_json
from .digests import file_digest
from .processes import JobError, writing


class ResumableOutput:
    """
    An output that one run at a time makes, in parts. A part is a file with a JSON record beside it, and is there whole
    or not at all, so that after a kill any number of processes can go on with the parts that are left.

        with ResumableOutput(folder, work=folder / ".parts", parts=folder / "data", summary=folder / "a.json") as out:
            done = on_main(state, lambda: out.claim(settings, overwrite=False))
            if done is not None:  # else the output is finished already
                for name in sorted(names - done)[state.process_index :: state.num_processes]:
                    out.write(name, lambda path: write_shard(rows[name], path), {"rows": len(rows[name])})
                state.wait_for_everyone()
                on_main(state, lambda: out.finish({"rows": sum(out.record(name)["rows"] for name in names)}))

    The main process claims and finishes; every process may write parts.

    The output is a folder, or a file that is put together from the parts at the end. `work` is a folder that is there
    until the output is finished. The `parts` stay as files of the output in the folder of that name; without one they
    lie in `work`. The JSON file `summary` is written last; its settings say that the output is finished. `remedy` is
    the sentence that says what a user can do about an output of another run.
    """

    def __init__(
        self,
        output: Path,
        *,
        work: Path,
        summary: Path,
        parts: Path | None = None,
        ending: str = ".parquet",
        remedy: str = "Name another output, or replace this one (--overwrite true).",
    ) -> None:
        self.output, self.work, self.summary, self.parts = output, work, summary, parts or work
        self.ending, self.remedy = ending, remedy
        self._settings = work / "settings.json"
        self._lock = FileLock(work / "lock")

    def __enter__(self) -> "ResumableOutput":
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.release()

    def claim(
        self, settings: dict[str, Any], *, contents: Collection[str] = (), overwrite: bool = False
    ) -> set[str] | None:
        """
        Make the output this run's, by the settings that decide what is in it; with `overwrite` whatever is there. What
        a killed run left half-written is removed. No message shows the values of settings that `contents` names.

        Returns:
            The names of the parts that are done already; None where the output is finished.

        Raises:
            JobError: for an output that another run is making, one of other settings or of unknown origin, one whose
                files are not what was written, and one that cannot be written.
        """
        settings = json.loads(json.dumps(settings, default=str))
        with writing(self.output):
            self.work.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise JobError(f"Another run is at work on {self.output}. Wait until it has ended.") from None
            made, earlier = self._made(), None
            if not overwrite:
                summary = self._recorded(self.summary) if made else {}
                finished = summary.get("settings")
                if finished == settings:
                    self._check_content(made, summary.get("checksums", {}))
                    self._end()
                    return None
                earlier = self._recorded(self._settings) or finished
                if earlier != settings and (made or (earlier and self._done())):
                    if not isinstance(earlier, dict):
                        self._refuse(f"{self.output} is there already, and nothing says how it was made.")
                    self._refuse(
                        f"{self.output} was made from other data or with other settings "
                        f"({difference(earlier, settings, contents)})."
                    )
            if overwrite or earlier != settings:
                self._clear()
            self.parts.mkdir(parents=True, exist_ok=True)
            for path in (self.output, self.summary):
                remove_unfinished(path.parent, path.name)
            for folder in (self.output, self.parts, self.work):
                remove_unfinished(folder)
            write_json(settings, self._settings)
        return self._done()

    def path(self, part: str) -> Path:
        """The file of a part."""
        return self.parts / f"{part}{self.ending}"

    def write(self, part: str, write: Callable[[Path], None], record: dict[str, Any]) -> None:
        """
        Write a part, by a function that writes a file whole or not at all (see `replacing`), and its record: what is
        to be known of the part at the end.

        Raises:
            JobError: where they cannot be written; earlier parts stay.
        """
        with writing(self.output):
            write(self.path(part))
            write_json({"checksum": file_digest(self.path(part)), "record": record}, self._record(part))

    def record(self, part: str) -> dict[str, Any]:
        """What was recorded of a part that is done."""
        return read_json(self._record(part))["record"]

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """
        Write the summary, with the settings after all else, and remove the folder `work`. Everything else of the
        output is there. Returns the summary as it was written.

        Raises:
            JobError: where the summary cannot be written.
        """
        with writing(self.output):
            checksums = {path.name: file_digest(path) for path in self._made()}
            summary = {**summary, "checksums": checksums, "settings": read_json(self._settings)}
            write_json(summary, self.summary)
        self._end()
        return summary

    def _record(self, part: str) -> Path:
        return self.work / f"{part}.record"

    def _made(self) -> list[Path]:
        """What lies in the place of the output, whoever made it."""
        if self.parts != self.work:
            return list(self.parts.glob(f"*{self.ending}"))
        return [self.output] if self.output.exists() else []

    def _done(self) -> set[str]:
        """The parts whose files are what was written. Others are made anew."""
        done = set()
        for path in self.parts.glob(f"*{self.ending}"):
            try:
                if read_json(self._record(path.stem)).get("checksum") == file_digest(path):
                    done.add(path.stem)
            except (FileNotFoundError, ValueError):  # no record, or a damaged one
                continue
        return done

    def _recorded(self, path: Path) -> dict[str, Any]:
        """An object that a run wrote; an empty one where there is none."""
        try:
            return read_json(path) if path.exists() else {}
        except ValueError as error:
            return self._refuse(str(error))

    def _check_content(self, made: list[Path], checksums: dict[str, str]) -> None:
        """Refuse a finished output whose files are not what was written."""
        there = {path.name: path for path in made}
        damaged = [name for name in checksums if name not in there or file_digest(there[name]) != checksums[name]]
        if damaged:
            self._refuse(
                f"{self.output} was finished, but the content of {', '.join(damaged[:5])} is not what was written."
            )

    def _refuse(self, problem: str) -> NoReturn:
        if self._settings.exists():
            self._lock.release()
        else:
            self._end()
        raise JobError(f"{problem} {self.remedy}")

    def _clear(self) -> None:
        """Leave nothing of the output. The settings go first: parts without any are not gone on with after a kill."""
        for path in [self._settings, self.summary, *self._made(), *self.work.iterdir()]:
            if path.name != "lock":
                path.unlink(missing_ok=True)

    def _end(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self._lock.release()


def difference(earlier: dict[str, Any], settings: dict[str, Any], contents: Collection[str] = ()) -> str:
    """What differs between earlier settings and these, in words. Of `contents` no values are shown."""
    changes = [
        f"other {name}" if name in contents else f"{name}: {earlier.get(name)} before, {settings.get(name)} now"
        for name in sorted(earlier | settings)
        if earlier.get(name) != settings.get(name)
    ]
    return "; ".join(changes)
