"""Data sets by name, and what training and scoring ask of them."""

import os
from typing import Any

import numpy as np
from datasets import Dataset, DatasetBuilder, DatasetDict, Image, List, concatenate_datasets, load_dataset

from .demo_mner import DemoMNER
from .file_mner import FileMNER
from .mnre import MNRE
from .processing_ifaformer import IFAformerProcessor
from .reporting_builder import ReportingBuilder
from .rows import PICTURE_COLUMNS
from .twitter_mner import TwitterMNER


DATASETS = ("demo", "twitter2015", "twitter2017", "mnre")


def load_data(
    name: str, data_dir: str | None = None, cache_dir: str | None = None, **own_data: Any
) -> tuple[DatasetDict, str]:
    """
    A data set with the columns of `rows.py`, its pictures encoded, and what its loading has to report.

    Args:
        name: one of `DATASETS`, a file or folder of your own (see [`FileMNER`]), or a data set of the Hub that has
            these columns already, as `scripts/push_to_hub.py` leaves it.
        data_dir: folder of the archive, for the published data sets.
        cache_dir: where the prepared rows are kept; the default of `datasets` if None.
        **own_data: `image_dir`, `tag_scheme`, `strict`, ... of [`FileMNER`], for data of your own.

    Raises:
        ValueError: for an unknown name, columns that do not fit, options that do not apply, and whatever the builder
            finds wrong.
        OSError: where the cache cannot be written.
    """
    own_data = {option: value for option, value in own_data.items() if value not in (None, False)}
    if own_data and (name in DATASETS or not os.path.exists(name)):
        raise ValueError(f"{', '.join(own_data)} apply to files of your own, not to {name!r}.")
    if data_dir is not None and name not in DATASETS:
        raise ValueError(f"data_dir applies to {', '.join(DATASETS[1:])}, not to {name!r}; --dataset is the folder.")
    builder: DatasetBuilder
    if name == "demo":
        builder = DemoMNER(cache_dir=cache_dir)
    elif name == "mnre":
        builder = MNRE(data_dir=data_dir, cache_dir=cache_dir)
    elif name in DATASETS:
        builder = TwitterMNER(config_name=name, data_dir=data_dir, cache_dir=cache_dir)
    elif os.path.exists(name):
        builder = FileMNER(data_dir=name, cache_dir=cache_dir, **own_data)
    else:
        return encode_pictures(_from_hub(name, cache_dir)), ""
    builder.download_and_prepare()
    report = str(builder.report) if isinstance(builder, ReportingBuilder) else ""
    return encode_pictures(builder.as_dataset()), report


def _from_hub(name: str, cache_dir: str | None) -> DatasetDict:
    try:
        data = load_dataset(name, cache_dir=cache_dir)
    except (FileNotFoundError, ConnectionError) as error:
        raise ValueError(
            f"dataset must be one of {', '.join(DATASETS)}, a file or folder that exists, or a data set on the Hub, "
            f"got {name!r}: {error}"
        ) from error
    needed = {"id", "image_id", "tokens", *PICTURE_COLUMNS}
    for split, rows in data.items():
        missing = needed - set(rows.column_names)
        answers = {"ner_tags", "relation"} & set(rows.column_names)
        if missing or not answers:
            raise ValueError(
                f"{name}, split {split}: expected the columns {', '.join(sorted(needed))} and ner_tags or relation, "
                f"got {', '.join(rows.column_names)}. To have it converted, save_to_disk() it and give the folder."
            )
    return data


def encode_pictures(data: DatasetDict) -> DatasetDict:
    """
    Pictures as `{"bytes", "path"}` until the processor reads them: `datasets` would turn them as their EXIF tag says,
    which the published code does not, and fail on a broken one without naming its row.
    """
    return _cast_pictures(data, Image(decode=False))


def decode_pictures(data: DatasetDict) -> DatasetDict:
    """Pictures as `datasets` gives them by default: opened by Pillow when a row is read."""
    return _cast_pictures(data, Image())


def _cast_pictures(data: DatasetDict, picture: Image) -> DatasetDict:
    for column, feature in zip(PICTURE_COLUMNS, (picture, List(picture), List(picture)), strict=True):
        data = data.cast_column(column, feature)
    return data


def tag_names(dataset: Dataset) -> list[str]:
    """The tags of words in id order."""
    return dataset.features["ner_tags"].feature.names


def word_labels(dataset: Dataset) -> list[list[str]]:
    """The gold tag of each word."""
    names = tag_names(dataset)
    return [[names[tag] for tag in tags] for tags in dataset["ner_tags"]]


def drop_tokenless(dataset: Dataset, processor: IFAformerProcessor) -> tuple[Dataset, list[list[str]]]:
    """
    The rows of which the tokenizer keeps something, and the gold tags of the others (texts of zero-width characters,
    say), which scoring counts as missed.
    """
    texts = dataset.select_columns(["tokens"])
    readable = [kept for batch in texts.iter(batch_size=1000) for kept in processor.have_tokens(batch["tokens"])]
    if all(readable):
        return dataset, []
    rows = range(len(dataset))
    dropped = dataset.select([row for row in rows if not readable[row]])
    return dataset.select([row for row in rows if readable[row]]), word_labels(dropped)


def shuffle_pictures(dataset: Dataset, seed: int) -> Dataset:
    """The same texts, each with the picture and crops of another row: shows how much a model looks at them."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    sources = np.empty_like(order)
    sources[order] = np.roll(order, 1)  # one cycle through all rows, so that none keeps its own
    pictures = dataset.select_columns(list(PICTURE_COLUMNS)).select(sources.tolist())
    texts = dataset.remove_columns(list(PICTURE_COLUMNS))
    return concatenate_datasets([texts, pictures], axis=1)
