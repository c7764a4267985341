"""Search for training options, with the Trainer's own `hyperparameter_search`."""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers.integrations import is_optuna_available
from transformers.trainer_utils import SaveStrategy

from processing.jobs.atomic_files import write_json

from .arguments import IFAformerTrainingArguments, check_value
from .run_folder import TRIALS
from .trainer import IFAformerTrainer


SPACE = {
    "text_learning_rate": {"low": 1e-5, "high": 1e-4, "log": True},
    "vision_learning_rate": {"low": 1e-5, "high": 1e-4, "log": True},
    "head_learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
}


@dataclass
class Search:
    """
    A search for the training options with the best F1 on the validation split.

    Args:
        trials: how many settings are tried, those of a search that was stopped included.
        space: fields of the training arguments, each with a list of choices or with bounds, as
            `{"low": 1e-5, "high": 1e-4, "log": True}`. Between bounds that are whole numbers, whole numbers are tried.
            By default, the learning rates of the towers and the head.

    Raises:
        ValueError: for a space that cannot be searched, and where optuna is not installed.
    """

    trials: int
    space: Mapping[str, Any] | None = None

    def __post_init__(self):
        self.space = SPACE if self.space is None else self.space
        if self.trials < 1:
            raise ValueError(f"The number of trials (search_trials) must be 1 or more, got {self.trials}.")
        if not is_optuna_available():
            raise ValueError("A search needs optuna. Install it with: pip install -e .[search]")
        known = {argument.name for argument in fields(IFAformerTrainingArguments)}
        for name, values in self.space.items():
            problem = f"search_space: {name} "
            if name not in known:
                raise ValueError(f"{problem}is no training option; only these can be searched.")
            if isinstance(values, Mapping):
                unknown = set(values) - {"low", "high", "log", "step"}
                low, high, step = (values.get(bound) for bound in ("low", "high", "step"))
                are_numbers = all(type(bound) in (int, float) for bound in (low, high, step or 1))
                if unknown or not are_numbers or low >= high or (values.get("log") and low <= 0):
                    raise ValueError(
                        f"{problem}needs numbers low < high, with log above 0, and may have log and step, got "
                        f"{dict(values)}."
                    )
            elif not isinstance(values, list) or not values or any(isinstance(value, list | dict) for value in values):
                raise ValueError(f"{problem}needs a list of choices, or low and high, got {values}.")
            for value in _choices_or_bounds(values):
                check_value(name, value)

    def at_most(self, arguments: IFAformerTrainingArguments) -> IFAformerTrainingArguments:
        """A copy of the arguments with the largest value of each number that is searched."""
        arguments = copy(arguments)
        for name, values in self.space.items():
            tried = _choices_or_bounds(values)
            if all(isinstance(value, int | float) for value in tried):
                setattr(arguments, name, max(tried))
        return arguments

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The options of one of optuna's trials."""
        chosen = {}
        for name, values in self.space.items():
            if isinstance(values, list):
                chosen[name] = trial.suggest_categorical(name, values)
            elif isinstance(values["low"], int) and isinstance(values["high"], int):
                chosen[name] = trial.suggest_int(name, **values)
            else:
                chosen[name] = trial.suggest_float(name, **values)
        return chosen


def _choices_or_bounds(values: Any) -> list[Any]:
    """What a space has for a field: the choices of a list, or the least and the largest value."""
    return [values["low"], values["high"]] if isinstance(values, Mapping) else values


def find_options(
    search: Search,
    make_trainer: Callable[[IFAformerTrainingArguments], IFAformerTrainer],
    arguments: IFAformerTrainingArguments,
) -> dict[str, Any]:
    """
    Train once for each trial, with evaluations and without checkpoints.

    Trials are kept in the output folder as they end, so that a search which was stopped goes on;
    `OUTPUT_DIR/search.json` shows them all.

    Args:
        make_trainer: makes a Trainer with a `model_init`, so that each trial begins with a new model.
        arguments: of all trials, but for what is searched.

    Returns:
        The options of the best trial.

    Raises:
        ValueError: where no trial came to its end.
    """
    import optuna

    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    study_name, storage = "ifaformer", f"sqlite:///{folder / TRIALS}"
    ended = 0
    if arguments.process_index == 0:
        study = optuna.create_study(study_name=study_name, storage=storage, direction="maximize", load_if_exists=True)
        ended = len(study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE]))
    ended = broadcast_object_list([ended])[0]
    if ended < search.trials:
        trial_arguments = copy(arguments)
        trial_arguments.save_strategy = SaveStrategy.NO
        trial_arguments.load_best_model_at_end = False
        trainer = make_trainer(trial_arguments)
        trainer.hyperparameter_search(
            hp_space=search.suggest,
            # The best epoch so far, as the run that follows keeps the best.
            compute_objective=lambda metrics: max(
                entry["eval_f1"] for entry in trainer.state.log_history if "eval_f1" in entry
            ),
            n_trials=search.trials - ended,
            direction="maximize",
            backend="optuna",
            study_name=study_name,
            storage=storage,
            load_if_exists=True,
            # The seed must not be that with which the trials that have ended were drawn.
            sampler=optuna.samplers.TPESampler(seed=arguments.seed + ended),
            pruner=optuna.pruners.NopPruner(),  # Of several processes another one would stop the main one alone.
            # A trial that fails is recorded as such. With several processes, the others would not know of it.
            catch=(torch.OutOfMemoryError, FloatingPointError) if arguments.world_size == 1 else (),
        )
    best: dict[str, Any] = {}
    if arguments.process_index == 0:
        study = optuna.load_study(study_name=study_name, storage=storage)
        if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials):
            raise ValueError(
                f"None of the {len(study.trials)} trials came to its end. Their messages are above. Narrow the search "
                "space (search_space) or make the batches smaller."
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
    return broadcast_object_list([best])[0]
