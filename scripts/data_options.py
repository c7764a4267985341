"""Options that name a data set, the same for every command that reads one."""

import logging
import sys
from dataclasses import dataclass, field

from datasets import Dataset, DatasetDict

from processing.data.loading import DATASETS, load_data
from processing.data.own.tag_schemes import TAG_SCHEMES


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
