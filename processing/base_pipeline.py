"""What a pipeline for entities does with rows and answers, whatever its model runs in."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

from .columns import PIXEL_MASKS
from .context import CONTEXT, CONTEXT_CUT, read_context
from .labels import tag_types
from .object_proposals import ZERO_SHOT, ObjectProposer, ProposalOptions, encode_crops
from .pipeline_rows import (
    NumberedRows,
    PipelineRow,
    as_row,
    given_boxes,
    given_thresholds,
    read_row_pictures,
    read_words,
)
from .problems import Problem, ProblemError, warn_once
from .tagged_text import Entities, TaggedRow, TaggedText
from .tokenizing import CUT_OFF, EncodedText, encode_words


logger = logging.getLogger(__name__)

OPTIONS = tuple(option.name for option in fields(ProposalOptions))


class BasePipeline:
    """
    A mixin with all of a pipeline for entities that needs neither torch nor transformers. [`IFAformerPipeline`] is one
    of the library; [`ExportedPipeline`] runs a graph.
    """

    processor: Any
    config: Any  # of the model
    name_or_path: str  # of the model
    _preprocess_params: dict[str, Any]
    _forward_params: dict[str, Any]
    _postprocess_params: dict[str, Any]
    relation_extractor: Any
    proposer: ObjectProposer
    forward: Any  # of what `collate` gives the `rows`, and as `answers` what is found in those that can be asked of
    _explanations: Collection[str] = ()  # methods of explaining an answer

    @staticmethod
    def check_model(model: Any) -> None:
        """A model of another task is a ValueError."""
        raise NotImplementedError

    def fitting_processor(self, model: Any, processor: Any, relation_extractor: Any) -> Any:
        """
        The processor as the model needs it, see [`BaseProcessor.for_model_of`]. What does not belong together is an
        error, see [`IFAformerPipeline`]. The pipeline keeps the relation extractor.
        """
        if processor is None:
            raise ValueError(f"{type(self).__name__} needs the processor that was saved with the model: processor=...")
        self.check_model(model)
        processor.check_config(model.config)
        processor = processor.for_model_of(model.config)
        self.take_extractor(relation_extractor, processor)
        return processor

    def take_extractor(self, relation_extractor: Any, processor: Any) -> None:
        """Keep the pipeline that finds relations, or None. One that does not fit is an error, see above."""
        self.relation_extractor = relation_extractor
        if relation_extractor is not None:
            if not hasattr(relation_extractor, "add_relations") or hasattr(self, "add_relations"):
                raise TypeError(
                    "relation_extractor must be a pipeline for relations, given to one for entities: "
                    f"got {relation_extractor!r:.80} for {type(self).__name__}."
                )
            relation_extractor.check_pictures(processor)

    def answer(self, rows: Any, *args: Any, **kwargs: Any) -> Any:
        """Results of a row, of [`NumberedRows`], or of an iterator of rows, one after another."""
        raise NotImplementedError

    def batch_of(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        """A padded batch, with uint8 pixels as they are."""
        raise NotImplementedError

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """
        The entities of one row, or of many.

        Args:
            inputs: a row, or a list, generator, `datasets` or torch data set of rows. A row is a text, a list of
                words, or a mapping with

                - `text` (a string or a list of words) or `tokens` (a list of words, which wins where both are given;
                  with `offsets`, start and end of each, `text` is what they are words of);
                - `image` (optional): a path, bytes, PIL image, array, tensor, or `{"path": ..., "bytes": ...}`, or a
                  list of such for a model of several pictures, whose `shares` name them `image 0`, `image 1`, ...;
                - `aux_crops`, `rcnn_crops` (optional): lists of such pictures, and as `aux_objects`, `rcnn_objects`
                  what `prepare_crops.py` stored of each: `box`, `label`, `score`;
                - `context` (optional): for a model that reads it, what else is known: a text, or a list of texts and
                  of dicts with `text` and `kind` ("caption", "ocr", ...);
                - `crops` (optional): as below, for this row.

                Other columns are not looked at, which is logged. A list of strings is a list of texts; one list of
                words is passed as `{"tokens": [...]}`. What [`tokenize`] gives stands for its row.
            batch_size (`int`, defaults to 1): rows a batch. Results do not depend on it, but for what detectors find.
            num_workers (`int`, defaults to 0): processes that read pictures.
            on_error (`str`, defaults to `"raise"`): with `"raise"` a bad row ends the call. With `"report"` the
                results are `{"text", "entities", "problems"}`, where `problems` lists what is wrong in sentences and
                is absent where nothing is; a result's attribute `found_problems` has them as [`Problem`] values. A
                picture that cannot be used, and crops above the model's number, are left out; a text that cannot be
                tagged has no entities, and its pictures are not looked at.
            crops (`str` or boxes, defaults to `"auto"`):

                - `"auto"`: a row's own crops; where it has none of a kind that there is a detector for, crops are
                  proposed from its `image`, as `prepare_crops.py` does it: the same settings and batches give the same
                  pixels.
                - `"none"`: no crops, not even a row's own.
                - boxes of one row, cut as given and clipped to the picture, see [`given_boxes`].
            aux_detector, rcnn_detector (`str` or `ObjectDetector`, *optional*): what proposes crops, a zero-shot and a
                closed-set detector of transformers, Hub name or folder. Loaded on first use, once, on the pipeline's
                device, and run in the calling process on `batch_size` rows at a time.
            phrases, spacy_model, aux_threshold, rcnn_threshold, iou_threshold, max_aux_crops, max_rcnn_crops:
                as in [`ProposalOptions`].
            explain (`str`, *optional*): which source speaks for each entity, by `"attention"` or `"occlusion"`, see
                [`attention_shares`] and [`occlusion_shares`] for what it means, its limits and its cost.
            relation_types (mapping or path of a JSON file, *optional*): of relations of the `relation_extractor`, the
                pairs of entity types that head and tail may have: `{"peer": [["PER", "PER"]]}`. A relation that is not
                named is free. The best allowed one is taken; its score stays its probability among all.
            threshold (`float`, mapping or `"best"`, *optional*): entities, and relations between them, with a score
                below it are left out. A mapping has numbers by entity type and by relation; what it does not name is
                not left out. `"best"` stands for the `thresholds` of the model's configuration.

        Returns:
            A list of entities for a row: `entity_group`, `score`, `word`, `start`, `end`, where `text[start:end]` is
            `word`; of words, `text` is the words joined by one space. `score` is the mean over the entity's words of
            the probability of their tags under the CRF. For a list, the list of those; for a generator or a data set,
            an iterable which computes them as it goes. They show themselves in a notebook, with the picture where the
            caller holds the rows (one row, or a list).

            With a `relation_extractor` a result is always a dict: `text`, `entities`, `relations` between every two of
            them, but for the negative one (`head` and `tail`, as places in `entities`, `relation` and `score`; of two
            directions the better one), and as `problems` what is wrong with the row and pairs that were not looked at.

            With `explain`, an entity has `shares`: for the text, the picture and each crop `source` (`"text"`,
            `"image"`, `"aux_crops 0"`, ...), `share`, and where they are known `label`, `score` and `box`; shares sum
            to 1. A report has `crops` where boxes are known: by column, `box`, `label` and `score` of each crop, which
            can be given as `crops` again.

            The end of a text longer than the processor's `max_length` is not tagged, and a text that the model reads
            in windows has no `shares` by attention: each is a problem in a report, and logged otherwise.

        Raises:
            ProblemError: for a row that is none of the above, a text that is empty or of which the tokenizer keeps
                nothing, too many crops, or a box outside the picture, with the number of the row. It is a ValueError.
            ImageError: for a picture that cannot be used (a ProblemError), with the row and the picture.
            ValueError: for options out of range and a detector of the wrong kind.
            OSError: for a detector that is not there.
        """
        is_one, is_list = isinstance(inputs, str | Mapping | PipelineRow), isinstance(inputs, list | tuple)
        rows = inputs
        if is_list or (not is_one and hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")):
            rows = NumberedRows(inputs)
        elif not is_one and isinstance(inputs, Iterable):
            rows = (row for row in inputs)
        results = self.answer(rows, *args, **kwargs)
        if is_one or is_list:
            # The caller holds the rows, so that a result which shows itself may point to its pictures.
            results = list(results) if is_list else results
            for row, result in zip(inputs if is_list else [inputs], results if is_list else [results], strict=True):
                columns = row.columns if isinstance(row, PipelineRow) else row
                result.show_pictures(columns if isinstance(columns, Mapping) else {})
        return results

    def _sanitize_parameters(
        self, on_error: str | None = None, crops: Any = None, explain: str | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        kwargs.pop("local_files_only", None)  # `pipeline` uses it and passes it on
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        relation_types, threshold = kwargs.pop("relation_types", None), kwargs.pop("threshold", None)
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no parameters {sorted(kwargs)}.")
        if on_error not in (None, "raise", "report"):
            raise ValueError(f"on_error must be 'raise' or 'report', got {on_error!r}.")
        if explain is not None and explain not in self._explanations:
            raise ValueError(
                f"explain must be one of {', '.join(self._explanations)} or None, got {explain!r}."
                if self._explanations
                else "explain works only for a model in torch: one that was exported has no attentions."
            )
        if crops is not None:
            given_boxes(crops, self._limits)
        ProposalOptions(**options)  # which checks them
        of_errors = {} if on_error is None else {"on_error": on_error}
        of_results: dict[str, Any] = dict(of_errors)
        if relation_types is not None:
            if self.relation_extractor is None:
                raise ValueError("relation_types works only for a tagger with a relation_extractor.")
            read = self.relation_extractor.read_relation_types
            of_results["relation_types"] = read(relation_types, self._entity_types)
        if threshold is not None:
            extractor = self.relation_extractor
            names = [*self._entity_types, *(extractor.claims if extractor is not None else ())]
            best = getattr(self.config, "thresholds", None)
            of_results["thresholds"] = given_thresholds(threshold, names, best)
        return (
            of_errors | ({} if crops is None else {"crops": crops}),
            options | ({} if explain is None else {"explain": explain}),
            of_results,
        )

    @property
    def _entity_types(self) -> list[str]:
        """What the labels name, for phrases to look for."""
        return tag_types(self.processor.tags)

    @property
    def _with_extractor(self) -> tuple["BasePipeline", ...]:
        """This pipeline, and that of its relations where it has one."""
        return (self,) if self.relation_extractor is None else (self, self.relation_extractor)

    @property
    def _limits(self) -> dict[str, int]:
        """How many pictures are looked at, by column: none where no model's text attends to them."""
        limits = self.processor.picture_limits
        attended = any(pipeline.config.text_attends_vision for pipeline in self._with_extractor)
        return limits if attended else dict.fromkeys(limits, 0)

    @property
    def _max_images(self) -> int:
        """How many pictures of a row are read; the processor may be of code that knew one alone."""
        return getattr(self.processor, "max_images", 1)

    @staticmethod
    def check_crops_of_many(preprocess_params: Mapping[str, Any]) -> None:
        """Boxes that are given for several rows at once are a ValueError."""
        if not isinstance(preprocess_params.get("crops", "auto"), str):
            raise ValueError("crops: boxes belong to one row; for several, give each row its own as its column crops.")

    def _proposal_options(self, forward_params: Mapping[str, Any]) -> tuple[ProposalOptions, list[str]]:
        """What was given for proposing crops, and the kinds of those that are to be proposed."""
        options = ProposalOptions(**{name: forward_params[name] for name in OPTIONS if name in forward_params})
        kinds = list(options.detectors)
        for kind in kinds:
            if not self._limits[f"{kind}_crops"]:
                warn_once(logger, f"The {kind}_detector is not used: the model was made without {kind}_crops.")
        return options, [kind for kind in kinds if self._limits[f"{kind}_crops"]]

    def load_detectors(self) -> None:
        """Load the detectors that the pipeline was made with, which else happens where the first picture comes."""
        options, kinds = self._proposal_options(self._forward_params)
        for kind in kinds:
            self.proposer.detector(options, kind)

    def tokenize(self, rows: Iterable[Any]) -> list[PipelineRow]:
        """
        The texts of many rows as tokens, all at once; pictures are not opened. What comes back can be given to the
        pipeline in place of the rows, in any order and as often as wanted; `num_tokens` of each tells rows of like
        length, which make the batches with the least padding. A row that cannot be tagged has the reason as the last
        of its `problems`.
        """
        read = [self._read_text(row) for row in rows]
        with_words = [row for row in read if not row.problems]
        for row, encoded in zip(with_words, self._encode(with_words) if with_words else (), strict=True):
            if encoded.problem is not None:
                row.problems.append(replace(encoded.problem, column=encoded.problem.column or "text"))
                continue
            row.tokens = encoded
            if encoded.num_cut_words:
                details = f"({encoded.num_cut_words} of {len(row.words)} words)"
                row.problems.append(Problem(CUT_OFF, "text", details=details))
            # A processor that a checkpoint brings may be that of before, which knows of no contexts.
            if num_cut := getattr(encoded, "num_cut_context", 0):
                row.problems.append(Problem(CONTEXT_CUT, CONTEXT, details=f"({num_cut} tokens)"))
        return read

    def prepare(self, row: Any) -> PipelineRow:
        """
        A row with its text read and its pictures decoded, by the options that the pipeline was made with: all of the
        work but the model's. Threads may do so beside each other. What comes back is given to the pipeline in place of
        the row, with `on_error="report"`, as often as wanted.
        """
        _, kinds = self._proposal_options(self._forward_params)
        options = {**self._preprocess_params, "on_error": "report", "proposed_kinds": kinds}
        return replace(self.preprocess(row, **options), is_prepared=True)

    def _read_text(self, inputs: Any) -> PipelineRow:
        row = PipelineRow()
        try:
            row.columns = as_row(inputs)
            row.text, row.words, row.offsets = read_words(row.columns, self.processor.word_splitter)
            if row.columns.get(CONTEXT) is not None and self._reads_context:
                row.context = read_context(row.columns[CONTEXT])
        except ProblemError as error:
            row.problems.append(error.problem)
        return row

    @property
    def _reads_context(self) -> bool:
        """Whether a model reads what stands in the column `context`; that none does is logged."""
        reads = any(getattr(pipeline.processor, "max_context_length", None) for pipeline in self._with_extractor)
        if not reads:
            warn_once(logger, "The column context is not looked at, since the model has learnt to read none.")
        return reads

    def _encode(self, rows: Sequence[PipelineRow]) -> list[EncodedText]:
        texts = [(row.text or "", row.words, row.offsets) for row in rows]
        return self._with_contexts(encode_words(self.processor.tokenizer, texts, self.processor.max_length), rows)

    def _with_contexts(self, encoded: list[EncodedText], rows: Sequence[PipelineRow]) -> list[EncodedText]:
        if not getattr(self.processor, "max_context_length", None):
            return encoded
        return self.processor.with_contexts(encoded, [row.context for row in rows])

    def preprocess(
        self,
        inputs: Any,
        on_error: str = "raise",
        crops: Any = "auto",
        proposed_kinds: Collection[str] = (),
        number: int | None = None,
    ) -> PipelineRow:
        """
        One row with its features, but for crops of `proposed_kinds`, which are still to be proposed where it has none.
        `number` is the row's, for messages; see [`__call__`] for the rest.
        """
        row = inputs if isinstance(inputs, PipelineRow) else self.tokenize([inputs])[0]
        # A copy: one that was given may be given again.
        row = replace(row, problems=[*row.problems], relations=[], left_out=[])
        if row.is_prepared:
            objects = {column: [*of_column] for column, of_column in row.objects.items()}
            return replace(row, features={**row.features}, objects=objects)
        row.objects, row.used_pictures = {}, {}
        row.raises, row.place = on_error == "raise", "" if number is None else f"Row {number}"
        if row.tokens is None:
            if row.raises:
                raise ProblemError(row.problems[-1], row.place)
            return row
        for problem in row.problems:
            row.log(problem)
        of_pictures = (self.processor.max_megapixels, self._max_images)
        pictures = read_row_pictures(row, self._limits, crops, proposed_kinds, *of_pictures)
        features = self.processor.text_features([row.tokens])
        features |= self.processor.encode_pictures({column: [of_row] for column, of_row in pictures.items()})
        row.features = {name: values[0] for name, values in features.items()}
        row.columns = {}  # they are in the features now
        return row

    def _add_proposals(self, rows: list[PipelineRow], options: ProposalOptions) -> None:
        """The crops that are to be proposed, a kind's of all rows at once."""
        for kind in options.detectors:
            pending = [row for row in rows if kind in row.pending]
            if not pending:
                continue
            column, number = f"{kind}_crops", getattr(self.processor, f"num_{kind}_crops")
            given = [(index, place) for index, row in enumerate(pending) for place in row.images]
            images = [pending[index].images[place] for index, place in given]
            phrases: list[Any] = [None] * len(given)
            if ZERO_SHOT[kind]:
                phrases = self.proposer.phrases(
                    options, [pending[index].text or "" for index, _ in given], self._entity_types
                )
            crops: list[list[bytes]] = [[] for _ in pending]
            found = self.proposer.propose(options, kind, images, phrases, number)
            for (index, place), image, objects in zip(given, images, found, strict=True):
                crops[index] += encode_crops(image, [detected.box for detected in objects])
                of_several = {"image": place} if self._max_images > 1 else {}
                pending[index].objects.setdefault(column, []).extend(
                    {**detected._asdict(), "box": list(detected.box), **of_several} for detected in objects
                )
            encoded = self.processor.encode_pictures({column: crops})
            for index, row in enumerate(pending):
                row.features |= {name: values[index] for name, values in encoded.items()}
        for row in rows:
            row.images, row.pending = {}, ()

    def collate(self, rows: list[PipelineRow]) -> dict[str, Any]:
        """The `rows`, and as `inputs` the padded batch of those that the model can be asked of, None where none is."""
        features = [row.features for row in rows if row.tokens is not None]
        for row in rows:  # what is in the batch now goes, but for the pixels in which relations are looked for
            kept = PIXEL_MASKS if self.relation_extractor is not None else ()
            row.features = {name: values for name, values in row.features.items() if name in kept}
        return {"rows": rows, "inputs": self.batch_of(features) if features else None}

    def entities(self, rows: list[Any], tag_ids: Any, scores: Any, log_probabilities: Any, crf_mask: Any) -> list:
        """
        The entities of each row of a batch; each row gets its `confidence`, see [`TaggedRow`].

        Args:
            tag_ids: the best tags, and as `scores` the probability of each, (batch_size, seq_length).
            log_probabilities: of the best tags of a row as a whole, (batch_size,).
            crf_mask: the positions that have a tag, (batch_size, seq_length).
        """
        for row, log_probability in zip(rows, (log_probabilities / crf_mask.sum(-1)).tolist(), strict=True):
            row.confidence = math.exp(min(log_probability, 0.0))
        of_rows = zip(rows, tag_ids.tolist(), scores.tolist(), strict=True)
        return [self.processor.entities_of(row.tokens, *of_tokens) for row, *of_tokens in of_rows]

    def postprocess(
        self, model_outputs, on_error="raise", relation_types=None, thresholds=MappingProxyType({})
    ) -> list[Any]:
        """A result for each row of a batch, see [`__call__`]."""
        rows, given = model_outputs["rows"], iter(model_outputs["answers"])
        answers = [None if row.tokens is None else row.above(thresholds, next(given), "entity_group") for row in rows]
        if self.relation_extractor is not None:
            self.relation_extractor.add_relations(rows, [found or [] for found in answers], relation_types or {})
            for row in rows:
                row.relations = row.above(thresholds, row.relations, "relation")
        results = [self._result(row, answer, on_error) for row, answer in zip(rows, answers, strict=True)]
        for row, result in zip(rows, results, strict=True):
            result.used_pictures, result.max_megapixels = row.used_pictures, self.processor.max_megapixels
        return results

    def untagged(self, problem: Problem) -> TaggedRow:
        """The report of a row that could not even be read."""
        return self._result(PipelineRow(problems=[problem]), None, "report")

    def _result(self, row: PipelineRow, answer: Any, on_error: str) -> Any:
        """What is returned for a row; an `answer` of None is that of one that the model could not be asked of."""
        if on_error == "raise" and self.relation_extractor is None:
            return Entities(answer, row.text, row.crops, row.problems)
        result = TaggedText(text=row.text, entities=answer or [], **({"crops": row.crops} if row.crops else {}))
        result.confidence, result.left_out = row.confidence, row.left_out
        if self.relation_extractor is not None:
            result["relations"] = row.relations
        return result.with_problems(row.problems, is_tagged=row.tokens is not None)

    def _run(self, batch: Any, options: ProposalOptions, forward_params: dict, postprocess_params: dict) -> list[Any]:
        """Results of a batch, or of rows that are still to be made one."""
        if isinstance(batch, list):
            self._add_proposals(batch, options)
            batch = self.collate(batch)
        outputs = self.forward(batch, explain=forward_params.get("explain"))
        return self.postprocess(outputs, **postprocess_params)

    def _preprocess_numbered(self, item: tuple[int, Any], **preprocess_params: Any) -> PipelineRow:
        return self.preprocess(item[1], number=item[0], **preprocess_params)
