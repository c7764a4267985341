"""Tag sets, label maps and entity spans. Pure Python: every other part of the room stands on it."""

from collections.abc import Iterable, Sequence


LABEL_SCHEMES = ("word", "deepke")

PAD_LABEL = "PAD"
CONTINUATION_LABEL = "X"
CLS_LABEL = "[CLS]"
SEP_LABEL = "[SEP]"

NO_RELATION = "None"  # the relation of pairs between which none holds, MNRE's name for it


def bio_tags(entity_types: Iterable[str]) -> list[str]:
    """`O`, then `B-` and `I-` of each type in the order given: `["O", "B-PER", "I-PER", ...]`."""
    return ["O"] + [f"{prefix}-{entity_type}" for entity_type in entity_types for prefix in "BI"]


# The order of the types is the published one, so that a `word` id plus one is the `deepke` id.
TWITTER_TAGS = bio_tags(("MISC", "PER", "ORG", "LOC"))


def check_scheme(label_scheme: str) -> None:
    """
    Raises:
        ValueError: for an unknown scheme.
    """
    if label_scheme not in LABEL_SCHEMES:
        raise ValueError(f"label_scheme must be one of {LABEL_SCHEMES}, got {label_scheme!r}.")


def scheme_labels(tags: Sequence[str], label_scheme: str) -> list[str]:
    """
    The model's labels, in id order, for a tag set.

    Args:
        tags: the tags of words, `O` among them.
        label_scheme: `"word"` labels words only; `"deepke"` (the published code) adds `PAD` in front and `X`, `[CLS]`,
            `[SEP]` behind, since its CRF scores every token.

    Raises:
        ValueError: for an unknown scheme, a tag set without `O`, or one with a repeated tag.
    """
    check_scheme(label_scheme)
    if "O" not in tags or len(set(tags)) != len(tags):
        raise ValueError(
            f"Tags must be distinct and hold 'O', the tag of words outside every entity; got {list(tags)}."
        )
    if label_scheme == "word":
        return list(tags)
    return [PAD_LABEL, *tags, CONTINUATION_LABEL, CLS_LABEL, SEP_LABEL]


def check_relations(relations: Sequence[str]) -> None:
    """
    Raises:
        ValueError: for no relation, or a repeated one.
    """
    if not relations or len(set(relations)) != len(relations):
        raise ValueError(f"Relations must be distinct names, at least one; got {list(relations)}.")


def label_maps(labels: Sequence[str]) -> dict[str, dict]:
    """`{"id2label": ..., "label2id": ...}` for a configuration; both are always given together, so that they agree."""
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


def entity_spans(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """
    Entities of one tagged sentence as `(type, start, end)`, word indices, `end` exclusive.

    seqeval's default (lenient) reading: an `I-` tag that continues nothing starts an entity, so that what is shown as
    an entity is exactly what is scored as one. Written out here because the file travels with the processor, whose
    users need no seqeval.
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
