"""The rows of a table: each is trained in a process of its own, and scored as all others are."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from datasets import Dataset, DatasetDict
from torch import nn

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from modeling_ifaformer.training.run_folder import RESULTS
from modeling_ifaformer.training.scoring import SHUFFLED, score_checkpoints
from processing.jobs.atomic_files import read_json, write_json
from processing.jobs.digests import digest, rows_digest
from processing.scoring.results_table import metrics_spread

from .table_file import BEFORE, TableRow


ROW = "row.json"
PROTOCOLS = ("word", "published")
SHUFFLE_SEED = 0


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


def data_digests(data: DatasetDict) -> dict[str, dict[str, Any]]:
    """Of each split its number of rows, and a digest of its words and tags, by which versions of the data differ."""
    return {
        split: {"rows": len(rows), "digest": rows_digest(rows.select_columns(["tokens", "ner_tags"]))[:16]}
        for split, rows in data.items()
    }


def table_row(
    row: TableRow,
    options: Mapping[str, Any],
    folder: Path,
    seeds: Sequence[int],
    test: Dataset,
    digests: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """
    Train the row, or go on where it was stopped, and score it. One that has ended is kept.

    Args:
        row: what it is.
        options: those of `train.py` that all rows share.
        folder: of this row. `train.log` in it has what the training prints.
        seeds: one run for each.
        test: the test split of the data set.
        digests: of the data set, as [`data_digests`] gives them.

    Returns:
        What the table says of the row; with `not_run`, a sentence, and without figures where something it needs is
        missing, or its training ended with an error.
    """
    said: dict[str, Any] = {"key": row.key, "name": row.name, "sees": row.sees, "note": row.note, "source": row.source}
    said |= {"published": dict(row.published), "seeds": list(seeds)}
    if row.missing:
        return {**said, "not_run": " ".join(row.missing)}
    recipe = {**options, **row.options}
    settings = digest(recipe, dict(row.before), list(seeds), digests)
    kept = read_json(folder / ROW) if (folder / ROW).exists() else {}
    if kept.get("settings") == settings:
        return kept["figures"] | said
    folder.mkdir(parents=True, exist_ok=True)
    if row.before:
        before = folder / "before"
        problem = _train(before, {**options, **row.before, "seed": seeds[0]})
        if problem:
            return {**said, "not_run": problem}
        recipe = {name: value if value != BEFORE else str(before / "run") for name, value in recipe.items()}
    runs = folder / "run"
    problem = _train(folder, recipe | ({"seed": seeds[0]} if len(seeds) == 1 else {"seeds": list(seeds)}))
    if problem:
        return {**said, "not_run": problem}
    folders = [runs] if len(seeds) == 1 else [runs / f"seed-{seed}" for seed in seeds]
    figures = _figures(folders, test)
    write_json({"settings": settings, "figures": figures}, folder / ROW)
    return figures | said


def _train(folder: Path, options: Mapping[str, Any]) -> str:
    """Run `train.py` in the folder; empty where it came to its end, else a sentence that says why it did not."""
    folder.mkdir(parents=True, exist_ok=True)
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


def _figures(folders: Sequence[Path], test: Dataset) -> dict[str, Any]:
    """What was measured of the runs of a row. A vision tower that is not looked at is none of its parameters."""
    results = [read_json(folder / RESULTS) for folder in folders]
    scores = []
    for folder in folders:
        model: Any
        model, processor = load_checkpoint(str(folder), "ner")
        unused = (
            set() if model.config.text_attends_vision else {*model.towers().get("vision", nn.Module()).parameters()}
        )
        weights = [weight for weight in model.parameters() if weight not in unused]
        found = score_checkpoints({"": (model, processor)}, test, PROTOCOLS, SHUFFLE_SEED)
        scores.append({name.strip(): result for name, result in found.items()})
    figures: dict[str, Any] = {
        "parameters": sum(weight.numel() for weight in weights),
        "trained_parameters": sum(weight.numel() for weight in weights if weight.requires_grad),
        "validation": metrics_spread([of["validation"] for of in results]),
        "seconds": mean(of["train_seconds"] for of in results),
    }
    named = {"word": "[word]", "published_protocol": "[published]", "word_shuffled": f"{SHUFFLED} [word]".strip()}
    return figures | {
        name: metrics_spread([of[of_scores] for of in scores])
        for name, of_scores in named.items()
        if of_scores in scores[0]
    }
