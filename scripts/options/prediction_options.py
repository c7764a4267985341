"""Options of the prediction."""

from dataclasses import dataclass
from typing import Any

from ifaformer_commands.options.command_line import option
from ifaformer_commands.options.data_options import ANNOTATION_TOOLS, TASKS, DataSourceArguments, DetectionArguments


@dataclass
class TaggerArguments(DetectionArguments):
    """Options of the model."""

    model: str | None = option("The trained model: its folder, or its name on the Hub.")
    relation_model: str | None = option("A relation model, which finds the relations between the model's entities.")
    relation_types: str | None = option("A JSON file of the types that each relation allows (docs/relations.md).")
    threshold: dict | str | None = option(
        "Leave out entities, and relations between them, whose score is below this: a number from 0 to 1, numbers by "
        "entity type and relation as JSON, or best for those that train.py has chosen for the model."
    )
    device: str | None = option("The device. By default it is the accelerator if there is one, else the CPU.")

    def check_relation_types(self) -> None:
        """Refuse types of relations where there is no relation model beside the entity model."""
        if self.relation_types is not None and self.relation_model is None:
            raise ValueError("--relation_types limits the relations of a relation model. Name one: --relation_model.")


@dataclass
class PredictionArguments(TaggerArguments, DataSourceArguments):
    """Options of the prediction."""

    task: str | None = option("The task that the model must be for. By default any task is right.", choices=TASKS)
    text: str | None = option("One tweet.")
    head: str | None = option("The head entity of --text as it stands there, for a relation model.")
    tail: str | None = option("The tail entity of --text as it stands there, for a relation model.")
    image: list[str] | None = option("The picture of --text, or several.")
    context: list[str] | None = option("What else is known of --text, such as captions, for a model that reads it.")
    aux_crops: list[str] | None = option("The crops of --image that visual grounding found.")
    rcnn_crops: list[str] | None = option("The crops of --image that a detector of a closed set found.")
    input: list[str] | None = option(
        "Files of tweets (.txt, .conll, .csv, .jsonl, .parquet), folders of these, or patterns in quotes."
    )
    dataset: str = option("A data set in place of --input, by its name as in train.py or its folder.", "")
    split: str = option("The split of the data set.", "test")
    limit: int | None = option("Stop after this number of tweets.")
    output: str | None = option("The file to write, ending in .jsonl or .parquet. Without it, JSON lines are printed.")
    overwrite: bool = option("Make the output anew in place of that of another run.", False)
    crops: str = option(
        "With auto, crops are those of the row, else those that the detectors find. With none, there are no crops.",
        "auto",
        choices=("auto", "none"),
    )
    explain: str | None = option(
        "The method that says which picture or crop speaks for an entity.", choices=("attention", "occlusion")
    )
    html: str | None = option("A page to write that shows tweets, pictures and boxes with what was found.")
    html_limit: int = option("The page shows this number of tweets, from the first one on.", 100)
    top_entities: int | None = option("Report so many of the most frequent entities of each type, with a chart.")
    to: str | None = option("Also write OUTPUT.TOOL..., which this annotation tool imports.", choices=ANNOTATION_TOOLS)
    least_certain: int | None = option("Write only so many tweets for annotation: those that are least certain.")
    batch_size: int = option("The number of tweets in a batch.", 32)

    def check(self, task: str) -> None:
        """Refuse options that do not fit the task of the model or each other."""
        if (self.to or self.least_certain) and self.output is None:
            raise ValueError("--to and --least_certain write a file beside the output. Name that: --output.")
        given = [name for name in ("head", "tail") if getattr(self, name) is not None]
        if given and (task == "ner" or self.text is None):
            raise ValueError("--head and --tail work only with a --text and a relation model.")
        if task == "ner":
            self.check_relation_types()
        if task == "re":
            for name in ("explain", "threshold", "top_entities", "relation_model", "relation_types"):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} works only for entity models; {self.model} is a relation model.")
            if self.text is not None and len(given) < 2:
                raise ValueError(f"{self.model} is a relation model. Name two entities of the --text: --head, --tail.")


def read_threshold(given: dict[str, Any] | str | None) -> float | str | dict[str, Any] | None:
    """The threshold as the pipeline takes it. What is no number stays as it is, for the pipeline to refuse."""
    try:
        return float(given) if isinstance(given, str) else given
    except ValueError:
        return given
