"""What the `Trainer` does besides for IFAformer, in training and in scoring."""

import math
import signal
from typing import Any

import torch
from run_folder import last_complete_checkpoint
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from processing import IFAformerProcessor


GO_ON = "run the same command with --resume_from_checkpoint true to go on from there"


class IFAformerTrainer(Trainer):
    """
    Features stay uint8 until they are on the device; evaluation gathers the tag ids alone; no checkpoint is written of
    weights that are no numbers.

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

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """
        Raises:
            FloatingPointError: for a training loss that is no number.
        """
        super().log(logs, *args, **kwargs)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(self._diverged(f"the loss is {logs['loss']}"))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """
        Raises:
            FloatingPointError: for weights that are no numbers.
            OSError: where the checkpoint cannot be written.
        """
        broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise FloatingPointError(self._diverged(f"{len(broken)} weights hold values that are no numbers"))
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError) as error:  # torch and safetensors report a full disk as RuntimeError
            raise OSError(
                f"The checkpoint of step {self.state.global_step} was not written: {error}. {self._last_good()} Free "
                f"space or restore {self.args.output_dir}, then {GO_ON}."
            ) from error

    def _diverged(self, what: str) -> str:
        return (
            f"Training has diverged at step {self.state.global_step}: {what}. {self._last_good()} Start again with "
            "lower learning rates, a longer warm-up (--warmup_steps) or gradient clipping (--max_grad_norm 1.0)."
        )

    def _last_good(self) -> str:
        last = last_complete_checkpoint(self.args.output_dir)
        return f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."


class StopOnTermination(TrainerCallback):
    """At SIGTERM (a node that is taken away) ends training after the step, with a checkpoint to resume from."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None  # set once there is one
        self.stopped = False
        self._received = False
        self._previous: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._previous = signal.signal(signal.SIGTERM, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self._received = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        assert self.trainer is not None
        accelerator = self.trainer.accelerator
        stop = self._received
        if accelerator.num_processes > 1:  # The signal reaches processes at different steps: all stop at one.
            if self._received:
                accelerator.set_trigger()
            stop = accelerator.check_trigger()
        if stop:
            self.stopped = True
            control.should_training_stop = control.should_save = True
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        signal.signal(signal.SIGTERM, self._previous)
