"""The pipeline: texts and pictures in, entities out."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, fields, replace
from itertools import compress
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import logging

from .collator import IFAformerDataCollator
from .columns import CROP_KINDS, PIXEL_MASKS
from .decoding import decode_entities, first_positions, word_scores, word_tags
from .explanations import METHODS, source_mask, source_names
from .labels import entity_spans
from .object_proposals import ObjectProposer, ProposalOptions
from .phrases import tag_types
from .pipeline_rows import RowPictures, as_row, encode_crops, given_boxes, is_choice, read_row_pictures, row_words
from .tagged_text import Entities, TaggedRow, TaggedText


logger = logging.get_logger(__name__)

TASK = "multimodal-token-classification"
OPTIONS = tuple(option.name for option in fields(ProposalOptions))


@dataclass
class Example:
    """
    One row on its way through the pipeline.

    Attributes:
        text: what the offsets point into, None where the row has none.
        words, offsets: the words, and `(start, end)` characters of each.
        word_ids: of each token the index of its word.
        pair: of a relation, `(start, end)` words of head and tail.
        pictures: what is known of its crops, and what is still to be proposed.
        features: what the processor makes of it, None where it cannot be tagged.
        pixels: its pictures among the features, where relations are looked for too.
        relations: between its entities.
        problems: what is wrong with the row.
    """

    text: str | None = None
    words: list[str] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)
    word_ids: list[int | None] = field(default_factory=list)
    pair: dict[str, tuple[int, int]] = field(default_factory=dict)
    pictures: RowPictures = field(default_factory=RowPictures)
    features: dict[str, Any] | None = None
    pixels: dict[str, Any] = field(default_factory=dict)
    relations: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class IFAformerPipeline(Pipeline):
    """
    Multimodal named entity recognition: the entities of texts, each with its picture.

        tagger = pipeline("multimodal-token-classification", model="user/name", trust_remote_code=True)
        tagger({"text": "Jordan met Paris", "image": "photo.jpg"})

    Args:
        model: an IFAformer with the CRF head. It is put into evaluation mode.
        processor: the `IFAformerProcessor` saved beside it.
        relation_extractor (`IFAformerRelationPipeline`, *optional*): finds the relations between the entities, of
            the same pictures in the same sizes. A result is then a dict with `relations` besides, see [`__call__`].
        on_error (`str`, defaults to `"raise"`): what becomes of bad input, see [`__call__`]. Here for all calls, or
            with a call.
        crops, explain, aux_detector, rcnn_detector, ...: see [`__call__`]. Here for all calls, or with a call.
        **kwargs: as for any pipeline: `device`, `batch_size`, `num_workers`, ...

    Raises:
        ValueError: without a processor, for a model without a CRF, or where the two do not belong together; where
            tagger and relation extractor look at pictures differently.
        TypeError: for a relation extractor that is none.
    """

    # `Any`: the library declares them None.
    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_video_processor: Any = False
    model: Any  # of classes of the user's, or of those that came with the checkpoint
    processor: Any

    def __init__(self, model: Any, *, processor: Any = None, relation_extractor: Any = None, **kwargs: Any):
        if processor is None:
            raise ValueError(f"{type(self).__name__} needs the processor that was saved with the model: processor=...")
        self.check_model(model)
        processor.check_config(model.config)
        if processor.max_length is None:  # what the text tower can take, without a change to the caller's object
            processor = copy(processor)
            processor.max_length = model.config.max_text_length
        self.relation_extractor = relation_extractor
        if relation_extractor is not None:
            if not hasattr(relation_extractor, "add_relations") or hasattr(self, "add_relations"):
                raise TypeError(
                    "relation_extractor must be a pipeline for relations, given to one for entities: "
                    f"got {relation_extractor!r:.80} for {type(self).__name__}."
                )
            relation_extractor.check_pictures(processor)
        super().__init__(model, processor=processor, **kwargs)
        self.proposer = ObjectProposer(self.device)

    @staticmethod
    def check_model(model: Any) -> None:
        """
        Raises:
            ValueError: for a model of another task.
        """
        if not hasattr(model, "crf"):
            raise ValueError(f"{type(model).__name__} tags no words: the pipeline needs a model with the CRF head.")

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """
        Args:
            inputs: a row, or a list, generator, `datasets` or torch data set of rows. A row is a text, a list of
                words, or a mapping with

                - `text` (a string or a list of words) or `tokens` (a list of words, which wins where both are given);
                - `image` (optional): a path, bytes, PIL image, uint8 array, or `{"path": ..., "bytes": ...}`;
                - `aux_crops`, `rcnn_crops` (optional): lists of such pictures, and as `aux_objects`, `rcnn_objects`
                  what `prepare_crops.py` stored of each: `box`, `label`, `score`;
                - `crops` (optional): as below, for this row.

                Columns of another name are not looked at, which is logged. A list of strings is a list of texts; one
                list of words is passed as `{"tokens": [...]}`.
            batch_size (`int`, defaults to 1): rows a batch. Results do not depend on it, but for what detectors find.
            num_workers (`int`, defaults to 0): processes that read pictures.
            on_error (`str`, defaults to `"raise"`):

                - `"raise"`: a bad row ends the call, see below.
                - `"report"`: the results are `{"text", "entities", "problems"}`, where `problems` lists what is wrong
                  and is absent where nothing is. A picture that cannot be used, and crops above the model's number,
                  are left out; a text that cannot be tagged has no entities.

            crops (`str` or boxes, defaults to `"auto"`):

                - `"auto"`: a row's own crops; where it has none of a kind that there is a detector for, crops are
                  proposed from its `image`, as `prepare_crops.py` does it: the same settings and batches give the same
                  pixels.
                - `"none"`: no crops, not even a row's own.
                - boxes in pixels of the `image` that are cut as given: a list of (xmin, ymin, xmax, ymax), or of
                  mappings with that as `box`, for `aux_crops`, or such lists by column. They belong to one row: for
                  several, give each its column `crops`. A box is clipped to the picture.
            aux_detector, rcnn_detector (`str` or `ObjectDetector`, *optional*): what proposes crops, a zero-shot and a
                closed-set detector of transformers, Hub name or folder. Loaded on first use, once, on the pipeline's
                device, and run in the calling process on `batch_size` rows at a time.
            phrases, spacy_model, aux_threshold, rcnn_threshold, iou_threshold, max_aux_crops, max_rcnn_crops:
                as in [`ProposalOptions`].
            explain (`str`, *optional*): which source speaks for each entity, see [`attention_shares`] and
                [`occlusion_shares`] for what it means and its limits. `"attention"` takes a pass more, `"occlusion"`
                2 n + 2 passes for a row with n pictures and crops.

        Returns:
            A list of entities for a row: `entity_group`, `score`, `word`, `start`, `end`, where `text[start:end]` is
            `word`; of words, `text` is the words joined by one space. `score` is the mean over the entity's words of
            the probability of their tags under the CRF. For a list, the list of those; for a generator or a data set,
            an iterable which computes them as it goes, with the data set's length.

            With a `relation_extractor` a result is always a dict: `text`, `entities`, `relations` between every two of
            them, the negative one left out (`head` and `tail`, as places in `entities`, `relation` and `score`), and
            as `problems` what is wrong with the row and pairs that could not be looked at.

            With `explain`, an entity has `shares`: for the text, the picture and each crop `source` (`"text"`,
            `"image"`, `"aux_crops 0"`, ...), `share`, and where they are known `label`, `score` and `box`; shares sum
            to 1. A report has `crops` where boxes are known: by column, `box`, `label` and `score` of each crop, which
            can be given as `crops` again.

            Lists and reports of entities show themselves in a notebook, with the picture where the caller holds the
            rows (one row, or a list).

            The end of a text longer than the model can take is not tagged: a problem in a report, logged otherwise.

        Raises:
            ValueError: for a row that is none of the above, a text that is empty or of which the tokenizer keeps
                nothing, too many crops, or a box outside the picture, with the number of the row; for options out of
                range and a detector of the wrong kind.
            OSError: for a detector that is not there.
            ImageError: for a picture that cannot be used (a `ValueError`), TypeError: for a source of another type;
                both name the row and the picture.
        """
        if isinstance(inputs, list | tuple):
            results = list(super().__call__(_Rows(inputs), *args, **kwargs))
            for row, result in zip(inputs, results, strict=True):
                _show_picture_of(row, result)
            return results
        if isinstance(inputs, str | Mapping):
            result = super().__call__(inputs, *args, **kwargs)
            _show_picture_of(inputs, result)
            return result
        if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
            inputs = _Rows(inputs)
        elif isinstance(inputs, Iterable):
            inputs = (row for row in inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(
        self, on_error: str | None = None, crops: Any = None, explain: str | None = None, **kwargs: Any
    ) -> tuple[dict, dict, dict]:
        kwargs.pop("local_files_only", None)  # `pipeline` uses it and passes it on
        options = {name: kwargs.pop(name) for name in OPTIONS if name in kwargs}
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no parameters {sorted(kwargs)}.")
        if on_error not in (None, "raise", "report"):
            raise ValueError(f"on_error must be 'raise' or 'report', got {on_error!r}.")
        if explain is not None and explain not in METHODS:
            raise ValueError(f"explain must be one of {', '.join(METHODS)} or None, got {explain!r}.")
        if crops is not None and not is_choice(crops):
            try:
                given_boxes(crops, self._limits)
            except ValueError as error:
                raise ValueError(f"crops: {error}.") from error
        ProposalOptions(**options).check()
        of_errors = {} if on_error is None else {"on_error": on_error}
        return (
            of_errors | ({} if crops is None else {"crops": crops}),
            options | ({} if explain is None else {"explain": explain}),
            of_errors,
        )

    @property
    def _entity_types(self) -> list[str]:
        """What the labels name, for phrases to look for."""
        return tag_types(self.processor.tags)

    @property
    def _limits(self) -> dict[str, int]:
        """How many pictures are looked at, by column: none where no model's text attends to them."""
        limits = {"image": int(self.processor.use_whole_image)}
        limits |= {f"{kind}_crops": getattr(self.processor, f"num_{kind}_crops") for kind in CROP_KINDS}
        pipelines = (self, self.relation_extractor) if self.relation_extractor is not None else (self,)
        attended = any(pipeline.model.config.text_attends_vision for pipeline in pipelines)
        return limits if attended else dict.fromkeys(limits, 0)

    def _proposal_options(self, forward_params: Mapping[str, Any]) -> tuple[ProposalOptions, list[str]]:
        """What was given for proposing crops, and the kinds of those that are to be proposed."""
        options = ProposalOptions(**{name: forward_params[name] for name in OPTIONS if name in forward_params})
        kinds = list(options.detectors)
        for kind in kinds:
            if not self._limits[f"{kind}_crops"]:
                logger.warning_once(f"The {kind}_detector is not used: the model was made without {kind}_crops.")
        return options, [kind for kind in kinds if self._limits[f"{kind}_crops"]]

    def preprocess(  # type: ignore[override]
        self,
        inputs: Any,
        on_error: str = "raise",
        crops: Any = "auto",
        proposed_kinds: Collection[str] = (),
        number: int | None = None,
    ) -> Example:
        """
        One row with its features, but for crops that are to be proposed.

        Args:
            inputs, on_error, crops: see [`__call__`].
            proposed_kinds: of crops that a detector is there for.
            number: of the row, for messages.
        """
        example = Example()
        place = "" if number is None else f"Row {number}: "

        def report(problem: str, error_type: type[Exception] = ValueError) -> None:
            if on_error == "raise":
                raise error_type(f"{place}{problem}")
            example.problems.append(problem)

        try:
            row = as_row(inputs)
            example.text, example.words, example.offsets = row_words(row)
        except ValueError as error:
            report(str(error))
            return example
        pictures = read_row_pictures(row, self._limits, crops, proposed_kinds, report)
        features = self._encode_words(example, row, place, on_error, report)
        if features is None:
            return example
        features |= self.processor.encode_pictures({name: [values] for name, values in pictures.columns.items()})
        example.features = {name: values[0] for name, values in features.items()}
        example.pictures = pictures
        pictures.columns = {}  # they are in the features now
        return example

    def _encode_words(
        self, example: Example, row: Mapping[str, Any], place: str, on_error: str, report: Callable[..., None]
    ) -> Mapping[str, Any] | None:
        """The processor's features of the example's words, a batch of one; None where they cannot be tagged."""
        words = example.words
        try:
            (encoded,) = self.processor.encode_text([words], is_split_into_words=True)
        except ValueError:
            report(f"text: {example.text!r:.80} is empty, or the tokenizer keeps nothing of it")
            return None
        example.word_ids = encoded.word_ids
        cut_off = len(words) - 1 - max(word for word in encoded.word_ids if word is not None)
        if cut_off and len(encoded.input_ids) == self.processor.max_length:
            self._tell(example, f"text: the last {cut_off} of {len(words)} words are cut off", place, on_error)
        return self.processor.text_features([encoded])

    @staticmethod
    def _tell(example: Example, problem: str, place: str, on_error: str) -> None:
        """What is wrong with a row that is tagged all the same: logged where no report will have it."""
        example.problems.append(problem)
        if on_error == "raise":
            logger.warning(f"{place}{problem}")

    def _add_proposals(self, examples: list[Example], options: ProposalOptions) -> None:
        """The crops that are to be proposed, a kind's of all examples at once."""
        for kind in options.detectors:
            pending = [example for example in examples if kind in example.pictures.pending]
            if not pending:
                continue
            column = f"{kind}_crops"
            images: list[Any] = [example.pictures.image for example in pending]
            texts = [" ".join(example.words) for example in pending]
            found = self.proposer.propose(options, kind, images, texts, self._entity_types, self._limits[column])
            for example, image, objects in zip(pending, images, found, strict=True):
                assert example.features is not None  # else nothing is pending
                encoded = self.processor.encode_pictures({column: [encode_crops(image, objects)]})
                example.features |= {name: values[0] for name, values in encoded.items()}
                example.pictures.objects[column] = [
                    {**detected._asdict(), "box": list(detected.box)} for detected in objects
                ]
        for example in examples:
            example.pictures.image, example.pictures.pending = None, ()

    def collate(self, examples: list[Example]) -> dict[str, Any]:
        """The `examples`, and as `inputs` the padded batch of those that have features, None where none has."""
        features = [example.features for example in examples if example.features is not None]
        for example in examples:
            if self.relation_extractor is not None and example.features is not None:
                example.pixels = {name: of for name, of in example.features.items() if name in PIXEL_MASKS}
            example.features = None if example.features is None else {}  # they are in the batch now
        return {"examples": examples, "inputs": self._collator(features) if features else None}

    @property
    def _collator(self) -> IFAformerDataCollator:
        """Pixels stay uint8 until they are on the device."""
        return replace(self.processor.data_collator, normalize_pixels=False)

    def _forward(self, input_tensors: dict[str, Any], explain: str | None = None) -> dict[str, Any]:  # type: ignore[override]
        """
        The `examples` with `tag_ids` (batch_size, seq_length), `scores`, the probability of each, and with `explain`
        the `shares` of each row's entities (num_entities, num_sources), `source_names`, and as `source_mask`
        (batch_size, num_sources) which of them a row has.
        """
        examples, inputs = input_tensors["examples"], input_tensors["inputs"]
        if inputs is None:
            return {"examples": examples, "tag_ids": torch.empty(0, 0), "scores": torch.empty(0, 0)}
        self.model.eval()  # in training mode nothing is decoded
        inputs = self.processor.normalize_pixels(inputs)
        outputs = self.model(**inputs)
        marginals = self.model.crf.marginals(outputs.logits, inputs["crf_mask"])
        scores = marginals.gather(-1, outputs.tag_ids.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        results = {"examples": examples, "tag_ids": outputs.tag_ids, "scores": scores}
        if explain is not None:
            positions = []
            tagged = [example for example in examples if example.features is not None]
            for example, tag_ids in zip(tagged, outputs.tag_ids.tolist(), strict=True):
                of_words = first_positions(example.word_ids)
                spans = entity_spans(self._word_tags(example, tag_ids))
                positions.append(
                    [[of_words[word] for word in range(first, end) if word in of_words] for _, first, end in spans]
                )
            results["shares"] = METHODS[explain](self.model, inputs, outputs.tag_ids, positions)
            results |= {"source_names": source_names(inputs), "source_mask": source_mask(inputs)}
        return results

    def _word_tags(self, example: Example, tag_ids: list[int]) -> list[str]:
        return word_tags(tag_ids, example.word_ids, len(example.offsets), dict(enumerate(self.processor.labels)))

    def postprocess(self, model_outputs: dict[str, Any], on_error: str = "raise") -> list[Any]:  # type: ignore[override]
        """A result for each row of a batch, see [`__call__`]."""
        tag_ids, scores = model_outputs["tag_ids"].tolist(), model_outputs["scores"].tolist()
        all_entities: list[list[dict[str, Any]]] = []
        row = 0
        for example in model_outputs["examples"]:
            entities: list[dict[str, Any]] = []
            if example.features is not None:
                entities = decode_entities(
                    example.text,
                    example.offsets,
                    self._word_tags(example, tag_ids[row]),
                    word_scores(scores[row], example.word_ids, len(example.offsets)),
                )
                if "shares" in model_outputs:
                    sources = list(compress(model_outputs["source_names"], model_outputs["source_mask"][row].tolist()))
                    for entity, shares in zip(entities, model_outputs["shares"][row], strict=True):
                        present = shares[model_outputs["source_mask"][row]].tolist()
                        entity["shares"] = [
                            {"source": source, **example.pictures.object_of(source), "share": share}
                            for source, share in zip(sources, present, strict=True)
                        ]
                row += 1
            all_entities.append(entities)
        examples = model_outputs["examples"]
        if self.relation_extractor is not None:
            self.relation_extractor.add_relations(examples, all_entities)
        return [
            self._result(example, entities, on_error) for example, entities in zip(examples, all_entities, strict=True)
        ]

    def untagged(self, problem: str) -> TaggedRow:
        """The report of a row that could not even be read."""
        return self._result(Example(problems=[problem]), [], "report")

    def _result(self, example: Example, entities: Any, on_error: str) -> Any:
        crops = example.pictures.known
        if on_error == "raise" and self.relation_extractor is None:
            return Entities(entities, example.text, crops)
        rest: dict[str, Any] = {"crops": crops} if crops else {}
        if self.relation_extractor is not None:
            rest["relations"] = example.relations
        if example.problems:
            rest["problems"] = example.problems
        result = TaggedText(text=example.text, entities=entities, **rest)
        result.is_tagged = example.features is not None
        return result

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """One row, without a number."""
        options, kinds = self._proposal_options(forward_params)
        example = self.preprocess(inputs, proposed_kinds=kinds, **preprocess_params)
        return self._run([example], options, forward_params, postprocess_params)[0]

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Many rows: the processor's own collator pads them, so that results do not depend on the batch."""
        if not isinstance(preprocess_params.get("crops", "auto"), str):
            raise ValueError("crops: boxes belong to one row; for several, give each row its own as its column crops.")
        options, kinds = self._proposal_options(forward_params)
        preprocess_params = {**preprocess_params, "proposed_kinds": kinds}
        rows: Any
        if isinstance(inputs, _Rows):
            rows = PipelineDataset(inputs, self._preprocess_numbered, preprocess_params)
        else:
            rows = PipelineIterator(enumerate(inputs), self._preprocess_numbered, preprocess_params)
            num_workers = min(num_workers, 1)  # several would each read all of it
        batches: DataLoader = DataLoader(
            rows, batch_size=batch_size, num_workers=num_workers, collate_fn=self._collate_what_is_complete
        )

        def run(batch: Any) -> list[Any]:
            return self._run(batch, options, forward_params, postprocess_params)

        return _Results(batches, run, inputs)

    def _collate_what_is_complete(self, examples: list[Example]) -> Any:
        """In a process that reads pictures: the batch, or where crops are to be proposed the examples, for no detector
        leaves the calling process."""
        return examples if any(example.pictures.pending for example in examples) else self.collate(examples)

    def _run(self, batch: Any, options: ProposalOptions, forward_params: dict, postprocess_params: dict) -> list[Any]:
        """Results of a batch, or of examples that are still to be made one."""
        if isinstance(batch, list):
            self._add_proposals(batch, options)
            batch = self.collate(batch)
        outputs = self.forward(batch, explain=forward_params.get("explain"))
        return self.postprocess(outputs, **postprocess_params)

    def _preprocess_numbered(self, item: tuple[int, Any], **preprocess_params: Any) -> Example:
        number, row = item
        return self.preprocess(row, number=number, **preprocess_params)

    def save_pretrained(self, save_directory, **kwargs: Any) -> None:
        """Model and processor, which make a complete folder: the code travels with them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class _Rows(Dataset):
    """Any sequence of rows as a torch data set, each row with its number."""

    def __init__(self, rows: Any):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, Any]:
        return number, self.rows[number]


class _Results:
    """The results of all rows, computed batch by batch whenever it is iterated over."""

    def __init__(self, batches: DataLoader, run: Callable[[dict[str, Any]], list], rows: Any):
        self.batches, self.run, self.rows = batches, run, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.batches:
            yield from self.run(batch)


def _show_picture_of(row: Any, result: Any) -> None:
    """The caller holds the row, so that a result which shows itself may point to its picture."""
    if isinstance(result, Entities | TaggedRow):
        result.image = row.get("image") if isinstance(row, Mapping) else None


__all__ = ["IFAformerPipeline"]
