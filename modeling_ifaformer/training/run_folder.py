"""The folder of a training run: which of its checkpoints are whole, and where training goes on."""

import json
import logging
import shutil
from pathlib import Path

from transformers import TrainingArguments
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


def prepare_folder(arguments: TrainingArguments, overwrite: bool = False) -> Path | None:
    """
    The checkpoint that training goes on from; None where it begins anew. Checkpoints that are half written are
    removed, and with `overwrite` an earlier run that is not gone on with.

    Args:
        arguments: `resume_from_checkpoint` is a checkpoint, or "true" for the last one of `output_dir`, if there is
            one. The main process removes; it must call this before the others do.
        overwrite: whether a new run may take the place of an earlier one.

    Raises:
        ValueError: for a checkpoint that training cannot go on from, and for a folder with an earlier run that this
            one would replace without having been told to.
    """
    output_dir, resume = Path(str(arguments.output_dir)), arguments.resume_from_checkpoint or "false"
    records = [output_dir / name for name in (RESULTS, TRIALS)]
    last = last_complete_checkpoint(output_dir)
    whole = [path for path in checkpoints(output_dir) if is_whole(path)]
    replace_it = "start anew in its place (overwrite_output_dir set to true)"
    checkpoint = None
    if resume.lower() == "false":
        earlier = last or next((path for path in [*whole, *records] if path.exists()), None)
        if earlier is not None and not overwrite:
            raise ValueError(
                f"{earlier} belongs to an earlier run. Go on from it (resume_from_checkpoint set to true), name "
                f"another output_dir, or {replace_it}."
            )
    elif resume.lower() == "true":
        checkpoint = last
        if last is None and whole and not overwrite:
            raise ValueError(
                f"{whole[-1]} lacks the state of the optimizer, the schedule or the random numbers, without which "
                "training cannot go on; with save_only_model, checkpoints have none. Name another output_dir, or "
                f"{replace_it}."
            )
    else:
        checkpoint = Path(resume)
        if not is_complete(checkpoint):
            raise ValueError(
                f"Training cannot go on from {resume}, which is no whole checkpoint. The last one in {output_dir} is "
                f"{last or 'none'}. Give a whole checkpoint, or true for the last one."
            )
    if arguments.process_index > 0:
        return checkpoint
    for path in set(checkpoints(output_dir)) - set(whole):
        shutil.rmtree(path)
        logger.warning(f"The checkpoint {path} was only half written and has been removed.")
    if checkpoint is None and overwrite:
        for path in whole:
            shutil.rmtree(path)
        for path in records:
            path.unlink(missing_ok=True)
    return checkpoint
