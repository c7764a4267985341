"""Training arguments for IFAformer."""

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from processing.problems import check_at_least_one


@dataclass
class IFAformerTrainingArguments(TrainingArguments):
    """
    Training arguments for IFAformer.

    They are the library's, with a learning rate for each part of the model. By default the epoch with the best F1 on
    the validation split is kept.

    Raises:
        ValueError: as `TrainingArguments`, for a batch without rows, and for an unknown integration in `report_to` or
            one that is not installed.
    """

    output_dir: str = field(
        default="runs/ifaformer",
        metadata={
            "help": "The folder of the run: its checkpoints, and at the end the model, its scores and its card."
        },
    )
    text_learning_rate: float | None = field(
        default=None, metadata={"help": "The learning rate of the text tower. By default it is learning_rate."}
    )
    vision_learning_rate: float | None = field(
        default=None, metadata={"help": "The learning rate of the vision tower. By default it is learning_rate."}
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={"help": "The learning rate of the classifier and of the CRF. By default it is learning_rate."},
    )
    fusion_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "The learning rate of the layers between the towers, which only baselines have. By default it is "
            "that of the text tower."
        },
    )
    adapter_learning_rate: float = field(
        default=1e-3,
        metadata={"help": "The learning rate of adapters (lora). What is trained beside them has that of its part."},
    )
    decay_all: bool = field(
        default=False,
        metadata={"help": "Whether biases and LayerNorms decay too, as in the published code (see weight_decay)."},
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Go on with an earlier run: true from its last checkpoint, or the folder of a checkpoint. By "
            "default a run begins anew."
        },
    )
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 1
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "f1"
    logging_steps: float = 20
    # With the filter, a loss that is no number would be logged as 0.
    logging_nan_inf_filter: bool = False
    report_to: None | str | list[str] = field(  # noqa: RUF036  (the library's parser wants None first)
        default="tensorboard",
        metadata={
            "help": "Where losses and scores are logged: tensorboard, wandb, none, or several of transformers' "
            "integrations."
        },
    )
    torch_compile_mode: str | None = field(
        default=None,
        metadata={
            "help": "Compile the model in this mode of torch.compile.",
            "choices": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
        },
    )
    hub_strategy: HubStrategy | str = field(
        default="end",
        metadata={"help": "When the model is pushed. Only `end` is possible: with its card, when training has ended."},
    )

    def __post_init__(self):
        # accelerate's launcher does not pass `use_cpu` on to several processes, and without a backend each of them
        # would train by itself.
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (self.use_cpu or not torch.accelerator.is_available()):
            self.use_cpu = True
            self.ddp_backend = self.ddp_backend or "gloo"
        numbers = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        check_at_least_one(**{name: getattr(self, name) for name in numbers})
        self.report_to = self.report_to or "none"  # A parser of options may read `none` as None.
        super().__post_init__()
        from transformers.integrations import integration_utils  # imported here, for --help does not need it

        integration_utils.get_reporting_integration_callbacks(self.report_to)  # raises a ValueError for an unknown one
        # The library's list leaves these two out, always or at times; the Trainer checks them itself.
        available = {*integration_utils.get_available_reporting_integrations(), "flyte", "azure_ml"}
        missing = set(self.report_to) - available
        if missing:
            raise ValueError(
                f"report_to names {', '.join(sorted(missing))}, which is not installed or too old. Install "
                "it, or name another integration or none."
            )
