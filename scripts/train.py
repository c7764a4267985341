"""
Train IFAformer for named entity recognition.

    accelerate launch scripts/train.py scripts/recipes/demo.yaml
    accelerate launch scripts/train.py scripts/recipes/twitter2017.yaml --data_dir DIR --output_dir runs/twitter2017

Every option of a recipe is a flag too, and so is every `TrainingArguments` field; flags win. The best epoch by
validation F1 is kept and scored on the test split once. OUTPUT_DIR then holds model, processor, `results.json` and a
model card made of it.
"""

import json
import os
import platform
import resource
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
from data_arguments import DataSourceArguments, check_entities
from recipe import parse_arguments
from run_folder import checkpoint_to_resume, checkpoints, remove_incomplete_checkpoints
from trainer import GO_ON, IFAformerTrainer, StopOnTermination
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Trainer,
    TrainingArguments,
    set_seed,
)

from hub_card.model_card import ModelFacts, save_model_card
from modeling_ifaformer import IFAformerForTokenClassification
from processing import IFAformerProcessor
from processing.collator import PICTURE_COLUMNS
from processing.data import drop_tokenless, tag_names, word_labels
from processing.data_statistics import split_statistics
from processing.features import prepare_features
from processing.labels import label_maps
from processing.metrics import entity_confusion, entity_metrics, results_table
from processing.tokenizer_training import train_wordpiece


logger = transformers.utils.logging.get_logger("train")


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
    classifier_dropout: float | None = field(default=None, metadata={"help": "before the classifier; default 0.1"})
    attn_implementation: str | None = field(default=None, metadata={"help": "sdpa or eager"})

    def __post_init__(self):
        for name in ("text", "vision"):
            config = getattr(self, f"{name}_config")
            if isinstance(config, str):
                setattr(self, f"{name}_config", json.loads(config))
            # an empty name on the command line overrides a recipe's
            setattr(self, f"{name}_model", getattr(self, f"{name}_model") or None)


@dataclass
class IFAformerTrainingArguments(TrainingArguments):
    output_dir: str = "runs/ifaformer"
    text_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    vision_learning_rate: float | None = field(default=None, metadata={"help": "default: learning_rate"})
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "of the classifier and the CRF; default: learning_rate"}
    )
    decay_all: bool = field(
        default=False, metadata={"help": "weight decay on biases and LayerNorms too, as published"}
    )
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 1
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


def check_splits(data: datasets.DatasetDict, name: str) -> None:
    """
    Raises:
        SystemExit: for data without entities, or without a split that training needs.
    """
    missing = [split for split in ("train", "validation", "test") if not data.get(split)]
    if missing:
        raise SystemExit(
            f"{name} has no rows in {', '.join(missing)}; there are {', '.join(data)}. Training fits train, chooses "
            "the epoch on validation and scores test once: give a file for each."
        )
    check_entities(data, name)


