"""The folder of a training run: which of its checkpoints are whole, and where training goes on."""

import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from transformers import PreTrainedConfig, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from processing.jobs.atomic_files import read_json
from processing.jobs.checksums import CHECKSUMS, damaged_files
from processing.jobs.output_folder import difference


logger = logging.getLogger(__name__)

RESULTS = "results.json"  # of a run that has ended
TRIALS = "search.db"  # of a search for training options
SETTINGS = "settings.json"  # what a run was begun with
LOCK = ".lock"  # of the run that is at work

GO_ON = "To go on from there, train with resume_from_checkpoint set to true."


def checkpoints(output_dir: str | Path) -> list[Path]:
    """The checkpoint folders of a run, whole or not, in the order of their steps."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    steps = {path: path.name.removeprefix(prefix) for path in Path(output_dir).glob(f"{prefix}*")}
    return sorted((path for path, step in steps.items() if step.isdigit()), key=lambda path: int(steps[path]))


def is_whole(checkpoint: Path) -> bool:
    """
    Whether the Trainer wrote all of it: its state is written last, and is no JSON before it is whole. What is known by
    its checksums was whole, whatever the disk has made of it.
    """
    try:
        return (checkpoint / CHECKSUMS).exists() or "global_step" in json.loads(
            (checkpoint / "trainer_state.json").read_bytes()
        )
    except (OSError, ValueError):
        return False


def is_complete(checkpoint: Path) -> bool:
    """Whether training can go on from it. A whole checkpoint may be of a run that saved the model alone."""
    parts = ("*.safetensors", "pytorch_model*"), ("optimizer*",), ("scheduler.pt",), ("rng_state*.pth",)
    return is_whole(checkpoint) and all(any(any(checkpoint.glob(name)) for name in part) for part in parts)


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    """The latest checkpoint that training can go on from, if there is one."""
    return next((path for path in reversed(checkpoints(output_dir)) if is_complete(path)), None)


def _last_undamaged(candidates: Sequence[Path]) -> Path | None:
    """The latest of whole checkpoints whose files are what was written. The others are passed over with a warning."""
    for path in reversed(candidates):
        damaged = damaged_files(path)
        if not damaged:
            return path
        logger.warning(f"The checkpoint {path} is passed over: {_damage(damaged)}")
    return None


def _damage(names: Sequence[str]) -> str:
    return f"the content of {', '.join(names)} is not what was written there, so the disk has changed it."


def find_start(arguments: TrainingArguments, overwrite: bool = False) -> tuple[Path | None, list[Path]]:
    """
    The checkpoint that training goes on from, None where it begins anew; and what of the folder has to go before:
    checkpoints that are half written, and with `overwrite` an earlier run that is not gone on with.

    Args:
        arguments: `resume_from_checkpoint` is a checkpoint, or "true" for the last one of `output_dir`, if there is
            one.
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
        candidates = [path for path in whole if is_complete(path)]
        checkpoint = _last_undamaged(candidates)
        if checkpoint is None and candidates and not overwrite:
            raise ValueError(
                f"Training cannot go on in {output_dir}, where all checkpoints are damaged: "
                f"{', '.join(path.name for path in candidates)}. Name another output_dir, or {replace_it}."
            )
        if checkpoint is None and whole and not overwrite:
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
        damaged = damaged_files(checkpoint)
        if damaged:
            raise ValueError(
                f"Training cannot go on from {resume}: {_damage(damaged)} Give another checkpoint, or true for the "
                "last one that is not damaged."
            )
    stale = [path for path in checkpoints(output_dir) if path not in whole]
    if checkpoint is None and overwrite:
        stale += [path for path in [*whole, *records] if path.exists()]
    return checkpoint, stale


def remove_stale(paths: Sequence[Path]) -> None:
    """Remove what [`find_start`] found to go."""
    for path in paths:
        if path.is_file():
            path.unlink()
            continue
        was_whole = is_whole(path)
        shutil.rmtree(path)
        if not was_whole:
            logger.warning(f"The checkpoint {path} was only half written and has been removed.")


