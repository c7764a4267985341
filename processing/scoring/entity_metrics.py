"""Entity precision, recall and F1: seqeval behind an `evaluate` metric, and the two protocols that feed it."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from seqeval.metrics import classification_report

from processing.decoding import first_positions, word_tags
from processing.labels import entity_spans
from processing.tokenizing import EncodedText


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


def word_protocol(
    tag_ids: Sequence[Sequence[int]],
    encoded: Sequence[EncodedText],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> tuple[list[list[str]], list[list[str]]]:
    """
    Predicted and gold tags of all words. A word that no token stands for stays in the gold and is predicted `O`, so an
    entity that was cut off is a miss.
    """
    predictions = [
        word_tags(row, example.word_ids, len(example.words), id2label)
        for row, example in zip(tag_ids, encoded, strict=True)
    ]
    return predictions, [list(labels) for labels in word_labels]


def published_protocol(
    tag_ids: Sequence[Sequence[int]],
    encoded: Sequence[EncodedText],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
) -> tuple[list[list[str]], list[list[str]]]:
    """
    Predicted and gold tags as the published code scores them: at the first token of each word. Words that no token
    stands for vanish from gold and prediction alike, and a special label predicted at a word is passed on as it is.
    """
    predictions, references = [], []
    for row, example, labels in zip(tag_ids, encoded, word_labels, strict=True):
        positions = first_positions(example.word_ids)
        predictions.append([id2label[int(row[position])] for position in positions.values()])
        references.append([labels[word] for word in positions])
    return predictions, references


def entity_metrics(
    tag_ids: Any,
    encoded: Sequence[EncodedText],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    protocol: str = "word",
    tokenless_labels: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """
    Scores of decoded tags against gold tags.

    Args:
        tag_ids: the model's, (number of texts, longest seq_length), padded with -100.
        encoded: the texts as the processor encodes them.
        word_labels: gold tag of each word.
        id2label: the model's labels.
        protocol: `"word"` or `"published"`, see the functions of these names.
        tokenless_labels: gold tags of texts that the model could not be given, since no token stands for them; missed
            in the `word` protocol, left out in the published one.

    Returns:
        `precision`, `recall`, `f1`, `support` and `per_type` of the same; `unreachable_words` and
        `unreachable_entities` (gold entities with a word that no token stands for), those of `tokenless_labels`
        among them.

    Raises:
        ValueError: for an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {PROTOCOLS}, got {protocol!r}.")
    pair = word_protocol if protocol == "word" else published_protocol
    predictions, references = pair(tag_ids, encoded, word_labels, id2label)
    if protocol == "word":
        predictions += [["O"] * len(labels) for labels in tokenless_labels]
        references += [list(labels) for labels in tokenless_labels]
    scores = EntityScores().compute(predictions=predictions, references=references)
    unreachable = unreachable_counts(encoded, word_labels)
    unreachable["unreachable_words"] += sum(len(labels) for labels in tokenless_labels)
    unreachable["unreachable_entities"] += sum(len(entity_spans(labels)) for labels in tokenless_labels)
    return {**scores, **unreachable}


def entity_confusion(
    tag_ids: Any,
    encoded: Sequence[EncodedText],
    word_labels: Sequence[Sequence[str]],
    id2label: dict[int, str],
    tokenless_labels: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """
    Gold types by predicted ones, in the `word` protocol. Types are compared where gold and prediction are the very
    same words; every other gold entity is missed, every other predicted one spurious.

    Args:
        tag_ids, encoded, word_labels, id2label, tokenless_labels: as in [`entity_metrics`].

    Returns:
        `types`, and `counts`: a row for each gold type and one for spurious entities, a column for each predicted type
        and one for missed entities.
    """
    predictions, references = word_protocol(tag_ids, encoded, word_labels, id2label)
    predictions += [["O"] * len(labels) for labels in tokenless_labels]
    references += [list(labels) for labels in tokenless_labels]
    pairs: Counter[tuple[str | None, str | None]] = Counter()
    for predicted, gold in zip(predictions, references, strict=True):
        gold_types, predicted_types = (
            {(start, end): entity_type for entity_type, start, end in entity_spans(tags)} for tags in (gold, predicted)
        )
        for span in gold_types.keys() | predicted_types.keys():
            pairs[gold_types.get(span), predicted_types.get(span)] += 1
    types = sorted({name for pair in pairs for name in pair if name is not None})
    order = [*types, None]
    return {"types": types, "counts": [[pairs[gold, predicted] for predicted in order] for gold in order]}


def unreachable_counts(encoded: Sequence[EncodedText], word_labels: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many words, and how many gold entities in part or whole, no token stands for."""
    words = entities = 0
    for example, labels in zip(encoded, word_labels, strict=True):
        unreachable = example.unreachable_words
        words += len(unreachable)
        entities += sum(not unreachable.isdisjoint(range(start, end)) for _, start, end in entity_spans(labels))
    return {"unreachable_words": words, "unreachable_entities": entities}
