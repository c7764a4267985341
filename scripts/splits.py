"""The splits of a data set as a model reads them and is scored on them, for each task."""

from functools import cached_property
from typing import Any

from datasets import Dataset

from processing import IFAformerProcessor
from processing.data import drop_unreadable, word_labels
from processing.features import prepare_features
from processing.metrics import entity_confusion, entity_metrics
from processing.relation_metrics import relation_confusion, relation_metrics


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