class Claim(NamedTuple):
    """What keeps other processes from training in a folder, and the folders that were made for it."""

    lock: FileLock
    made: list[Path]


def claim_folder(output_dir: str | Path) -> Claim:
    """
    Keep other processes from training in a folder, until it is released or this process ends.

    Raises:
        ValueError: for a folder in which another process is training.
        OSError: for a folder that cannot be made.
    """
    folder = Path(output_dir)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(output_dir) / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"Another training is at work in {output_dir}. Wait until it has ended, or name another output_dir."
        ) from None
    return Claim(lock, made)


def release(claims: Sequence[Claim]) -> None:
    """Let other processes train in the folders again. Those that were made for a claim, and are empty, are removed."""
    for lock, made in reversed(claims):  # A folder lies in that of an earlier claim.
        if not lock.is_locked:
            continue
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release(force=True)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()  # which removes no folder that holds anything


@contextmanager
def released(claims: Sequence[Claim]) -> Iterator[None]:
    """Around a training, after which its folders are released, however it ends."""
    try:
        yield
    finally:
        release(claims)


# Training arguments (names, and beginnings of names) that may change while a run goes on: they say where it runs and
# what is told of it. All others decide what is learnt or which epoch is kept.
FREE: tuple[str, ...] = ("output_dir", "resume_from_checkpoint", "run_name", "project", "disable_tqdm", "use_cpu")
FREE += ("local_rank", "debug", "skip_memory_metrics", "per_device_eval_batch_size", "eval_batch_size", "do_", "ddp_")
FREE += (
    "eval_accumulation_steps",
    "save_total_limit",
    "save_on_each_node",
    "report_to",
    "hub_",
    "push_to_hub",
    "log_",
)
FREE += ("logging_", "trackio_", "dataloader_num", "dataloader_p", "dataloader_multi", "torch_empty_cache_steps")


# Settings that runs had not from the beginning, without which nothing is done.
OURS = {"agreement", "adversarial_epsilon", "lora", "context_dropout", "swap_probability"}


def run_settings(arguments: TrainingArguments, config: PreTrainedConfig, others: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the course of a run, by name: training arguments, the fields of the model, and `others`."""
    fields = config.to_dict()
    for tower in config.sub_configs:
        fields |= {f"{tower}.{name}": value for name, value in (fields.pop(tower) or {}).items()}
    fields = {name: value for name, value in fields.items() if not name.endswith(("_name_or_path", "_version"))}
    options = {name: value for name, value in arguments.to_sanitized_dict().items() if not name.startswith(FREE)}
    settings = {**options, **fields, "processes": arguments.world_size, **others}
    return json.loads(json.dumps(settings, default=str))


def check_settings(folder: str | Path, settings: dict[str, Any], contents: Collection[str]) -> None:
    """
    Check that a run goes on as it was begun. With other settings the schedule, the order of the rows and the weights
    would be those of neither, and the results would record the wrong ones.

    Args:
        folder: of the run.
        settings: what it would go on with.
        contents: names of settings that are digests.

    Raises:
        ValueError: for a run that was begun with other settings, or that has not recorded them.
    """
    remedy = (
        "Go on with the settings of before, or name another output_dir for a new run. A new run can start from the "
        "model of this one (model)."
    )
    path = Path(folder) / SETTINGS
    if not path.exists():
        raise ValueError(f"{folder} does not say with which settings its run was begun: there is no {path}. {remedy}")
    # A field that only one of two versions of a library has says nothing of the run.
    try:
        earlier, names = read_json(path), {*contents}
    except ValueError as error:
        raise ValueError(f"{error} It says with which settings the run was begun. {remedy}") from error
    # Of ours, one that is absent had no effect then.
    earlier = dict.fromkeys(OURS & settings.keys()) | earlier
    settings = settings | {name: settings[name] or None for name in OURS & settings.keys() if earlier[name] is None}
    earlier = {name: value for name, value in earlier.items() if name in names or name in settings}
    settings = {name: value for name, value in settings.items() if name in names or name in earlier}
    if earlier != settings:
        raise ValueError(
            f"The run in {folder} was begun with other settings ({difference(earlier, settings, contents)}). {remedy}"
        )
