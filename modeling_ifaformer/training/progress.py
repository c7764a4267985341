"""What the console shows of a training."""

from typing import Any

from transformers.trainer_callback import ProgressCallback, TrainerControl, TrainerState
from transformers.training_args import TrainingArguments


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
            shown = [f"{name} {100 * scores[name]:.2f}" for name in ("precision", "recall", "f1") if name in scores]
            shown += [f"loss {scores['loss']:.4g}"] if "loss" in scores else []
            self.training_bar.write(f"epoch {state.epoch:.4g}: validation {', '.join(shown)}")
