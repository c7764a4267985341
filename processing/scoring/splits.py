"""The splits of a data set as a model reads them and is scored on them, for each task."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from datasets import (
    Dataset,
    concatenate_datasets,
)

from processing import IFAformerProcessor
from processing.columns import PICTURE_COLUMNS
from processing.features.prepare import prepare_features
from processing.features.row_errors import by_row
from processing.rows import label_names

from .entity_metrics import entity_confusion, entity_metrics
from .relation_metrics import relation_confusion, relation_metrics


class Split:
    """
    Rows of a task. Those that the model cannot be given stay in the scores, as missed.

    Args:
        rows: as the builders give them.
        processor: of the model.
        labels: whether the features have labels; without, the gold answers may be others than the model knows.
        cache_dir, num_proc: of [`prepare_features`].

    Attributes:
        rows, features: what the model reads.
        unreadable: the other rows.
    """

    def __init__(
        self,
        rows: Dataset,
        processor: IFAformerProcessor,
        labels: bool = True,
        cache_dir: str | None = None,
        num_proc: int | None = None,
    ):
        self.processor = processor
        self.rows, self.unreadable = drop_unreadable(rows, processor)
        self.features = prepare_features(self.rows, processor, cache_dir=cache_dir, num_proc=num_proc, labels=labels)


class EntitySplit(Split):
    """Rows with tagged entities, answered by tag ids (number of rows, longest seq_length), padded with -100."""

    @cached_property
    def _gold(self) -> dict[str, Any]:
        return {
            "encoded": self.processor.encode_text(self.rows["tokens"], is_split_into_words=True),
            "word_labels": word_labels(self.rows),
            "id2label": dict(enumerate(self.processor.labels)),
            "tokenless_labels": word_labels(self.unreadable),
        }

    def score(self, tag_ids: Any, protocol: str = "word") -> dict[str, Any]:
        """See [`entity_metrics`]."""
        return entity_metrics(tag_ids, protocol=protocol, **self._gold)

    def confusion(self, tag_ids: Any) -> dict[str, Any]:
        """See [`entity_confusion`]."""
        return entity_confusion(tag_ids, **self._gold)

    @staticmethod
    def out_of_reach(scores: dict[str, Any]) -> str:
        """What of the split the model had no chance with, in words."""
        return f"{scores['unreachable_entities']} of {scores['support']} entities are out of the model's reach"


class RelationSplit(Split):
    """Rows with two entities and their relation, answered by relation ids (number of rows,)."""

    @cached_property
    def _gold(self) -> dict[str, Any]:
        names = self.processor.relations
        return {
            "gold": self.rows["relation"],
            "names": names,
            "negative": self.processor.negative_relation,
            "unreadable": self.unreadable["relation"],
        }

    def score(self, relation_ids: Any) -> dict[str, Any]:
        """See [`relation_metrics`]."""
        return relation_metrics(relation_ids, **self._gold)

    def confusion(self, relation_ids: Any) -> dict[str, Any]:
        """See [`relation_confusion`]."""
        return relation_confusion(relation_ids, **self._gold)

    @staticmethod
    def out_of_reach(scores: dict[str, Any]) -> str:
        """What of the split the model had no chance with, in words."""
        return f"{scores['unreadable_rows']} rows have no room for both entities and count as without relation"


def make_split(rows: Dataset, processor: IFAformerProcessor, **options: Any) -> EntitySplit | RelationSplit:
    """Of the processor's task; options as for [`Split`]."""
    split_class = EntitySplit if processor.relations is None else RelationSplit
    return split_class(rows, processor, **options)


def word_labels(dataset: Dataset) -> list[list[str]]:
    """The gold tag of each word."""
    names = label_names(dataset, "ner_tags")
    return [[names[tag] for tag in tags] for tags in dataset["ner_tags"]]


def drop_unreadable(dataset: Dataset, processor: IFAformerProcessor) -> tuple[Dataset, Dataset]:
    """
    The rows whose text a model can be given, and the others, which scoring counts as missed: texts of which the
    tokenizer keeps nothing (zero-width characters, say); and with relations, texts whose entities have no room in
    `max_length`. See [`IFAformerProcessor.are_readable`].

    Raises:
        ValueError: for a head or tail that is no span of words, with the id of its row.
    """
    columns = ("id", "tokens", "head", "tail")
    texts = dataset.select_columns([column for column in columns if column in dataset.column_names])
    readable = [kept for batch in texts.iter(batch_size=1000) for kept in by_row(batch, _are_readable, processor)]
    if all(readable):
        return dataset, dataset.select([])
    rows = range(len(dataset))
    kept, dropped = ([row for row in rows if readable[row] == wanted] for wanted in (True, False))
    return dataset.select(kept), dataset.select(dropped)


def _are_readable(rows: Mapping[str, list], processor: IFAformerProcessor) -> list[bool]:
    return processor.are_readable(rows)


def shuffle_pictures(dataset: Dataset, seed: int) -> Dataset:
    """The same texts, each with the picture and crops of another row: shows how much a model looks at them."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    sources = np.empty_like(order)
    sources[order] = np.roll(order, 1)  # one cycle through all rows, so that none keeps its own
    pictures = dataset.select_columns(list(PICTURE_COLUMNS)).select(sources.tolist())
    texts = dataset.remove_columns(list(PICTURE_COLUMNS))
    return concatenate_datasets([texts, pictures], axis=1)
