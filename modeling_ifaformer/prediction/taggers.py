"""The pipelines with a clock at each of their stages."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from modeling_ifaformer.checkpoints.trained import load_checkpoint
from processing import IFAformerPipeline, IFAformerRelationPipeline
from processing.object_proposals import ProposalOptions

from .options import PredictionArguments


class TimedPipeline(IFAformerPipeline):
    """
    Attributes:
        seconds: of wall time so far, by stage: `process` (texts to tokens, pictures read and resized, batches made),
            `detect` (crops found and cut) and `tag` (the model, CRF, entities and relations). With `num_workers`, what
            the workers do is not in it.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self.seconds: Counter[str] = Counter()
        super().__init__(*args, **kwargs)

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start

    def preprocess(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock("process"):
            return super().preprocess(*args, **kwargs)

    def collate(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock("process"):
            return super().collate(*args, **kwargs)

    def _add_proposals(self, *args: Any, **kwargs: Any) -> None:
        with self.clock("detect"):
            super()._add_proposals(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock("tag"):
            return super().forward(*args, **kwargs)

    def postprocess(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock("tag"):
            return super().postprocess(*args, **kwargs)


class TimedRelationPipeline(TimedPipeline, IFAformerRelationPipeline):
    """The clocks around the stages of the pipeline for relations."""


def load_tagger(arguments: PredictionArguments, default_device: Any) -> TimedPipeline:
    """
    Args:
        arguments: of which the models are checked.
        default_device: where no other is asked for.

    Raises:
        SystemExit: for a model that does not load, or does not fit what it is used for.
    """
    device = arguments.device or default_device
    options = {option.name: getattr(arguments, option.name) for option in fields(ProposalOptions)}
    options |= {"crops": arguments.crops, "explain": arguments.explain}
    tagger_class = TimedRelationPipeline if arguments.task == "re" else TimedPipeline
    try:
        model, processor = load_checkpoint(str(arguments.model), arguments.task)
        if arguments.relation_model is not None:
            extractor, its_processor = load_checkpoint(arguments.relation_model, "re")
            options["relation_extractor"] = IFAformerRelationPipeline(
                extractor, processor=its_processor, device=device
            )
        return tagger_class(model=model, processor=processor, device=device, **options)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
