"""The folder of a training run: which of its checkpoints are whole, and where training goes on."""

import json
import logging
import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


logger = logging.getLogger(__name__)

RESULTS = "results.json"  # of a run that has ended
TRIALS = "search.db"  # of a search for training options

GO_ON = "To go on from there, train with resume_from_checkpoint set to true."


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoint folders of a run, whole or not, in the order of their steps."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    steps = {path: path.name.removeprefix(prefix) for path in Path(output_dir).glob(f"{prefix}*")}
    return sorted((path for path, step in steps.items() if step.isdigit()), key=lambda path: int(steps[path]))


def is_whole(checkpoint: Path) -> bool:
    """Whether the Trainer wrote all of it: its state is written last, and is no JSON before it is whole."""
    try:
        return "global_step" in json.loads((checkpoint / "trainer_state.json").read_bytes())
    except (OSError, ValueError):
        return False


def is_complete(checkpoint: Path) -> bool:
    """Whether training can go on from it. A whole checkpoint may be of a run that saved the model alone."""
    parts = ("*.safetensors", "pytorch_model*"), ("optimizer*",), ("scheduler.pt",), ("rng_state*.pth",)
    return is_whole(checkpoint) and all(any(any(checkpoint.glob(name)) for name in part) for part in parts)


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    """The latest checkpoint that training can go on from, if there is one."""
    return next((path for path in reversed(checkpoints(output_dir)) if is_complete(path)), None)


def checkpoint_to_resume(output_dir: str | Path, resume: str | None, overwrite: bool = False) -> Path | None:
    """
    The checkpoint that training goes on from; None where it begins anew.

    Args:
        resume: a checkpoint, or "true" for the last one of `output_dir`, if there is one.
        overwrite: whether a new run may take the place of an earlier one.

    Raises:
        ValueError: for a checkpoint that training cannot go on from, and for a folder with an earlier run that this
            one would replace without having been told to.
    """
    last = last_complete_checkpoint(output_dir)
    replace_it = "start anew in its place (overwrite_output_dir set to true)"
    whole = [path for path in checkpoints(output_dir) if is_whole(path)]
    if resume is None or resume.lower() == "false":
        records = [Path(output_dir) / name for name in (RESULTS, TRIALS)]
        earlier = last or next((path for path in [*whole, *records] if path.exists()), None)
        if earlier is not None and not overwrite:
            raise ValueError(
                f"{earlier} belongs to an earlier run. Go on from it (resume_from_checkpoint set to true), name "
                f"another output_dir, or {replace_it}."
            )
        return None
    if resume.lower() == "true":
        if last is None and whole and not overwrite:
            raise ValueError(
                f"{whole[-1]} lacks the state of the optimizer, the schedule or the random numbers, without which "
                "training cannot go on; with save_only_model, checkpoints have none. Name another output_dir, or "
                f"{replace_it}."
            )
        return last
    if not is_complete(Path(resume)):
        raise ValueError(
            f"Training cannot go on from {resume}, which is no whole checkpoint. The last one in {output_dir} is "
            f"{last or 'none'}. Give a whole checkpoint, or true for the last one."
        )
    return Path(resume)


def prepare_folder(
    output_dir: str | Path, resume: str | None, *, overwrite: bool = False, is_main_process: bool = True
) -> Path | None:
    """
    As [`checkpoint_to_resume`]; half-written checkpoints are removed, and with `overwrite` the earlier run.

    Args:
        is_main_process: whether this process removes. It must do so before the others call this.
    """
    checkpoint = checkpoint_to_resume(output_dir, resume, overwrite)
    if is_main_process:
        for path in checkpoints(output_dir):
            if not is_whole(path):
                shutil.rmtree(path)
                logger.warning(f"The checkpoint {path} was only half written and has been removed.")
            elif checkpoint is None and overwrite:
                shutil.rmtree(path)
        if checkpoint is None and overwrite:
            for name in (RESULTS, TRIALS):
                (Path(output_dir) / name).unlink(missing_ok=True)
    return checkpoint
