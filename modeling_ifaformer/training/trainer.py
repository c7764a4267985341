"""The Trainer of IFAformer."""

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import Trainer
from transformers.trainer_callback import ProgressCallback, TrainerControl, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.training_args import TrainingArguments
from transformers.utils import logging

from modeling_ifaformer.checkpoints.adapters import adapter_weights, merge_adapters
from processing.collator import IFAformerDataCollator
from processing.jobs.checksums import CHECKSUMS, damaged_files, write_checksums
from processing.processing_ifaformer import IFAformerProcessor

from .arguments import check_arguments, noise_of
from .metrics import feature_metrics
from .noise import disagreement, first_half_twice, moved_along_gradient, with_noise
from .run_folder import GO_ON, checkpoints, is_whole, last_complete_checkpoint


logger = logging.get_logger(__name__)

# On a full disk torch raises the second, safetensors the third.
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class ScoreProgress(ProgressCallback):
    """A progress bar that prints a line for each evaluation; the losses between go to the logs alone."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        scores = {name.removeprefix("eval_"): value for name, value in (logs or {}).items() if "eval_" in name}
        if scores and self.training_bar is not None:
            names = {"precision": "precision", "recall": "recall", "f1": "F1"}
            shown = [f"{said} {100 * scores[name]:.2f}" for name, said in names.items() if name in scores]
            shown += [f"loss {scores['loss']:.4g}"] if "loss" in scores else []
            self.training_bar.write(f"epoch {state.epoch:.4g}: validation {', '.join(shown)}")


class IFAformerTrainer(Trainer):
    """
    A `Trainer` for IFAformer models, on features that `prepare_features` made.

    It does more than `Trainer`: pixels stay uint8 until they are on the device; evaluation gathers answers (tag or
    relation ids) in place of logits, and computes precision, recall and F1 of them; each tower, the fusion between
    them and the head can have a learning rate of its own; batches have noise, two readings of a tweet can be made to
    agree, and adversarial readings can be learnt too; a loss or weights that are no numbers end the training before a
    checkpoint is written of them.

    Args:
        processing_class: the processor of the model. Its collator makes the batches.
        *args, **kwargs: as for `Trainer`. Plain `TrainingArguments` will do; the learning rates, the noise, the
            `agreement` and the `adversarial_epsilon` of [`IFAformerTrainingArguments`] are used where they are given.

    Raises:
        ValueError: for arguments that do not suit the processor, see [`check_arguments`], for an `agreement` or an
            `adversarial_epsilon` with FSDP or DeepSpeed, and for the latter where not all word embeddings are trained.
        FloatingPointError: out of `train`, for a loss or weights that are no numbers.
        OSError: out of `train`, for a checkpoint that cannot be written, and where the disk has damaged all of them.
            In place of a damaged best one, the next best is kept, and a warning says so.
    """

    def __init__(self, *args: Any, processing_class: IFAformerProcessor, **kwargs: Any):
        ours: dict[str, Any] = {
            "processing_class": processing_class,
            "data_collator": _collator(processing_class),
            "compute_metrics": feature_metrics(processing_class),
            "preprocess_logits_for_metrics": answers_of_logits,
        }
        super().__init__(*args, **{**ours, **kwargs})
        check_arguments(self.args, processing_class)
        whole = {"agreement": self._agreement, "adversarial_epsilon": self._adversarial_epsilon}
        given = {name: value for name, value in whole.items() if value > 0}
        if given and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            told = " and ".join(f"{name} ({value:g})" for name, value in given.items())
            raise ValueError(
                f"With FSDP and DeepSpeed no process holds the whole model, and {told} cannot be used. Set it to 0."
            )
        self._check_words()
        context_dropout = noise_of(self.args, "context_dropout")
        if context_dropout > 0 and not getattr(processing_class, "max_context_length", None):
            logger.warning("context_dropout has no effect, since the processor has no max_context_length.")
        elif context_dropout > 0 and not getattr(self.data_collator, "keep_context_mask", False):
            logger.warning(
                "context_dropout has no effect, since the data_collator gives no context_mask. Leave data_collator "
                "out, or give the processor's with keep_context_mask=True."
            )
        self._normalized = processing_class.data_collator.normalized
        if not torch.accelerator.is_available():
            self.args.dataloader_pin_memory = False  # of which torch would warn at each epoch
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(ScoreProgress)

    @property
    def _agreement(self) -> float:
        return noise_of(self.args, "agreement")

    @property
    def _adversarial_epsilon(self) -> float:
        return noise_of(self.args, "adversarial_epsilon")

    def _word_embeddings(self) -> torch.nn.Parameter:
        model: Any = self.model
        return model.get_input_embeddings().weight

    def _check_words(self) -> None:
        """Raise ValueError for an `adversarial_epsilon` where not all word embeddings are trained."""
        words = self._word_embeddings() if self._adversarial_epsilon > 0 else None
        # With adapters, the embeddings of entity markers are trained alone, and the weight is computed of them.
        if words is not None and not (words.is_leaf and words.requires_grad):
            raise ValueError(
                f"adversarial_epsilon is {self._adversarial_epsilon:g}, and moves the embeddings of all words along "
                "their gradient, but not all of them are trained in this model, as with adapters (lora). Set it to 0, "
                "or leave the adapters out."
            )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns
        if "context_mask" not in columns:  # else the library takes it from the rows
            columns.append("context_mask")

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = self._normalized(super()._prepare_inputs(inputs))
        context_mask = inputs.pop("context_mask", None)  # No model takes it.
        if self.model.training:
            inputs = with_noise(inputs, self.args, self.processing_class, context_mask)
            if self._agreement > 0:
                inputs = first_half_twice(inputs)
        return inputs

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if self._adversarial_epsilon == 0:
            return super().training_step(model, inputs, *args, **kwargs)
        words = self._word_embeddings()
        # The direction is that of this batch in this process, without those before it that are accumulated.
        earlier, words.grad = words.grad, None
        with self.accelerator.no_sync(model):
            loss = super().training_step(model, inputs, *args, **kwargs)
        with moved_along_gradient(words, self._adversarial_epsilon):
            if earlier is not None and words.grad is not None:
                words.grad.add_(earlier)
            super().training_step(model, inputs, *args, **kwargs)
        return loss

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any) -> Any:  # type: ignore[override]
        if not (self._agreement > 0 and self.model.training):
            return super().compute_loss(model, inputs, return_outputs, **kwargs)
        crf_mask = inputs.get("crf_mask")
        loss, outputs = super().compute_loss(model, inputs, True, **kwargs)
        crf = getattr(self.accelerator.unwrap_model(model), "crf", None)
        loss = loss + self._agreement * disagreement(outputs.logits, crf_mask, crf)
        return (loss, outputs) if return_outputs else loss

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> torch.utils.data.DataLoader:
        loader: Any = super()._get_dataloader(*args, **kwargs)
        of_torch = getattr(loader, "base_dataloader", loader)  # accelerate's is around one of torch
        of_torch.worker_init_fn = partial(_outlive_signals, of_torch.worker_init_fn)
        return loader

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        self._check_words()  # of a trial, whose arguments came after the Trainer was made
        if self.optimizer is None:
            optimized: Any = self.model if model is None else model
            optimizer_class, kwargs = self.get_optimizer_cls_and_kwargs(self.args, optimized)
            kwargs = {**kwargs, "params": parameter_groups(optimized, self.args)}
            self.optimizer_cls_and_kwargs = (optimizer_class, kwargs)
        return super().create_optimizer(model)

    def create_scheduler(self, *args: Any, **kwargs: Any) -> torch.optim.lr_scheduler.LRScheduler:
        try:
            return super().create_scheduler(*args, **kwargs)
        except TypeError as error:
            if not self.args.lr_scheduler_kwargs:
                raise
            raise ValueError(
                f"lr_scheduler_kwargs are not those of the schedule {self.args.lr_scheduler_type}: {error}"
            ) from error

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:
            raise ValueError(
                f"Training cannot go on from {checkpoint}: its optimizer holds other weights than this model trains "
                f"({error}). Another version of the program has written it. Name another output_dir for a new run, "
                "which can start from the model of this one (model)."
            ) from error

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        super().log(logs, *args, **kwargs)
        if not math.isfinite(logs.get("loss", 0.0)):
            raise FloatingPointError(self._diverged(f"the loss is {logs['loss']}"))

    def check_weights(self) -> None:
        """Raise FloatingPointError for weights that are no numbers."""
        broken = [name for name, weight in self.model.named_parameters() if not torch.isfinite(weight).all()]
        if broken:
            raise FloatingPointError(self._diverged(f"{len(broken)} weights hold values that are no numbers"))

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.check_weights()
        folder = Path(self._get_output_dir(trial), f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        try:
            if self.args.should_save:
                (folder / CHECKSUMS).unlink(missing_ok=True)  # of a damaged one, whose place this one takes
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                write_checksums(folder)
        except WRITE_ERRORS as error:
            raise OSError(
                f"The checkpoint of step {self.state.global_step} was not written: {error}. {self._last_good()} Free "
                f"space or restore {self.args.output_dir}. {GO_ON}"
            ) from error

    def _load_best_model(self) -> None:
        best = str(self.state.best_model_checkpoint)
        damaged = damaged_files(Path(best))
        if damaged:
            told = f"the content of {', '.join(damaged)} in {best} is not what was written there"
            whole = [path for path in checkpoints(str(self.args.output_dir)) if is_whole(path)]
            others = [path for path in whole if not damaged_files(path)]
            if not others:
                raise OSError(
                    f"Training has ended, but no epoch can be used: {told}, and there is no other checkpoint. The "
                    "disk changes files, so train again on another one."
                )
            metric = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"
            sign = 1 if self.args.greater_is_better else -1
            scores = {entry["step"]: sign * entry[metric] for entry in self.state.log_history if metric in entry}
            next_best = max(others, key=lambda path: scores.get(int(path.name.rpartition("-")[2]), -math.inf))
            logger.warning(f"The best epoch cannot be used: {told}. The next best one, {next_best}, takes its place.")
            self.state.best_model_checkpoint = str(next_best)
        super()._load_best_model()

    def save_and_merge_adapters(self, folder: str | Path) -> None:
        """
        Save the adapters of peft alone, and go on with the model that they are merged into: in the place of the one
        with adapters it is evaluated and saved. `train` cannot be called afterwards.
        """
        adapted: Any = self.model
        if self.args.should_save:
            adapted.save_pretrained(str(folder))
            Path(folder, "README.md").unlink(missing_ok=True)  # A form to fill in; the run has a card.
        self.model = merge_adapters(adapted)
        # With the precision of the training, which accelerate gave to the model around it.
        self.model_wrapped = self.accelerator.prepare_model(self.model, evaluation_mode=True)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # A model of one file is written at once.
        try:
            super()._save(*args, **kwargs)
        finally:
            if shown:
                logging.enable_progress_bar()

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The state of the training, which makes a checkpoint whole, is written after that of every process.
        self.accelerator.wait_for_everyone()

    def _diverged(self, what: str) -> str:
        return (
            f"Training has diverged at step {self.state.global_step}: {what}. {self._last_good()} Start again with "
            "lower learning rates, a longer warm-up (warmup_steps) or gradient clipping (max_grad_norm 1.0)."
        )

    def _last_good(self) -> str:
        last = last_complete_checkpoint(str(self.args.output_dir))
        return f"The last good checkpoint is {last}." if last else "There is no checkpoint yet."


def _collator(processor: IFAformerProcessor) -> IFAformerDataCollator:
    """Pixels stay uint8 until they are on the device; where the processor reads contexts, their tokens are told."""
    collator = replace(processor.data_collator, normalize_pixels=False)
    collator.keep_context_mask = bool(getattr(processor, "max_context_length", None))
    return collator


def _outlive_signals(init: Callable[[int], None] | None, worker: int) -> None:
    """
    Begin as a worker that reads rows. A signal to all processes, as `timeout` and batch systems send it, must not end
    it: the training ends it, once its state is saved.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if init is not None:
        init(worker)


