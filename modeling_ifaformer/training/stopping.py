"""Training that is stopped is saved, and goes on later."""

import json
import signal
import time
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments


class Stopped(Exception):
    """Training was stopped, and is saved."""


class StopAndSave(TrainerCallback):
    """
    Ends training with a checkpoint to resume from: at SIGTERM (a node that is taken away), at SIGINT (Ctrl-C; a second
    one stops at once), and where the output folder is gone. At the end of an epoch its evaluation comes first, which
    is not made up for later.

    Attributes:
        received: the signal, if that is why.
        folder_is_gone: whether that is why; known to the main process.

    Raises:
        Stopped: out of `Trainer.train`, which would otherwise go on to delete all checkpoints but the best.
    """

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.folder_is_gone = False
        self._stopping = False
        self.received: signal.Signals | None = None
        self._previous = {number: signal.signal(number, self._receive) for number in (signal.SIGTERM, signal.SIGINT)}

    def _receive(self, number: int, frame: Any) -> None:
        if number == self.received == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def restore_signals(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        accelerator = self.trainer.accelerator
        self.folder_is_gone = state.is_world_process_zero and not Path(args.output_dir).is_dir()
        self._stopping = self.received is not None or self.folder_is_gone
        if accelerator.num_processes > 1:  # The signal reaches processes at different steps: all stop at one.
            if self._stopping:
                accelerator.set_trigger()
            self._stopping = accelerator.check_trigger()
        if self.folder_is_gone:
            control.should_log = control.should_evaluate = False  # logs may lie in the folder that is gone
        if self._stopping:
            control.should_save = self.folder_is_gone or not float(state.epoch).is_integer()
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        control.should_save |= self._stopping
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        if self._stopping:
            raise Stopped
        return control


class Stopwatch(TrainerCallback, ExportableState):
    """
    Seconds of training, those before a kill included: checkpoints keep them.

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
        return self._before + time.monotonic() - self._start

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"seconds": self.seconds}}
