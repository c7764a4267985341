"""Entity precision, recall and F1: seqeval behind an `evaluate` metric, and the two protocols that feed it."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from seqeval.metrics import classification_report

from processing.labels import entity_spans, first_positions, word_tags


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
            reference_urls=["https://github.com/chakki-works/seqeval"],
        )

    def _compute(self, predictions, references):
        with warnings.catch_warnings():
            # The published protocol passes special labels on; seqeval remarks that they are no tags.
            warnings.filterwarnings("ignore", message=".*seems not to be NE tag.*")
            report = classification_report(references, predictions, output_dict=True, zero_division=0)
        overall = report.pop("micro avg")
        for average in ("macro avg", "weighted avg"):
            report.pop(average)
        return {**_figures(overall), "per_type": {name: _figures(report[name]) for name in sorted(report)}}


def _figures(row: dict) -> dict[str, float | int]:
    # seqeval gives numpy numbers, which JSON does not take
    return {
        "precision": float(row["precision"]),
        "recall": float(row["recall"]),
        "f1": float(row["f1-score"]),
        "support": int(row["support"]),
    }


Tags = list[list[str]]  # of each text, of each of its words


def word_protocol(
    tag_ids: Sequence[Sequence[int]],
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> tuple[Tags, Tags]:
    """
    Predicted and gold tags of all words. A word that no token stands for stays in the gold and is predicted `O`, so an
    entity that was cut off is a miss.
    """
    predictions = [
        word_tags(of_text, words, len(labels), id2label)
        for of_text, words, labels in zip(tag_ids, word_ids, word_labels, strict=True)
    ]
    return predictions, [list(labels) for labels in word_labels]


def published_protocol(
    tag_ids: Sequence[Sequence[int]],
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> tuple[Tags, Tags]:
    """
    Predicted and gold tags as the published code scores them: at the first token of each word. Words that no token
    stands for vanish from gold and prediction alike, and a special label predicted at a word is passed on as it is.
    """
    predictions, references = [], []
    for of_text, words, labels in zip(tag_ids, word_ids, word_labels, strict=True):
        positions = first_positions(words)
        predictions.append([id2label[int(of_text[position])] for position in positions.values()])
        references.append([labels[word] for word in positions])
    return predictions, references


PROTOCOLS = {"word": word_protocol, "published": published_protocol}


def entity_metrics(
    tag_ids: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    protocol: str = "word",
) -> dict[str, Any]:
    """
    Scores of decoded tags against gold tags.

    Args:
        tag_ids: the model's, (number of texts, longest seq_length), padded with -100.
        word_ids: of each text, of each token the index of its word, None for special tokens; empty for a text that the
            model could not be given.
        word_labels: gold tag of each word.
        id2label: the model's labels.
        protocol: `"word"` or `"published"`, see [`word_protocol`] and [`published_protocol`].

    Returns:
        `precision`, `recall`, `f1`, `support` and `per_type` of the same; `unreachable_words` and
        `unreachable_entities`: how many words, and how many gold entities in part or whole, no token stands for.

    Raises:
        ValueError: for an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    predictions, references = PROTOCOLS[protocol](tag_ids, word_ids, word_labels, id2label)
    scores = EntityScores().compute(predictions=predictions, references=references)
    return {**scores, **unreachable_counts(word_ids, word_labels)}


def entity_confusion(
    tag_ids: Any,
    word_ids: Sequence[Sequence[int | None]],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> dict[str, Any]:
    """
    Gold types by predicted ones, in the `word` protocol. Types are compared where gold and prediction are the very
    same words; every other gold entity is missed, every other predicted one spurious.

    Args:
        tag_ids, word_ids, word_labels, id2label: as in [`entity_metrics`].

    Returns:
        `types`, and `counts`: a row for each gold type and one for spurious entities, a column for each predicted type
        and one for missed entities.
    """
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for predicted, gold in zip(*word_protocol(tag_ids, word_ids, word_labels, id2label), strict=True):
        gold_types, predicted_types = (
            {(start, end): entity_type for entity_type, start, end in entity_spans(tags)} for tags in (gold, predicted)
        )
        for span in gold_types.keys() | predicted_types.keys():
            pairs[gold_types.get(span), predicted_types.get(span)] += 1
    types = sorted({name for pair in pairs for name in pair if name is not None})
    order = [*types, None]
    return {"types": types, "counts": [[pairs[gold, predicted] for predicted in order] for gold in order]}


def unreachable_counts(
    word_ids: Sequence[Sequence[int | None]], word_labels: Sequence[Sequence[str]]
) -> dict[str, int]:
    """How many words, and how many gold entities in part or whole, no token stands for."""
    words = entities = 0
    for of_tokens, labels in zip(word_ids, word_labels, strict=True):
        unreachable = set(range(len(labels))).difference(of_tokens)
        words += len(unreachable)
        entities += sum(not unreachable.isdisjoint(range(start, end)) for _, start, end in entity_spans(labels))
    return {"unreachable_words": words, "unreachable_entities": entities}
