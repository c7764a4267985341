"""What a row says of itself: a text that its offsets contradict, and that it is no gold."""

from collections.abc import Mapping, Sequence
from typing import Any

from processing.problems import Problem, ProblemError
from processing.tokenizing import same_text


REJECTED = "the row says of itself that it is not to be used"
OWN_TEXT = "the text that is given must be the one that start and end cut out"

_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
_REFUSALS = ("reject", "rejected", "ignore", "ignored", "skip", "skipped", "cancelled", "canceled", "discarded")
# By column, the values by which a row is no gold. Prodigy has `answer`, Label Studio `was_cancelled`, Argilla
# `status`.
VERDICTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("answer", "status", "state", "decision"), (*_REFUSALS, "deleted", "draft", "pending")),
    **{f"{was}{word}": _YES for word in (*_REFUSALS, "deleted") for was in ("", "is_", "was_")},
    **{f"{was}{word}": _NO for word in ("accepted", "approved", "confirmed", "gold") for was in ("", "is_", "was_")},
}

# What annotation tools call a span's own text; and what may be that, or something else of the same name, which is told
# by whether it occurs in the row's text.
_TEXT_KEYS = ("text", "word", "mention", "surface", "surface_form", "span", "string", "phrase", "quote")
_TEXT_KEYS += tuple(f"{of}_text" for of in (*_TEXT_KEYS, "entity", "covered", "matched", "selected", "marked"))
_MAYBE_TEXT_KEYS = ("value", "name", "entity", "entity_name", "token", "tokens", "words")

# What tools count that do not count characters: an encoding, and the bytes of a unit.
_UNITS = {"UTF-16 units": ("utf-16-le", 2), "bytes of UTF-8": ("utf-8", 1)}


def rejection(row: Mapping[str, Any]) -> Problem | None:
    """The column that says of a row that it was rejected, skipped or not confirmed; None where there is none."""
    for column, value in row.items():
        if value is not None and str(value).strip().casefold() in VERDICTS.get(column.casefold(), ()):
            return Problem(REJECTED, column, details=f"(got {value!r:.80})")
    return None


def own_text(span: Mapping[str, Any], text: str) -> str | None:
    """What a span of a text says that its words are; None where it does not say it."""
    for key in (*_TEXT_KEYS, *_MAYBE_TEXT_KEYS):
        value = span.get(key)
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = " ".join(value)
        if not isinstance(value, str) or not value.strip() or value == span.get("label"):
            continue
        if key in _TEXT_KEYS or "".join(value.split()) in "".join(text.split()):
            return value
    return None


def check_name(name: str, words: Sequence[str], start: int, end: int, column: str) -> None:
    """Refuse an entity whose name is not what its words say, by a ProblemError."""
    there = " ".join(words[start:end])
    if not same_text(name, there):
        details = f"({name!r:.80} is given, {start} to {end} is {there!r:.80})"
        raise ProblemError(Problem(OWN_TEXT, column, details=details))


def in_characters(
    text: str, spans: Sequence[tuple[int, int, str | None]], column: str
) -> tuple[list[tuple[int, int]], str]:
    """
    `(start, end)` in characters of each span of a text, and what they were counted in: empty for characters.

    Args:
        spans: `(start, end, own text)` of each, the latter None where it is not known.

    Raises:
        ProblemError: where the texts are not what start and end cut out, whatever is counted.
    """
    given = [(start, end) for start, end, _ in spans]
    wrong = _first_other(text, given, spans)
    if wrong is None:
        return given, ""
    for unit, (encoding, size) in _UNITS.items():
        encoded = text.encode(encoding)
        try:
            moved = [
                (len(encoded[: start * size].decode(encoding)), len(encoded[: end * size].decode(encoding)))
                for start, end in given
            ]
        except UnicodeDecodeError:  # It is half of a character.
            continue
        if max(end for _, end in given) * size <= len(encoded) and _first_other(text, moved, spans) is None:
            return moved, unit
    start, end, own = spans[wrong]
    details = f"({own!r:.80} is given, {start} to {end} is {text[start:end]!r:.80})"
    raise ProblemError(Problem(OWN_TEXT, column, details=details))


def _first_other(
    text: str, offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int, str | None]]
) -> int | None:
    """The first span whose own text is not what the offsets cut out."""
    pairs = enumerate(zip(offsets, spans, strict=True))
    return next((i for i, ((start, end), (*_, own)) in pairs if own and not same_text(own, text[start:end])), None)
