"""What the `Trainer` does besides for IFAformer, in training and in scoring."""

from typing import Any

from transformers import Trainer

from processing import IFAformerProcessor


class IFAformerTrainer(Trainer):
    """Features stay uint8 until they are on the device; evaluation gathers the tag ids alone."""

    def __init__(self, *args: Any, processing_class: IFAformerProcessor, **kwargs: Any):
        super().__init__(
            *args,
            processing_class=processing_class,
            data_collator=processing_class.data_collator,
            preprocess_logits_for_metrics=lambda outputs, labels: outputs[1],  # the tag ids
            **kwargs,
        )

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self.processing_class.normalize_pixels(super()._prepare_inputs(inputs))
