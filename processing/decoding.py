"""From tag ids of tokens to tags of words, and from those to entities with character offsets."""

from collections.abc import Sequence

from .labels import CLS_LABEL, CONTINUATION_LABEL, PAD_LABEL, SEP_LABEL, entity_spans


# Labels of the `deepke` scheme that are no word's tag.
SPECIAL_LABELS = frozenset((PAD_LABEL, CONTINUATION_LABEL, CLS_LABEL, SEP_LABEL))


def first_positions(word_ids: Sequence[int | None]) -> dict[int, int]:
    """Word index -> position of its first token, for the words that have one."""
    positions: dict[int, int] = {}
    for position, word_id in enumerate(word_ids):
        if word_id is not None:
            positions.setdefault(word_id, position)
    return positions


def word_tags(
    tag_ids: Sequence[int], word_ids: Sequence[int | None], num_words: int, id2label: dict[int, str]
) -> list[str]:
    """
    One tag a word: that of its first token. A word without a token (cut off, or one the tokenizer drops) is `O`, and
    so is a word tagged with a special label of the `deepke` scheme.

    Args:
        tag_ids: decoded ids, at least as many as `word_ids`; -100 where nothing was scored.
        word_ids: of each token the index of its word, None for special tokens.
    """
    tags = ["O"] * num_words
    for word, position in first_positions(word_ids).items():
        label = id2label[int(tag_ids[position])]
        tags[word] = "O" if label in SPECIAL_LABELS else label
    return tags


def word_scores(scores: Sequence[float], word_ids: Sequence[int | None], num_words: int) -> list[float]:
    """One score a word: that of its first token, 0 for a word without one."""
    positions = first_positions(word_ids)
    return [float(scores[positions[word]]) if word in positions else 0.0 for word in range(num_words)]


def decode_entities(
    text: str,
    offsets: Sequence[tuple[int, int]],
    tags: Sequence[str],
    scores: Sequence[float] | None = None,
) -> list[dict]:
    """
    The entities of one tagged text, in reading order.

    Args:
        text: what the offsets point into.
        offsets: `(start, end)` characters of each word.
        tags: one a word.
        scores: one a word, the probability of its tag; an entity's score is their mean over its words, as in the
            `"average"` aggregation of transformers' token classification pipeline.

    Returns:
        Dicts with `entity_group`, `score` (None without `scores`), `word`, `start` and `end`, where `text[start:end]`
        is `word`.
    """
    entities = []
    for entity_type, first, end in entity_spans(tags):
        start_char, end_char = offsets[first][0], offsets[end - 1][1]
        entities.append(
            {
                "entity_group": entity_type,
                "score": None if scores is None else sum(scores[first:end]) / (end - first),
                "word": text[start_char:end_char],
                "start": start_char,
                "end": end_char,
            }
        )
    return entities
