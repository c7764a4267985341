"""The pipelines of exported models: the same rows in, the same results out as those of the library."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..base_pipeline import BasePipeline
from ..base_relation_pipeline import BaseRelationPipeline
from ..object_proposals import ObjectProposer
from ..pipeline_rows import LazyResults, NumberedRows, PipelineRow
from ..problems import check_at_least_one
from .graphs import Graph
from .linear_chain import LinearChain
from .processor import ExportedProcessor


FACTS_FILE = "export.json"


class ExportedPipeline(BasePipeline):
    """
    The pipeline for entities of an exported model. It is called as [`IFAformerPipeline`] is, and gives the same, but
    for `explain`, which needs the attentions of the model itself.

        tagger = load_exported("exported")
        tagger({"text": "Jordan met Paris", "image": "photo.jpg"})

    A text may have as many tokens as the model reads at once; the end of a longer one is not tagged, and its row has a
    problem that says so. Detectors for crops need torch and transformers.

    Args:
        folder: what `scripts/export.py` has written.
        relation_extractor (`ExportedRelationPipeline`, *optional*): finds the relations between the entities.
        backend, precision, num_threads: as of [`Graph`]; the precision is by default the one of the export.
        batch_size: rows a batch, where a call does not say.
        **options: `on_error`, `crops`, `threshold`, ... of [`IFAformerPipeline`], for all calls.

    Raises:
        ValueError: for a folder that holds no exported model, or one of the other task.
        TypeError: for a relation extractor that is none.
        ImportError: where neither onnxruntime nor OpenVINO is installed.
    """

    task = "ner"

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        relation_extractor: Any = None,
        backend: str | None = None,
        precision: str | None = None,
        num_threads: int | None = None,
        batch_size: int = 1,
        **options: Any,
    ):
        check_at_least_one(batch_size=batch_size)
        self.folder, facts = Path(folder), read_facts(folder)
        self.name_or_path = os.fspath(folder)
        if facts["task"] != self.task:
            raise ValueError(f"{folder} is a model of the task {facts['task']}, and {self.task} is expected here.")
        self.batch_size = batch_size
        self.processor = ExportedProcessor(self.folder, facts)
        self.config = SimpleNamespace(**facts["model"])
        self.take_extractor(relation_extractor, self.processor)
        self.graph = Graph(self.folder, facts["inputs"], backend, precision or facts["precision"], num_threads)
        self.crf = LinearChain.of(facts["crf"]) if "crf" in facts else None
        self.proposer = ObjectProposer()
        self._preprocess_params, self._forward_params, self._postprocess_params = self._sanitize_parameters(**options)

    def answer(self, rows: Any, batch_size: int | None = None, num_workers: int | None = None, **options: Any) -> Any:
        """Pictures are read in this process, whatever `num_workers` says."""
        check_at_least_one(batch_size=batch_size)
        given = zip(
            (self._preprocess_params, self._forward_params, self._postprocess_params),
            self._sanitize_parameters(**options),
            strict=True,
        )
        of_rows, of_model, of_results = ({**ours, **theirs} for ours, theirs in given)
        proposals, kinds = self._proposal_options(of_model)
        read = partial(self.preprocess, proposed_kinds=kinds, **of_rows)
        run = partial(self._run, options=proposals, forward_params=of_model, postprocess_params=of_results)
        if not isinstance(rows, NumberedRows | Iterator):
            return run([read(rows)])[0]  # type: ignore[call-arg]
        self.check_crops_of_many(of_rows)
        return LazyResults(_Batches(rows, read, batch_size or self.batch_size), run, rows)

    def read(self, rows: Sequence[Any]) -> tuple[list[PipelineRow], dict[str, Any]]:
        """The rows that the model can be asked of, and their batch with pixels normalised."""
        read = [self.preprocess(row, on_error="report") for row in rows]
        asked = [row for row in read if row.tokens is not None]
        batch = self.batch_of([row.features for row in asked]) if asked else {}
        return asked, self.processor.data_collator.normalized(batch)

    def batch_of(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        return replace(self.processor.data_collator, normalize_pixels=False).arrays(features)

    def forward(self, batch: dict[str, Any], **options: Any) -> dict[str, Any]:
        rows, inputs = batch["rows"], batch["inputs"]
        if inputs is None:
            return {"rows": rows, "answers": []}
        inputs = self.processor.data_collator.normalized(inputs)
        asked = [row for row in rows if row.tokens is not None]
        return {"rows": rows, "answers": self._answers(asked, inputs, self.graph(inputs))}

    def _answers(self, rows: list[PipelineRow], inputs: dict[str, Any], logits: np.ndarray) -> list:
        assert self.crf is not None
        crf_mask = inputs["crf_mask"]
        tag_ids = self.crf.best_tags(logits, crf_mask)
        marginals = self.crf.marginals(logits, crf_mask)
        scores = np.take_along_axis(marginals, tag_ids.clip(min=0)[:, :, None], axis=2)[:, :, 0]
        return self.entities(rows, tag_ids, scores, self.crf.log_likelihood(logits, tag_ids, crf_mask), crf_mask)


class ExportedRelationPipeline(BaseRelationPipeline, ExportedPipeline):
    """
    The pipeline for relations of an exported model, which is called as [`IFAformerRelationPipeline`] is, and gives the
    same. Its arguments are those of [`ExportedPipeline`].
    """

    task = "re"

    def _answers(self, rows: list[PipelineRow], inputs: dict[str, Any], logits: np.ndarray) -> list:
        return self.relations(rows, logits)


class _Batches:
    """Rows, read as they come, in lists of `size`."""

    def __init__(self, rows: Any, read: Callable[..., PipelineRow], size: int):
        self.rows, self.read, self.size = rows, read, size

    def __iter__(self) -> Iterator[list[PipelineRow]]:
        rows, batch = self.rows, []
        numbered = map(rows.__getitem__, range(len(rows))) if isinstance(rows, NumberedRows) else enumerate(rows)
        for number, row in numbered:
            batch.append(self.read(row, number=number))
            if len(batch) == self.size:
                yield batch
                batch = []
        if batch:
            yield batch


def is_exported(folder: str | os.PathLike) -> bool:
    """Whether a folder holds an exported model."""
    return Path(folder, FACTS_FILE).is_file()


def read_facts(folder: str | os.PathLike) -> dict[str, Any]:
    """What an export noted of its model. A folder without it is a ValueError."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: there is no such folder. Name one that scripts/export.py has written.")
    if not is_exported(folder):
        raise ValueError(f"{folder} holds no exported model: there is no {FACTS_FILE}, which export.py writes.")
    return json.loads(Path(folder, FACTS_FILE).read_bytes())


def load_exported(
    folder: str | os.PathLike, relation_model: str | os.PathLike | None = None, **options: Any
) -> ExportedPipeline:
    """
    The pipeline of an exported model of either task.

    Args:
        folder: what `scripts/export.py` has written.
        relation_model: the folder of an exported relation model that finds relations between the entities.
        **options: of [`ExportedPipeline`].

    Raises:
        ValueError, TypeError, ImportError: as [`ExportedPipeline`].
    """
    graph_options = {name: options[name] for name in ("backend", "precision", "num_threads") if name in options}
    if relation_model is not None:
        options["relation_extractor"] = ExportedRelationPipeline(relation_model, **graph_options)
    pipeline_class = ExportedRelationPipeline if read_facts(folder)["task"] == "re" else ExportedPipeline
    return pipeline_class(folder, **options)
