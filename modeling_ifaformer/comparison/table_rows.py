"""The rows of a table: each is trained in a process of its own, and scored as all others are."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from datasets import Dataset, DatasetDict

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.training.run_folder import FREE, RESULTS, claim_folder, release
from modeling_ifaformer.training.scoring import SHUFFLED, score_checkpoints
from processing.jobs.atomic_files import read_json, write_json
from processing.jobs.digests import checkpoint_digest, file_digest, rows_digest
from processing.jobs.output_folder import difference
from processing.scoring.entity_metrics import PROTOCOLS
from processing.scoring.results_table import metrics_spread

from .table_file import BEFORE, TableRow


ROW = "row.json"  # what is kept of a row that has ended
SHUFFLE_SEED = 0
CHECKPOINTS = ("model", "text_model", "vision_model")  # options that name one
# Options that may differ from those of a row that is kept: they say where and how fast it is made, as in a run.
FREE_OPTIONS = (*FREE, "cache_dir", "preprocessing_num_workers")


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within it SIGTERM ends this process as an exception does, so that no training goes on without it."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def use_one_gpu() -> None:
    """
    Let this process and its trainings see the first GPU alone. Of several, the Trainer would give a batch to each, and
    rows would not be trained with the batches that the table names.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]


def data_digests(data: DatasetDict) -> dict[str, dict[str, Any]]:
    """Of each split its number of rows, and a digest of its words and tags, by which versions of the data differ."""
    return {
        split: {"rows": len(rows), "digest": rows_digest(rows.select_columns(["tokens", "ner_tags"]))[:16]}
        for split, rows in data.items()
    }


