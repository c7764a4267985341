"""Which column of a data set answers a task, and the split that a user names."""

from datasets import Dataset, DatasetDict


# The column that holds what a task asks for.
ANSWERS = {"ner": "ner_tags", "re": "relation"}


def check_task(data: DatasetDict, name: str, task: str) -> None:
    """A ValueError, which calls the data by `name`, where they have no column with the answers of the task."""
    columns = next(iter(data.values())).column_names
    if ANSWERS[task] not in columns:
        others = [other for other, column in ANSWERS.items() if column in columns]
        hint = f" These data are for the task {others[0]}." if others else ""
        raise ValueError(
            f"The task {task} needs the column {ANSWERS[task]}, but {name} has the columns {', '.join(columns)}.{hint}"
        )


def choose_split(data: DatasetDict, split: str) -> Dataset:
    """The rows of one split; a ValueError names those that there are."""
    if split not in data:
        raise ValueError(f"The split must be one of {', '.join(data)}, got {split!r}.")
    return data[split]
