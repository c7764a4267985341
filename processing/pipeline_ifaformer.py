"""The pipeline: texts and pictures in, entities out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import logging

from .collator import CROP_KINDS, PICTURE_COLUMNS
from .decoding import decode_entities, word_scores, word_tags
from .images import ImageError, load_image
from .words import Words, join_words, split_words


logger = logging.get_logger(__name__)

TASK = "multimodal-token-classification"
# Columns a row may have: what is read, and what the data sets have besides.
KNOWN_COLUMNS = {"text", "tokens", *PICTURE_COLUMNS, "id", "image_id", "ner_tags"}


@dataclass
class Example:
    """
    One row on its way through the pipeline.

    Attributes:
        text: what the offsets point into, None where the row has none.
        offsets, word_ids: `(start, end)` characters of each word; of each token the index of its word.
        features: what the processor makes of it, None where it cannot be tagged.
        problems: what is wrong with the row.
    """

    text: str | None = None
    offsets: list[tuple[int, int]] = field(default_factory=list)
    word_ids: list[int | None] = field(default_factory=list)
    features: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)


class IFAformerPipeline(Pipeline):
    """
    Multimodal named entity recognition: the entities of texts, each with its picture.

        tagger = pipeline("multimodal-token-classification", model="user/name", trust_remote_code=True)
        tagger({"text": "Jordan met Paris", "image": "photo.jpg"})

    Args:
        model: an IFAformer with the CRF head. It is put into evaluation mode.
        processor: the `IFAformerProcessor` saved beside it.
        on_error (`str`, defaults to `"raise"`): what becomes of bad input, see [`__call__`]. Here for all calls, or
            with a call.
        **kwargs: as for any pipeline: `device`, `batch_size`, `num_workers`, ...

    Raises:
        ValueError: without a processor, for a model without a CRF, or where the two do not belong together.
    """

    # `Any`: the library declares them None.
    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_image_processor: Any = False
    _load_feature_extractor: Any = False
    _load_video_processor: Any = False
    model: Any  # of classes of the user's, or of those that came with the checkpoint
    processor: Any

    def __init__(self, model: Any, *, processor: Any = None, **kwargs: Any):
        if processor is None:
            raise ValueError("IFAformerPipeline needs the processor that was saved with the model: processor=...")
        if not hasattr(model, "crf"):
            raise ValueError(f"{type(model).__name__} tags no words: the pipeline needs a model with the CRF head.")
        processor.check_config(model.config)
        if processor.max_length is None:  # what the text tower can take, without a change to the caller's object
            processor = copy(processor)
            processor.max_length = model.base_model.text_model.max_length
        super().__init__(model, processor=processor, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """
        Args:
            inputs: a row, or a list, generator, `datasets` or torch data set of rows. A row is a text, a list of
                words, or a mapping with

                - `text` (a string or a list of words) or `tokens` (a list of words, which wins where both are given);
                - `image` (optional): a path, bytes, PIL image, uint8 array, or `{"path": ..., "bytes": ...}`;
                - `aux_crops`, `rcnn_crops` (optional): lists of such pictures.

                Columns of another name are not looked at, which is logged. A list of strings is a list of texts; one
                list of words is passed as `{"tokens": [...]}`.
            batch_size (`int`, defaults to 1): rows a batch. Results do not depend on it.
            num_workers (`int`, defaults to 0): processes that read pictures.
            on_error (`str`, defaults to `"raise"`):

                - `"raise"`: a bad row ends the call, see below.
                - `"report"`: the results are `{"text", "entities", "problems"}`, where `problems` lists what is wrong
                  and is absent where nothing is. A picture that cannot be used, and crops above the model's number,
                  are left out; a text that cannot be tagged has no entities.

        Returns:
            A list of entities for a row: `entity_group`, `score`, `word`, `start`, `end`, where `text[start:end]` is
            `word`; of words, `text` is the words joined by one space. `score` is the mean over the entity's words of
            the probability of their tags under the CRF. For a list, the list of those; for a generator or a data set,
            an iterable which computes them as it goes, with the data set's length.

            The end of a text longer than the model can take is not tagged: a problem in a report, logged otherwise.

        Raises:
            ValueError: for a row that is none of the above, a text that is empty or of which the tokenizer keeps
                nothing, or too many crops, with the number of the row.
            ImageError: for a picture that cannot be used (a `ValueError`), TypeError: for a source of another type;
                both name the row and the picture.
        """
        if isinstance(inputs, list | tuple):
            return list(super().__call__(_Rows(inputs), *args, **kwargs))
        if isinstance(inputs, str | Mapping):
            return super().__call__(inputs, *args, **kwargs)
        if hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__"):
            inputs = _Rows(inputs)
        elif isinstance(inputs, Iterable):
            inputs = (row for row in inputs)
        return super().__call__(inputs, *args, **kwargs)

    def _sanitize_parameters(self, on_error: str | None = None, **kwargs: Any) -> tuple[dict, dict, dict]:
        kwargs.pop("local_files_only", None)  # `pipeline` uses it and passes it on
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no parameters {sorted(kwargs)}.")
        if on_error is None:
            return {}, {}, {}
        if on_error not in ("raise", "report"):
            raise ValueError(f"on_error must be 'raise' or 'report', got {on_error!r}.")
        return {"on_error": on_error}, {}, {"on_error": on_error}

    def preprocess(self, inputs: Any, on_error: str = "raise", number: int | None = None) -> Example:  # type: ignore[override]
        """
        One row with its features.

        Args:
            inputs, on_error: see [`__call__`].
            number: of the row, for messages.
        """
        example = Example()
        place = "" if number is None else f"Row {number}: "

        def report(problem: str, error_type: type[Exception] = ValueError) -> None:
            if on_error == "raise":
                raise error_type(f"{place}{problem}")
            example.problems.append(problem)

        try:
            row = _as_row(inputs)
            example.text, words, example.offsets = _words(row)
        except ValueError as error:
            report(str(error))
            return example
        pictures = self._load_pictures(row, report)
        try:
            (encoded,) = self.processor.encode_text([words], is_split_into_words=True)
        except ValueError:
            report(f"text: {example.text!r:.80} is empty, or the tokenizer keeps nothing of it")
            return example
        example.word_ids = encoded.word_ids
        cut_off = len(words) - 1 - max(word for word in encoded.word_ids if word is not None)
        if cut_off and len(encoded.input_ids) == self.processor.max_length:
            example.problems.append(f"text: the last {cut_off} of {len(words)} words are cut off")
            if on_error == "raise":
                logger.warning(f"{place}{example.problems[-1]}")
        features = self.processor(text=[words], is_split_into_words=True, **pictures)
        example.features = {name: values[0] for name, values in features.items()}
        return example

    def _load_pictures(self, row: Mapping[str, Any], report: Callable[..., None]) -> dict[str, Any]:
        """What the processor takes of a row's picture and crops, decoded; what cannot be used is reported."""

        def load(name: str, source: Any) -> Any:
            try:
                return load_image(source)
            except (ImageError, TypeError) as error:
                report(f"{name}: {error}", ImageError if isinstance(error, ImageError) else TypeError)
                return None

        processor = self.processor
        limits = {"image": int(processor.use_whole_image)}
        limits |= {f"{kind}_crops": getattr(processor, f"num_{kind}_crops") for kind in CROP_KINDS}
        pictures: dict[str, Any] = {}
        for name, limit in limits.items():
            sources = row.get(name)
            sources = [] if sources is None else sources if isinstance(sources, list | tuple) else [sources]
            if sources and limit == 0:
                logger.warning_once(f"The column {name} is not looked at: the model was made without.")
                continue
            if len(sources) > limit:
                unit = "pictures" if name == "image" else "crops"
                report(f"{name}: {len(sources)} {unit}, the model takes the first {limit}")
            named = [
                (name if name == "image" else f"{name} {index}", source)
                for index, source in enumerate(sources[:limit])
            ]
            loaded = [picture for picture in (load(*item) for item in named) if picture is not None]
            if name == "image":
                pictures["images"] = loaded or [None]
            else:
                pictures[name] = [loaded]
        return pictures

    def collate(self, examples: list[Example]) -> dict[str, Any]:
        """The `examples`, and as `inputs` the padded batch of those that have features, None where none has."""
        features = [example.features for example in examples if example.features is not None]
        for example in examples:
            example.features = None if example.features is None else {}  # they are in the batch now
        return {"examples": examples, "inputs": self.processor.data_collator(features) if features else None}

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> dict[str, Any]:  # type: ignore[override]
        """The `examples` with `tag_ids` (batch_size, seq_length) and `scores`, the probability of each."""
        examples, inputs = input_tensors["examples"], input_tensors["inputs"]
        if inputs is None:
            return {"examples": examples, "tag_ids": torch.empty(0, 0), "scores": torch.empty(0, 0)}
        self.model.eval()  # in training mode nothing is decoded
        outputs = self.model(**inputs)
        marginals = self.model.crf.marginals(outputs.logits, inputs["crf_mask"])
        scores = marginals.gather(-1, outputs.tag_ids.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return {"examples": examples, "tag_ids": outputs.tag_ids, "scores": scores}

    def postprocess(self, model_outputs: dict[str, Any], on_error: str = "raise") -> list[Any]:  # type: ignore[override]
        """A result for each row of a batch, see [`__call__`]."""
        id2label = dict(enumerate(self.processor.labels))
        tagged = zip(model_outputs["tag_ids"].tolist(), model_outputs["scores"].tolist(), strict=True)
        results: list[Any] = []
        for example in model_outputs["examples"]:
            entities = []
            if example.features is not None:
                tag_ids, scores = next(tagged)
                word_ids, num_words = example.word_ids, len(example.offsets)
                entities = decode_entities(
                    example.text,
                    example.offsets,
                    word_tags(tag_ids, word_ids, num_words, id2label),
                    word_scores(scores, word_ids, num_words),
                )
            if on_error == "raise":
                results.append(entities)
            else:
                problems = {"problems": example.problems} if example.problems else {}
                results.append({"text": example.text, "entities": entities, **problems})
        return results

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """One row, without a number."""
        batch = self.collate([self.preprocess(inputs, **preprocess_params)])
        return self.postprocess(self.forward(batch, **forward_params), **postprocess_params)[0]

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Many rows: the processor's own collator pads them, so that results do not depend on the batch."""
        rows: Any
        if isinstance(inputs, _Rows):
            rows = PipelineDataset(inputs, self._preprocess_numbered, preprocess_params)
        else:
            rows = PipelineIterator(enumerate(inputs), self._preprocess_numbered, preprocess_params)
            num_workers = min(num_workers, 1)  # several would each read all of it
        batches: DataLoader = DataLoader(rows, batch_size=batch_size, num_workers=num_workers, collate_fn=self.collate)

        def run(batch: dict[str, Any]) -> list[Any]:
            return self.postprocess(self.forward(batch, **forward_params), **postprocess_params)

        return _Results(batches, run, inputs)

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


def _as_row(inputs: Any) -> Mapping[str, Any]:
    """
    Raises:
        ValueError: for what is no row.
    """
    if isinstance(inputs, str):
        return {"text": inputs}
    if isinstance(inputs, list | tuple):
        return {"tokens": inputs}
    if not isinstance(inputs, Mapping):
        raise ValueError(
            "expected a text, a list of words, or a mapping with text or tokens and pictures, got "
            f"{type(inputs).__name__}"
        )
    unknown = sorted(map(str, inputs.keys() - KNOWN_COLUMNS))
    if unknown:
        logger.warning_once(f"Not looked at: {', '.join(unknown)}. Pictures are read from {PICTURE_COLUMNS}.")
    return inputs


def _words(row: Mapping[str, Any]) -> Words:
    """
    Raises:
        ValueError: for a row without a text, or one of another type.
    """
    name = "text" if row.get("tokens") is None else "tokens"
    value = row.get(name)
    if value is None:
        raise ValueError(f"neither text nor tokens among {sorted(map(str, row))}, or both are None")
    if isinstance(value, str):
        text, words, offsets = split_words(_encodable(name, value))
    elif isinstance(value, Iterable) and all(isinstance(word, str) for word in value):
        text, words, offsets = join_words([_encodable(name, str(word)) for word in value])
    else:
        raise ValueError(f"{name}: expected a string or a list of words, got {value!r:.80}")
    return text, words, offsets


def _encodable(name: str, text: str) -> str:
    """
    Raises:
        ValueError: for half a surrogate pair, which no tokenizer takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {text!r:.80} is no valid Unicode: {error.reason}") from error
    return text


__all__ = ["IFAformerPipeline"]
