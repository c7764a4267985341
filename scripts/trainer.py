"""What the `Trainer` does besides for IFAformer, in training and in scoring."""

import math
import shutil
import signal
from pathlib import Path
from typing import Any

import torch
from run_folder import last_complete_checkpoint
from transformers import PreTrainedModel, Trainer, TrainerCallback
from transformers.trainer_callback import TrainerControl, TrainerState
from transformers.training_args import TrainingArguments
from transformers.utils import logging

from processing import IFAformerProcessor


logger = logging.get_logger("train")


GO_ON = "run the same command with --resume_from_checkpoint true to go on from there"


class IFAformerTrainer(Trainer):
    """
    Features stay uint8 until they are on the device; evaluation gathers the tag ids alone; each tower and the head
    have a learning rate; no checkpoint is written of weights that are no numbers.

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
        self._reported: list[Any] = []  # pushes that failed

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

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: train.py writes the card, of what the run recorded."""

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        self.report_failed_pushes()
        # The library takes configuration and weights along, but not the code that they need.
        if self.is_world_process_zero():
            for code in Path(checkpoint_folder).glob("*.py"):
                shutil.copy(code, self.args.output_dir)
        super()._push_from_checkpoint(checkpoint_folder)

    def report_failed_pushes(self) -> None:
        """Warn of pushes during training that failed, of which the library says nothing."""
        pushes = getattr(self, "push_in_progress", None)
        for job in [] if pushes is None else pushes.jobs:
            if job.done() and job not in self._reported and job.exception() is not None:
                self._reported.append(job)
                logger.warning(f"A push during training failed, which goes on: {job.exception()}")

    def _diverged(self, what: str) -> str:
        return (
            f"Training has diverged at step {self.state.global_step}: {what}. {self._last_good()} Start again with "
            "lower learning rates, a longer warm-up (--warmup_steps) or gradient clipping (--max_grad_norm 1.0)."
        )

    def _last_good(self) -> str:
        last = last_complete_checkpoint(self.args.output_dir)
        return f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."


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


class StopAndSave(TrainerCallback):
    """
    Ends training after the step, with a checkpoint to resume from: at SIGTERM (a node that is taken away), and where
    the output folder is gone.

    Attributes:
        stopped: whether it did.
        folder_is_gone: whether that is why; known to the main process.
    """

    def __init__(self) -> None:
        self.trainer: Trainer | None = None  # set once there is one
        self.stopped = self.folder_is_gone = False
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
        self.folder_is_gone = state.is_world_process_zero and not Path(args.output_dir).is_dir()
        stop = self._received or self.folder_is_gone
        if accelerator.num_processes > 1:  # The signal reaches processes at different steps: all stop at one.
            if stop:
                accelerator.set_trigger()
            stop = accelerator.check_trigger()
        if stop:
            self.stopped = True
            control.should_training_stop = control.should_save = True
            control.should_log = control.should_evaluate = False  # logs may lie in the folder that is gone
        return control

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        signal.signal(signal.SIGTERM, self._previous)
