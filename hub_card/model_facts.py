"""What a model card says, as values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from processing.inspection.statistics import has_pictures
from processing.labels import tag_types
from processing.rows.local_paths import without_folders

from .figures import f1_by_epoch, loss_by_step


SPLITS = ("test", "validation")
CURVE, MATRIX = "training_curve.png", "confusion_matrix.png"


class TaskWords(NamedTuple):
    """
    What the card says of a task.

    Attributes:
        name: the task, whether pictures are looked at or not.
        hub_task: the Hub's identifier of the task that comes closest.
        tag: a word by which the model is found.
        answers: what the model finds, in the plural.
        counted: the key under which statistics of data count them.
        metrics: the names of its scores, by their keys.
    """

    name: str
    hub_task: str
    tag: str
    answers: str
    counted: str
    metrics: Mapping[str, str]


METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}
ENTITIES = TaskWords(
    "named entity recognition",
    "token-classification",
    "named-entity-recognition",
    "entity types",
    "entities",
    METRICS,
)
RELATIONS = TaskWords(
    "relation extraction",
    "text-classification",
    "relation-extraction",
    "relations",
    "relations",
    {**METRICS, "accuracy": "Accuracy"},
)


class KnownDataset(NamedTuple):
    """A data set that the project knows. `limits` is what a model that was trained on it is not good for."""

    name: str
    description: str
    limits: str
    has_pictures: bool = True


# The baselines, by the name that their configurations have.
SYSTEMS = {
    "cnn_bilstm": "CNN-BiLSTM-CRF",
    "co_attention": "AdapCoAtt-BERT-CRF",
    "visual_bert": "VisualBERT on a grid of the picture",
    "vilbert": "ViLBERT on a grid of the picture",
    "umt": "UMT",
    "hvpnet": "HVPNeT",
}

_DRAWN = (
    "The model knows drawn pictures and some hundred names: its scores say nothing about real tweets, and it is of no "
    "use on them."
)
_TWEETS = (
    "The model was trained on English tweets of 2015 to 2017. Other languages, other kinds of text, and names that "
    "came up since were not measured."
)
_ONE_PICTURE = "English tweets with a picture each."
KNOWN_DATASETS = {  # all of them in English
    "demo": KnownDataset(
        "drawn demo tweets",
        "Sentences and pictures drawn by a program. A name stands where its type is open, and an object in the "
        "picture settles it.",
        _DRAWN,
    ),
    "demo_pictures": KnownDataset(
        "drawn demo tweets with two pictures",
        "Sentences and pictures drawn by a program. A name stands where its type is open, and an object in one of the "
        "two pictures settles it.",
        _DRAWN,
    ),
    "demo_context": KnownDataset(
        "drawn demo tweets with captions",
        "Sentences and captions made by a program, without pictures. A name stands where its type is open, and a word "
        "of the caption settles it.",
        _DRAWN.replace("drawn pictures", "made-up captions"),
        has_pictures=False,
    ),
    "twitter2015": KnownDataset("Twitter-2015", _ONE_PICTURE, _TWEETS),
    "twitter2017": KnownDataset("Twitter-2017", _ONE_PICTURE, _TWEETS),
    "demo_re": KnownDataset(
        "drawn demo tweets with relations",
        "Sentences and pictures drawn by a program. A sentence leaves the relation of its two names open, and the two "
        "objects in the picture settle it.",
        _DRAWN,
    ),
    "mnre": KnownDataset(
        "MNRE",
        "English tweets with a picture each, and two entities whose relation is known.",
        "The model was trained on English tweets. Other languages and other kinds of text were not measured.",
    ),
}


@dataclass(frozen=True)
class ModelFacts:
    """
    What a model card says. What is absent here is absent there.

    Args:
        results: what the `results.json` of a training run holds; empty for a model without a record.
        config: what the `config.json` of the model holds.
        repo_id: name of the repository that the model goes to.
        title: the heading; by default the name of the repository.
        license: the Hub's identifier.
        language: ISO 639-1 codes; by default those of the data, where the project knows them.
        dataset_id: the name of the training data on the Hub, where they are there.
        description: a paragraph of the author's, in Markdown.
        num_parameters: of a model without a record.
        space_id: the name of a Space on the Hub in which the model can be tried.
    """

    results: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    repo_id: str | None = None
    title: str | None = None
    license: str | None = None
    language: Sequence[str] = ()
    dataset_id: str | None = None
    description: str = ""
    num_parameters: int | None = None
    space_id: str | None = None

    def get(self, name: str) -> Any:
        """What the run recorded under that name; an empty dictionary where there is nothing."""
        return self.results.get(name) or {}

    def options(self, group: str) -> Mapping[str, Any]:
        """The options of the run, `data`, `model` or `training`, by name."""
        return self.get("arguments").get(group, {})

    @property
    def repository(self) -> str | None:
        """The repository that was named, or the one that the run pushed to."""
        name = self.repo_id or self.options("training").get("hub_model_id")
        return None if name == "None" else name  # as `TrainingArguments.to_sanitized_dict` says it

    @property
    def heading(self) -> str:
        named = self.repository.split("/")[-1] if self.repository else f"{self.system} on {dataset_name(self.dataset)}"
        return self.title or named

    @property
    def dataset(self) -> str | None:
        """The data set as the run's options name it: one that is known, a path, or a name on the Hub."""
        return self.options("data").get("dataset")

    @property
    def known_dataset(self) -> KnownDataset | None:
        return KNOWN_DATASETS.get(self.dataset or "")

    @property
    def scores(self) -> dict[str, Mapping[str, Any]]:
        """By split, as `entity_metrics` or `relation_metrics` give them."""
        return {split: self.results[split] for split in SPLITS if split in self.results}

    @property
    def confusion(self) -> tuple[str, Mapping[str, Any]] | None:
        """The split whose confusion is drawn, and what `confusion_matrix` takes."""
        counts = self.get("confusion")
        return next(((split, counts[split]) for split in SPLITS if split in counts), None)

    @property
    def system(self) -> str:
        """What the model is: IFAformer, its variant MKGformer, or one of the baselines."""
        if self.config.get("attention_variant") == "mkgformer" and self.sees_pictures:
            return "MKGformer"
        return SYSTEMS.get(self.config.get("system", ""), "IFAformer")

    @property
    def sees_pictures(self) -> bool:
        """Whether a picture has an effect on the model."""
        return self.config.get("system") != "cnn_bilstm" and self.config.get("text_attends_vision") is not False

    @property
    def pictures_of_training(self) -> str:
        """A sentence where the model learnt from no picture of data that have some, else nothing."""
        of_train = self.get("statistics").get("train")
        if not of_train or (self.known_dataset and not self.known_dataset.has_pictures):
            return ""
        if not has_pictures(of_train):
            return "The rows of this training had no pictures."
        return "" if self.sees_pictures else "Their pictures were left out of this training."

    @property
    def towers(self) -> dict[str, str | None]:
        """By tower that has an effect, the pretrained model that training started from, as the options name it."""
        options = self.options("model")
        named = {tower: f"{tower}_model" for tower in ("text", *(["vision"] if self.sees_pictures else []))}
        return {tower: options.get("model") or options[name] for tower, name in named.items() if name in options}

    @property
    def max_context_length(self) -> int | None:
        """How many tokens of a context the model reads behind a text; None where it reads none."""
        return self.options("model").get("max_context_length") or None

    @property
    def task(self) -> TaskWords:
        """The task of the model's class."""
        architecture = next(iter(self.config.get("architectures") or ()), "")
        return RELATIONS if architecture.endswith("ForRelationExtraction") else ENTITIES

    @property
    def task_name(self) -> str:
        """The task as a sentence and results name it."""
        return f"multimodal {self.task.name}" if self.sees_pictures else self.task.name

    @property
    def types(self) -> list[str]:
        """The entity types of the model's labels and of the scores, or the relations."""
        labels = self.config.get("id2label", {}).values()
        if self.task is RELATIONS:
            return sorted(labels)
        types = set(tag_types(labels))
        return sorted(types.union(*(scores.get("per_type", {}) for scores in self.scores.values())))

    @property
    def best_step(self) -> int | None:
        """The training step whose weights the model has."""
        best = re.search(r"checkpoint-(\d+)$", self.results.get("best_checkpoint") or "")
        return int(best[1]) if best else None

    @property
    def kept_epoch(self) -> float | None:
        """The epoch whose weights the model has."""
        log = self.get("log_history")
        return {entry["step"]: entry["epoch"] for entry in log if "eval_f1" in entry}.get(self.best_step)

    @property
    def figures(self) -> list[str]:
        """Names of the pictures that can be drawn."""
        log = self.get("log_history")
        curve = loss_by_step(log) or f1_by_epoch(log)
        return [name for name, there in ((CURVE, curve), (MATRIX, self.confusion)) if there]


def is_hub_name(name: str) -> bool:
    return re.fullmatch(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", name, re.ASCII) is not None and not Path(name).exists()


def dataset_name(name: str | None) -> str:
    if name in KNOWN_DATASETS:
        return KNOWN_DATASETS[name].name
    return without_folders(name or "") or "data without a name"