class RowRuns:
    """
    The runs of a row, one for each seed, in a folder of its own.

    Args:
        row: what it is.
        common: the options of `train.py` that all rows share.
        folder: of this row. `train.log` in it has what the training prints.
        seeds: of the runs.
        digests: of the data set, as [`data_digests`] gives them.

    Attributes:
        problem: a sentence where the training ended with an error, else empty.
    """

    def __init__(
        self,
        row: TableRow,
        common: Mapping[str, Any],
        folder: Path,
        seeds: Sequence[int],
        digests: Mapping[str, Mapping[str, Any]],
    ):
        self.row, self.folder, self.seeds, self.digests = row, folder, [*seeds], digests
        self.options = {**common, **row.options}
        self.options_before = {**common, **row.before} if row.before else {}
        self.kept = read_json(folder / ROW) if (folder / ROW).exists() else {}
        self.problem = ""

    @cached_property
    def contents(self) -> dict[str, Any]:
        """Digests of what is trained on and begun with; None for what cannot be read now."""
        found: dict[str, Any] = {"data": self.digests}
        for which, options in (("", self.options), ("before: ", self.options_before)):
            named = {name: options[name] for name in (*CHECKPOINTS, "word_vectors") if options.get(name)}
            for name, value in named.items():
                digest_of = checkpoint_digest if name in CHECKPOINTS else file_digest
                if value != BEFORE:
                    try:
                        found[f"{which}content of {name}"] = digest_of(value)
                    except (OSError, ValueError):  # as of a name on the Hub where there is no network
                        found[f"{which}content of {name}"] = None
        return found

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the figures of the row, by name."""
        options = self.options | {f"before: {name}": value for name, value in self.options_before.items()}
        free = (*FREE_OPTIONS, *(f"before: {name}" for name in FREE_OPTIONS))
        options = {name: value for name, value in options.items() if not name.startswith(free)}
        return json.loads(json.dumps(options | self.contents | {"seeds": self.seeds}, default=str))

    @property
    def changes(self) -> str:
        """What differs from the settings of what is kept, in words. Nothing does where seeds were added."""
        if not self.kept:
            return ""
        if not isinstance(self.kept.get("settings"), dict):
            return "an earlier version of this program made it"
        unread = {name for name, content in self.contents.items() if content is None}
        earlier, settings = (
            {name: value for name, value in of.items() if name not in unread}
            for of in (self.kept["settings"], self.settings)
        )
        if {*earlier["seeds"]} <= {*self.seeds}:
            earlier["seeds"] = self.seeds
        return difference(earlier, settings, self.contents)

    @property
    def is_kept(self) -> bool:
        """Whether the row has ended with these settings and seeds."""
        return bool(self.kept) and not self.changes and {*self.kept["settings"]["seeds"]} == {*self.seeds}

    def told(self) -> dict[str, Any]:
        """What the table says of the row: its figures, or `not_run`, a sentence."""
        row = self.row
        said: dict[str, Any] = {"key": row.key, "name": row.name, "note": row.note, "source": row.source}
        said |= {"published": dict(row.published), "seeds": self.seeds}
        if self.kept and not self.changes and not self.problem:  # maybe of fewer seeds, which then stand with it
            return {**self.kept["figures"], **said, "seeds": self.kept["settings"]["seeds"]}
        if self.problem or row.missing:
            return {**said, "not_run": self.problem or " ".join(row.missing)}
        seeds = ", ".join(map(str, self.seeds))
        changed = f" What is kept of it has other settings ({self.changes})." if self.changes else ""
        return {**said, "not_run": f"Not run yet with these options (seeds: {seeds}).{changed}"}

    def run(self, test: Dataset) -> None:
        """
        Train the row, or go on where it was stopped, and score it on the test split. One that has ended is kept, one
        that needs what is not there is left out, and of one whose training ends with an error there is a `problem`.
        Where another process is training the row, it is a ValueError.
        """
        if self.is_kept or self.row.missing:
            return
        options, settings = self.options, self.settings  # with the digests of now
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.options_before:
            before = self.folder / "before"
            self.problem = _train(before, {**self.options_before, "seed": self.seeds[0]})
            options = {name: value if value != BEFORE else str(before / "run") for name, value in options.items()}
        self.problem = self.problem or _train(self.folder, {**options, "seeds": self.seeds})
        if not self.problem:
            self.kept = {"settings": settings, "figures": self._figures(test)}
            write_json(self.kept, self.folder / ROW)

    def _figures(self, test: Dataset) -> dict[str, Any]:
        """What was measured. For the published protocol and with pictures shuffled, predictions are made here."""
        folders = [self.folder / "run" / f"seed-{seed}" for seed in self.seeds]
        results = [read_json(folder / RESULTS) for folder in folders]
        scores = []
        for folder, of_run in zip(folders, results, strict=True):
            model: Any
            model, processor = load_checkpoint(str(folder), "ner")
            found = score_checkpoints(
                {"": (model, processor)},
                test,
                PROTOCOLS,
                SHUFFLE_SEED,
                batch_size=of_run["arguments"]["training"]["per_device_eval_batch_size"],
                cache_dir=self.options.get("cache_dir"),
                mixed_precision=of_run["mixed_precision"],
            )
            scores.append({name.strip(): result for name, result in found.items()})
        figures: dict[str, Any] = {
            "sees": sees(model.config),
            "parameters": results[0]["num_parameters"],
            "trained_parameters": results[0]["num_trainable_parameters"],
            "validation": metrics_spread([of["validation"] for of in results]),
            "word": metrics_spread([of["test"] for of in results]),
            "seconds": mean(of["train_seconds"] for of in results),
        }
        named = {"published_protocol": "[published]", "word_shuffled": f"{SHUFFLED} [word]".strip()}
        return figures | {
            name: metrics_spread([of[of_scores] for of in scores])
            for name, of_scores in named.items()
            if of_scores in scores[0]
        }


def check_kept(rows: Sequence[RowRuns]) -> None:
    """
    Check that what is kept of rows has the settings that they would be run with.

    Raises:
        ValueError: for rows whose settings have changed. It says what did, and what to do.
    """
    changed = [row for row in rows if row.changes and not row.row.missing]
    if changed:
        found = ". ".join(f"{row.folder}: {row.changes}" for row in changed)
        raise ValueError(
            f"What is kept was made with other settings ({found}). "
            "Nothing was trained or overwritten. Go on with the settings of before (to add seeds, give all of them, "
            "those of before too), name another output folder (--output_dir), or remove the folder of such a row, "
            "which is then trained anew."
        )


def sees(config: Any) -> str:
    """What of a picture a model looks at."""
    if not config.text_attends_vision:
        return "nothing"
    kinds = [kind for kind in ("aux", "rcnn") if getattr(config, f"num_{kind}_crops")]
    crops = [] if not kinds else ["crops" if len(kinds) == 2 else f"{kinds[0]} crops"]
    return " and ".join((["whole picture"] if config.use_whole_image else []) + crops)


def _train(folder: Path, options: Mapping[str, Any]) -> str:
    """Run `train.py` in the folder; empty where it came to its end, else a sentence that says why it did not."""
    folder.mkdir(parents=True, exist_ok=True)
    release([claim_folder(folder / "run")])  # Where another training is at work, its files stay as they are.
    recipe, log = folder / "recipe.yaml", folder / "train.log"
    options = {**options, "output_dir": str(folder / "run"), "resume_from_checkpoint": "true"}
    recipe.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ifaformer_commands", "train", str(recipe)], stdout=file, stderr=file
        )
        try:
            status = process.wait()
        finally:  # It must not go on by itself; it saves its state first.
            process.terminate()
            process.wait()
    if status == 0:
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [f"status {status}"]
    # A sentence of train.py is its last line, an error that nobody expected ends a traceback.
    return f"{lines[-1]} (The training's output is in {log}.)"
