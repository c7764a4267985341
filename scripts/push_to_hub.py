"""
Share a trained model, a data set, or a Space in which a model is tried, with a card.

    python scripts/push_to_hub.py --model runs/twitter2017 --repo_id user/name --license mit --dataset_id user/tweets
    python scripts/push_to_hub.py --dataset tweets/ --output_dir shared/tweets --license cc-by-4.0 --language en
    python scripts/push_to_hub.py --dataset tweets/ --repo_id user/tweets --license cc-by-4.0 --language en
    python scripts/push_to_hub.py --space --model user/name --repo_id user/name-demo
    python scripts/push_to_hub.py --space --model user/name --relation_model user/relations --repo_id user/name-demo
    python scripts/push_to_hub.py --space --model runs/demo --output_dir runs/space

A model is the folder that `train.py`, `save_pretrained` of model and processor, or `convert_deepke_checkpoint.py`
wrote; it stays as it is. Its card is made of `results.json` where that is there, else of the configuration; a
README.md that its author wrote or changed is pushed instead.

Of a data set there are Parquet files with the pictures inside, for a folder, for the Hub, or for both:
`load_dataset("shared/tweets")` and `load_dataset("user/tweets")` give the same rows, streaming too.

A Space is a page that loads `--model` from the Hub, with examples drawn by the demo data's builder. With
`--relation_model` it shows the relations between the entities too, and has a tab where two entities are named. With
`--output_dir` its files are written to a folder, where `python app.py` starts the same page; without `--repo_id` the
models may then be folders.

The upload is one commit: the repository has all of it or nothing.
"""

import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path

from hub_card.model_card import save_model_card
from hub_card.sharing.dataset_folder import UNFINISHED, claim_folder, write_folder
from hub_card.sharing.model_folder import CARD, STALE_MODEL_FILES, model_files, new_card
from hub_card.sharing.space_folder import STALE_SPACE_FILES, write_space
from hub_card.sharing.upload import check_destination, check_model, upload
from hub_card.space_card import APP_FILE, SpaceFacts
from ifaformer_commands.command_line import parse_arguments
from ifaformer_commands.data_options import DataSourceArguments
from modeling_ifaformer.checkpoints.trained import load_whole_model
from processing.data.loading import decode_pictures


# Options by the kind of what is shared; those that are named nowhere are of data sets.
SHARED = {"repo_id", "private", "license", "title", "description"}
OF_MODELS = {"model", "language", "dataset_id"}
OF_SPACES = {"space", "model", "relation_model", "output_dir"}
OF_DATASETS = {"language", "output_dir"}
KINDS = {"a data set": "--dataset", "a model": "--model", "a Space": "--space"}


@dataclass
class SharingArguments(DataSourceArguments):
    dataset: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "data set to share, named as for the other commands"}
    )
    model: str | None = field(
        default=None, metadata={"help": "model to share: its folder. With --space: its name on the Hub"}
    )
    relation_model: str | None = field(
        default=None, metadata={"help": "of a Space: a model of relations, its name on the Hub"}
    )
    space: bool = field(default=False, metadata={"help": "share a page on which --model is tried"})
    repo_id: str | None = field(default=None, metadata={"help": "of the Hub's repository: user/name"})
    private: bool = field(default=False, metadata={"help": "make a new repository private"})
    license: str | None = field(default=None, metadata={"help": "the Hub's identifier, cc-by-4.0 for example"})
    language: list[str] = field(default_factory=list, metadata={"help": "ISO 639-1 codes: en"})
    title: str | None = field(default=None, metadata={"help": "heading of the card; default: the name"})
    description: str | None = field(
        default=None, metadata={"help": "Markdown file that says what the data or the model are"}
    )
    dataset_id: str | None = field(default=None, metadata={"help": "of a model: the Hub's name of its training data"})
    output_dir: str | None = field(
        default=None, metadata={"help": "of a data set or a Space: folder for the files; they stay there"}
    )
    rows_per_shard: int = field(default=1000, metadata={"help": "of a data set: rows a Parquet file"})

    @property
    def kind(self) -> str:
        return "a Space" if self.space else "a model" if self.model is not None else "a data set"

    def check(self) -> None:
        """
        Raises:
            ValueError: for an option that is missing, out of range or not of this kind, and a Hub that cannot be
                reached.
        """
        if (self.dataset is None) == (self.model is None):
            raise ValueError("Name what to share: --model FOLDER or --dataset NAME, one of them.")
        options = {option.name for option in fields(self)} - SHARED
        of_kind = {
            "a data set": options - (OF_MODELS | OF_SPACES) | OF_DATASETS,
            "a model": OF_MODELS,
            "a Space": OF_SPACES,
        }
        defaults = SharingArguments()
        given = [
            name for name in sorted(options - of_kind[self.kind]) if getattr(self, name) != getattr(defaults, name)
        ]
        if given:
            others = [kind for kind in of_kind if of_kind[kind] >= set(given)] or ["another kind"]
            names = ", ".join(f"--{name}" for name in given)
            raise ValueError(f"{names}: of {others[0]}, and what is shared is {KINDS[self.kind]}.")
        if self.kind == "a model" and self.repo_id is None:
            raise ValueError("Name where to: --repo_id user/name.")
        if self.repo_id is None and self.output_dir is None:
            raise ValueError("Name where to: --repo_id user/name, --output_dir FOLDER, or both.")
        if self.rows_per_shard < 1:
            raise ValueError(f"--rows_per_shard must be at least 1, got {self.rows_per_shard}.")
        if self.kind == "a model":
            model_files(Path(str(self.model)))  # what is wrong here is said before anything of the network
        if self.repo_id is not None:
            check_destination(self.repo_id, command())

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


