"""Tag sets, label maps and spans; from tag ids of tokens to tags of words, and from those to entities. Pure Python."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


LABEL_SCHEMES = ("word", "deepke")

# Labels of the `deepke` scheme that are no word's tag.
SPECIAL_LABELS = PAD_LABEL, CONTINUATION_LABEL, CLS_LABEL, SEP_LABEL = "PAD", "X", "[CLS]", "[SEP]"

NO_RELATION = "None"  # the relation of pairs between which none holds, MNRE's name for it


def bio_tags(entity_types: Iterable[str]) -> list[str]:
    """`O`, then `B-` and `I-` of each type in the order given: `["O", "B-PER", "I-PER", ...]`."""
    return ["O"] + [f"{prefix}-{entity_type}" for entity_type in entity_types for prefix in "BI"]


# The order of the types is the published one, so that a `word` id plus one is the `deepke` id.
TWITTER_TAGS = bio_tags(("MISC", "PER", "ORG", "LOC"))


def tag_types(tags: Iterable[str]) -> list[str]:
    """The entity types of tags such as B-PER, each once, in order."""
    return list(dict.fromkeys(match[1] for tag in tags if (match := re.match(r"[BI]-(.+)", tag))))


def types_of_relations(relations: Iterable[str]) -> list[str]:
    """The entity types that relations such as /per/org/member_of name, each once, in order."""
    return list(dict.fromkeys(part for name in relations if name[:1] == "/" for part in name.split("/")[1:3]))


def check_labels(tags: Sequence[str], relations: Sequence[str] | None, label_scheme: str) -> None:
    """
    Check the labels of a processor: relations, or without any the tags of words. An unknown scheme, relations that are
    not distinct names and tags that are no tag set are a ValueError.
    """
    if label_scheme not in LABEL_SCHEMES:
        raise ValueError(f"label_scheme must be one of {LABEL_SCHEMES}, got {label_scheme!r}.")
    if relations is not None:
        if not relations or len(set(relations)) != len(relations):
            raise ValueError(f"Relations must be distinct names, at least one; got {list(relations)}.")
    elif "O" not in tags or len(set(tags)) != len(tags):
        raise ValueError(
            f"Tags must be distinct and hold 'O', the tag of words outside every entity; got {list(tags)}."
        )


def scheme_labels(tags: Sequence[str], label_scheme: str) -> list[str]:
    """
    The model's labels, in id order, for a tag set: in the `word` scheme the tags; in the `deepke` scheme (of the
    published code) with `PAD` in front and `X`, `[CLS]`, `[SEP]` behind, since its CRF scores every token.
    """
    if label_scheme == "word":
        return list(tags)
    return [PAD_LABEL, *tags, CONTINUATION_LABEL, CLS_LABEL, SEP_LABEL]


def find_negative(relations: Sequence[str], given: str | None) -> str | None:
    """
    The relation of pairs between which none holds: the one that is given, which must be one of the relations (else a
    ValueError), or the one that MNRE has, if it is there.
    """
    if given is None:
        return NO_RELATION if NO_RELATION in relations else None
    if given not in relations:
        raise ValueError(f"negative_relation must be one of the relations {', '.join(relations)}, got {given!r}.")
    return given


def label_maps(labels: Sequence[str]) -> dict[str, dict]:
    """`{"id2label": ..., "label2id": ...}` for a configuration; both are always given together, so that they agree."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def answers_of(dataset: Any) -> dict[str, list[str]]:
    """The `tags` or `relations` of a data set's rows, or of its first split; without class labels a ValueError."""
    features = dataset.features if hasattr(dataset, "features") else next(iter(dataset.values())).features
    tags, relation = getattr(features.get("ner_tags"), "feature", None), features.get("relation")
    for option, labels in (("tags", tags), ("relations", relation)):
        names = getattr(labels, "names", None)
        if names is not None:
            return {option: list(names)}
    raise ValueError(
        f"Expected rows with the column ner_tags (a list of class labels) or relation (a class label), got "
        f"{', '.join(features)}."
    )


def entity_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """
    Entities of one tagged sentence as `(type, start, end)`, word indices, `end` exclusive.

    seqeval's default (lenient) reading, without seqeval: an `I-` tag that continues nothing starts an entity, so that
    what is shown as an entity is exactly what is scored as one.
    """
    spans = []
    start, entity_type = 0, None
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, current = tag.partition("-")
        if entity_type is not None and (prefix != "I" or current != entity_type):
            spans.append((entity_type, start, index))
            entity_type = None
        if prefix in ("B", "I") and entity_type is None:
            start, entity_type = index, current
    return spans


