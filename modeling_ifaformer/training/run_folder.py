"""The folder of a training run: which of its checkpoints are whole, and where training goes on."""

import json
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


RESULTS = "results.json"  # of a run that has ended
TRIALS = "search.db"  # of a search for training options


def checkpoints(output_dir: str | Path) -> list[Path]:
    """Checkpoint folders of a run, whole or not, by step."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    steps = {path: path.name.removeprefix(prefix) for path in Path(output_dir).glob(f"{prefix}*")}
    return sorted((path for path, step in steps.items() if step.isdigit()), key=lambda path: int(steps[path]))


def is_whole(checkpoint: Path) -> bool:
    """Whether the Trainer wrote all of it: its state comes last, and is no JSON before it is whole."""
    try:
        return "global_step" in json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return False


def is_complete(checkpoint: Path) -> bool:
    """Whether training can go on from it: a whole one may be of a run that saved the model alone."""
    parts = ("*.safetensors", "pytorch_model*"), ("optimizer*",), ("scheduler.pt",), ("rng_state*.pth",)
    return is_whole(checkpoint) and all(any(any(checkpoint.glob(of)) for of in part) for part in parts)


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    return next((path for path in reversed(checkpoints(output_dir)) if is_complete(path)), None)


def remove_incomplete_checkpoints(output_dir: str | Path) -> list[Path]:
    """Remove what a killed run left half-written; the folders that went."""
    incomplete = [path for path in checkpoints(output_dir) if not is_whole(path)]
    for path in incomplete:
        shutil.rmtree(path)
    return incomplete


def checkpoint_to_resume(output_dir: str | Path, resume: str | None, overwrite: bool = False) -> Path | None:
    """
    Where training goes on.

    Args:
        resume: a checkpoint, or "true" for the last whole one of `output_dir`, if any.
        overwrite: start anew where the folder holds an earlier run.

    Raises:
        ValueError: for a checkpoint that is not whole; for a folder with an earlier run that this one would replace
            without having been told to.
    """
    last = last_complete_checkpoint(output_dir)
    start_anew = "start anew in its place (--overwrite_output_dir true)"
    whole = [path for path in checkpoints(output_dir) if is_whole(path)]
    if resume is None or resume.lower() == "false":
        records = [Path(output_dir) / name for name in (RESULTS, TRIALS)]
        earlier = last or next((path for path in [*whole, *records] if path.exists()), None)
        if earlier is not None and not overwrite:
            raise ValueError(
                f"{earlier} is of an earlier run: go on from it (--resume_from_checkpoint true), name another "
                f"--output_dir, or {start_anew}."
            )
        return None
    if resume.lower() == "true":
        if last is None and whole and not overwrite:
            raise ValueError(
                f"{whole[-1]} lacks the state of optimizer, schedule or random numbers, without which training cannot "
                f"go on (--save_only_model saves none): name another --output_dir, or {start_anew}."
            )
        return last
    if not is_complete(Path(resume)):
        raise ValueError(
            f"{resume} is no whole checkpoint; the last one of {output_dir} is {last or 'none'}. Give that, or true."
        )
    return Path(resume)