def command() -> str:
    """This run, for a shell."""
    return shlex.join(["python", *sys.argv])


def publish(
    files: Mapping[str, Path], arguments: SharingArguments, repo_type: str, title: str, stale: Sequence[str]
) -> str:
    """Upload what this command made, see [`upload`]; the URL of the repository."""
    return upload(
        files,
        arguments.repo_id,
        repo_type,
        private=arguments.private,
        message=f"Upload {title}",
        again=command(),
        stale=stale,
    )


def push_model(arguments: SharingArguments, description: str) -> str:
    """
    Upload a model's folder in one commit; the URL of the repository.

    Raises:
        ValueError: for a folder that holds no whole model, or whose card cannot be made.
        SystemExit: where the upload fails, with what is published and what to do.
    """
    folder = Path(arguments.model)
    files = model_files(folder)
    facts = new_card(folder, load_whole_model(folder), arguments, description)
    if facts is None:
        print(f"{folder / CARD} is its author's own: pushed as it is.")
    with tempfile.TemporaryDirectory() as made:
        if facts is not None:
            save_model_card(facts, made)
            files |= {path.name: path for path in Path(made).iterdir()}
        title = arguments.title or arguments.repo_id.split("/")[-1]
        return publish(files, arguments, "model", title, STALE_MODEL_FILES)


def push_folder(folder: Path, arguments: SharingArguments) -> str:
    """
    Upload a data set's folder in one commit; the URL of the repository.

    Raises:
        SystemExit: where that fails, with what is published and what to do.
    """
    paths = [folder / CARD, *sorted(folder.glob("data/*.parquet"))]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    title = arguments.title or Path(arguments.dataset).stem
    return publish(files, arguments, "dataset", title, stale=["data/*.parquet"])


def model_of_space(name: str, arguments: SharingArguments) -> str:
    """
    The model as the Space names it: by its name on the Hub, or the whole path of its folder.

    Raises:
        SystemExit: for one that the Space, which is to be pushed, would not find.
    """
    if arguments.repo_id:
        check_model(name, command())
    elif Path(name).is_dir():
        return str(Path(name).resolve())
    else:
        print(f"{name} is no folder here: the page will ask the Hub for it, and without it find nothing.")
    return name


def share_space(arguments: SharingArguments, description: str) -> None:
    """
    Write the files of a Space, and upload them if that was asked for.

    Raises:
        SystemExit: where that fails.
    """
    model = model_of_space(str(arguments.model), arguments)
    extractor = arguments.relation_model and model_of_space(arguments.relation_model, arguments)
    name = arguments.title or (arguments.repo_id or f"{Path(model).name} demo").split("/")[-1]
    facts = SpaceFacts(name, [model], extractor, description=description, license=arguments.license)
    with nullcontext(arguments.output_dir) if arguments.output_dir else tempfile.TemporaryDirectory() as folder:
        try:
            files = write_space(Path(folder), facts)
        except OSError as error:
            raise SystemExit(f"Not written to {folder}: {error}") from error
        if arguments.output_dir:
            print(f"Written: {folder}. Start it with: {shlex.join(['python', str(Path(folder) / APP_FILE)])}")
        if arguments.repo_id:
            print(f"Pushed: {publish(files, arguments, 'space', name, STALE_SPACE_FILES)}")


def share_dataset(arguments: SharingArguments, description: str) -> None:
    """
    Write the files of a data set and its card, and upload them if that was asked for.

    Raises:
        SystemExit: where that fails.
    """
    if arguments.output_dir:
        try:
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


def main() -> None:
    arguments, _ = parse_arguments(SharingArguments, description=__doc__)
    try:
        arguments.check()
        description = arguments.read_description()
        if arguments.kind == "a model":
            print(f"Pushed: {push_model(arguments, description)}")
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if arguments.kind == "a Space":
        share_space(arguments, description)
    if arguments.kind == "a data set":
        share_dataset(arguments, description)


if __name__ == "__main__":
    main()