def first_positions(word_ids: Sequence[int | None]) -> dict[int, int]:
    """Word index -> position of its first token, for the words that have one."""
    positions: dict[int, int] = {}
    for position, word_id in enumerate(word_ids):
        if word_id is not None:
            positions.setdefault(word_id, position)
    return positions


def scored_positions(word_ids: Sequence[int | None], label_scheme: str) -> list[bool]:
    """Of each token whether the CRF scores it: the first of each word, or in the `deepke` scheme every one."""
    if label_scheme == "deepke":
        return [True] * len(word_ids)
    first = set(first_positions(word_ids).values())
    return [position in first for position in range(len(word_ids))]


def align_labels(
    word_labels: Sequence[Any],
    words: Sequence[str],
    word_ids: Sequence[int | None],
    tags: Sequence[str],
    label_scheme: str,
) -> list[int]:
    """
    A label id for each token, -100 where the CRF scores nothing. Where the first word of an entity has no token, the
    next one that has a token begins the entity.

    Args:
        word_labels: a tag or the index of a tag for each word.
        word_ids: of each token the index of its word, None for special tokens.
        tags: of words, in id order.

    Raises:
        ValueError: for labels that are unknown or not one a word.
    """
    if len(word_labels) != len(words):
        raise ValueError(f"there are {len(words)} words but {len(word_labels)} labels.")
    known: dict[Any, str] = {**dict(enumerate(tags)), **{tag: tag for tag in tags}}
    unknown = [label for label in word_labels if label not in known]
    if unknown:
        raise ValueError(f"the labels {unknown} are unknown; known are {list(tags)} (by name or index).")
    names = [known[label] for label in word_labels]
    positions = first_positions(word_ids)
    for index, name in enumerate(names[1:]):
        if index not in positions and names[index].startswith("B-") and name == f"I{names[index][1:]}":
            names[index + 1] = names[index]
    label2id = label_maps(scheme_labels(tags, label_scheme))["label2id"]
    first = set(positions.values())
    labels = []
    for position, word in enumerate(word_ids):
        if word is not None and position in first:
            labels.append(label2id[names[word]])
        elif label_scheme == "word":
            labels.append(-100)
        elif word is not None:
            labels.append(label2id[CONTINUATION_LABEL])
        else:
            labels.append(label2id[CLS_LABEL if position == 0 else SEP_LABEL])
    return labels


def word_tags(
    tag_ids: Sequence[int], word_ids: Sequence[int | None], num_words: int, id2label: dict[int, str]
) -> list[str]:
    """
    One tag a word: that of its first token. A word without a token (cut off, or one the tokenizer drops) is part of an
    entity that goes on behind it, and else `O`. A word tagged with a special label of the `deepke` scheme is `O`.
    `tag_ids` may be longer than `word_ids`.
    """
    tags = ["O"] * num_words
    before = 0
    for word, position in first_positions(word_ids).items():
        label = id2label[int(tag_ids[position])]
        tags[word] = "O" if label in SPECIAL_LABELS else label
        if tags[word] == f"I-{tags[before][2:]}":
            tags[before + 1 : word] = [tags[word]] * (word - before - 1)
        before = word
    return tags


def word_scores(scores: Sequence[float], word_ids: Sequence[int | None], num_words: int) -> list[float | None]:
    """One score a word: that of its first token, None for a word without one."""
    positions = first_positions(word_ids)
    return [float(scores[positions[word]]) if word in positions else None for word in range(num_words)]


def decode_entities(
    text: str,
    offsets: Sequence[tuple[int, int]],
    tags: Sequence[str],
    scores: Sequence[float | None] | None = None,
) -> list[dict]:
    """
    The entities of one tagged text, in reading order: dicts with `entity_group`, `score` (None without `scores`),
    `word`, `start` and `end`, where `text[start:end]` is `word`.

    Args:
        offsets: `(start, end)` characters of each word.
        tags: one a word.
        scores: one a word, the probability of its tag, None where the word has no token; an entity's score is their
            mean over its words, as in the `"average"` aggregation of transformers' token classification pipeline.
    """
    entities = []
    for entity_type, first, end in entity_spans(tags):
        start_char, end_char = offsets[first][0], offsets[end - 1][1]
        known = [score for score in (scores or ())[first:end] if score is not None]
        entities.append(
            {
                "entity_group": entity_type,
                "score": sum(known) / len(known) if known else None,
                "word": text[start_char:end_char],
                "start": start_char,
                "end": end_char,
            }
        )
    return entities
