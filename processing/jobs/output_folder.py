"""Folders that a long-running command claims for its output."""

import json
import shutil
from pathlib import Path
from typing import Any

from .atomic_files import remove_unfinished, replacing


# Settings that tell the data and not the options apart.
DIGESTS = ("rows", "pictures")


def finished_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of a folder whose rows are finished, else None."""
    return _read_json(folder / "crops.json").get("settings")


def claim_folder(folder: Path, settings: dict[str, Any], overwrite: bool) -> None:
    """
    Make the folder this run's.

    Raises:
        ValueError: for a folder that holds the rows of another data set or other settings, or other Parquet files.
        OSError: where it cannot be written.
    """
    path = folder / ".objects" / "settings.json"
    shards = sorted((folder / "data").glob("*.parquet"))
    earlier = _read_json(path) or finished_settings(folder)
    if earlier is None and shards and not overwrite:
        raise ValueError(
            f"{folder} holds Parquet files, and no record of how they were made: name another --output_dir, or "
            "replace them by --overwrite."
        )
    if earlier is not None and earlier != settings and shards and not overwrite:
        names = sorted(name for name in earlier | settings if earlier.get(name) != settings.get(name))
        changes = "; ".join(
            f"other {name}" if name in DIGESTS else f"{name}: {earlier.get(name)} before, {settings.get(name)} now"
            for name in names
        )
        raise ValueError(
            f"{folder} holds rows of another data set or of other settings ({changes}): name another --output_dir, or "
            "replace them by --overwrite."
        )
    if overwrite or earlier != settings:
        (folder / "crops.json").unlink(missing_ok=True)
        for shard in shards:
            shard.unlink()
        shutil.rmtree(folder / ".objects" / "unreadable", ignore_errors=True)
    for part in (folder, folder / "data", folder / ".objects"):
        remove_unfinished(part)
    with replacing(path) as file:
        file.write(json.dumps(settings, indent=2).encode())


def _read_json(path: Path) -> dict[str, Any]:
    """An object that `prepare_crops` wrote; nothing where there is none."""
    return json.loads(path.read_bytes()) if path.exists() else {}
