"""Training IFAformer: the Trainer and its arguments, and whole runs as `train.py` makes them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .arguments import IFAformerTrainingArguments


if TYPE_CHECKING:
    from .building import build_model, build_processor, check_adaptable, start_options
    from .planning import Run, plan_runs
    from .pushing import prepare_push
    from .runs import check_splits, runs_summary, train_runs
    from .search import Search
    from .stopping import TrainingStopped
    from .trainer import IFAformerTrainer

__all__ = [
    "IFAformerTrainer",
    "IFAformerTrainingArguments",
    "Run",
    "Search",
    "TrainingStopped",
    "build_model",
    "build_processor",
    "check_adaptable",
    "check_splits",
    "plan_runs",
    "prepare_push",
    "runs_summary",
    "start_options",
    "train_runs",
]

# The arguments alone, which `train.py --help` shows, need no second of imports; these are imported when asked for.
_LATER = ("trainer", "building", "search", "stopping", "pushing", "planning", "runs")


def __getattr__(name: str) -> Any:
    for module in _LATER if name in __all__ else ():
        names = vars(import_module(f".{module}", __name__))
        if name in names:
            return names[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
