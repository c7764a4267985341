"""
Share a trained model, a data set, or a Space in which a model is tried, with a card, in one commit.

    python scripts/push_to_hub.py --model runs/twitter2017 --repo_id user/name --license mit --dataset_id user/tweets
    python scripts/push_to_hub.py --dataset tweets/ --repo_id user/tweets --license cc-by-4.0 --language en
    python scripts/push_to_hub.py --dataset tweets/ --output_dir shared/tweets
    python scripts/push_to_hub.py --space --model user/name --relation_model user/relations --repo_id user/name-demo
    python scripts/push_to_hub.py --space --model runs/demo --output_dir runs/space

A model is the folder of one with its processor. Its card is made from `results.json` or the configuration, unless a
README.md of its author's is there.

A data set becomes Parquet files with the pictures inside, in a folder, on the Hub, or both. `load_dataset` reads them.
A Space is a page that loads `--model` from the Hub; with `--relation_model` it shows relations between entities too.
With `--output_dir` the models may be folders; the last line printed starts the page on this machine.
"""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ifaformer_commands.options.command_line import option, parse_arguments, this_command, user_errors
from ifaformer_commands.options.data_options import DataSourceArguments, PictureArguments


@dataclass
class CardArguments:
    """What the card says."""

    title: str = option("The heading of the card. By default it is the name of what is shared.", "")
    description: str = option("A Markdown file that says what the data or the model are.", "")
    license: str | None = option("The license by the Hub's identifier, for example cc-by-4.0.", None)
    language: list[str] = option("The languages of the texts as ISO 639-1 codes, for example en.", [])

    def card(self) -> dict[str, Any]:
        try:
            text = Path(self.description).read_text(encoding="utf-8") if self.description else ""
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--description {self.description}: expected a Markdown file in UTF-8: {error}"
            ) from error
        return {"license": self.license, "language": self.language, "description": text}


@dataclass
class DatasetArguments(PictureArguments, DataSourceArguments):
    """The data set that is shared."""

    dataset: str = option("The data set to share, named as for the other commands.", "")
    rows_per_shard: int = option("How many rows a Parquet file has at most.", 1000)


@dataclass
class SharingArguments(CardArguments, DatasetArguments):
    """What is shared, and where to."""

    model: str = option("The folder of the model to share. With --space it is the model's name on the Hub.", "")
    space: bool = option("Share a page on which --model is tried.", False)
    relation_model: str | None = option("The relation model of a Space, by its name on the Hub.", None)
    dataset_id: str | None = option("The name on the Hub of the data that --model was trained on.", None)
    space_id: str | None = option("The name on the Hub of a Space in which --model is tried, for its card.", None)
    repo_id: str = option("The repository on the Hub: user/name.", "")
    private: bool = option("Make a new repository private.", False)
    output_dir: str = option("The folder for the files of a data set or a Space. They stay there.", "")

    def check(self) -> None:
        """
        Raises:
            SystemExit: for an option that is missing, or that has no effect on what is shared.
        """
        if bool(self.dataset) == bool(self.model):
            raise SystemExit("Name what to share: --model FOLDER or --dataset NAME, one of them.")
        of_data = {each.name for each in fields(DatasetArguments)}
        kind, unused = "a data set", {"relation_model", "dataset_id", "space_id"}
        if self.space:
            kind, unused = "a Space", of_data | {"language", "dataset_id", "space_id"}
        elif self.model:
            kind, unused = "a model", of_data | {"relation_model", "output_dir"}
        given = [name for name in sorted(unused) if getattr(self, name) != getattr(SharingArguments(), name)]
        if given:
            raise SystemExit(f"{', '.join(f'--{name}' for name in given)} cannot be used when {kind} is shared.")
        if not self.repo_id and (kind == "a model" or not self.output_dir):
            raise SystemExit("Name where to: --repo_id user/name, or for a data set or a Space --output_dir FOLDER.")
        if self.private and not self.repo_id:
            raise SystemExit("--private works only with --repo_id, since it is the repository that becomes private.")


def share(arguments: SharingArguments) -> str | None:
    """Write what is shared, and push it where that was asked for; the URL of what was pushed."""
    from hub_card import sharing

    card = arguments.card()
    to: dict[str, Any] = {"folder": arguments.output_dir, "private": arguments.private}
    if arguments.repo_id:
        sharing.check_destination(arguments.repo_id)
    if arguments.space:
        title = arguments.title or (arguments.repo_id or f"{Path(arguments.model).name} demo").split("/")[-1]
        del card["language"]
        facts = sharing.SpaceFacts(title, [arguments.model], arguments.relation_model, **card)
        if not arguments.repo_id:
            sharing.write_space(arguments.output_dir, facts)
            return None
        space = sharing.push_space(facts, arguments.repo_id, **to)
        for name in space.private_models:
            print(f"{name} is private: give the Space the secret HF_TOKEN, with a token that may read it.")
        return space.url
    if arguments.model:
        from modeling_ifaformer.checkpoints.trained import load_whole_model

        sharing.model_files(arguments.model)
        card |= {"title": arguments.title, "dataset_id": arguments.dataset_id, "space_id": arguments.space_id}
        card["num_parameters"] = load_whole_model(arguments.model).num_parameters()
        model = sharing.push_model(arguments.model, arguments.repo_id, private=arguments.private, **card)
        if model.has_own_card:
            print(f"{Path(arguments.model, 'README.md')} is its author's own. It was pushed as it is.")
        return model.url
    data, report = arguments.load(verify_pictures=True, max_megapixels=arguments.max_megapixels)
    if report:
        print(report)
    card |= {"title": arguments.title or Path(arguments.dataset).stem, "report": report.published()}
    card["rows_per_shard"] = arguments.rows_per_shard
    if arguments.repo_id:
        return sharing.push_dataset(data, arguments.repo_id, **to, **card)
    sharing.write_dataset(data, arguments.output_dir, **card)
    return None


def main() -> None:
    arguments, _ = parse_arguments(SharingArguments, description=__doc__)
    arguments.check()

    from hub_card.sharing import NotPushed
    from processing.jobs.processes import JobError

    try:
        with user_errors(JobError):
            url = share(arguments)
    except NotPushed as error:
        raise SystemExit(f"{error} The command is:\n{this_command()}") from error
    if arguments.output_dir:
        models = ["--relation_model", arguments.relation_model] if arguments.relation_model else []
        page = shlex.join(["python", str(Path(arguments.output_dir, "app.py")), "--model", arguments.model, *models])
        print(f"Written: {arguments.output_dir}" + (f". Start it with: {page}" if arguments.space else ""))
    if url:
        print(f"Pushed: {url}")


if __name__ == "__main__":
    main()
