"""The pipeline that predict.py runs: of entities, of entities and the relations between them, or of relations."""

from dataclasses import fields
from typing import Any

from checkpoint import load_checkpoint
from prediction_arguments import PredictionArguments
from timed_pipeline import TimedPipeline, TimedRelationPipeline

from processing import IFAformerRelationPipeline
from processing.object_proposals import ProposalOptions


def load_tagger(arguments: PredictionArguments, default_device: Any) -> TimedPipeline:
    """
    Args:
        arguments: of which the models are checked.
        default_device: where no other is asked for.

    Raises:
        SystemExit: for a model that does not load, or does not fit what it is used for.
    """
    device = arguments.device or default_device
    model, processor = load_checkpoint(str(arguments.model), arguments.task)
    options = {option.name: getattr(arguments, option.name) for option in fields(ProposalOptions)}
    options |= {"crops": arguments.crops, "explain": arguments.explain}
    tagger_class = TimedRelationPipeline if arguments.task == "re" else TimedPipeline
    try:
        if arguments.relation_model is not None:
            extractor, its_processor = load_checkpoint(arguments.relation_model, "re")
            options["relation_extractor"] = IFAformerRelationPipeline(
                extractor, processor=its_processor, device=device
            )
        return tagger_class(model=model, processor=processor, device=device, **options)
    except ValueError as error:
        raise SystemExit(str(error)) from error
