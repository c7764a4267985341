"""Spans of a text: where they are in it, in characters, and which of its words are theirs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from processing.problems import Problem, ProblemError
from processing.tokenizing import Words, same_text


SPAN_KEYS = ("start", "end", "label")

OWN_TEXT = "the text that is given must be the one that start and end cut out"
MAX_REST = 3  # characters: the ending of a plural or a case
INSIDE_WORD = f"each must be whole words, but for signs in front and an ending of at most {MAX_REST} characters"

# What annotation tools call a span's own text; and what may be that, or something else of the same name, which is told
# by whether it occurs in the row's text.
_NAMES = ("text", "word", "mention", "surface", "surface_form", "span", "string", "phrase", "quote")
_TEXT_KEYS = (*_NAMES, *(f"{of}_text" for of in (*_NAMES, "entity", "covered", "matched", "selected", "marked")))
_MAYBE_TEXT_KEYS = ("value", "name", "entity", "entity_name", "token", "tokens", "words")

# What some tools count in place of characters: for each unit, the encoding that has it, and how many bytes it has.
_UNITS = {"UTF-16 units": ("utf-16-le", 2), "bytes of UTF-8": ("utf-8", 1)}

Offsets = list[tuple[int, int]]
GivenSpan = tuple[int, int, str | None]  # start, end, and its own text, None where it is not known


class Spans(NamedTuple):
    """The spans of a text, in its order."""

    offsets: Offsets  # start and end of each, in characters
    labels: list[Any]  # as they were given
    unit: str  # what start and end were counted in; empty for characters


def bad_column(kind: str, column: str | None = None, got: Any = None) -> ProblemError:
    return ProblemError(Problem(kind, column, details=f"(got {got!r:.80})"))


def read_spans(value: Any, column: str, text: str) -> Spans:
    """
    The spans of a text, read from a column of its row. The end of a span is exclusive. What is no span of the text is
    a ProblemError.
    """
    if not isinstance(value, list):
        raise bad_column("must be a list", column, value)
    given: list[GivenSpan] = []
    for span in value:
        if not isinstance(span, dict) or not set(span) >= set(SPAN_KEYS):
            raise bad_column("each must be a dict with start, end and label", column, span)
        if type(span["start"]) is not int or type(span["end"]) is not int:
            raise bad_column("start and end must be whole numbers", column, span)
        given.append((span["start"], span["end"], own_text(span, text)))
    offsets, unit = in_characters(text, given, column)
    for start, end in offsets:
        if not 0 <= start < end <= len(text):
            details = f"(got {start}:{end} in a text of {len(text)} characters)"
            raise ProblemError(Problem("must be 0 <= start < end <= length of the text", column, details=details))
    order = sorted(range(len(offsets)), key=offsets.__getitem__)
    return Spans([offsets[place] for place in order], [value[place]["label"] for place in order], unit)


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
    _check_same(name, " ".join(words[start:end]), start, end, column)


def _check_same(given: str, there: str, start: int, end: int, column: str) -> None:
    if not same_text(given, there):
        details = f"({given!r:.80} is given, {start} to {end} is {there!r:.80})"
        raise ProblemError(Problem(OWN_TEXT, column, details=details))


def in_characters(text: str, spans: Sequence[GivenSpan], column: str) -> tuple[Offsets, str]:
    """
    Start and end of each span of a text in characters, and the unit that they were given in, which is empty for
    characters. The spans' own texts show the unit: it is the one by which start and end cut out these texts. Where no
    unit does so, it is a ProblemError.
    """
    counted = {"": [(start, end) for start, end, _ in spans]}
    if not _are_theirs(text, counted[""], spans):
        counted |= _in_other_units(text, counted[""])
    unit = next((unit for unit, offsets in counted.items() if _are_theirs(text, offsets, spans)), None)
    if unit is None:
        for start, end, own in spans:
            _check_same(own or text[start:end], text[start:end], start, end, column)
    return counted[unit or ""], unit or ""


def _are_theirs(text: str, offsets: Offsets, spans: Sequence[GivenSpan]) -> bool:
    """Whether the spans' own texts are what the offsets cut out."""
    pairs = zip(offsets, spans, strict=True)
    return all(own is None or same_text(own, text[start:end]) for (start, end), (*_, own) in pairs)


def _in_other_units(text: str, offsets: Offsets) -> dict[str, Offsets]:
    """The places in characters, by each of the units in which all of them are places between two characters."""
    found = {}
    for unit, (encoding, size) in _UNITS.items():
        encoded = text.encode(encoding)
        if max((end for _, end in offsets), default=0) * size <= len(encoded):
            try:
                found[unit] = [
                    (len(encoded[: start * size].decode(encoding)), len(encoded[: end * size].decode(encoding)))
                    for start, end in offsets
                ]
            except UnicodeDecodeError:  # It is half of a character.
                continue
    return found


def words_of_spans(spans: Spans, words: Words, column: str) -> Iterator[tuple[int, int, str, str]]:
    """
    For each span: its first word and the one behind its last, its characters, and the characters of its words. These
    differ where the span was widened to whole words.

    A span is widened to whole words by signs in front of its first word, such as `#`, and by an ending of its last
    one: at most `MAX_REST` characters, and less than twice as many as the span has of that word. What it has beyond
    its words, such as a space, is left out. A span without a word, one that would have to be widened further, and two
    that overlap are a ProblemError.
    """
    text, _, offsets = words
    last_end, last_word, previous = 0, 0, ""
    for start, end in spans.offsets:
        span = text[start:end]
        covered = [index for index, (begin, stop) in enumerate(offsets) if begin < end and start < stop]
        if not covered:
            raise ProblemError(Problem("each must have a word", column, details=f"(got {span!r} at {start})"))
        first, last = covered[0], covered[-1]
        if start < last_end or first < last_word:
            details = f"({previous!r:.80} and {span!r:.80})"
            raise ProblemError(Problem("must not overlap once they are whole words", column, details=details))
        whole = text[offsets[first][0] : offsets[last][1]]
        begins_inside = any(map(str.isalnum, text[offsets[first][0] : start]))
        rest = offsets[last][1] - end
        if begins_inside or rest > min(MAX_REST, 2 * (end - max(start, offsets[last][0])) - 1):
            details = f"(got {span!r:.80} of {whole!r:.80}{_hint(text, spans, offsets)})"
            raise ProblemError(Problem(INSIDE_WORD, column, details=details))
        yield first, last + 1, span, whole
        last_end, last_word, previous = end, last + 1, span


def _hint(text: str, spans: Spans, words: Offsets) -> str:
    """
    Advice for a span that is not whole words: another unit, where start and end in that unit give whole words. Spans
    that have texts of their own need no advice.
    """
    starts, ends = (set(places) for places in zip(*words, strict=True))
    for unit, offsets in _in_other_units(text, spans.offsets).items() if not spans.unit else ():
        if all(start in starts and end in ends for start, end in offsets):
            return f"; counted in {unit} all of them are whole words: give each its text, and they are read so"
    return ""
