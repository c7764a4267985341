"""The pipeline for relations: texts with two entities and their pictures in, the relation of the two out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations
from operator import index
from typing import Any

import torch

from .entity_markers import MarkerError
from .phrases import relation_types
from .pipeline_ifaformer import Example, IFAformerPipeline
from .tagged_text import TaggedRelation
from .tokenizing import EncodedText, tokenize_words


RELATION_TASK = "multimodal-relation-extraction"
# Of a text, in order: with more than 12 entities they are cut.
MAX_PAIRS = 132
# In one forward pass.
PAIRS_AT_ONCE = 32


class IFAformerRelationPipeline(IFAformerPipeline):
    """
    Multimodal relation extraction: the relation of two entities in each text, which has its picture.

        extractor = pipeline("multimodal-relation-extraction", model="user/name", trust_remote_code=True)
        extractor({"text": "Jordan met Paris", "head": (0, 6), "tail": (11, 16), "image": "photo.jpg"})

    Given to [`IFAformerPipeline`] as `relation_extractor`, it finds the relations between the entities found there.

    A row is one of [`IFAformerPipeline.__call__`] with a `head` and a `tail`, each one of

    - `(start, end)` or a mapping with `start` and `end`, end exclusive: characters of a `text`, which fall on borders
      of its words, or words of `tokens`;
    - a string: the entity as it stands in the text (`tokens` are joined by one space), letter case and all, on borders
      of words. It must occur there once.

    The other arguments are the same, `explain` aside.

    The result for a row is a dict: `relation`; `score`, its probability; `head` and `tail`, each `word`, `start` and
    `end` in characters as entities have them. With `on_error="report"` it is `text`, that (where the row can be used),
    and where there are any `crops` and `problems`, as for entities. It shows itself in a notebook.
    """

    @staticmethod
    def check_model(model: Any) -> None:
        """
        Raises:
            ValueError: for a model of another task.
        """
        if hasattr(model, "crf") or not hasattr(model, "classifier"):
            raise ValueError(f"{type(model).__name__} finds no relations: the pipeline needs a model for them.")

    def check_pictures(self, processor: Any) -> None:
        """See [`check_same_pictures`]."""
        check_same_pictures(processor, self.processor)

    @property
    def _entity_types(self) -> list[str]:
        return relation_types(self.processor.relations)

    def _sanitize_parameters(self, **kwargs: Any) -> tuple[dict, dict, dict]:  # type: ignore[override]
        if kwargs.get("explain") is not None:
            raise ValueError("explain is for entities; relations have no shares.")
        return super()._sanitize_parameters(**kwargs)

    def _encode_words(
        self, example: Example, row: Mapping[str, Any], place: str, on_error: str, report: Callable[..., None]
    ) -> Mapping[str, Any] | None:
        try:
            example.pair = {
                name: _word_span(name, row, example.text or "", example.offsets) for name in ("head", "tail")
            }
            if example.pair["head"] == example.pair["tail"]:
                raise ValueError("head and tail are the same words: a relation is one of two entities")
            encoded = self._encode_pair(example, **example.pair)
        except MarkerError as error:
            report(f"text: {error.__cause__}")
            return None
        except ValueError as error:
            report(str(error))
            return None
        cut_off = self._num_cut_off(encoded)
        if cut_off:
            self._tell(example, f"text: {cut_off} of {len(example.words)} words are cut off", place, on_error)
        return self.processor.text_features([encoded])

    def _num_cut_off(self, encoded: EncodedText) -> int:
        """Words for which the model has no room."""
        without_token = encoded.unreachable_words
        if without_token:  # some may be such that the tokenizer drops, whatever the room
            _, (word_ids,) = tokenize_words(self.processor.tokenizer, [encoded.words])
            without_token &= set(word_ids)
        return len(without_token)

    def _encode_pair(self, example: Example, head: tuple[int, int], tail: tuple[int, int]) -> EncodedText:
        heads, tails = ([{"start": start, "end": end}] for start, end in (head, tail))
        (encoded,) = self.processor.encode_pairs([example.words], heads, tails)
        return encoded

    def _answers(self, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`relation` and `score` of each pair of a collated batch."""
        self.model.eval()
        return self.processor.post_process_relations(self.model(**self.processor.normalize_pixels(inputs)).logits)

    def _forward(self, input_tensors: dict[str, Any], explain: str | None = None) -> dict[str, Any]:  # type: ignore[override]
        inputs = input_tensors["inputs"]
        return {"examples": input_tensors["examples"], "answers": [] if inputs is None else self._answers(inputs)}

    def postprocess(self, model_outputs: dict[str, Any], on_error: str = "raise") -> list[Any]:  # type: ignore[override]
        """A result for each row of a batch, see the class."""
        answers = iter(model_outputs["answers"])
        return [
            self._result(example, None if example.features is None else next(answers), on_error)
            for example in model_outputs["examples"]
        ]

    def _result(self, example: Example, answer: Any, on_error: str) -> TaggedRelation:
        is_tagged, crops = example.features is not None, example.pictures.known
        result = TaggedRelation({} if on_error == "raise" else {"text": example.text})
        if is_tagged:
            result |= answer
            result |= {
                name: _entity(example.text or "", example.offsets, *span) for name, span in example.pair.items()
            }
        if on_error == "report":
            result |= {name: of for name, of in (("crops", crops), ("problems", example.problems)) if of}
        result.text, result.crops, result.is_tagged = example.text, crops, is_tagged
        return result

    @torch.no_grad()
    def add_relations(self, examples: Sequence[Example], entities: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """
        To each example its relations between every two entities, each as head and as tail, the negative one left out:
        `head` and `tail` (places in its entities), `relation` and `score`. Pairs that could not be looked at are added
        to its problems.

        Args:
            examples: of a tagger, with their `pixels`.
            entities: of each, with `word`, and `start` and `end`, characters on borders of words.
        """
        pairs, features = [], []
        for example, of_text in zip(examples, entities, strict=True):
            for head, tail, encoded in self._readable_pairs(example, of_text):
                pairs.append((example, head, tail))
                text = {name: values[0] for name, values in self.processor.text_features([encoded]).items()}
                features.append({**text, **example.pixels})
        answers = []
        for start in range(0, len(features), PAIRS_AT_ONCE):
            inputs = self._collator(features[start : start + PAIRS_AT_ONCE])
            answers += self._answers(self.ensure_tensor_on_device(**inputs))
        for (example, head, tail), answer in zip(pairs, answers, strict=True):
            if answer["relation"] != self.processor.negative_relation:
                example.relations.append({"head": head, "tail": tail, **answer})

    def _readable_pairs(
        self, example: Example, entities: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[int, int, EncodedText]]:
        """Head, tail and their tokens; the pairs that have none are told."""
        spans = [_words_between(example.offsets, entity["start"], entity["end"]) for entity in entities]
        pairs = list(permutations(range(len(entities)), 2))
        if len(pairs) > MAX_PAIRS:
            example.problems.append(f"relations: {len(pairs)} pairs of entities, the first {MAX_PAIRS} are looked at")
        for head, tail in pairs[:MAX_PAIRS]:
            try:
                yield head, tail, self._encode_pair(example, spans[head], spans[tail])
            except MarkerError as error:
                example.problems.append(
                    f"relations: {entities[head]['word']!r} and {entities[tail]['word']!r}: {error.__cause__}"
                )


def check_same_pictures(tagger: Any, extractor: Any) -> None:
    """
    Whether what two processors, of entities and of relations, make of pictures is the same.

    Raises:
        ValueError: with every setting in which they differ.
    """
    here = extractor.pixel_settings
    different = [
        f"{name}: {value} there, {here[name]} here"
        for name, value in tagger.pixel_settings.items()
        if value != here[name]
    ]
    if different:
        raise ValueError(f"Tagger and relation extractor look at pictures differently: {'; '.join(different)}.")


def _word_span(name: str, row: Mapping[str, Any], text: str, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """
    Raises:
        ValueError: for an entity that is absent, no span of words, or not in the text exactly once.
    """
    entity = row.get(name)
    if isinstance(entity, str):
        return _words_between(offsets, *_place_of(name, entity.strip(), text, offsets), name)
    of_words = row.get("tokens") is not None or not isinstance(row.get("text"), str)
    unit = "word indices" if of_words else "characters"
    try:
        start, end = (entity["start"], entity["end"]) if isinstance(entity, Mapping) else entity  # type: ignore[misc]
        start, end = index(start), index(end)
    except (TypeError, KeyError, ValueError):
        raise ValueError(
            f"{name}: expected (start, end) in {unit}, end exclusive, or the entity as it stands in the text, "
            f"got {entity!r:.80}"
        ) from None
    if not of_words:
        return _words_between(offsets, start, end, name)
    if not 0 <= start < end <= len(offsets):
        raise ValueError(f"{name}: expected words within 0 to {len(offsets)}, end exclusive, got {(start, end)}")
    return start, end


def _place_of(name: str, entity: str, text: str, offsets: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """
    Characters of an entity that is given as it stands in the text.

    Raises:
        ValueError: where whole words of the text are not that exactly once.
    """
    ends = {stop for _, stop in offsets}
    places = {
        begin for begin, _ in offsets if entity and text.startswith(entity, begin) and begin + len(entity) in ends
    }
    if len(places) != 1:
        raise ValueError(
            f"{name}: {entity!r:.80} occurs {len(places)} times in the text as whole words, letter case and spaces as "
            "they are there, expected once: (start, end) says which is meant, in Python, JSON lines and Parquet"
        )
    (start,) = places
    return start, start + len(entity)


def _words_between(offsets: Sequence[tuple[int, int]], start: int, end: int, name: str = "entity") -> tuple[int, int]:
    """
    Indices of the words, end exclusive, that lie at these characters.

    Raises:
        ValueError: where no word begins at `start`, or none ends at `end`.
    """
    first = next((word for word, (begin, _) in enumerate(offsets) if begin == start), None)
    last = next((word for word, (_, stop) in enumerate(offsets) if stop == end), None)
    if first is None or last is None or last < first:
        words = ", ".join(f"{begin}-{stop}" for begin, stop in offsets[:20])
        raise ValueError(f"{name}: characters {start} to {end} are no whole words; words lie at {words}")
    return first, last + 1


def _entity(text: str, offsets: Sequence[tuple[int, int]], first: int, end: int) -> dict[str, Any]:
    start, stop = offsets[first][0], offsets[end - 1][1]
    return {"word": text[start:stop], "start": start, "end": stop}


__all__ = ["IFAformerRelationPipeline"]