def answers_of_logits(outputs: Any, labels: Any) -> torch.Tensor:
    """The tag ids of a model for entities, the relation ids of one for relations."""
    return outputs[1] if isinstance(outputs, tuple) else outputs.argmax(dim=-1)


def parameter_groups(model: Any, arguments: TrainingArguments) -> list[dict[str, Any]]:
    """
    The trainable parameters for an optimizer, in at most ten groups: text tower, vision tower, the fusion between them
    that a baseline has, the matrices of adapters, and the rest (classifier and CRF), each with and without weight
    decay. The fusion has the learning rate of the text tower where it has none of its own.
    """
    if getattr(arguments, "decay_all", False):
        decayed = {name for name, _ in model.named_parameters()}
    else:
        # Everything but biases and norms. The library's method makes no use of its Trainer.
        decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    names = ("text", "vision", "fusion", "adapter", "head")
    rates = {part: getattr(arguments, f"{part}_learning_rate", None) for part in names}
    rates["fusion"] = rates["text"] if rates["fusion"] is None else rates["fusion"]
    parts = {"fusion": model.fusion(), **model.towers()}  # A tower may be in the fusion, and is then no part of it.
    part_of = {parameter: name for name, part in parts.items() if part is not None for parameter in part.parameters()}
    part_of |= dict.fromkeys(adapter_weights(model), "adapter")
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part, decay = part_of.get(parameter, "head"), name in decayed
        if (part, decay) not in groups:
            groups[part, decay] = {
                "params": [],
                "lr": arguments.learning_rate if rates[part] is None else rates[part],
                "weight_decay": arguments.weight_decay if decay else 0.0,
            }
        groups[part, decay]["params"].append(parameter)
    has_no_effect = all(rates[part] is not None for part, _ in groups)
    if has_no_effect and arguments.learning_rate != TrainingArguments.learning_rate:
        named = ", ".join(f"{part}_learning_rate" for part in dict.fromkeys(part for part, _ in groups))
        logger.warning(f"learning_rate ({arguments.learning_rate:g}) has no effect, since these are set: {named}.")
    return list(groups.values())
