"""What the `Trainer` does besides for IFAformer, in training and in scoring."""

from typing import Any

from transformers import Trainer

from processing import IFAformerProcessor


class IFAformerTrainer(Trainer):
    """
    Features stay uint8 until they are on the device; evaluation gathers the tag ids alone.

    Args:
        mask_probability: share of training tokens replaced by the mask token. They are drawn here, in step with
            dropout, rather than where rows are read: a resumed run then draws what an uninterrupted one draws.
    """

    def __init__(self, *args: Any, processing_class: IFAformerProcessor, mask_probability: float = 0.0, **kwargs: Any):
        super().__init__(
            *args,
            processing_class=processing_class,
            data_collator=processing_class.data_collator,
            preprocess_logits_for_metrics=lambda outputs, labels: outputs[1],  # the tag ids
            **kwargs,
        )
        self.mask_probability = mask_probability

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = self.processing_class.normalize_pixels(super()._prepare_inputs(inputs))
        if self.mask_probability > 0 and self.model.training:
            inputs = self.processing_class.mask_tokens(inputs, self.mask_probability)
        return inputs
