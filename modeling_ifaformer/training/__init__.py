"""Training IFAformer: the Trainer and its arguments, and whole runs as `train.py` makes them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .arguments import IFAformerTrainingArguments


if TYPE_CHECKING:
    from .building import build_model, build_processor
    from .pushing import prepare_push
    from .runs import Run, check_splits, plan_runs, runs_summary, train_runs
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
    "check_splits",
    "plan_runs",
    "prepare_push",
    "runs_summary",
    "train_runs",
]

# The arguments alone, which `train.py --help` shows, need no second of imports; these are imported when asked for.
_LATER = {
    "building": ("build_model", "build_processor"),
    "pushing": ("prepare_push",),
    "runs": ("Run", "check_splits", "plan_runs", "runs_summary", "train_runs"),
    "search": ("Search",),
    "stopping": ("TrainingStopped",),
    "trainer": ("IFAformerTrainer",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
