"""What goes wrong in writing prepared data, in words that say what to do."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets


FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
NO_WRITING = (errno.EROFS, errno.EACCES, errno.EPERM)

# What `datasets` and this project keep beside a folder, named after it.
BESIDE = (".lock", "_builder.lock", "_info.lock", ".incomplete")


@contextmanager
def cache_errors(cache_dir: str | None) -> Iterator[None]:
    """
    Say of a cache (that of `datasets` if None) that is full or cannot be written where it lies and what to do, in an
    OSError with the number of the one that it explains. `datasets` hides both in a cause, also of a ValueError, when
    it closes the file that it could not write.
    """
    try:
        yield
    except (OSError, ValueError, datasets.exceptions.DatasetGenerationError) as error:
        place = os.path.abspath(os.path.expanduser(cache_dir or datasets.config.HF_DATASETS_CACHE))
        cause: BaseException | None = error
        while cause is not None:
            number = cause.errno if isinstance(cause, OSError) else None
            if isinstance(cause, OSError) and str(cause).startswith("Not enough disk space"):
                number = errno.ENOSPC  # `datasets` looks before it writes
            remedy = "give another cache_dir, or set HF_DATASETS_CACHE."
            if number in FULL_DISK:
                raise OSError(number, f"There is no space left in {place}. Free some, {remedy}") from error
            if number in NO_WRITING and _concerns(cause, place):
                raise OSError(number, f"{place} cannot be written. Allow it, {remedy}") from error
            cause = cause.__cause__ or cause.__context__
        raise


def _concerns(error: BaseException, place: str) -> bool:
    """Whether an error may be about that folder, one above it, or what is kept beside it: not a file that is read."""
    path = getattr(error, "filename", None)
    if not isinstance(path, str | bytes | os.PathLike):
        return True
    found = Path(os.path.abspath(os.fsdecode(path)))
    return Path(place).is_relative_to(found) or any(found.is_relative_to(place + ending) for ending in ("", *BESIDE))
