"""
Share a data set: Parquet files with the pictures inside, and a card; to a folder, to the Hub, or to both.

    python scripts/push_to_hub.py --dataset tweets/ --output_dir shared/tweets --license cc-by-4.0 --language en
    python scripts/push_to_hub.py --dataset tweets/ --repo_id user/tweets --license cc-by-4.0 --language en

`load_dataset("shared/tweets")` and `load_dataset("user/tweets")` then give the same rows, streaming too. The upload is
one commit: the repository has all of it or nothing.
"""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from data_arguments import DataSourceArguments
from datasets import DatasetDict
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id
from recipe import parse_arguments

from hub_card.card import DatasetFacts, dataset_card
from processing.data import decode_pictures
from processing.data_statistics import split_statistics
from processing.parquet_folder import replacing, shard_path, write_shard


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


def write_folder(data: DatasetDict, report: str, folder: Path, arguments: SharingArguments) -> None:
    """The Parquet files and the card."""
    num_bytes = {}
    for split, rows in data.items():
        number = max(1, -(-len(rows) // arguments.rows_per_shard))
        paths = [shard_path(folder, split, index, number) for index in range(number)]
        for index, path in enumerate(paths):
            start = index * arguments.rows_per_shard
            write_shard(rows.select(range(start, min(start + arguments.rows_per_shard, len(rows)))), path)
        num_bytes[split] = sum(path.stat().st_size for path in paths)
    description = Path(arguments.description).read_text(encoding="utf-8") if arguments.description else ""
    card = dataset_card(
        DatasetFacts(
            name=arguments.title or Path(arguments.dataset).stem,
            features=next(iter(data.values())).features,
            statistics={split: split_statistics(rows) for split, rows in data.items()},
            num_bytes=num_bytes,
            report=report,
            description=description,
            license=arguments.license,
            language=arguments.language,
            repo_id=arguments.repo_id,
        )
    )
    with replacing(folder / "README.md") as file:
        file.write(f"{card}\n".encode())


def push_folder(folder: Path, arguments: SharingArguments) -> str:
    """Upload the folder in one commit; the URL of the repository."""
    api = HfApi()
    repository = api.create_repo(
        arguments.repo_id, repo_type="dataset", private=arguments.private or None, exist_ok=True
    )
    api.upload_folder(
        repo_id=repository.repo_id,
        repo_type="dataset",
        folder_path=folder,
        allow_patterns=["README.md", "data/*.parquet"],
        delete_patterns=["data/*.parquet"],  # an earlier version had other files, perhaps more
        commit_message=f"Upload {arguments.title or Path(arguments.dataset).stem}",
    )
    return str(repository)


def main() -> None:
    arguments, _ = parse_arguments(SharingArguments, description=__doc__)
    if arguments.repo_id is None and arguments.output_dir is None:
        raise SystemExit("Name where to: --repo_id user/name, --output_dir FOLDER, or both.")
    if arguments.repo_id is not None:
        try:
            validate_repo_id(arguments.repo_id)
        except HFValidationError as error:
            raise SystemExit(f"--repo_id: {error}") from error
    if arguments.output_dir is not None and any(Path(arguments.output_dir).glob("data/*.parquet")):
        raise SystemExit(f"{arguments.output_dir} holds Parquet files already; remove them, or name another folder.")
    data, report = arguments.load()
    if report:
        print(report)
    data = decode_pictures(data)  # as its readers want them

    with nullcontext(arguments.output_dir) if arguments.output_dir else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(data, report, folder, arguments)
        if arguments.output_dir:
            print(f"Written: {folder}")
        if arguments.repo_id:
            try:
                print(f"Pushed: {push_folder(folder, arguments)}")
            except HfHubHTTPError as error:
                raise SystemExit(
                    f"Not pushed: {error}\nNothing was published. Check that `hf auth login` has a token that may "
                    f"write to {arguments.repo_id}, then run the same command again."
                ) from error


if __name__ == "__main__":
    main()