def prepare_output_dir(arguments: IFAformerTrainingArguments) -> Path | None:
    """
    Remove half-written checkpoints, and with `overwrite_output_dir` all; the one to go on from.

    Raises:
        SystemExit: for a folder with an earlier run, where nothing was said of it.
    """
    try:
        resume = checkpoint_to_resume(
            arguments.output_dir, arguments.resume_from_checkpoint, arguments.overwrite_output_dir
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if arguments.process_index == 0:
        for path in remove_incomplete_checkpoints(arguments.output_dir):
            logger.warning(f"{path} was half-written and has been removed.")
        if resume is not None:
            print(f"Going on from {resume}.")
        elif arguments.resume_from_checkpoint:
            print(f"{arguments.output_dir} holds no whole checkpoint: starting at the beginning.")
        if resume is None:
            for path in checkpoints(arguments.output_dir):
                shutil.rmtree(path)
    return resume


def fit(trainer: IFAformerTrainer, resume: Path | None) -> dict[str, float]:
    """
    Train; the metrics of the training.

    Raises:
        SystemExit: where training cannot go on, with what to do; with status 143 where SIGTERM stopped it.
    """
    termination = StopOnTermination()
    termination.trainer = trainer
    trainer.add_callback(termination)
    try:
        training = trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    except (FloatingPointError, OSError) as error:
        raise SystemExit(str(error)) from error
    except torch.OutOfMemoryError as error:
        raise SystemExit(
            f"Out of memory: {error} Halve --per_device_train_batch_size and double --gradient_accumulation_steps, "
            f"which trains the same; {GO_ON}, if there is one."
        ) from error
    if termination.stopped:
        step = trainer.state.global_step
        trainer.accelerator.wait_for_everyone()
        trainer.end()
        if trainer.is_world_process_zero():
            print(f"Stopped by SIGTERM after step {step}, which is saved: {GO_ON}.")
        raise SystemExit(143)
    return training.metrics


def build_processor(
    data_arguments: DataArguments, model_arguments: ModelArguments, train_dataset: datasets.Dataset
) -> IFAformerProcessor:
    if model_arguments.text_model is None:
        words = (word for tokens in train_dataset["tokens"] for word in tokens)
        tokenizer = train_wordpiece(words, model_arguments.vocab_size)
    else:
        # RoBERTa's tokenizers take words only with it; BERT's do not know it
        tokenizer = AutoTokenizer.from_pretrained(model_arguments.text_model, add_prefix_space=True)
    if model_arguments.vision_model is None:
        size = CLIPVisionConfig(**(model_arguments.vision_config or {})).image_size
        image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )
    else:
        image_processor = AutoImageProcessor.from_pretrained(model_arguments.vision_model)
    deepke = model_arguments.attention_variant == "deepke"
    if deepke and data_arguments.max_seq_length is None:
        raise ValueError(
            "attention_variant deepke pads every batch to one length, on which its results depend: give "
            "--max_seq_length (40 in the published recipe)."
        )
    use_whole_image = model_arguments.use_whole_image
    return IFAformerProcessor(
        image_processor,
        tokenizer,
        label_scheme=model_arguments.label_scheme,
        tags=tag_names(train_dataset),
        max_length=data_arguments.max_seq_length,
        pad_to_max_length=deepke,
        num_aux_crops=model_arguments.num_aux_crops,
        aux_crop_size=model_arguments.aux_crop_size,
        num_rcnn_crops=model_arguments.num_rcnn_crops,
        rcnn_crop_size=model_arguments.rcnn_crop_size,
        use_whole_image=not deepke if use_whole_image is None else use_whole_image,
    )


def build_model(arguments: ModelArguments, processor: IFAformerProcessor) -> IFAformerForTokenClassification:
    text_config = arguments.text_config
    if arguments.text_model is None:
        tokenizer = processor.tokenizer
        text_config = {**(text_config or {}), "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    return IFAformerForTokenClassification.from_vision_text_pretrained(
        arguments.vision_model,
        arguments.text_model,
        text_config=text_config,
        vision_config=arguments.vision_config,
        attention_variant=arguments.attention_variant,
        label_scheme=arguments.label_scheme,
        text_attends_vision=arguments.text_attends_vision,
        vision_attends_text=arguments.vision_attends_text,
        use_whole_image=arguments.use_whole_image,
        num_aux_crops=arguments.num_aux_crops,
        aux_crop_size=arguments.aux_crop_size,
        num_rcnn_crops=arguments.num_rcnn_crops,
        rcnn_crop_size=arguments.rcnn_crop_size,
        classifier_dropout=arguments.classifier_dropout,
        attn_implementation=arguments.attn_implementation,
        **label_maps(processor.labels),
    )


