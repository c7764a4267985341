"""The component of a spaCy pipeline: the entities of a `Doc`, which looks at its picture."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spacy.pipeline import Pipe
from spacy.tokens import Doc, Span
from spacy.util import minibatch

from modeling_ifaformer.prediction.taggers import load_tagger
from processing.context import CONTEXT_CUT
from processing.labels import tag_types
from processing.problems import ProblemError, check_at_least_one
from processing.tokenizing import CUT_OFF, NO_TOKENS, NO_WORDS


logger = logging.getLogger(__name__)

# What is said of a text that is answered all the same, and what the texts have that nothing can be found in.
ONLY_LOGGED, NOTHING_TO_FIND = (CUT_OFF, CONTEXT_CUT), (NO_TOKENS, NO_WORDS)


def set_extensions() -> None:
    """Let every `Doc` have `doc._.image`, and every `Span` `span._.score`, unless another component has made these."""
    if not Doc.has_extension("image"):
        Doc.set_extension("image", default=None)
    if not Span.has_extension("score"):
        Span.set_extension("score", default=None)


class EntityTagger(Pipe):
    """
    A component that sets `doc.ents`, of the text and, where `doc._.image` is set, of its picture.

    The words are spaCy's tokens but for white space, so that entities begin and end where tokens do. The score of an
    entity is its `span._.score`, from 0 to 1, and its label is the entity type. Entities that components before have
    set stay, as with spaCy's `EntityRuler`.

    Args:
        name: of the component in its pipeline.
        model: a trained entity model, its name on the Hub or its folder.
        overwrite_ents: whether entities of the model take the place of those that were set before and have a token in
            common with them. By default they are left out.
        threshold: as for [`IFAformerPipeline`]: entities with a lower score are left out.
        batch_size: how many texts the model reads at once, at most.
        device: of the model; by default the accelerator if there is one, else the CPU.

    Raises:
        ValueError, OSError: as [`load_tagger`], and for options out of range.
    """

    def __init__(
        self,
        name: str,
        model: str,
        *,
        overwrite_ents: bool = False,
        threshold: float | str | Mapping[str, float] | None = None,
        batch_size: int = 32,
        device: int | str | None = None,
    ):
        check_at_least_one(batch_size=batch_size)
        self.name, self.overwrite_ents, self.batch_size = name, overwrite_ents, batch_size
        options: dict[str, Any] = {} if threshold is None else {"threshold": threshold}
        self.tagger = load_tagger(model, "ner", device=device, **options)
        set_extensions()

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity types that the model knows."""
        return tuple(tag_types(self.tagger.processor.tags))

    def __call__(self, doc: Doc) -> Doc:
        """
        Set the entities of a text.

        Raises:
            ProblemError: for a picture that cannot be used, and what else [`IFAformerPipeline`] raises. In a pipeline
                it goes to the error handler.
        """
        for error in self._tag([doc]):
            if error is not None:
                raise error
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """
        Set the entities of many texts, `batch_size` of them at a time, of which the model reads at most its own
        `batch_size` at once. A text whose picture cannot be used goes to the error handler, and if that does not raise
        the error is left out, as spaCy's own components do it.
        """
        handle = self.get_error_handler()
        for docs in minibatch(stream, size=batch_size):
            try:
                errors = self._tag(docs)
            except Exception as error:  # spaCy's way: the handler decides about every error
                handle(self.name, self, docs, error)
                continue
            for doc, problem in zip(docs, errors, strict=True):
                if problem is None:
                    yield doc
                else:
                    handle(self.name, self, [doc], problem)

    def _tag(self, docs: list[Doc]) -> list[ProblemError | None]:
        """Set the entities of those docs that can be tagged; of each doc why it cannot."""
        rows = [row_of(doc) for doc in docs]
        asked = [number for number, row in enumerate(rows) if row["tokens"]]
        results = self.tagger([rows[number] for number in asked], batch_size=self.batch_size, on_error="report")
        errors: list[ProblemError | None] = [None] * len(docs)
        for number, result in zip(asked, results, strict=True):
            problems = [problem for problem in result.found_problems if problem.kind not in NOTHING_TO_FIND]
            for problem in problems:
                if problem.kind in ONLY_LOGGED:
                    logger.warning(f"{problem}: {docs[number].text:.80}")
                elif errors[number] is None:
                    errors[number] = ProblemError(problem)
            if errors[number] is None:
                self._set_entities(docs[number], result["entities"])
        return errors

    def _set_entities(self, doc: Doc, entities: Iterable[Mapping[str, Any]]) -> None:
        before, scores = list(doc.ents), {}
        for entity in entities:
            # An invisible character at the edge of a word is no part of the model's entity, but of the token.
            span = doc.char_span(entity["start"], entity["end"], entity["entity_group"], alignment_mode="expand")
            scores[span] = entity["score"]
        first, second = (list(scores), before) if self.overwrite_ents else (before, list(scores))
        taken = {token.i for span in first for token in span}
        kept = [*first, *(span for span in second if not any(token.i in taken for token in span))]
        for span in kept:
            if span in scores:
                span._.score = scores[span]
        doc.set_ents(kept)


def row_of(doc: Doc) -> dict[str, Any]:
    """A doc as a row of the pipeline: its text, the tokens that are no white space, where they stand, its picture."""
    tokens = [token for token in doc if not token.is_space]
    offsets = [(token.idx, token.idx + len(token)) for token in tokens]
    return {"text": doc.text, "tokens": [token.text for token in tokens], "offsets": offsets, "image": doc._.image}
