"""Options that name a data set, the same for every command that reads one."""

import logging
import sys
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from datasets import Dataset, DatasetDict

from ifaformer_commands.command_line import user_errors
from processing.data.loading import DATASETS, load_data
from processing.data.own.tag_schemes import TAG_SCHEMES


if TYPE_CHECKING:
    from processing.object_proposals import ProposalOptions


ALL = sys.maxsize  # crops


@dataclass
class DataSourceArguments:
    dataset: str = field(
        default="demo",
        metadata={
            "help": f"{', '.join(DATASETS)}; or your own: a file or folder of JSON lines, CSV or Parquet, a folder "
            "of the datasets library, a Hub name"
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "folder of the Twitter or MNRE archive"})
    image_dir: str | None = field(
        default=None, metadata={"help": "your own data: folder of the pictures; default: that of the file"}
    )
    tag_scheme: str | None = field(
        default=None,
        metadata={
            "help": "your own data: scheme of the tags; default: found out",
            "choices": TAG_SCHEMES,
        },
    )
    strict: bool = field(default=False, metadata={"help": "your own data: stop at the first row that cannot be used"})
    cache_dir: str | None = field(default=None, metadata={"help": "where prepared data are kept"})

    def load(self, num_aux_crops: int = ALL, num_rcnn_crops: int = ALL) -> tuple[DatasetDict, str]:
        """
        The data set, pictures encoded, and what its loading has to report, for the command to print.

        Raises:
            SystemExit: with the message of whatever is wrong with the data or their names.
        """
        logging.getLogger("processing.reporting_builder").setLevel(logging.ERROR)  # which would tell it a second time
        try:
            return load_data(
                self.dataset,
                data_dir=self.data_dir,
                cache_dir=self.cache_dir,
                image_dir=self.image_dir,
                tag_scheme=self.tag_scheme,
                strict=self.strict,
                num_aux_crops=num_aux_crops,
                num_rcnn_crops=num_rcnn_crops,
            )
        except (ValueError, OSError) as error:
            raise SystemExit(str(error)) from error


# What a task asks for, by the column that answers it.
ANSWERS = {"ner": "ner_tags", "re": "relation"}


def check_task(data: DatasetDict, name: str, task: str) -> None:
    """
    Raises:
        SystemExit: for data without the answers of the task.
    """
    columns = next(iter(data.values())).column_names
    if ANSWERS[task] not in columns:
        others = [other for other, column in ANSWERS.items() if column in columns]
        hint = f" They are for task {others[0]}." if others else ""
        raise SystemExit(f"{name} has no {ANSWERS[task]}, but {', '.join(columns)}; the task is {task}.{hint}")


def choose_split(data: DatasetDict, split: str) -> Dataset:
    """
    Raises:
        SystemExit: for a split that the data set has not.
    """
    if split not in data:
        raise SystemExit(f"--split must be one of {', '.join(data)}, got {split!r}.")
    return data[split]


@dataclass
class DetectionArguments:
    """Options of the detectors that find crops"""

    aux_detector: str | None = field(
        default=None,
        metadata={
            "help": "The zero-shot detector that finds aux crops by phrases: a name on the Hub or a folder. Without "
            "it, no aux crops are looked for."
        },
    )
    rcnn_detector: str | None = field(
        default=None,
        metadata={
            "help": "The detector of a closed set of labels that finds rcnn crops: a name on the Hub or a folder. "
            "Without it, no rcnn crops are looked for."
        },
    )
    phrases: list[str] | None = field(
        default=None, metadata={"help": "The phrases that the zero-shot detector looks for in every picture."}
    )
    spacy_model: str | None = field(
        default=None,
        metadata={
            "help": "The spaCy model that finds the noun phrases of each text, which the zero-shot detector looks "
            "for. By default it is an installed English one. Without one, or with 'none', the detector looks for what "
            "the labels name.",
            "none_is_text": True,
        },
    )
    aux_threshold: float = field(
        default=0.3, metadata={"help": "An object gives an aux crop only if its score is above this number."}
    )
    rcnn_threshold: float = field(
        default=0.5, metadata={"help": "An object gives an rcnn crop only if its score is above this number."}
    )
    iou_threshold: float = field(
        default=0.5,
        metadata={
            "help": "Of two boxes whose intersection over union is above this number, only the one with the higher "
            "score stays."
        },
    )
    max_aux_crops: int = field(default=3, metadata={"help": "The largest number of aux crops for a picture."})
    max_rcnn_crops: int = field(default=3, metadata={"help": "The largest number of rcnn crops for a picture."})

    def proposal_options(self) -> "ProposalOptions":
        """
        These options as the rooms take them.

        Raises:
            SystemExit: for an option out of range.
        """
        from processing.object_proposals import ProposalOptions

        options = ProposalOptions(**{option.name: getattr(self, option.name) for option in fields(DetectionArguments)})
        with user_errors():
            options.check()
        return options
