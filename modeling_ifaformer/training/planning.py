"""The runs of a training, one or one for each seed: where each begins, and what keeps others out of its folder."""

import atexit
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processing.jobs.atomic_files import read_json

from .arguments import IFAformerTrainingArguments
from .run_folder import RESULTS, Claim, claim_folder, find_start, release


@dataclass
class Run:
    """
    One training from its beginning to its scores.

    Attributes:
        arguments: of this run, with its seed and output folder.
        common_folder: of all runs that were planned together, in which a search for training options lies.
        resume: the checkpoint to go on from.
        results: what its `results.json` holds; empty until it has ended.
        stale: files and folders of earlier runs, which are removed once everything that training needs is prepared.
        claims: what keeps other processes from training in the folders of all runs that were planned together.
    """

    arguments: IFAformerTrainingArguments
    common_folder: Path
    resume: Path | None = None
    results: dict[str, Any] = field(default_factory=dict)
    stale: list[Path] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    @property
    def start(self) -> str:
        """A sentence that says where the run begins."""
        if self.results:
            return "This run has ended."
        if self.resume is not None:
            return f"Going on from {self.resume}."
        return "There is no whole checkpoint; training starts at the beginning."


def plan_runs(
    arguments: IFAformerTrainingArguments, seeds: Sequence[int] | None = None, overwrite: bool = False
) -> list[Run]:
    """
    The run that the arguments describe, or one for each seed, in a folder of its own. With `resume_from_checkpoint`, a
    run that has ended is not done again, unless `overwrite` is set.

    Args:
        arguments: `resume_from_checkpoint` is None, "true" for the last checkpoint of the output folder, or, without
            `seeds`, a checkpoint.
        seeds: of the runs, each of which then has a folder of its own, and be it one alone.
        overwrite: whether earlier runs in the output folders give way where none is gone on from. [`train_runs`]
            removes them.

    Raises:
        ValueError: for seeds that are not distinct; for an output folder with an earlier run, where nothing was said
            of it, and without `seeds` for one with runs of several seeds; for a checkpoint that training cannot go on
            from; for an output folder in which another process is training.
        OSError: for an output folder that cannot be made.
    """
    go_on = (arguments.resume_from_checkpoint or "false").lower()
    if seeds is not None and (not seeds or len(set(seeds)) < len(seeds)):
        raise ValueError(f"seeds must be seeds that differ, got {list(seeds)}.")
    if seeds is not None and go_on not in ("true", "false"):
        raise ValueError(
            f"With seeds, resume_from_checkpoint is true or false, got {go_on}: each run has its own checkpoints."
        )
    claims: list[Claim] = []
    common_folder = Path(str(arguments.output_dir))

    def claim(folder: str | None) -> None:
        if arguments.process_index == 0:
            claims.append(claim_folder(str(folder)))

    def planned(of_run: IFAformerTrainingArguments) -> Run:
        claim(of_run.output_dir)
        path = Path(str(of_run.output_dir)) / RESULTS
        if go_on == "false" or overwrite or not path.exists():
            checkpoint, stale = find_start(of_run, overwrite)
            return Run(of_run, common_folder, checkpoint, stale=stale, claims=claims)
        results = read_json(path)
        if "seeds" in results and "runs" in results:
            raise ValueError(
                f"{of_run.output_dir} holds the runs of the seeds {', '.join(map(str, results['seeds']))}. To go on "
                "with them, give these seeds; for one run, name another output_dir."
            )
        return Run(of_run, common_folder, results=results, claims=claims)

    atexit.register(release, claims)  # of a command that ends before it trains
    try:
        if seeds is None:
            return [planned(arguments)]
        claim(arguments.output_dir)
        _, stale_of_all = find_start(arguments, overwrite)
        runs = []
        for seed in seeds:
            of_seed = copy(arguments)
            of_seed.seed = seed
            of_seed.output_dir = str(Path(arguments.output_dir) / f"seed-{seed}")
            runs.append(planned(of_seed))
        runs[0].stale += stale_of_all
        return runs
    except BaseException:
        release(claims)
        raise