def parameter_groups(model: IFAformerForTokenClassification, arguments: IFAformerTrainingArguments) -> list[dict]:
    """Text tower, vision tower and the rest (classifier and CRF), each with and without weight decay."""
    decayed = set(dict(model.named_parameters())) if arguments.decay_all else set(_decay_names(model))
    towers = {"text": model.ifaformer.text_model, "vision": model.ifaformer.vision_model}
    tower_of = {parameter: name for name, tower in towers.items() for parameter in tower.parameters()}
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        module, decay = tower_of.get(parameter, "head"), name in decayed
        learning_rate = getattr(arguments, f"{module}_learning_rate")
        group = groups.setdefault(
            (module, decay),
            {
                "params": [],
                "lr": arguments.learning_rate if learning_rate is None else learning_rate,
                "weight_decay": arguments.weight_decay if decay else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def _decay_names(model) -> list[str]:
    # Trainer's own choice: everything but biases and norms
    return Trainer.get_decay_parameter_names(None, model)


def hardware(arguments: TrainingArguments) -> dict[str, Any]:
    """What the run was made on, for the model card."""
    on_gpu = arguments.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "num_devices": arguments.world_size if on_gpu else None,
        "num_processes": arguments.world_size,
        "cpu_cores": os.cpu_count(),
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "peak_device_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def main() -> None:
    data_arguments, model_arguments, arguments, recipe = parse_arguments(
        DataArguments, ModelArguments, IFAformerTrainingArguments, description=__doc__
    )
    transformers.utils.logging.set_verbosity(arguments.get_process_log_level())
    set_seed(arguments.seed)
    with arguments.main_process_first(desc="looking for checkpoints"):
        resume = prepare_output_dir(arguments)

    # 1. Data
    with arguments.main_process_first(desc="preparing data"):
        data, report = data_arguments.load(model_arguments.num_aux_crops, model_arguments.num_rcnn_crops)
    if report and arguments.process_index == 0:
        print(report)
    check_splits(data, data_arguments.dataset)
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    if not model_arguments.text_attends_vision:
        data = data.remove_columns(list(PICTURE_COLUMNS))  # they reach no output

    # 2. Processor and model
    processor = build_processor(data_arguments, model_arguments, data["train"])
    model = build_model(model_arguments, processor)
    if processor.max_length is None:
        processor.max_length = model.ifaformer.text_model.max_length
    id2label = model.config.id2label

    # 3. Features of the rows the model can read, and their gold tags
    prepared, gold, encoded, tokenless = {}, {}, {}, {}
    for split, rows in data.items():
        rows, tokenless[split] = drop_tokenless(rows, processor)
        if tokenless[split]:
            logger.warning(f"{split}: {len(tokenless[split])} rows have no token and are not given to the model.")
        with arguments.main_process_first(desc="preparing features"):
            prepared[split] = prepare_features(
                rows,
                processor,
                cache_dir=data_arguments.cache_dir,
                num_proc=data_arguments.preprocessing_num_workers,
            )
        if split != "train":
            gold[split] = word_labels(rows)
            encoded[split] = processor.encode_text(rows["tokens"], is_split_into_words=True)

    def score(split: str, tag_ids) -> dict[str, Any]:
        return entity_metrics(tag_ids, encoded[split], gold[split], id2label, tokenless_labels=tokenless[split])

    # 4. Training
    optimizer_class, optimizer_kwargs = Trainer.get_optimizer_cls_and_kwargs(arguments, model)
    trainer = IFAformerTrainer(
        model=model,
        args=arguments,
        train_dataset=prepared["train"],
        eval_dataset=prepared["validation"],
        processing_class=processor,
        mask_probability=data_arguments.mask_probability,
        compute_metrics=lambda prediction: {
            name: value for name, value in score("validation", prediction.predictions).items() if name != "per_type"
        },
        optimizer_cls_and_kwargs=(
            optimizer_class,
            {**optimizer_kwargs, "params": parameter_groups(model, arguments)},
        ),
    )
    training_metrics = fit(trainer, resume)

    # 5. The best epoch on both splits, the test split once
    trainer.compute_metrics = None
    results: dict[str, Any] = {"confusion": {}}
    for split in ("validation", "test"):
        tag_ids = trainer.predict(prepared[split]).predictions
        results[split] = score(split, tag_ids)
        results["confusion"][split] = entity_confusion(
            tag_ids, encoded[split], gold[split], id2label, tokenless[split]
        )
    trainer.save_model()
    if trainer.is_world_process_zero():
        history = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
        results |= {
            "validation_f1_by_epoch": [entry["eval_f1"] for entry in history],
            "best_checkpoint": trainer.state.best_model_checkpoint,
            "log_history": trainer.state.log_history,
            "train_seconds": training_metrics["train_runtime"],
            "hardware": hardware(arguments),
            "num_parameters": model.num_parameters(),
            "statistics": statistics,
            "seed": arguments.seed,
            "recipe": recipe,
            "arguments": {
                "data": asdict(data_arguments),
                "model": asdict(model_arguments),
                "training": arguments.to_sanitized_dict(),
            },
            "versions": {
                module.__name__: module.__version__ for module in (torch, transformers, datasets, accelerate)
            },
        }
        path = Path(arguments.output_dir) / "results.json"
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        save_model_card(ModelFacts.from_run(results, model.config.to_dict()), arguments.output_dir)
        print(results_table({split: results[split] for split in ("validation", "test")}))
        print(f"Test entities that no token reaches: {results['test']['unreachable_entities']}. Written: {path}")
    trainer.accelerator.wait_for_everyone()
    trainer.end()


if __name__ == "__main__":
    main()
