"""Options of train.py: data, model and training."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy

from ifaformer_commands.data_options import DataSourceArguments
from processing.data.tasks import ANSWERS


def absolute_if_there(name: str | None) -> str | None:
    """A folder's absolute path, so that its record cannot be taken for a name on the Hub; else the name."""
    return str(Path(name).absolute()) if name and Path(name).exists() else name


@dataclass
class DataArguments(DataSourceArguments):
    preprocessing_num_workers: int | None = field(
        default=None, metadata={"help": "processes that prepare features; default: one"}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "cut texts at this many tokens; left out, at what the text tower can take"}
    )
    mask_probability: float = field(
        default=0.0, metadata={"help": "share of training tokens replaced by the mask token, as regularisation"}
    )


@dataclass
class ModelArguments:
    task: str = field(
        default="ner", metadata={"help": "entities (ner) or the relation of two (re)", "choices": list(ANSWERS)}
    )
    entity_markers: list[str] | None = field(
        default=None, metadata={"help": "four tokens around head and tail; default: <s> </s> <o> </o>"}
    )
    negative_relation: str | None = field(
        default=None, metadata={"help": "for relations: the one that says there is none; default: None, if it is one"}
    )
    text_model: str | None = field(
        default=None,
        metadata={"help": "BERT or RoBERTa checkpoint, Hub name or folder; left out or empty, the tower is fresh"},
    )
    vision_model: str | None = field(
        default=None, metadata={"help": "CLIP checkpoint, Hub name or folder; left out or empty, the tower is fresh"}
    )
    text_config: dict | str | None = field(
        default=None, metadata={"help": "JSON: configuration of a fresh text tower"}
    )
    vision_config: dict | str | None = field(
        default=None, metadata={"help": "JSON: configuration of a fresh vision tower"}
    )
    vocab_size: int = field(default=4000, metadata={"help": "of the tokenizer learnt for a fresh text tower"})
    attention_variant: str = field(
        default="corrected", metadata={"help": "as in the paper, or as published", "choices": ["corrected", "deepke"]}
    )
    label_scheme: str = field(
        default="word", metadata={"help": "first token of each word, or all tokens", "choices": ["word", "deepke"]}
    )
    text_attends_vision: bool = field(default=True, metadata={"help": "false: the text-only ablation"})
    vision_attends_text: bool = field(default=True, metadata={"help": "false: the vision tower sees no text"})
    use_whole_image: bool | None = field(default=None, metadata={"help": "default: yes, and no with deepke attention"})
    num_aux_crops: int = field(default=3, metadata={"help": "crops by visual grounding"})
    aux_crop_size: int = field(default=128, metadata={"help": "their size in pixels"})
    num_rcnn_crops: int = field(default=3, metadata={"help": "crops by a detector"})
    rcnn_crop_size: int = field(default=64, metadata={"help": "their size in pixels"})
    classifier_dropout: float | None = field(
        default=None, metadata={"help": "before the classifier; default 0.1, for relations 0.5"}
    )
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa or eager"})

    def __post_init__(self):
        for name in ("text", "vision"):
            config = getattr(self, f"{name}_config")
            if isinstance(config, str):
                setattr(self, f"{name}_config", json.loads(config))
            # an empty name on the command line overrides a recipe's
            model = getattr(self, f"{name}_model") or None
            setattr(self, f"{name}_model", absolute_if_there(model))


@dataclass
class IFAformerTrainingArguments(TrainingArguments):
    output_dir: str = "runs/ifaformer"
    text_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    vision_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "of the classifier, and of the CRF; default: learning_rate"}
    )
    decay_all: bool = field(
        default=False, metadata={"help": "weight decay on biases and LayerNorms too, as published"}
    )
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 1
    report_to: None | str | list[str] = field(  # noqa: RUF036  (the library's parser wants None first)
        default="tensorboard",
        metadata={"help": "where to log: tensorboard, wandb, none, ..., or several", "none_is_text": True},
    )
    hub_strategy: HubStrategy | str = field(
        default="end", metadata={"help": "end alone: the model is pushed with its card, when training has ended"}
    )
    # else the loss is logged as 0 where it is no number
    logging_nan_inf_filter: bool = False
    seeds: list[int] | None = field(
        default=None, metadata={"help": "a run with each of these seeds, and what they have in common"}
    )
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = "f1"
    # A crop kind that a batch lacks, and what reaches no output, get no gradient.
    ddp_find_unused_parameters: bool | None = True
    logging_steps: float = 20
    remove_unused_columns: bool = False
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "start anew where output_dir holds the checkpoints of an earlier run"}
    )

    def __post_init__(self):
        # accelerate's launcher does not pass `use_cpu` on to several processes, and without a backend each of them
        # would train by itself.
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (self.use_cpu or not torch.accelerator.is_available()):
            self.use_cpu = True
            self.ddp_backend = self.ddp_backend or "gloo"
        super().__post_init__()
