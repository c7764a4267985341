"""What predict.py is told: its options, what they have to do with each other and with the models, and the rows."""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import torch
import transformers

from ifaformer_commands.command_line import user_errors
from ifaformer_commands.data_options import DataSourceArguments
from modeling_ifaformer.checkpoints.trained import load_processor, task_of
from processing.data.loading import DATASETS
from processing.data.tasks import ANSWERS, choose_split
from processing.explanations import METHODS
from processing.jobs.digests import checkpoint_digest
from processing.object_proposals import ProposalOptions
from processing.phrases import relation_types
from processing.pipeline_rows import CROP_CHOICES
from processing.relation_pipeline import check_same_pictures

from .input_rows import PAIR_COLUMNS, RowSource, check_not_read, dataset_source, file_source, text_source
from .parts import OUTPUT_ENDINGS, output_schema
from .windows import WINDOW_BATCHES, WINDOW_BYTES


OF_ENTITIES = ("explain", "top_entities", "relation_model")


@dataclass
class PredictionArguments(ProposalOptions, DataSourceArguments):
    option_prefix: ClassVar[str] = "--"

    model: str | None = field(default=None, metadata={"help": "a trained IFAformer, Hub name or folder"})
    task: str | None = field(
        default=None, metadata={"help": "what it must be for; default: what it is for", "choices": list(ANSWERS)}
    )
    relation_model: str | None = field(
        default=None, metadata={"help": "beside a model of entities: one that finds the relations between them"}
    )
    text: str | None = field(default=None, metadata={"help": "one tweet"})
    head: str | None = field(default=None, metadata={"help": "for relations: its head entity, as it stands there"})
    tail: str | None = field(default=None, metadata={"help": "for relations: its tail entity"})
    image: str | None = field(default=None, metadata={"help": "its picture"})
    aux_crops: list[str] | None = field(default=None, metadata={"help": "its crops by visual grounding"})
    rcnn_crops: list[str] | None = field(default=None, metadata={"help": "its crops by a detector"})
    input: list[str] | None = field(
        default=None,
        metadata={"help": "files of tweets: .txt, .csv, .jsonl, .parquet; folders of such; patterns in quotes"},
    )
    dataset: str | None = field(default=None, metadata={"help": f"{', '.join(DATASETS)}, or a folder, instead"})
    split: str = field(default="test", metadata={"help": "which split of it"})
    limit: int | None = field(default=None, metadata={"help": "stop after this many tweets"})
    output: str | None = field(default=None, metadata={"help": ".jsonl or .parquet; left out, lines are printed"})
    overwrite: bool = field(default=False, metadata={"help": "make the output anew in place of that of another run"})
    crops: str = field(default="auto", metadata={"help": "auto: a row's own, else the detectors'; none: no crops"})
    explain: str | None = field(default=None, metadata={"help": f"which crop speaks: {', '.join(METHODS)}"})
    html: str | None = field(
        default=None, metadata={"help": "page of the tweets with what was found, pictures and boxes"}
    )
    html_limit: int = field(default=100, metadata={"help": "only so many tweets on the page, from the first on"})
    top_entities: int | None = field(
        default=None, metadata={"help": "of each type the most frequent entities: printed, and a chart by the output"}
    )
    batch_size: int = field(default=32, metadata={"help": "tweets a batch"})
    device: str | None = field(default=None, metadata={"help": "default: cuda where there is one, else cpu"})

    def check(self) -> None:
        """
        Raises:
            ValueError: for an option that is missing or out of range.
        """
        if self.model is None:
            raise ValueError("Name the model: --model runs/demo")
        if self.text is None and self.input is None and self.dataset is None:
            raise ValueError("Nothing to tag: give --text, --input or --dataset.")
        super().check()
        for name, choices in (("crops", CROP_CHOICES), ("explain", tuple(METHODS))):
            value = getattr(self, name)
            if value not in choices and (name, value) != ("explain", None):
                raise ValueError(f"--{name} must be one of {', '.join(choices)}, got {value!r}.")
        for name in ("html_limit", "batch_size", "limit", "top_entities"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")
        if self.output is not None and Path(self.output).suffix.lower() not in OUTPUT_ENDINGS:
            raise ValueError(f"--output must end in {', '.join(OUTPUT_ENDINGS)}, got {self.output!r}.")
        if self.output is not None:
            check_not_read(Path(self.output), self.input or [name for name in (self.dataset,) if name])

    def check_models(self) -> None:
        """
        Which task the model is of, now the `task`, and whether the options are of that task.

        Raises:
            ValueError: for an option of another task, and for a model that does not load or is of another task.
            OSError: for a model that is not there.
        """
        processor = load_processor(str(self.model), self.task)
        self.task = task_of(processor)
        pair = {name: getattr(self, name) for name in PAIR_COLUMNS}
        given = [f"--{name}" for name, value in pair.items() if value is not None]
        if given and (self.task == "ner" or self.text is None):
            raise ValueError(
                f"{', '.join(given)}: of the --text whose relation is asked for, by a model of relations."
            )
        if self.task == "re":
            of_entities = [f"--{name}" for name in OF_ENTITIES if getattr(self, name) is not None]
            if of_entities:
                raise ValueError(f"{', '.join(of_entities)}: of entities, and {self.model} is of relations (task re).")
            if self.text is not None and len(given) < len(pair):
                raise ValueError("A relation is one of two entities of the --text: name them by --head and --tail.")
            if self.aux_detector is not None and self.phrases is None and not relation_types(processor.relations):
                raise ValueError("The relations name no entity types: say what --aux_detector looks for by --phrases.")
        if self.relation_model is not None:
            try:
                check_same_pictures(processor, load_processor(self.relation_model, "re"))
            except ValueError as error:
                raise ValueError(f"--relation_model {self.relation_model}: {error}") from error

    @property
    def found(self) -> tuple[str, ...]:
        """What the models find, as the report counts it; once they are checked."""
        if self.task == "re":
            return ("relations",)
        return ("entities",) if self.relation_model is None else ("entities", "relations")

    @property
    def schema(self) -> pa.Schema:
        """Of Parquet output, once the models are checked."""
        return output_schema(str(self.task), self.explain is not None, with_relations=self.relation_model is not None)

    def settings(self, source: RowSource) -> dict[str, Any]:
        """
        All that decides what the output holds, but for pictures that lie in files of their own.

        Raises:
            OSError: for a model or detector that is not there.
        """
        free = ("output", "overwrite", "device", "cache_dir")
        return {
            **{name: value for name, value in asdict(self).items() if name not in free},
            "input_content": source.content,
            "model_content": checkpoint_digest(self.model),
            "relation_model_content": self.relation_model and checkpoint_digest(self.relation_model),
            "detectors": {kind: checkpoint_digest(detector) for kind, detector in self.detectors.items()},
            "window": [WINDOW_BATCHES, WINDOW_BYTES],
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }


def open_source(arguments: PredictionArguments, is_main_process: bool = True) -> RowSource:
    """
    The rows to be tagged, by models that are checked.

    Raises:
        SystemExit: for no such file or data set, or one that cannot be read.
    """
    if arguments.text is not None:
        names = ("text", *(PAIR_COLUMNS if arguments.task == "re" else ()), "image", "aux_crops", "rcnn_crops")
        return text_source({name: getattr(arguments, name) for name in names})
    if arguments.input is not None:
        try:
            return file_source(arguments.input, arguments.image_dir)
        except (OSError, ValueError) as error:
            raise SystemExit(str(error)) from error
    data, report = arguments.load()
    if report and is_main_process:
        print(report, file=sys.stderr)
    with user_errors():
        rows, name = choose_split(data, arguments.split), f"{arguments.dataset} {arguments.split}"
        return dataset_source(rows, name, with_pair=arguments.task == "re")
