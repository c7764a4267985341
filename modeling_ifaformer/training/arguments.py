"""Training arguments for IFAformer."""

import math
import os
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from processing.problems import check_at_least_one


if TYPE_CHECKING:
    from processing.processing_ifaformer import IFAformerProcessor


# Arguments that are whole numbers of at least 1.
COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
# The largest value of each setting of noise, of the agreement and of adversarial readings; the least is 0, for none.
LIMITS = {
    "mask_probability": 1,
    "modality_dropout": 1,
    "context_dropout": 1,
    "swap_probability": 0.5,  # with more, the order of two entities would be told the other way round
    "agreement": math.inf,
    "adversarial_epsilon": math.inf,
}
# Arguments that are not below 0, or None.
RATES = ("learning_rate", *(f"{part}_learning_rate" for part in ("text", "vision", "head", "fusion", "adapter")))


@dataclass
class IFAformerTrainingArguments(TrainingArguments):
    """
    Training arguments for IFAformer.

    They are the library's, with a learning rate for each part of the model, with noise in the training batches, with
    the agreement of two readings, and with adversarial readings. By default the epoch with the best F1 on the
    validation split is kept.

    With an `agreement` above 0, the first half of each batch is read twice, with other dropout each time, and so many
    times the difference of the two answers is added to the loss. A step then takes 1.5 times as long. With an
    `adversarial_epsilon` above 0, each batch is learned once more, with other noise and with word embeddings that are
    moved by this length. The gradients of both are added before they are clipped, and the loss that is told is that of
    the first. A step takes twice as long, and with an `agreement` three times.

    Raises:
        ValueError: as `TrainingArguments`, for a batch without rows, for a learning rate, a number of epochs, a
            probability, an `agreement` or an `adversarial_epsilon` that cannot be, and for an unknown integration in
            `report_to` or one that is not installed.
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
            "help": "The learning rate of the layers between the towers, which baselines have, and IFAformer where "
            "its towers differ in width. By default it is that of the text tower."
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
    mask_probability: float = field(
        default=0.0, metadata={"help": "The share of training tokens that are masked, as regularisation."}
    )
    modality_dropout: float = field(
        default=0.0,
        metadata={
            "help": "The probability with which a tweet is learned without its whole picture, and, drawn apart, "
            "without its crops."
        },
    )
    context_dropout: float = field(
        default=0.0, metadata={"help": "The probability with which a tweet is learned without its context."}
    )
    swap_probability: float = field(
        default=0.0,
        metadata={
            "help": "The probability with which head and tail change places in a training pair without relation, at "
            "most 0.5. Give 0.5 where the model is to find the relations between the entities of a tagger."
        },
    )
    agreement: float = field(
        default=0.0,
        metadata={
            "help": "Read half of the tweets twice, and add the difference of the answers to the loss with this "
            "weight (R-Drop)."
        },
    )
    adversarial_epsilon: float = field(
        default=0.0,
        metadata={
            "help": "Learn each batch a second time, with word embeddings that are changed in the direction in which "
            "the loss grows fastest; this is the Euclidean length of the change of all of them together (FGM)."
        },
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "Go on with an earlier run: true from its last checkpoint, or the folder of a checkpoint. Without "
            "this, a run begins, and an output folder that holds another one is refused."
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
        # With a number of steps the library does not look at epochs.
        for name in (*COUNTS, *LIMITS, *RATES, *(["num_train_epochs"] if self.max_steps <= 0 else [])):
            check_value(name, getattr(self, name))
        for name in LIMITS:
            setattr(self, name, float(getattr(self, name)))  # The library gives values of a search the type of these.
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


def check_value(name: str, value: Any) -> None:
    """Raise ValueError for a value that the training argument of this name cannot have."""
    if name in COUNTS:
        check_at_least_one(**{name: value})
        return
    is_number = isinstance(value, Real) and math.isfinite(value)
    if name == "num_train_epochs" and not (is_number and value > 0):
        raise ValueError(f"{name} must be above 0, got {value!r}. Or give a number of steps (max_steps).")
    if name not in LIMITS and (name not in RATES or value is None):
        return
    largest = LIMITS.get(name, math.inf)
    if not (is_number and 0 <= value <= largest):
        between = "0 or more" if largest == math.inf else f"between 0 and {largest}"
        raise ValueError(f"{name} must be {between}, got {value!r}.")


def noise_of(arguments: TrainingArguments, name: str) -> float:
    """The value of one of the [`LIMITS`]; 0 of plain `TrainingArguments`, which have none of them."""
    return getattr(arguments, name, 0.0)


def check_arguments(arguments: TrainingArguments, processor: "IFAformerProcessor") -> None:
    """
    Check that training arguments suit a processor.

    Raises:
        ValueError: for `label_smoothing_factor` with an entity model; for `mask_probability` with a tokenizer that
            has no mask token; for `swap_probability` with an entity model, without a negative relation, and with the
            label scheme `deepke`.
    """
    if arguments.label_smoothing_factor and processor.relations is None:
        # The Trainer smooths the labels of single tokens, and would leave the loss of the CRF out.
        raise ValueError(
            f"label_smoothing_factor is {arguments.label_smoothing_factor}, but an entity model learns by the loss of "
            "its CRF, whose labels are whole sequences and cannot be smoothed so. Leave it at 0."
        )
    if noise_of(arguments, "mask_probability") > 0 and processor.tokenizer.mask_token_id is None:
        raise ValueError(
            "mask_probability puts the mask token in the place of words, and the tokenizer of this model has none. "
            "Set mask_probability to 0."
        )
    if noise_of(arguments, "swap_probability") == 0:
        return
    if processor.relations is None:
        raise ValueError("swap_probability is for models for relations, and this one finds entities. Set it to 0.")
    if processor.negative_relation is None:
        raise ValueError(
            "swap_probability is for pairs without relation, and the processor has no negative_relation. Name the "
            "relation that says that there is none, or set swap_probability to 0."
        )
    if processor.label_scheme == "deepke":  # With touching entities, its markers tell the order of the two.
        raise ValueError(
            "swap_probability does not work with the label scheme deepke, in which the order of two markers depends "
            "on which of them is the head's. Set it to 0, or take the label scheme word."
        )
