"""A training that is stopped saves its state, and goes on later."""

import json
import signal
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments

from .run_folder import GO_ON


class TrainingStopped(Exception):
    """
    Training was stopped, and its state is saved.

    Args:
        message: why, and how to go on.
        cause: the signal that stopped it; None where the output folder is gone.
    """

    def __init__(self, message: str, cause: signal.Signals | None):
        super().__init__(message)
        self.cause = cause


class StopAndSave(TrainerCallback):
    """
    A callback that ends training with a checkpoint to go on from: at SIGTERM (a machine that is taken away), at SIGINT
    (Ctrl-C; a second one stops at once), and where the output folder is gone. At the end of an epoch the evaluation of
    the epoch comes first, since a run that goes on does not make up for it.

    Args:
        trainer: the Trainer that it is a callback of. Signals are caught until [`restore_signals`] is called.

    Raises:
        TrainingStopped: out of `Trainer.train`, which would otherwise go on to delete all checkpoints but the best.
    """

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._folder_is_gone = False  # only the main process knows
        self._stopping = False
        self._received: signal.Signals | None = None
        self._previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}

    def _receive(self, number: int, frame: Any) -> None:
        if number == self._received == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signal.Signals(number)

    def restore_signals(self) -> None:
        """Give the signals back to those that handled them before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        accelerator = self._trainer.accelerator
        self._folder_is_gone = state.is_world_process_zero and not Path(str(args.output_dir)).is_dir()
        self._stopping = self._received is not None or self._folder_is_gone
        if accelerator.num_processes > 1:  # The signal reaches processes at different steps: all stop at one.
            if self._stopping:
                accelerator.set_trigger()
            self._stopping = accelerator.check_trigger()
        if self._folder_is_gone:
            control.should_log = control.should_evaluate = False  # The logs may lie in the folder that is gone.
        if self._stopping:
            control.should_save = self._folder_is_gone or not float(state.epoch).is_integer()
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        control.should_save |= self._stopping
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if not self._stopping:
            return control
        if self._folder_is_gone:
            raise TrainingStopped(
                f"{args.output_dir} is gone, with the checkpoints of this run. Was it removed, or its disk taken "
                f"away? The state of step {state.global_step} is saved in a new folder of that name. Put the old one "
                f"back if you can. {GO_ON}",
                None,
            )
        cause = self._received or signal.SIGTERM  # None where another process received it
        raise TrainingStopped(
            f"{cause.name} stopped the training after step {state.global_step}, whose state is saved. {GO_ON}", cause
        )


class Stopwatch(TrainerCallback, ExportableState):
    """
    A callback that counts the seconds of training, also those before a kill: checkpoints keep them.

    Args:
        resume: the checkpoint that training goes on from.
    """

    def __init__(self, resume: Path | None = None):
        self._start = time.monotonic()
        self._before = 0.0
        if resume is not None:
            state = json.loads((resume / TRAINER_STATE_NAME).read_bytes())
            kept = state["stateful_callbacks"].get(type(self).__name__, {"attributes": {"seconds": 0.0}})
            self._before = kept["attributes"]["seconds"]

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self._before + time.monotonic() - self._start

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"seconds": self.seconds}}
