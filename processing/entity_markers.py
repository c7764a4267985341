"""Markers around the two entities of a relation, and the part of a long text that keeps both."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from .problems import Problem, ProblemError
from .tokenizing import EncodedText, join_words, tokenize_words


NO_SPAN = "the entity is no span of words of the text: it needs start and end, word indices, end exclusive"
NO_ROOM = "the two entities, their markers and the words between them do not fit into max_length"
NOT_ONCE = "the tokens of the text must hold each entity marker once"
NO_ENTITY_TOKENS = "the tokenizer keeps nothing of the entity"


@dataclass(frozen=True)
class MarkedText:
    """Words with markers in front of and behind each entity; `first` and `last` are indices of the outer markers."""

    words: list[str]
    first: int
    last: int


def mark_entities(
    words: Sequence[str],
    head: Mapping[str, Any],
    tail: Mapping[str, Any],
    markers: Sequence[str],
    label_scheme: str,
) -> MarkedText:
    """
    The words with `<s> </s>` around the head and `<o> </o>` around the tail entity, whichever comes first.

    Args:
        head, tail: dicts with `start` and `end`, word indices, end exclusive; else a ProblemError.
        markers: the four, in the order above.
        label_scheme: in the `word` scheme each marker is there and markers nest as brackets do, but for entities that
            overlap in part; `deepke` has the published order, in which an entity that ends the text gets no closing
            marker.
    """
    head_open, head_close, tail_open, tail_close = markers
    spans = [
        (*_span(words, "head", head), head_open, head_close),
        (*_span(words, "tail", tail), tail_open, tail_close),
    ]
    marked: list[str] = []
    placed: list[int] = []
    for position in range(len(words) + 1):
        if label_scheme == "deepke":
            here = []
            if position < len(words):
                for start, end, opening, closing in spans:
                    here += [opening] * (position == start) + [closing] * (position == end)
        else:
            # Closing before opening, the entity that opened last closes first, the longer one opens first.
            inner_first = sorted(spans, key=lambda span: span[0])[::-1]
            longer_first = sorted(spans, key=lambda span: -span[1])
            here = [closing for _, end, _, closing in inner_first if end == position]
            here += [opening for start, _, opening, _ in longer_first if start == position]
        placed += range(len(marked), len(marked) + len(here))
        marked += [*here, *words[position : position + 1]]
    return MarkedText(marked, placed[0], placed[-1])


def mark_texts(
    texts: Sequence[Sequence[str]], heads: Sequence[Any], tails: Sequence[Any], markers: Sequence[str], scheme: str
) -> list[MarkedText]:
    """[`mark_entities`] of several texts; its error has the number of the text."""
    marked = []
    for row, (words, head, tail) in enumerate(zip(texts, heads, tails, strict=True)):
        try:
            marked.append(mark_entities(words, head, tail, markers, scheme))
        except ProblemError as error:
            raise ProblemError(error.problem, f"Text {row}") from error
    return marked


def _span(words: Sequence[str], name: str, entity: Any) -> tuple[int, int]:
    try:
        start, end = index(entity["start"]), index(entity["end"])
    except (TypeError, KeyError):
        start = end = 0
    if not 0 <= start < end <= len(words):
        raise ProblemError(Problem(NO_SPAN, name, details=f"(got {entity!r}, the text has {len(words)} words)"))
    return start, end


def context_window(lengths: Sequence[int], first: int, last: int, room: int) -> tuple[int, int]:
    """
    `(start, end)`, end exclusive, of whole words around those from `first` to `last`, which must be kept: word by word
    in turns, left first. A side ends where the text does, or at a word that does not fit any more; the other then goes
    on. Where those that must be kept have no `room`, in tokens, it is a ProblemError. `lengths` are tokens a word.
    """
    start, end = first, last + 1
    needed = sum(lengths[start:end])
    if needed > room:
        raise ProblemError(Problem(NO_ROOM, details=f"(they take {needed} tokens, there is room for {room})"))
    free = room - needed
    open_left = open_right = True
    while open_left or open_right:
        open_left = open_left and start > 0 and lengths[start - 1] <= free
        if open_left:
            start -= 1
            free -= lengths[start]
        open_right = open_right and end < len(lengths) and lengths[end] <= free
        if open_right:
            free -= lengths[end]
            end += 1
    return start, end


def encode_marked(
    tokenizer: Any, texts: Sequence[MarkedText], markers: Sequence[str], label_scheme: str, max_length: int | None
) -> list[EncodedText]:
    """
    Marked texts with their tokens, or with the problem that keeps them from a model.

    Args:
        tokenizer: with the four markers among its added tokens, else a ValueError.
        label_scheme: `word` cuts a text that is longer than `max_length` to the [`context_window`] of its entities;
            each marker must be there once, and a token of each entity. `deepke` cuts its end, as the published code
            does; the two opening markers must be there once.
    """
    unknown = set(markers) - set(tokenizer.get_added_vocab())
    if unknown:
        raise ValueError(
            f"The markers {', '.join(sorted(unknown))} are no tokens of the tokenizer: call add_entity_markers() "
            "first, and resize the model's embeddings to it."
        )
    in_windows = label_scheme == "word"
    tokenized = tokenize_words(tokenizer, [text.words for text in texts], None if in_windows else max_length)
    required = markers if in_windows else markers[::2]
    required_ids = dict(zip(required, tokenizer.convert_tokens_to_ids(list(required)), strict=True))
    encoded = []
    for text, ids, word_ids, cut_words in zip(texts, *tokenized, strict=True):
        words = join_words(text.words)
        try:
            if in_windows and max_length is not None and len(ids) > max_length:
                reached = {word for word in word_ids if word is not None}
                ids, word_ids = _cut_to_window(text, ids, word_ids, max_length)
                cut_words = reached.difference(word_ids)
            _check_markers(ids, required_ids)
            num_cut = sum(text.words[word] not in markers for word in cut_words)
            encoded.append(EncodedText(*words, ids, word_ids, num_cut_words=num_cut))
        except ProblemError as error:
            encoded.append(EncodedText(*words, [], [], error.problem))
    return encoded


def _cut_to_window(
    text: MarkedText, input_ids: list[int], word_ids: list[int | None], max_length: int
) -> tuple[list[int], list[int | None]]:
    """The special tokens, and those of the words around the entities for which there is room."""
    counts = Counter(word for word in word_ids if word is not None)
    lengths = [counts[word] for word in range(len(text.words))]
    room = max_length - (len(input_ids) - sum(lengths))
    start, end = context_window(lengths, text.first, text.last, room)
    kept = [position for position, word in enumerate(word_ids) if word is None or start <= word < end]
    return [input_ids[position] for position in kept], [word_ids[position] for position in kept]


def _check_markers(input_ids: list[int], markers: Mapping[str, int]) -> None:
    """Each marker must be there once and, where all four must be, a token of each entity; else a ProblemError."""
    places = {marker: [at for at, token in enumerate(input_ids) if token == its] for marker, its in markers.items()}
    wrong = [f"{marker} {len(at)} times" for marker, at in places.items() if len(at) != 1]
    if wrong:
        raise ProblemError(Problem(NOT_ONCE, details=f"(its {len(input_ids)} tokens hold {', '.join(wrong)})"))
    if len(places) == 4:
        borders = [at for (at,) in places.values()]
        for name, (start, end) in {"head": borders[:2], "tail": borders[2:]}.items():
            if not set(input_ids[start:end]) - set(markers.values()):
                raise ProblemError(Problem(NO_ENTITY_TOKENS, name))
