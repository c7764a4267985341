"""Pipelines for bulk prediction: how one is loaded, what it finds, what decides this, and how long its stages take."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from datasets.fingerprint import Hasher

from modeling_ifaformer.checkpoints.trained import check_task, load_checkpoint, task_of
from processing import IFAformerPipeline, IFAformerRelationPipeline
from processing.base_pipeline import BasePipeline
from processing.exported import ExportedPipeline, is_exported, load_exported
from processing.jobs.digests import checkpoint_digest, digest, files_digest, tokenizer_digest
from processing.object_proposals import ObjectDetector, ProposalOptions


# The methods of a pipeline whose time is measured, and the stage that each is a part of.
STAGES = {"_add_proposals": "detect", "forward": "tag", "postprocess": "tag"}


def load_tagger(
    model: str, task: str | None = None, relation_model: str | None = None, device: Any = None, **options: Any
) -> BasePipeline:
    """
    The pipeline of a trained model, by its name on the Hub or its folder, or of an exported one.

    Args:
        task: `ner` or `re`, which the model must be for; None for any.
        relation_model: a relation model that finds the relations between the entities of `model`.
        device, **options: `crops`, `explain`, `threshold`, `aux_detector`, ... of [`IFAformerPipeline`].

    Raises:
        ValueError, OSError: for a model that does not load, is for another task, or does not fit the other one.
        TypeError: for a relation model beside another one.
        ImportError: for an exported model without a backend.
    """
    if is_exported(model):
        return _load_exported(model, task, relation_model, device, **options)
    if relation_model is not None and is_exported(relation_model):
        raise ValueError(f"{relation_model} is an exported model, so that {model} must be exported too.")
    loaded, processor = load_checkpoint(model, task)
    if relation_model is not None:
        extractor, its_processor = load_checkpoint(relation_model, "re")
        options["relation_extractor"] = IFAformerRelationPipeline(extractor, processor=its_processor, device=device)
    pipeline_class = IFAformerRelationPipeline if task_of(processor) == "re" else IFAformerPipeline
    return pipeline_class(loaded, processor=processor, device=device, **options)


def _load_exported(
    model: str, task: str | None, relation_model: str | None, device: Any, **options: Any
) -> ExportedPipeline:
    if device is not None and torch.device(device).type != "cpu":
        raise ValueError(f"{model} is an exported model, which runs on the CPU alone. Set the device to cpu.")
    if relation_model is not None and not is_exported(relation_model):
        raise ValueError(f"{model} is an exported model, so that {relation_model} must be exported too.")
    tagger = load_exported(model, relation_model, **options)
    check_task(model, tagger.task, task)
    return tagger


def found_by(tagger: BasePipeline) -> tuple[str, ...]:
    """What a pipeline finds, as [`PredictionReport`] names it: `entities`, `relations`, or both."""
    if task_of(tagger.processor) == "re":
        return ("relations",)
    return ("entities",) if tagger.relation_extractor is None else ("entities", "relations")


def tagger_settings(tagger: BasePipeline) -> dict[str, Any]:
    """
    All of a pipeline that decides its results: names and contents of its models, and the options that it was made
    with. `model_content`, `relation_model_content` and `detectors` are digests.
    """
    extractor = tagger.relation_extractor
    options = vars(ProposalOptions()) | {name: of for name, of in tagger._forward_params.items() if name != "explain"}
    detectors = ProposalOptions(**options).detectors
    names = {
        kind: of.model.name_or_path if isinstance(of, ObjectDetector) else str(of) for kind, of in detectors.items()
    }
    return {
        "task": task_of(tagger.processor),
        "model": tagger.name_or_path,
        "model_content": _content_of(tagger),
        "relation_model": extractor and extractor.name_or_path,
        "relation_model_content": extractor and _content_of(extractor),
        "relation_types": tagger._postprocess_params.get("relation_types"),
        "thresholds": tagger._postprocess_params.get("thresholds"),
        "crops": tagger._preprocess_params.get("crops", "auto"),
        "explain": tagger._forward_params.get("explain"),
        **options,
        **{f"{kind}_detector": name for kind, name in names.items()},
        "detectors": {kind: checkpoint_digest(name) for kind, name in names.items()},
    }


def _content_of(tagger: BasePipeline) -> str:
    """A digest of the model as it is in memory, which may have been trained since it was loaded, and its processor."""
    if isinstance(tagger, ExportedPipeline):
        files = sorted(str(path) for path in tagger.folder.iterdir() if path.is_file())
        return digest(files_digest(files), tagger.graph.backend)
    model = tagger.model  # type: ignore[attr-defined]  # of a pipeline of the library
    weights = {
        name: Hasher.hash_bytes([tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data])
        for name, tensor in model.state_dict().items()
    }
    return digest(
        model.config.to_json_string(),
        tagger.processor.to_json_string(),
        tokenizer_digest(tagger.processor.tokenizer),
        weights,
    )


@contextmanager
def stage_seconds(tagger: BasePipeline) -> Iterator[dict[str, float]]:
    """
    Seconds of wall time of two stages of a pipeline while this is open: `detect` (crops are found and cut) and `tag`
    (the model, the CRF, entities and relations).
    """
    seconds: dict[str, float] = defaultdict(float)

    def timed(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                seconds[stage] += time.perf_counter() - start

        return run

    for name, stage in STAGES.items():
        setattr(tagger, name, timed(getattr(tagger, name), stage))
    try:
        yield seconds
    finally:
        for name in STAGES:
            delattr(tagger, name)
