"""Entity precision, recall and F1: seqeval behind an `evaluate` metric, and the two protocols that feed it."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities

from processing.labels import entity_spans, first_positions, word_tags


PROTOCOLS = ("word", "published")


class EntityScores(evaluate.Metric):
    """
    Precision, recall and F1 over entities, micro average and per type, by seqeval in its default (lenient) mode.

    A metric of our own because `evaluate.load("seqeval")` fetches a script from the Hub.
    """

    def _info(self):
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Entity precision, recall and F1 (seqeval, lenient mode, micro average).",
            citation="https://github.com/chakki-works/seqeval",
            inputs_description="predictions, references: a list of tags for each text.",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references):
        with warnings.catch_warnings():
            # The published protocol passes special labels on; seqeval remarks that they are no tags.
            warnings.filterwarnings("ignore", message=".*seems not to be NE tag.*")
            report = classification_report(references, predictions, output_dict=True, zero_division=0)
        overall, *_ = (report.pop(f"{average} avg") for average in ("micro", "macro", "weighted"))
        per_type = {name: figures(*row.values()) for name, row in sorted(report.items())}
        return {**figures(*overall.values()), "per_type": per_type}


def entity_metrics(
    tag_ids: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    protocol: str = "word",
) -> dict[str, Any]:
    """
    Scores of decoded tags against gold tags, micro averages and by type, see [`EntityScores`].

    Args:
        tag_ids: the model's, (number of texts, longest seq_length), padded with -100.
        word_ids: of each text, of each token the index of its word, None for special tokens; empty for a text that the
            model could not be given.
        word_labels: gold tag of each word.
        id2label: the model's labels.
        protocol: `"word"` scores all words; one that no token stands for is predicted `O`, so that an entity that was
            cut off is a miss. `"published"` is that of the published code: such words vanish from gold and prediction
            alike, and a special label that is predicted at a word is passed on as it is.

    Returns:
        `precision`, `recall`, `f1`, `support` and `per_type` of the same; `unreachable_words` and
        `unreachable_entities`: how many words no token stands for, and how many gold entities start or end with one.
    """
    scored = [*scored_tags(tag_ids, word_ids, word_labels, id2label, protocol)]
    scores = EntityScores().compute(
        predictions=[predicted for _, predicted in scored], references=[gold for gold, _ in scored]
    )
    return {**scores, **unreachable_counts(word_ids, word_labels)}


def scored_tags(
    tag_ids: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    protocol: str = "word",
) -> Iterator[tuple[list[str], list[str]]]:
    """Of each text the gold and the predicted tags that are compared, of arguments as in [`entity_metrics`]."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    for of_text, words, labels in zip(tag_ids, word_ids, word_labels, strict=True):
        if protocol == "word":
            yield list(labels), word_tags(of_text, words, len(labels), id2label)
        else:
            positions = first_positions(words)
            predicted = [id2label[int(of_text[position])] for position in positions.values()]
            yield [labels[word] for word in positions], predicted


def entity_counts(
    tag_ids: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    protocol: str = "word",
) -> np.ndarray:
    """
    Of each text how many entities are correct, predicted and gold, (number of texts, 3): their sums are those from
    which [`entity_metrics`], whose arguments these are, has its micro averages.
    """
    counts = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*seems not to be NE tag.*")
        for tags in scored_tags(tag_ids, word_ids, word_labels, id2label, protocol):
            gold, predicted = ({*get_entities(of_text)} for of_text in tags)
            counts.append((len(gold & predicted), len(predicted), len(gold)))
    return np.array(counts).reshape(-1, 3)


def figures(precision: float, recall: float, f1: float, support: float) -> dict[str, float | int]:
    """Numbers of seqeval and scikit-learn by name, as JSON takes them."""
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}


def entity_confusion(
    tag_ids: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> dict[str, Any]:
    """
    Gold types by predicted ones, of arguments as in [`entity_metrics`], in the `word` protocol. Types are compared
    where gold and prediction are the very same words; every other gold entity is missed, every other predicted one
    spurious.

    Returns:
        `types`, and `counts`: a row for each gold type and one for spurious entities, a column for each predicted type
        and one for missed entities.
    """
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for of_text in scored_tags(tag_ids, word_ids, word_labels, id2label):
        gold_types, predicted_types = (
            {(start, end): entity_type for entity_type, start, end in entity_spans(tags)} for tags in of_text
        )
        for span in gold_types.keys() | predicted_types.keys():
            pairs[gold_types.get(span), predicted_types.get(span)] += 1
    types = sorted({name for pair in pairs for name in pair if name is not None})
    order = [*types, None]
    return {"types": types, "counts": [[pairs[gold, predicted] for predicted in order] for gold in order]}


def unreachable_counts(
    word_ids: Sequence[Sequence[int | None]], word_labels: Sequence[Sequence[str]]
) -> dict[str, int]:
    """How many words no token stands for, and how many gold entities start or end with one."""
    words = entities = 0
    for of_tokens, labels in zip(word_ids, word_labels, strict=True):
        unreachable = set(range(len(labels))).difference(of_tokens)
        words += len(unreachable)
        entities += sum(not unreachable.isdisjoint((start, end - 1)) for _, start, end in entity_spans(labels))
    return {"unreachable_words": words, "unreachable_entities": entities}
