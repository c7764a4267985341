"""Several processes that share one job."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list


class PreparationError(RuntimeError):
    """What ends a preparation and its user can put right; the message says how. What was finished is kept."""


class MainProcessError(RuntimeError):
    """The main process has failed, and tells why itself."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """
    Raises:
        PreparationError: for what fails in writing, with what to do.
    """
    try:
        yield
    except OSError as error:
        raise PreparationError(
            f"Cannot write below {folder}: {error}. Whatever was finished is kept: once there is room and permission, "
            "the same command goes on."
        ) from error


def on_main(state: PartialState, function: Callable[[], Any]) -> Any:
    """
    The function's result in every process; the main one runs it.

    Raises:
        PreparationError: in the main process, for an error that its user can put right.
        MainProcessError: in all others then.
    """
    result, failed = None, None
    if state.is_main_process:
        try:
            result = function()
        except PreparationError as error:
            failed = error
        except (ValueError, OSError, ImportError) as error:
            failed = PreparationError(f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error))
            failed.__cause__ = error
    result, has_failed = broadcast_object_list([result, failed is not None])
    if failed is not None:
        raise failed
    if has_failed:
        raise MainProcessError("The main process has failed, and tells why.")
    return result
