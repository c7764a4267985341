"""The folder of a data set that is shared: Parquet files and a card."""

import json
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from hub_card.dataset_card import DatasetFacts, dataset_card
from processing.inspection.statistics import split_statistics
from processing.jobs.atomic_files import remove_unfinished, replacing
from processing.rows.loading_report import LoadingReport
from processing.rows.parquet_folder import shard_path, write_shard


# In an output folder until all that was asked for is done: the run whose files lie there.
UNFINISHED = ".push_to_hub.json"


def claim_folder(folder: Path, arguments: Any) -> None:
    """
    Make the folder this run's: what a run of the same data set left there unfinished goes.

    Raises:
        ValueError: for a folder that holds Parquet files of something else.
        OSError: where it cannot be written.
    """
    marker = folder / UNFINISHED
    is_own = marker.exists() and json.loads(marker.read_bytes()) == arguments.dataset
    shards = sorted(folder.glob("data/*.parquet"))
    if shards and not is_own:
        raise ValueError(f"{folder} holds Parquet files already; remove them, or name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(marker) as file:
        file.write(json.dumps(arguments.dataset).encode())
    for shard in shards:
        shard.unlink()
    for part in (folder, folder / "data"):
        remove_unfinished(part)


def write_folder(
    data: DatasetDict, report: LoadingReport, folder: Path, arguments: Any, description: str = ""
) -> None:
    """The Parquet files and the card."""
    num_bytes = {}
    for split, rows in data.items():
        number = max(1, -(-len(rows) // arguments.rows_per_shard))
        paths = [shard_path(folder, split, index, number) for index in range(number)]
        for index, path in enumerate(paths):
            start = index * arguments.rows_per_shard
            write_shard(rows.select(range(start, min(start + arguments.rows_per_shard, len(rows)))), path)
        num_bytes[split] = sum(path.stat().st_size for path in paths)
    card = dataset_card(
        DatasetFacts(
            name=arguments.title or Path(arguments.dataset).stem,
            features=next(iter(data.values())).features,
            statistics={split: split_statistics(rows) for split, rows in data.items()},
            num_bytes=num_bytes,
            report=report.summary(),
            description=description,
            license=arguments.license,
            language=arguments.language,
            repo_id=arguments.repo_id,
        )
    )
    with replacing(folder / "README.md") as file:
        file.write(f"{card}\n".encode())
