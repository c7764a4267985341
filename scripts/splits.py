"""The splits of a data set as a model reads them and is scored on them."""

from functools import cached_property
from typing import Any

from datasets import Dataset

from processing import IFAformerProcessor
from processing.data import drop_unreadable, word_labels
from processing.features import prepare_features
from processing.metrics import entity_confusion, entity_metrics


class EntitySplit:
    """
    Rows with tagged entities.

    Args:
        rows: as the builders give them. Those without a token are not given to the model, and stay in the scores.
        processor: of the model.
        labels: whether the features have labels; without, the gold tags may be of types that the model does not know.
        cache_dir, num_proc: of [`prepare_features`].

    Attributes:
        features: of the rows that the model reads.
        tokenless_labels: the gold tags of the others.
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
        self.rows, unreadable = drop_unreadable(rows, processor)
        self.tokenless_labels = word_labels(unreadable)
        self.features = prepare_features(self.rows, processor, cache_dir=cache_dir, num_proc=num_proc, labels=labels)

    @cached_property
    def _gold(self) -> dict[str, Any]:
        return {
            "encoded": self.processor.encode_text(self.rows["tokens"], is_split_into_words=True),
            "word_labels": word_labels(self.rows),
            "id2label": dict(enumerate(self.processor.labels)),
            "tokenless_labels": self.tokenless_labels,
        }

    def score(self, tag_ids: Any, protocol: str = "word") -> dict[str, Any]:
        """See [`entity_metrics`]; `tag_ids` are (number of rows, longest seq_length), padded with -100."""
        return entity_metrics(tag_ids, protocol=protocol, **self._gold)

    def confusion(self, tag_ids: Any) -> dict[str, Any]:
        """See [`entity_confusion`]."""
        return entity_confusion(tag_ids, **self._gold)
