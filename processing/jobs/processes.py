"""Several processes that share one job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, parse_flag_from_env


class JobError(RuntimeError):
    """What ends a job and its user can put right; the message says how. Whatever was finished is kept."""


def process_state(cpu: bool = False) -> PartialState:
    """
    This process and the others that `accelerate launch` or `torchrun` started with it, the same object in every call.
    With `cpu` they compute on the CPU even where there is an accelerator, as with ACCELERATE_USE_CPU.
    """
    # Without `cpu`, accelerate takes each of several processes on a machine without a GPU for the only one. A process
    # that is done waits for the others, for days if need be.
    cpu = cpu or not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    return PartialState(cpu=cpu, timeout=timedelta(days=7))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes to `path`: an OSError becomes a JobError that says what cannot be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise JobError(
            f"Cannot write {path}: {error}. Whatever was finished is kept. Once there is room and permission, the "
            "same command goes on."
        ) from error


@contextmanager
def enough_memory(num_pictures: int) -> Iterator[None]:
    """Around what looks at a batch of so many pictures: where memory is short, a JobError that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise JobError(
            f"There is too little memory for {num_pictures} pictures in a batch ({error}). Do the same again with a "
            "smaller batch_size. What was finished is kept."
        ) from error


def on_main(state: PartialState, function: Callable[[], Any]) -> Any:
    """
    The function's result in every process; the main process runs it.

    Raises:
        JobError: for an error that its user can put right. In the main process it says which.
    """
    result, failed = None, None
    if state.is_main_process:
        try:
            result = function()
        except JobError as error:
            failed = error
        except (ValueError, OSError, ImportError) as error:
            failed = JobError(f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error))
            failed.__cause__ = error
    result, has_failed = broadcast_object_list([result, failed is not None])
    if failed is not None:
        raise failed
    if has_failed:
        raise JobError("The main process has failed; its message says why.")
    return result
