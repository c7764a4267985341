"""The pipelines with a clock at each of their stages."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from processing import IFAformerPipeline, IFAformerRelationPipeline


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
