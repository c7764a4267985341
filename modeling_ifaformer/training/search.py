"""Search for training options, through the Trainer's own `hyperparameter_search`."""

import json
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from transformers.integrations import is_optuna_available
from transformers.trainer_utils import SaveStrategy

from processing.jobs.atomic_files import write_json

from .arguments import IFAformerTrainingArguments
from .run_folder import TRIALS
from .trainer import IFAformerTrainer


SPACE = {
    "text_learning_rate": {"low": 1e-5, "high": 1e-4, "log": True},
    "vision_learning_rate": {"low": 1e-5, "high": 1e-4, "log": True},
    "head_learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}


@dataclass
class SearchArguments:
    search_trials: int = field(
        default=0,
        metadata={"help": "try this many settings and train with the best by validation F1; needs optuna"},
    )
    search_space: dict | str | None = field(
        default=None,
        metadata={
            "help": "JSON: training options to their choices, or to bounds; default: "
            '{"text_learning_rate": {"low": 1e-5, "high": 1e-4, "log": true}, ...}'
        },
    )

    def __post_init__(self):
        if isinstance(self.search_space, str):
            self.search_space = json.loads(self.search_space)

    def check(self) -> None:
        """
        Raises:
            ValueError: for a space that cannot be searched, or without optuna.
        """
        if self.search_trials < 0:
            raise ValueError(f"--search_trials must be 0 or more, got {self.search_trials}.")
        if self.search_trials == 0:
            if self.search_space is not None:
                raise ValueError("--search_space is of no use without --search_trials: give their number.")
            return
        if not is_optuna_available():
            raise ValueError("--search_trials needs optuna: pip install 'ifaformer[search]', or optuna itself.")
        known = {of.name for of in fields(IFAformerTrainingArguments)}
        for name, values in self.space.items():
            if name not in known:
                raise ValueError(f"--search_space: {name} is no training option, which alone can be searched.")
            if isinstance(values, dict):
                unknown = set(values) - {"low", "high", "log", "step"}
                if unknown or not {"low", "high"} <= set(values) or not values["low"] < values["high"]:
                    raise ValueError(
                        f"--search_space: {name} needs low < high, and may have log and step, got {values}."
                    )
            elif not isinstance(values, list) or not values:
                raise ValueError(f"--search_space: {name} needs a list of choices or low and high, got {values}.")

    @property
    def space(self) -> dict[str, Any]:
        return SPACE if self.search_space is None else self.search_space  # type: ignore[return-value]

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Values of one trial."""
        chosen = {}
        for name, values in self.space.items():
            if isinstance(values, list):
                chosen[name] = trial.suggest_categorical(name, values)
            elif isinstance(values["low"], int) and isinstance(values["high"], int):
                chosen[name] = trial.suggest_int(name, **values)
            else:
                chosen[name] = trial.suggest_float(name, **values)
        return chosen


def search(
    make_trainer: Callable[[IFAformerTrainingArguments], IFAformerTrainer],
    arguments: IFAformerTrainingArguments,
    search_arguments: SearchArguments,
) -> dict[str, Any]:
    """
    The best values. `OUTPUT_DIR/search.json` has all trials; they are kept as they end, so that a search which was
    stopped goes on.

    Args:
        make_trainer: of a trainer that makes its model anew for each trial.
        arguments: of all trials.
    """
    import optuna

    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{folder / TRIALS}"
    number = search_arguments.search_trials
    if arguments.process_index == 0:
        study = optuna.create_study(study_name="ifaformer", storage=storage, direction="maximize", load_if_exists=True)
        ended = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
        number -= len(ended)
    number = _same_everywhere(number, arguments)
    ended_trials = search_arguments.search_trials - number
    if number > 0:
        trial_arguments = copy(arguments)
        trial_arguments.save_strategy = SaveStrategy.NO
        trial_arguments.load_best_model_at_end = False
        trainer = make_trainer(trial_arguments)
        trainer.hyperparameter_search(
            hp_space=search_arguments.suggest,
            # the best epoch so far, as the run that follows keeps the best
            compute_objective=lambda metrics: max(
                entry["eval_f1"] for entry in trainer.state.log_history if "eval_f1" in entry
            ),
            n_trials=number,
            direction="maximize",
            backend="optuna",
            study_name="ifaformer",
            storage=storage,
            load_if_exists=True,
            # another one than those that have ended were drawn with
            sampler=optuna.samplers.TPESampler(seed=arguments.seed + ended_trials),
            pruner=optuna.pruners.NopPruner(),  # of several processes it would stop the main one alone
            # a trial that fails is recorded as such; of several processes, the others would not know
            catch=(torch.OutOfMemoryError, FloatingPointError) if arguments.world_size == 1 else (),
        )
    best: dict[str, Any] = {}
    if arguments.process_index == 0:
        study = optuna.load_study(study_name="ifaformer", storage=storage)
        if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials):
            raise SystemExit(
                f"None of the {len(study.trials)} trials came to an end: see their messages above, and narrow "
                "--search_space or the batch."
            )
        best = study.best_params
        record = {
            "objective": "f1 of the validation split, best epoch",
            "best": {"number": study.best_trial.number, "objective": study.best_value, "values": best},
            "trials": [
                {
                    "number": trial.number,
                    "objective": trial.value,
                    "values": trial.params,
                    "state": trial.state.name.lower(),
                    "seconds": None if trial.duration is None else trial.duration.total_seconds(),
                }
                for trial in study.trials
            ],
        }
        write_json(record, folder / "search.json")
    return _same_everywhere(best, arguments)


def _same_everywhere(value: Any, arguments: IFAformerTrainingArguments) -> Any:
    """The main process's value."""
    if arguments.world_size == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
