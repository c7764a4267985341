"""What a model card says, as values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePath
from typing import Any

from .figures import Confusion, f1_by_epoch, loss_by_step


SPLITS = ("test", "validation")


CURVE, MATRIX = "training_curve.png", "confusion_matrix.png"


METRICS = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


ACCURACY = {"accuracy": "Accuracy"}  # of relations


@dataclass(frozen=True)
class Task:
    """
    What the card says of a task.

    Args:
        name: of the task, in the results.
        hub_task: the Hub's identifier of what comes closest.
        tag: for finding the model.
        answers: what it finds, in the plural; `of_split` is the key of their counts among the statistics.
        limits: what it is not good for, besides what the data are not.
    """

    name: str
    hub_task: str
    tag: str
    answers: str
    of_split: str
    limits: tuple[str, ...]


ENTITIES = Task(
    name="Multimodal named entity recognition",
    hub_task="token-classification",
    tag="named-entity-recognition",
    answers="entity types",
    of_split="entities",
    limits=(
        "It finds names, those of people among them, but does not know who is meant. It is not made to identify, "
        "follow or judge anyone, and what it says of a person's name or picture may be wrong.",
        "Errors have not been counted by gender, origin, dialect or fame of those named. What is rare in the training "
        "data, such as names of other regions, may be found less often.",
    ),
)


RELATIONS = Task(
    name="Multimodal relation extraction",
    hub_task="text-classification",
    tag="relation-extraction",
    answers="relations",
    of_split="relations",
    limits=(
        "It says which relation a post suggests between two names, people among them, not whether it holds: it is not "
        "made to find out, judge or follow anyone's relations, and what it says of a person may be wrong.",
        "Errors have not been counted by gender, origin, dialect or fame of those named. What is rare in the training "
        "data may be found less often.",
    ),
)


TWEETS = (
    "Trained on English tweets of 2015 to 2017, each with one picture: other languages, other kinds of text, and "
    "names that came up since are outside of what was measured."
)


@dataclass(frozen=True)
class Source:
    """A data set that the project knows: its name, what it is, its language, and what it is not good for."""

    name: str
    description: str
    language: str
    limits: str


DRAWN = (
    "Trained on drawn sentences and pictures, to show that training works: its figures say nothing about real tweets, "
    "and it is of no use on them."
)


SOURCES = {
    "demo": Source(
        "drawn demo tweets",
        "Sentences and pictures drawn by a program. A name stands where its type is open, and an object in the "
        "picture settles it.",
        "en",
        DRAWN,
    ),
    "twitter2015": Source("Twitter-2015", "English tweets with a picture each.", "en", TWEETS),
    "twitter2017": Source("Twitter-2017", "English tweets with a picture each.", "en", TWEETS),
    "demo_re": Source(
        "drawn demo tweets with relations",
        "Sentences and pictures drawn by a program. A sentence leaves the relation of its two names open, and the two "
        "objects in the picture settle it.",
        "en",
        DRAWN,
    ),
    "mnre": Source(
        "MNRE",
        "English tweets with a picture each, and two entities whose relation is known.",
        "en",
        "English tweets: other languages and other kinds of text were not measured.",
    ),
}


# Name in the card -> key of the `TrainingArguments`, in the order of the card.
TRAINING = {
    "epochs": "num_train_epochs",
    "batch size on a device": "per_device_train_batch_size",
    "batches a step": "gradient_accumulation_steps",
    "optimizer": "optim",
    "learning rate": "learning_rate",
    "learning rate of the text tower": "text_learning_rate",
    "learning rate of the vision tower": "vision_learning_rate",
    "learning rate of the head": "head_learning_rate",
    "schedule": "lr_scheduler_type",
    "warm-up, in steps or as a share of them": "warmup_steps",
    "weight decay": "weight_decay",
    "gradients clipped at": "max_grad_norm",
}


DATA = {"share of masked training tokens": "mask_probability", "longest text in tokens": "max_seq_length"}


@dataclass(frozen=True)
class Scores:
    """
    Scores of a split, an entity type or a relation, as fractions of 1; `support` counts gold entities, or gold rows
    with a relation.
    """

    precision: float
    recall: float
    f1: float
    support: int
    per_type: "Mapping[str, Scores]" = field(default_factory=dict)
    unreachable_entities: int | None = None
    accuracy: float | None = None
    unreadable_rows: int | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Scores":
        """Of `entity_metrics` or `relation_metrics` in `processing`; other keys are not looked at."""
        known: dict[str, Any] = {name: values[name] for name in (*METRICS, "support")}
        per_type = {name: cls.from_dict(scores) for name, scores in values.get("per_type", {}).items()}
        optional: dict[str, Any] = {
            name: values.get(name) for name in ("unreachable_entities", "accuracy", "unreadable_rows")
        }
        return cls(**known, per_type=per_type, **optional)


@dataclass(frozen=True)
class Hardware:
    """
    What a model was trained on.

    Args:
        device: its name, of a GPU or of the CPU.
        num_devices: GPUs, over all machines.
        num_processes: of the training.
        cpu_cores: that a machine had.
        peak_memory_bytes: of the main process.
        peak_device_memory_bytes: of the GPU of the main process.
        energy_watt_hours: of the training, measured.
    """

    device: str | None = None
    num_devices: int | None = None
    num_processes: int | None = None
    cpu_cores: int | None = None
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    energy_watt_hours: float | None = None


@dataclass
class ModelFacts:
    """
    What a model card says. What is absent here is absent there.

    Args:
        title: the heading, and the model's name beside its results.
        scores: by split.
        config: of the model, as `config.json` holds it.
        log_history: of the Trainer's state.
        confusion: by split.
        statistics: of the data by split, as `split_statistics` counts them.
        dataset: as the run's options name it: of `SOURCES`, a path, a name on the Hub.
        dataset_id: its name on the Hub, if it is there.
        language: ISO 639-1 codes.
        license: the Hub's identifier.
        base_models: names on the Hub of pretrained towers.
        arguments: of the run: `data`, `model` and `training`, by option.
        recipe: file of the recipe.
        seeds, spread: of the runs that differ in the seed alone, this one among them: the seeds, and by split the
            `mean` and `std` of each metric.
        mixed_precision, seed, versions, hardware, train_seconds, num_parameters, git_commit: of the run.
        best_step: the training step whose weights the model has.
        repo_id: of the repository it goes to.
        description: a paragraph of the author's, in Markdown.
    """

    title: str
    scores: Mapping[str, Scores] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    log_history: Sequence[Mapping[str, Any]] = ()
    confusion: Mapping[str, Confusion] = field(default_factory=dict)
    statistics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset: str | None = None
    dataset_id: str | None = None
    language: list[str] = field(default_factory=list)
    license: str | None = None
    base_models: list[str] = field(default_factory=list)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipe: str | None = None
    seeds: Sequence[int] = ()
    spread: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mixed_precision: str | None = None
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hardware: Hardware = field(default_factory=Hardware)
    train_seconds: float | None = None
    num_parameters: int | None = None
    git_commit: str | None = None
    best_step: int | None = None
    repo_id: str | None = None
    description: str = ""

    @classmethod
    def from_run(cls, results: Mapping[str, Any], config: Mapping[str, Any], **given: Any) -> "ModelFacts":
        """
        Facts of a run of `scripts/train.py`.

        Args:
            results: what its `results.json` holds.
            config: what `config.json` of the saved model holds.
            **given: facts that no run records: `repo_id`, `license`, `dataset_id`, `description`, ...; they win,
                None aside.

        Raises:
            ValueError: for hardware with unknown keys, or confusion counts of a wrong shape.
            KeyError: for scores without precision, recall, F1 or support.
        """
        hardware = results.get("hardware") or {}
        unknown = sorted(set(hardware) - {of.name for of in fields(Hardware)})
        if unknown:
            raise ValueError(f"hardware has unknown keys {unknown}.")
        arguments = results.get("arguments") or {}
        dataset = arguments.get("data", {}).get("dataset")
        towers = [arguments.get("model", {}).get(f"{tower}_model") for tower in ("text", "vision")]
        best = re.search(r"checkpoint-(\d+)$", results.get("best_checkpoint") or "")
        source = SOURCES.get(dataset or "")
        repo_id = given.get("repo_id") or arguments.get("training", {}).get("hub_model_id")
        repo_id = repo_id if _is_given(repo_id) else None
        recorded: dict[str, Any] = {
            "title": repo_id.split("/")[-1] if repo_id else f"IFAformer on {_dataset_name(dataset)}",
            "scores": {split: Scores.from_dict(results[split]) for split in SPLITS if split in results},
            "config": config,
            "log_history": results.get("log_history") or (),
            "confusion": {split: Confusion(**counts) for split, counts in (results.get("confusion") or {}).items()},
            "statistics": results.get("statistics") or {},
            "dataset": dataset,
            "language": [source.language] if source else [],
            "base_models": [tower for tower in towers if tower and _is_hub_name(tower)],
            "arguments": arguments,
            "recipe": results.get("recipe"),
            "versions": results.get("versions") or {},
            "hardware": Hardware(**hardware),
            "best_step": int(best[1]) if best else None,
            "repo_id": repo_id,
            "seeds": results.get("seeds") or (),
            "spread": results.get("spread") or {},
            **{
                key: results.get(key)
                for key in ("mixed_precision", "seed", "train_seconds", "num_parameters", "git_commit")
            },
        }
        return cls(**recorded | {key: value for key, value in given.items() if value is not None})

    @property
    def task(self) -> Task:
        """As the model's class has it."""
        architecture = next(iter(self.config.get("architectures") or ()), "")
        return RELATIONS if architecture.endswith("ForRelationExtraction") else ENTITIES

    @property
    def types(self) -> list[str]:
        """Of entities, as the model's labels and the scores have them, or relations."""
        labels = self.config.get("id2label", {}).values()
        if self.task is RELATIONS:
            return sorted(labels)
        types = {label[2:] for label in labels if label[:2] in ("B-", "I-")}
        return sorted(types.union(*(scores.per_type for scores in self.scores.values())))

    @property
    def kept_epoch(self) -> float | None:
        """Whose weights the model has."""
        scored = {entry["step"]: entry["epoch"] for entry in self.log_history if "eval_f1" in entry}
        return None if self.best_step is None else scored.get(self.best_step)

    @property
    def figures(self) -> list[str]:
        """Names of the pictures that can be drawn."""
        curve = loss_by_step(self.log_history) or f1_by_epoch(self.log_history)
        return [name for name, there in ((CURVE, curve), (MATRIX, self.confusion)) if there]


def _is_given(value: Any) -> bool:
    # "None" is how `TrainingArguments.to_sanitized_dict` says it
    return value not in (None, "", "None")


def _is_hub_name(name: str) -> bool:
    return re.fullmatch(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", name, re.ASCII) is not None and not Path(name).exists()


def _dataset_name(name: str | None) -> str:
    if name is None:
        return "data without a name"
    if name in SOURCES:
        return SOURCES[name].name
    return name if _is_hub_name(name) else PurePath(name).name or "data without a name"
