"""The splits of a data set as a model reads them and is scored on them, for each task."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from datasets import Dataset, concatenate_datasets

from processing.columns import PICTURE_COLUMNS
from processing.features.prepare import prepare_features, unusable_pictures
from processing.processing_ifaformer import IFAformerProcessor
from processing.rows import label_names

from .calibration import ScoredAnswers, entity_scores, tags_above_thresholds
from .entity_metrics import entity_confusion, entity_counts, entity_metrics, scored_tags
from .error_analysis import ErrorAnalysis, analyse_entities, analyse_relations
from .relation_metrics import NO_PREDICTION, relation_confusion, relation_counts, relation_metrics


class Split:
    """
    A split of a data set with its `features`, which scores a model's answers to these: relations where the processor
    has relations, else tagged entities. Rows that the model cannot read stay in the scores, as missed.

    Args:
        labels: whether the features have labels. Without, the gold answers may be others than the model knows.
        cache_dir, num_proc: of [`prepare_features`].
    """

    def __init__(
        self,
        rows: Dataset,
        processor: IFAformerProcessor,
        labels: bool = True,
        cache_dir: str | None = None,
        num_proc: int | None = None,
    ):
        self.rows = rows
        self.processor = processor
        self.features = prepare_features(rows, processor, cache_dir=cache_dir, num_proc=num_proc, labels=labels)

    @property
    def unusable_pictures(self) -> dict[str, int]:
        """How many pictures and crops of the rows could not be used, by the kind of the problem."""
        kinds = Counter(problem.kind for _, problem in unusable_pictures(self.features, self.rows))
        return dict(kinds.most_common())

    @property
    def _read_rows(self) -> list[int]:
        """The numbers of the rows that the model can read, in the order of the features."""
        return self.features.select_columns(["row"])[:]["row"]

    def score(self, answers: Any, protocol: str = "word") -> dict[str, Any]:
        """
        What [`entity_metrics`] with that protocol, or [`relation_metrics`], says of the answers: tag ids (rows read,
        longest text in tokens), or relation ids (rows read,).
        """
        if self.processor.relations is not None:
            return relation_metrics(**self._relations(answers))
        return entity_metrics(**self._entities(answers), protocol=protocol)

    def counts(self, answers: Any, protocol: str = "word") -> np.ndarray:
        """How many answers are correct, predicted and gold, (rows, 3); arguments as for [`score`]."""
        if self.processor.relations is not None:
            return relation_counts(**self._relations(answers))
        return entity_counts(**self._entities(answers), protocol=protocol)

    def errors(self, answers: Any, train_words: Iterable[str] | None = None) -> ErrorAnalysis:
        """
        See [`analyse_entities`], in the protocol `word`, or [`analyse_relations`]; `answers` as for [`score`].
        """
        if self.processor.relations is None:
            return analyse_entities(scored_tags(**self._entities(answers)), self.rows["tokens"], train_words)
        of_rows = self._relations(answers)
        labels = {index: name for index, name in enumerate(of_rows["names"]) if name != of_rows["negative"]}
        pairs = (map(labels.get, pair) for pair in zip(of_rows["gold"], of_rows["predicted"].tolist(), strict=True))
        return analyse_relations(pairs, self.rows.select_columns(["tokens", "head", "tail"])[:])

    def confusion(self, answers: Any) -> dict[str, Any]:
        """See [`entity_confusion`] or [`relation_confusion`]; `answers` as for [`score`]."""
        if self.processor.relations is not None:
            return relation_confusion(**self._relations(answers))
        return entity_confusion(**self._entities(answers))

    def scored(self, answers: Any, probabilities: Any) -> ScoredAnswers:
        """
        The entities that were found, or the relation of each row that was read, with their scores.

        Args:
            answers: as for [`score`].
            probabilities: of the tags or relations, in their shape.
        """
        if self.processor.relations is not None:
            answers, gold = np.asarray(answers), np.asarray(self.rows["relation"])
            names = np.array(self.processor.relations)[answers]
            return ScoredAnswers(names, np.asarray(probabilities), answers == gold[self._read_rows])
        return entity_scores(**self._entities(answers), probabilities=self._by_row(probabilities))

    def above_thresholds(self, answers: Any, probabilities: Any, thresholds: Mapping[str, float]) -> list[np.ndarray]:
        """
        The answers, which are tags, without the entities that the thresholds leave out, see
        [`tags_above_thresholds`]; the other arguments as for [`scored`].
        """
        of_rows = {**self._entities(answers), "probabilities": self._by_row(probabilities)}
        kept = tags_above_thresholds(**of_rows, thresholds=thresholds)
        return [kept[row] for row in self._read_rows]

    def _by_row(self, of_read: Any) -> list[Any]:
        """What belongs to the rows that were read, as a list of all rows. The others have nothing."""
        of_rows: list[Any] = [[] for _ in range(len(self.rows))]
        for row, of_row in zip(self._read_rows, of_read, strict=True):
            of_rows[row] = of_row
        return of_rows

    def _entities(self, answers: Any) -> dict[str, Any]:
        """Tags of all rows, as the metrics take them. A row that the model cannot read has no token and no answer."""
        names = label_names(self.rows, "ner_tags")
        word_ids = self.features.select_columns(["word_ids"])[:]["word_ids"]
        return {
            "tag_ids": self._by_row(answers),
            "word_ids": self._by_row([None if word < 0 else word for word in of_tokens] for of_tokens in word_ids),
            "word_labels": [[names[tag] for tag in tags] for tags in self.rows["ner_tags"]],
            "id2label": dict(enumerate(self.processor.labels)),
        }

    def _relations(self, answers: Any) -> dict[str, Any]:
        """Relations of all rows, as the metrics take them."""
        predicted = np.full(len(self.rows), NO_PREDICTION)
        predicted[self._read_rows] = answers
        return {
            "predicted": predicted,
            "gold": self.rows["relation"],
            "names": self.processor.relations,
            "negative": self.processor.negative_relation,
        }


def shuffle_pictures(dataset: Dataset, seed: int) -> Dataset:
    """The same texts, each with the picture and crops of another row: this shows how much a model looks at them."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    sources = np.empty_like(order)
    sources[order] = np.roll(order, 1)  # one cycle through all rows, so that none keeps its own
    pictures = dataset.select_columns(list(PICTURE_COLUMNS)).select(sources.tolist())
    texts = dataset.remove_columns(list(PICTURE_COLUMNS))
    return concatenate_datasets([texts, pictures], axis=1)
