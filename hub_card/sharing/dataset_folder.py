"""The folder of a data set that is shared: Parquet files and a card."""

import json
import os
import tempfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from hub_card.dataset_card import dataset_card
from processing.columns import PICTURE_COLUMNS
from processing.data.loading import decode_pictures, encode_pictures
from processing.inspection.statistics import split_statistics
from processing.jobs.atomic_files import replacing, write_json
from processing.jobs.digests import digest, pictures_digest
from processing.jobs.output_folder import ResumableOutput
from processing.jobs.processes import writing
from processing.problems import check_at_least_one
from processing.rows.local_paths import check_shareable
from processing.rows.parquet_folder import cut_shards, write_shard

from .upload import CARD, upload


STALE_FILES = ("data/*.parquet",)  # which a push replaces


def write_dataset(
    data: DatasetDict, folder: str | os.PathLike, *, rows_per_shard: int = 1000, **card: Any
) -> dict[str, Path]:
    """
    Write a data set as Parquet files with the pictures inside, and its card, so that `load_dataset(folder)` gives its
    rows. A call that was interrupted is gone on with by the same call.

    Args:
        data: splits of rows as `load_data` gives them; with `verify_pictures=True` they have no damaged pictures.
        folder: where the files are written: one that is new or empty, or one of the same call before.
        rows_per_shard: rows of a Parquet file.
        **card: what the card says: `title`, and `report`, `description`, `license`, `language` and `repo_id` as
            [`dataset_card`] takes them.

    Returns:
        The paths of the files, by their path in a repository.

    Raises:
        ValueError: for `rows_per_shard` below 1; for what [`check_shareable`] refuses; and for a README.md of the
            folder that this function did not write or that was changed since; it stays as it is.
        JobError: for a folder that holds Parquet files of something else, and where the files cannot be written.
    """
    check_at_least_one(rows_per_shard=rows_per_shard)
    check_shareable(data)
    folder = Path(folder)
    card_path, work, summary = folder / CARD, folder / ".unfinished", folder / ".dataset.json"
    foreign = f"{card_path} is not as write_dataset wrote it. Move it to another place, or name another folder."
    if card_path.exists() and not work.exists() and not summary.exists():
        raise ValueError(foreign)
    # `datasets` loads no split of a folder that has an empty one. Readers of the files want pictures decoded.
    data = decode_pictures(DatasetDict({split: rows for split, rows in data.items() if len(rows)}))
    if not data:
        raise ValueError(f"There are no rows to write into {folder}.")
    settings = {
        "rows": {split: rows._fingerprint for split, rows in data.items()},
        "pictures": pictures_digest(encode_pictures(data), PICTURE_COLUMNS),
        "rows_per_shard": rows_per_shard,
    }
    shards = cut_shards(data, rows_per_shard)
    with ResumableOutput(
        folder,
        work=work,
        parts=folder / "data",
        summary=summary,
        remedy="Remove it, or name another folder.",
    ) as output:
        done = output.claim(settings, contents=["rows", "pictures"])
        if done is not None:
            for part in [part for part in shards if part not in done]:
                split, indices = shards[part]
                output.write(part, partial(write_shard, data[split].select(indices)), {})
            output.finish({})
    num_bytes = dict.fromkeys(data, 0)
    for part, (split, _) in shards.items():
        num_bytes[split] += output.path(part).stat().st_size
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    text = f"{dataset_card(next(iter(data.values())).features, statistics, num_bytes, **card)}\n"
    made = json.loads(summary.read_bytes())
    if card_path.exists():
        there = card_path.read_bytes()
        if there != text.encode() and digest(there) != made.get(CARD):
            raise ValueError(foreign)
    with writing(folder):
        with replacing(card_path) as file:
            file.write(text.encode())
        write_json({**made, CARD: digest(text.encode())}, summary)  # by which a later call knows its own card
    return {path.relative_to(folder).as_posix(): path for path in (card_path, *map(output.path, shards))}


def push_dataset(
    data: DatasetDict,
    repo_id: str,
    *,
    folder: str | os.PathLike | None = None,
    private: bool = False,
    token: str | None = None,
    **options: Any,
) -> str:
    """
    Publish a data set as [`write_dataset`] writes it, in one commit. Parquet files of a former push are replaced.

    Args:
        data: splits of rows as `load_data` gives them.
        repo_id: name of the repository, `user/name`.
        folder: where the files stay. If the upload fails, the same call goes on from there. By default they lie in a
            temporary folder.
        private, token: as for [`upload`].
        **options: of [`write_dataset`].

    Returns:
        The URL of the repository.

    Raises:
        ValueError, JobError: as for [`write_dataset`].
        NotPushed: where the upload fails.
    """
    options = {"title": repo_id.split("/")[-1], "repo_id": repo_id, **options}
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        files, message = {Path(place): write_dataset(data, place, **options)}, f"Upload {options['title']}"
        return upload(files, repo_id, "dataset", message=message, stale=STALE_FILES, private=private, token=token)
