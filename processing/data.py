"""Data sets by name, and what training and scoring ask of them."""

from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Image, List, concatenate_datasets

from .demo_mner import DemoMNER
from .processing_ifaformer import IFAformerProcessor
from .rows import PICTURE_COLUMNS
from .twitter_mner import TwitterMNER


DATASETS = ("demo", "twitter2015", "twitter2017")


def load_mner(
    name: str, data_dir: str | None = None, cache_dir: str | None = None, **builder_kwargs: Any
) -> tuple[DatasetDict, str]:
    """
    A data set for named entity recognition and what its loading has to report.

    Args:
        name: one of `DATASETS`.
        data_dir: folder of the archive; the demo data needs none.
        cache_dir: where the prepared rows are kept; the default of `datasets` if None.
        **builder_kwargs: fields of the builder's configuration.

    Raises:
        ValueError: for an unknown name, and whatever the builder finds wrong.
    """
    if name not in DATASETS:
        raise ValueError(f"dataset must be one of {DATASETS}, got {name!r}.")
    if name == "demo":
        builder, report = DemoMNER(cache_dir=cache_dir, **builder_kwargs), ""
        builder.download_and_prepare()
    else:
        builder = TwitterMNER(config_name=name, data_dir=data_dir, cache_dir=cache_dir, **builder_kwargs)
        builder.download_and_prepare()
        report = str(builder.report)
    data = builder.as_dataset()
    # Pictures stay encoded until the processor reads them: `datasets` would turn them as their EXIF tag says, which
    # the published code does not, and fail on a broken one without naming its row.
    encoded = Image(decode=False)
    for column, feature in (("image", encoded), ("aux_crops", List(encoded)), ("rcnn_crops", List(encoded))):
        data = data.cast_column(column, feature)
    return data, report


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
