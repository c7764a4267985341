"""What the `Trainer` does besides for IFAformer, in training and in scoring."""

import math
from dataclasses import replace
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, Trainer
from transformers.training_args import TrainingArguments

from processing import IFAformerProcessor

from .run_folder import last_complete_checkpoint


# On a full disk torch raises the second, safetensors the third.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)

GO_ON = "run the same command with --resume_from_checkpoint true to go on from there"


class IFAformerTrainer(Trainer):
    """
    Features stay uint8 until they are on the device; evaluation gathers answers, no logits; each tower and the head
    have a learning rate; no checkpoint is written of weights that are no numbers.

    Args:
        mask_probability: share of training tokens replaced by the mask token. They are drawn here, in step with
            dropout, rather than where rows are read: a resumed run then draws what an uninterrupted one draws.
    """

    def __init__(self, *args: Any, processing_class: IFAformerProcessor, mask_probability: float = 0.0, **kwargs: Any):
        super().__init__(
            *args,
            processing_class=processing_class,
            data_collator=replace(processing_class.data_collator, normalize_pixels=False),
            preprocess_logits_for_metrics=_answers,
            **kwargs,
        )
        self.mask_probability = mask_probability

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = self.processing_class.normalize_pixels(super()._prepare_inputs(inputs))
        if self.mask_probability > 0 and self.model.training:
            inputs = self.processing_class.mask_tokens(inputs, self.mask_probability)
        return inputs

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            optimized = self.model if model is None else model
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, optimized)
            kwargs = {**kwargs, "params": parameter_groups(optimized, self.args)}
            self.optimizer_cls_and_kwargs = (optimizer_class, kwargs)
        return super().create_optimizer(model)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """
        Raises:
            FloatingPointError: for a training loss that is no number.
        """
        super().log(logs, *args, **kwargs)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(self._diverged(f"the loss is {logs['loss']}"))

    def check_weights(self) -> None:
        """
        Raises:
            FloatingPointError: for weights that are no numbers.
        """
        broken = [name for name, weight in self.model.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise FloatingPointError(self._diverged(f"{len(broken)} weights hold values that are no numbers"))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """
        Raises:
            FloatingPointError: for weights that are no numbers.
            OSError: where the checkpoint cannot be written.
        """
        self.check_weights()
        try:
            super()._save_checkpoint(model, trial)
        except WRITE_ERRORS as error:
            raise OSError(
                f"The checkpoint of step {self.state.global_step} was not written: {error}. {self._last_good()} Free "
                f"space or restore {self.args.output_dir}, then {GO_ON}."
            ) from error

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The state of the training, which makes a checkpoint whole, is written after that of every process.
        self.accelerator.wait_for_everyone()

    def _diverged(self, what: str) -> str:
        return (
            f"Training has diverged at step {self.state.global_step}: {what}. {self._last_good()} Start again with "
            "lower learning rates, a longer warm-up (--warmup_steps) or gradient clipping (--max_grad_norm 1.0)."
        )

    def _last_good(self) -> str:
        last = last_complete_checkpoint(self.args.output_dir)
        return f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."


def _answers(outputs: Any, labels: Any) -> torch.Tensor:
    """Of a model of entities the tag ids, of one of relations the relation ids."""
    return outputs[1] if isinstance(outputs, tuple) else outputs.argmax(dim=-1)


def parameter_groups(model: PreTrainedModel, arguments: TrainingArguments) -> list[dict]:
    """Text tower, vision tower and the rest (classifier and CRF), each with and without weight decay."""
    decayed = set(dict(model.named_parameters())) if arguments.decay_all else set(_decay_names(model))
    towers = {"text": model.ifaformer.text_model, "vision": model.ifaformer.vision_model}
    tower_of = {parameter: name for name, tower in towers.items() for parameter in tower.parameters()}
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        module, decay = tower_of.get(parameter, "head"), name in decayed
        learning_rate = getattr(arguments, f"{module}_learning_rate")
        group = groups.setdefault(
            (module, decay),
            {
                "params": [],
                "lr": arguments.learning_rate if learning_rate is None else learning_rate,
                "weight_decay": arguments.weight_decay if decay else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _decay_names(model) -> list[str]:
    # Trainer's own choice: everything but biases and norms
    return Trainer.get_decay_parameter_names(None, model)
