"""The pipelines of the library: texts and pictures in, entities or relations out."""

from dataclasses import replace
from functools import partial
from typing import Any

from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.base import Pipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .base_pipeline import BasePipeline
from .base_relation_pipeline import BaseRelationPipeline
from .collator import IFAformerDataCollator
from .explanations import METHODS, add_shares
from .object_proposals import ObjectProposer
from .pipeline_rows import LazyResults, NumberedRows, PipelineRow


TASK = "multimodal-token-classification"
RELATION_TASK = "multimodal-relation-extraction"


class _RowsOfTorch(NumberedRows, Dataset):
    """[`NumberedRows`], of which the library knows by their class that they are many."""


class IFAformerPipeline(BasePipeline, Pipeline):  # type: ignore[misc]  # methods with arguments of their own
    """
    The pipeline for multimodal named entity recognition: the entities of texts, each with its picture.

        tagger = pipeline("multimodal-token-classification", model="user/name", trust_remote_code=True)
        tagger({"text": "Jordan met Paris", "image": "photo.jpg"})

    Args:
        model: an IFAformer with the CRF head. It is put into evaluation mode.
        processor: the `IFAformerProcessor` saved beside it.
        relation_extractor (`IFAformerRelationPipeline`, *optional*): finds the relations between the entities, of
            the same pictures in the same sizes.
        on_error, crops, explain, aux_detector, ...: see [`__call__`]. Here for all calls, or with a call.
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

    _explanations = METHODS

    def __init__(self, model: Any, *, processor: Any = None, relation_extractor: Any = None, **kwargs: Any):
        processor = self.fitting_processor(model, processor, relation_extractor)
        super().__init__(model, processor=processor, **kwargs)
        self.proposer = ObjectProposer(self.device)

    @property
    def config(self) -> Any:  # type: ignore[override]
        """That of the model."""
        return self.model.config

    @property
    def name_or_path(self) -> str:  # type: ignore[override]
        """The name of the model on the Hub, or its folder."""
        return self.model.name_or_path

    @staticmethod
    def check_model(model: Any) -> None:
        """A model of another task is a ValueError."""
        if not hasattr(model, "crf"):
            raise ValueError(f"{type(model).__name__} tags no words: the pipeline needs a model with the CRF head.")

    def answer(self, rows: Any, *args: Any, **kwargs: Any) -> Any:
        return Pipeline.__call__(
            self, _RowsOfTorch(rows.rows) if isinstance(rows, NumberedRows) else rows, *args, **kwargs
        )

    @property
    def _collator(self) -> IFAformerDataCollator:
        """Pixels stay uint8 until they are on the device."""
        return replace(self.processor.data_collator, normalize_pixels=False)

    def batch_of(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        return self._collator(features)

    def _forward(self, input_tensors: dict[str, Any], explain: str | None = None) -> dict[str, Any]:  # type: ignore[override]
        """The `rows`, and as `answers` what the model finds in each of those that it can be asked of, in order."""
        rows, inputs = input_tensors["rows"], input_tensors["inputs"]
        if inputs is None:
            return {"rows": rows, "answers": []}
        self.model.eval()  # in training mode nothing is decoded
        inputs = self._collator.normalized(inputs)
        asked = [row for row in rows if row.tokens is not None]
        return {"rows": rows, "answers": self._answers(asked, inputs, self.model(**inputs), explain)}

    def _answers(self, rows: list[Any], inputs: dict[str, Any], outputs: Any, explain: str | None) -> list:
        """The entities of each row of a batch."""
        logits, tag_ids, crf_mask = outputs.logits, outputs.tag_ids, inputs["crf_mask"]
        marginals = self.model.crf.marginals(logits, crf_mask)
        scores = marginals.gather(-1, tag_ids.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        answers = self.entities(rows, tag_ids, scores, self.model.crf(logits, tag_ids, crf_mask), crf_mask)
        if explain is not None:
            add_shares(explain, self.model, inputs, tag_ids, rows, answers)
        return answers

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """One row, without a number."""
        options, kinds = self._proposal_options(forward_params)
        row = self.preprocess(inputs, proposed_kinds=kinds, **preprocess_params)
        return self._run([row], options, forward_params, postprocess_params)[0]

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Many rows: the processor's own collator pads them, so that results do not depend on the batch."""
        self.check_crops_of_many(preprocess_params)
        options, kinds = self._proposal_options(forward_params)
        preprocess_params = {**preprocess_params, "proposed_kinds": kinds}
        rows: Any
        if isinstance(inputs, NumberedRows):
            rows = PipelineDataset(inputs, self._preprocess_numbered, preprocess_params)
        else:
            rows = PipelineIterator(enumerate(inputs), self._preprocess_numbered, preprocess_params)
            num_workers = min(num_workers, 1)  # several would each read all of it
        batches: DataLoader = DataLoader(
            rows, batch_size=batch_size, num_workers=num_workers, collate_fn=self._collate_what_is_complete
        )
        run = partial(self._run, options=options, forward_params=forward_params, postprocess_params=postprocess_params)
        return LazyResults(batches, run, inputs)

    def _collate_what_is_complete(self, rows: list[PipelineRow]) -> Any:
        """
        In a process that reads pictures: the batch; or the rows, where a detector, which never leaves the calling
        process, is still to propose crops.
        """
        return rows if any(row.pending for row in rows) else self.collate(rows)

    def save_pretrained(self, save_directory, **kwargs: Any) -> None:
        """Model and processor, which make a complete folder: the code travels with them."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class IFAformerRelationPipeline(BaseRelationPipeline, IFAformerPipeline):  # type: ignore[misc]  # likewise
    """
    The pipeline for multimodal relation extraction: the relation of two entities in each text, with its picture.

        extractor = pipeline("multimodal-relation-extraction", model="user/name", trust_remote_code=True)
        extractor({"text": "Jordan met Paris", "head": (0, 6), "tail": (11, 16), "image": "photo.jpg"})

    Given to [`IFAformerPipeline`] as `relation_extractor`, it finds the relations between the entities found there.

    A row is one of [`IFAformerPipeline.__call__`] with a `head` and a `tail`, each one of

    - `(start, end)` or a mapping with `start` and `end`, end exclusive: characters of a `text`, which fall on borders
      of its words, or words of `tokens`;
    - a string: the entity as it stands in the text (`tokens` are joined by one space), letter case and all, on borders
      of words. It must occur there once.

    The other arguments are the same, but for `explain`, `relation_types` and `threshold`.

    The result for a row is a dict: `relation`; `score`, its probability; `head` and `tail`, each `word`, `start` and
    `end` in characters as entities have them. With `on_error="report"` it is `text`, that (where the row can be used),
    and where there are any `crops` and `problems`, as for entities. It shows itself in a notebook.
    """

    @staticmethod
    def check_model(model: Any) -> None:
        """A model of another task is a ValueError."""
        if hasattr(model, "crf") or not hasattr(model, "classifier"):
            raise ValueError(f"{type(model).__name__} finds no relations: the pipeline needs a model for them.")

    def _answers(self, rows: list[Any], inputs: dict[str, Any], outputs: Any, explain: str | None) -> list:
        """`relation` and `score` of each row of a batch."""
        return self.relations(rows, outputs.logits)


def register_task(task: str, pipeline_class: type[Pipeline], model_class: type) -> None:
    """
    Let `pipeline` know the task for models that are given as objects, unless it does: the code of another checkpoint
    may have come first.
    """
    if task not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, pt_model=model_class)


register_task(TASK, IFAformerPipeline, AutoModelForTokenClassification)
register_task(RELATION_TASK, IFAformerRelationPipeline, AutoModelForSequenceClassification)


__all__ = ["IFAformerPipeline", "IFAformerRelationPipeline"]
