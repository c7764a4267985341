"""The context of a text: what else is known of its picture or its post, read behind it in a segment of its own."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from .problems import NO_UNICODE, Problem, ProblemError, shown
from .tokenizing import EncodedText, split_words, whole_texts


CONTEXT = "context"  # the column of a row
WRONG_CONTEXT = (
    "context is a text, or a list of texts and of dicts with the text as text and, where it is known, as kind what it "
    "is, such as caption, ocr or knowledge"
)
CONTEXT_CUT = "the end of the context is not read: max_context_length, or the text before it, leaves no room"


def read_context(value: Any) -> list[dict[str, str | None]]:
    """
    The parts of a context, each with `kind` (None where it has none) and `text`. Parts without any text are left out.
    What is no context, see `WRONG_CONTEXT`, is a ProblemError.
    """
    if value is None:
        return []
    is_list = isinstance(value, list | tuple)
    parts: list[dict[str, str | None]] = []
    for item, part in enumerate(value if is_list else [value]):
        of_list = item if is_list else None
        if part is None:
            continue
        given = {"text": part} if isinstance(part, str) else part
        if not isinstance(given, Mapping) or not given.keys() <= {"kind", "text"} or "text" not in given:
            raise ProblemError(Problem(WRONG_CONTEXT, CONTEXT, of_list, f"(got {shown(part)})"))
        kind, text = given.get("kind"), given["text"]
        if not all(of is None or isinstance(of, str) for of in (kind, text)):
            raise ProblemError(Problem(WRONG_CONTEXT, CONTEXT, of_list, f"(got {shown(part)})"))
        try:
            f"{kind}{text}".encode()
        except UnicodeEncodeError as error:
            raise ProblemError(Problem(NO_UNICODE, CONTEXT, of_list, f"({shown(part)}: {error.reason})")) from error
        if text is not None and text.strip():
            parts.append({"kind": kind or None, "text": str(text)})
    return parts


def read_contexts(values: Sequence[Any]) -> list[list[dict[str, str | None]]]:
    """[`read_context`] of each text; its error has the number of the text."""
    contexts = []
    for row, value in enumerate(values):
        try:
            contexts.append(read_context(value))
        except ProblemError as error:
            raise ProblemError(error.problem, f"Text {row}") from error
    return contexts


def context_words(parts: Sequence[Mapping[str, str | None]], word_splitter: str = "unicode") -> list[str]:
    """The words of a context as they are read: those of each part, with its kind in front (`caption : a dog`)."""
    texts = [f"{part['kind']}: {part['text']}" if part["kind"] else part["text"] for part in parts]
    return [word for text in texts for word in split_words(text or "", word_splitter)[1]]


class PairForm(NamedTuple):
    """What a tokenizer puts before and behind the second text of a pair, and the number of that text's segment."""

    before: list[int]
    after: list[int]
    segment: int


def pair_form(tokenizer: Any) -> PairForm:
    """How a tokenizer builds a pair of texts; a ValueError for one that puts nothing between the two."""
    if tokenizer.is_fast:
        alone = tokenizer(["a"], is_split_into_words=True)
        pair = tokenizer(["a"], ["a"], is_split_into_words=True, return_token_type_ids=True)
        ends_alone = alone.sequence_ids(0)[-1] is not None
        rest = slice(len(alone["input_ids"]), None)
        ids, of_text = pair["input_ids"][rest], [of == 1 for of in pair.sequence_ids(0)[rest]]
        segment = pair["token_type_ids"][-1]
    else:  # BERTweet's tokenizer is Python only, and its model has one segment
        alone = tokenizer.build_inputs_with_special_tokens([-1])
        ids = tokenizer.build_inputs_with_special_tokens([-1], [-1])[len(alone) :]
        ends_alone, of_text, segment = alone[-1] == -1, [token == -1 for token in ids], 0
    first, last = of_text.index(True), len(of_text) - of_text[::-1].index(True)
    if ends_alone and not first:
        raise ValueError(
            f"The tokenizer ({type(tokenizer).__name__}) puts no token between a text and its context, so that they "
            "cannot be told apart. Leave max_context_length out."
        )
    return PairForm(ids[:first], ids[last:], segment)


def add_contexts(
    tokenizer: Any,
    encoded: Sequence[EncodedText],
    contexts: Sequence[Sequence[Mapping[str, str | None]]],
    max_context_length: int,
    max_length: int | None,
    reserved_ids: Collection[int] = (),
    word_splitter: str = "unicode",
) -> list[EncodedText]:
    """
    The texts, with the parts of their contexts behind them as the second text of a pair: `caption : a dog`. A context
    is cut at `max_context_length` tokens, and where the text leaves less room in `max_length` there, or left out. The
    text is never cut. Special tokens but the unknown one, and those of `reserved_ids`, do not stand in a context.
    """
    words = [context_words(parts, word_splitter) for parts in contexts]
    rows = [row for row, example in enumerate(encoded) if words[row] and example.problem is None]
    with_contexts = list(encoded)
    if not rows:
        return with_contexts
    before, after, _ = pair_form(tokenizer)
    reserved = {*tokenizer.all_special_ids, *reserved_ids} - {tokenizer.unk_token_id}
    for row, (ids, word_ids) in zip(rows, whole_texts(tokenizer, [words[row] for row in rows]), strict=True):
        text, room = encoded[row], max_context_length
        if max_length is not None:
            room = min(room, max_length - len(text.input_ids) - len(before) - len(after))
        given = [token for token, word in zip(ids, word_ids, strict=True) if word is not None]
        kept = [token for token in given if token not in reserved][: max(room, 0)]
        added = [*before, *kept, *after] if kept else []
        with_contexts[row] = replace(
            text,
            input_ids=[*text.input_ids, *added],
            word_ids=[*text.word_ids, *[None] * len(added)],
            num_context_tokens=len(added),
            num_cut_context=len(given) - len(kept),
        )
    return with_contexts


def context_features(tokenizer: Any, encoded: Sequence[EncodedText]) -> dict[str, list]:
    """
    Of each token of each text, as `context_mask`, whether it belongs to the context, as the special tokens around that
    do; and where the tokenizer's model has segments, `token_type_ids`.
    """
    masks = []
    for text in encoded:
        num_own = len(text.input_ids) - text.num_context_tokens
        masks.append([False] * num_own + [True] * text.num_context_tokens)
    if "token_type_ids" not in tokenizer.model_input_names:
        return {"context_mask": masks}
    # Tokenizing a pair costs more than all else, and most rows of a pipeline come one by one.
    segment = pair_form(tokenizer).segment if any(text.num_context_tokens for text in encoded) else 0
    return {"context_mask": masks, "token_type_ids": [[segment * belongs for belongs in mask] for mask in masks]}
