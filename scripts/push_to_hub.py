"""
Share a data set: Parquet files with the pictures inside, and a card; to a folder, to the Hub, or to both.

    python scripts/push_to_hub.py --dataset tweets/ --output_dir shared/tweets --license cc-by-4.0 --language en
    python scripts/push_to_hub.py --dataset tweets/ --repo_id user/tweets --license cc-by-4.0 --language en

`load_dataset("shared/tweets")` and `load_dataset("user/tweets")` then give the same rows, streaming too. The upload is
one commit: the repository has all of it or nothing.
"""

import json
import shlex
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from data_arguments import DataSourceArguments
from datasets import DatasetDict
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from recipe import parse_arguments

from hub_card.dataset_card import DatasetFacts, dataset_card
from processing.data import decode_pictures
from processing.data_statistics import split_statistics
from processing.parquet_folder import remove_unfinished, replacing, shard_path, write_shard
from processing.report import without_path


# What the Hub's client raises where the network or the Hub fails: OSError, the base of its HTTP library's errors
# (httpx or httpx2, as its version has it), and RuntimeError around those while it uploads.
HUB_ERRORS: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, RuntimeError)

# In an output folder until all that was asked for is done: the run whose files lie there.
UNFINISHED = ".push_to_hub.json"


@dataclass
class SharingArguments(DataSourceArguments):
    repo_id: str | None = field(default=None, metadata={"help": "of the Hub's data-set repository: user/name"})
    output_dir: str | None = field(default=None, metadata={"help": "folder for the files; they stay there"})
    private: bool = field(default=False, metadata={"help": "make a new repository private"})
    license: str | None = field(default=None, metadata={"help": "the Hub's identifier, cc-by-4.0 for example"})
    language: list[str] = field(default_factory=list, metadata={"help": "ISO 639-1 codes: en"})
    title: str | None = field(default=None, metadata={"help": "heading of the card; default: the name of the data"})
    description: str | None = field(
        default=None, metadata={"help": "Markdown file that says what the data are and where they come from"}
    )
    rows_per_shard: int = field(default=1000, metadata={"help": "rows a Parquet file"})

    def check(self) -> None:
        """
        Raises:
            ValueError: for an option that is missing or out of range, and a Hub that cannot be reached.
        """
        if self.repo_id is None and self.output_dir is None:
            raise ValueError("Name where to: --repo_id user/name, --output_dir FOLDER, or both.")
        if self.rows_per_shard < 1:
            raise ValueError(f"--rows_per_shard must be at least 1, got {self.rows_per_shard}.")
        if self.repo_id is not None:
            try:
                validate_repo_id(self.repo_id)
            except HFValidationError as error:
                raise ValueError(f"--repo_id: {error}") from error
            if is_offline_mode():
                raise ValueError(_not_pushed("HF_HUB_OFFLINE is set", "Unset it"))
            if get_token() is None:
                reason = "no token, to which the Hub answers 401 Unauthorized"
                raise ValueError(_not_pushed(reason, f"{_LOGIN} write to {self.repo_id}"))

    def read_description(self) -> str:
        """
        Raises:
            ValueError: for a file that cannot be read as text.
        """
        if self.description is None:
            return ""
        try:
            return Path(self.description).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--description {self.description}: expected a Markdown file in UTF-8: {error}"
            ) from error


_LOGIN = "Check that `hf auth login` has a token that may"


def command() -> str:
    """This run, for a shell."""
    return shlex.join(["python", *sys.argv])


def _not_pushed(reason: object, remedy: str) -> str:
    return f"Not pushed: {reason}\nNothing was published. {remedy}, then run it again:\n{command()}"


def claim_folder(folder: Path, arguments: SharingArguments) -> None:
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
    data: DatasetDict, report: str, folder: Path, arguments: SharingArguments, description: str = ""
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
            report=without_path(report),
            description=description,
            license=arguments.license,
            language=arguments.language,
            repo_id=arguments.repo_id,
        )
    )
    with replacing(folder / "README.md") as file:
        file.write(f"{card}\n".encode())


def push_folder(folder: Path, arguments: SharingArguments) -> str:
    """
    Upload the folder in one commit; the URL of the repository.

    Raises:
        SystemExit: where that fails, with what is published and what to do.
    """
    assert arguments.repo_id is not None  # else there is nothing to push
    api = HfApi()
    remedy = f"{_LOGIN} write to {arguments.repo_id}, and the network"
    try:
        repository = api.create_repo(
            arguments.repo_id, repo_type="dataset", private=arguments.private or None, exist_ok=True
        )
    except HUB_ERRORS as error:
        raise SystemExit(_not_pushed(error, remedy)) from error
    paths = [folder / "README.md", *sorted(folder.glob("data/*.parquet"))]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    try:
        # Not upload_folder, which cuts many files into several commits.
        former = api.list_repo_files(repository.repo_id, repo_type="dataset")
        stale = [name for name in former if fnmatch(name, "data/*.parquet") and name not in files]
        api.create_commit(
            repo_id=repository.repo_id,
            repo_type="dataset",
            operations=[
                *(CommitOperationAdd(name, path) for name, path in files.items()),
                *(CommitOperationDelete(name) for name in stale),
            ],
            commit_message=f"Upload {arguments.title or Path(arguments.dataset).stem}",
        )
    except HUB_ERRORS as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            raise SystemExit(_not_pushed(error, remedy)) from error
        # The Hub may have done what was asked, and its answer have been lost.
        raise SystemExit(
            f"Not pushed, or not known to be: {error}\n{repository} has all of it or nothing. {remedy}, then run it "
            f"again, which does no harm if all is there:\n{command()}"
        ) from error
    return str(repository)


def main() -> None:
    arguments, _ = parse_arguments(SharingArguments, description=__doc__)
    try:
        arguments.check()
        description = arguments.read_description()
        if arguments.output_dir:
            claim_folder(Path(arguments.output_dir), arguments)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        raise SystemExit(f"--output_dir {arguments.output_dir} cannot be written: {error}") from error
    data, report = arguments.load()
    if report:
        print(report)
    data = decode_pictures(data)  # as its readers want them

    with nullcontext(arguments.output_dir) if arguments.output_dir else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            write_folder(data, report, folder, arguments, description)
        except OSError as error:
            raise SystemExit(
                f"Not written to {folder}: {error}\nOnce that is put right, run it again:\n{command()}"
            ) from error
        if arguments.output_dir:
            print(f"Written: {folder}")
        if arguments.repo_id:
            print(f"Pushed: {push_folder(folder, arguments)}")
        (folder / UNFINISHED).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
