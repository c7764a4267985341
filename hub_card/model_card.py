"""The card of a trained model, made of what its run recorded."""

import importlib.resources
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .figures import confusion_matrix, training_curve
from .markdown import counts_table, markdown_table, table_cell
from .model_facts import (
    ACCURACY,
    CURVE,
    MATRIX,
    METRICS,
    RELATIONS,
    ModelFacts,
    dataset_name,
    is_given,
)


# Name in the card -> key of the `TrainingArguments`, in the order of the card.
TRAINING = {
    "epochs": "num_train_epochs",
    "batch size on a device": "per_device_train_batch_size",
    "batches a step": "gradient_accumulation_steps",
    "optimizer": "optim",
    "learning rate": "learning_rate",
    "learning rate of the text tower": "text_learning_rate",
    "learning rate of the vision tower": "vision_learning_rate",
    "learning rate of the head": "head_learning_rate",
    "schedule": "lr_scheduler_type",
    "warm-up, in steps or as a share of them": "warmup_steps",
    "weight decay": "weight_decay",
    "gradients clipped at": "max_grad_norm",
}
DATA = {"share of masked training tokens": "mask_probability", "longest text in tokens": "max_seq_length"}


def model_card(facts: ModelFacts) -> ModelCard:
    """
    The card; it refers to the pictures of `facts.figures`, which `save_model_card` draws.

    Raises:
        KeyError: for scores without precision, recall, F1 or support.
        ValueError: for confusion counts of a wrong shape.
    """
    task, known, figures, scores = facts.task, facts.known_dataset, facts.figures, facts.scores
    name = dataset_name(facts.dataset_id or facts.dataset)
    dataset_type = facts.dataset if known else re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
    metrics = METRICS | (ACCURACY if task is RELATIONS else {})
    results = [
        EvalResult(
            task_type=task.hub_task,
            task_name=task.name,
            dataset_type=facts.dataset_id or str(dataset_type),
            dataset_name=name,
            dataset_split=split,
            metric_type=metric,
            metric_name=metric_name,
            metric_value=round(of[metric], 4),
        )
        for split, of in scores.items()
        for metric, metric_name in metrics.items()
    ]
    data = ModelCardData(
        language=[*facts.language] or ([known.language] if known else None),
        license=facts.license,
        library_name="transformers",
        pipeline_tag=task.hub_task,
        tags=["ifaformer", "multimodal", task.tag],
        base_model=facts.base_models or None,
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=list(metrics) if scores else None,
        model_name=facts.heading if scores else None,
        eval_results=results or None,
    )
    template = importlib.resources.files(__package__) / "model_card_template.md"
    return ModelCard.from_template(
        data,
        template_str=template.read_text(encoding="utf-8"),
        title=facts.heading,
        is_relation=task is RELATIONS,
        description=facts.description.strip(),
        model=_bullets(_model(facts)),
        repo_id=facts.repository,
        has_crops=facts.config.get("num_aux_crops", 0) > 0,
        results="\n\n".join([*(_results(split, of, task.counted) for split, of in scores.items()), *_spread(facts)]),
        matrix=MATRIX if MATRIX in figures else None,
        matrix_split=facts.confusion and facts.confusion[0],
        data=_data(facts),
        training=_bullets(_training(facts)),
        curve=CURVE if CURVE in figures else None,
        limits=_bullets(("", line) for line in _limits(facts)),
    )


def save_model_card(facts: ModelFacts, folder: str | os.PathLike) -> Path:
    """Write `README.md` and its pictures into the folder of a saved model; the path of the former."""
    path = Path(folder) / "README.md"
    if CURVE in facts.figures:
        (path.parent / CURVE).write_bytes(training_curve(facts.log_history, facts.kept_epoch))
    if facts.confusion is not None:
        (path.parent / MATRIX).write_bytes(confusion_matrix(facts.confusion[1]))
    path.write_text(str(model_card(facts)), encoding="utf-8")
    return path


def _model(facts: ModelFacts) -> list[tuple[str, Any]]:
    config, options = facts.config, facts.options("model")
    lines: list[tuple[str, Any]] = [(facts.task.answers, ", ".join(facts.types))]
    for tower in ("text", "vision"):
        of = config.get(f"{tower}_config")
        if not of:
            continue
        start = options.get(f"{tower}_model")
        # of a folder, whose place is nobody's business, the name
        name = start if start is None or start in facts.base_models else PurePath(start).name
        origin = f", from `{name}`" if name else ", freshly initialised" if f"{tower}_model" in options else ""
        size = f"{of['num_hidden_layers']} layers, {of['hidden_size']} wide"
        if tower == "vision":
            size += f", pictures of {of['image_size']} pixels in patches of {of['patch_size']}"
        lines.append((f"{tower} tower", f"`{of['model_type']}`, {size}{origin}"))
    looked_at = ["the whole picture"] if config.get("use_whole_image") else []
    for kind, by in (("aux", "visual grounding"), ("rcnn", "a detector")):
        if config.get(f"num_{kind}_crops"):
            size = f"{config[f'num_{kind}_crops']} crops by {by}, {config[f'{kind}_crop_size']} pixels each"
            looked_at.append(f"at most {size}")
    if config.get("text_attends_vision") is False:
        lines.append(("looks at", "the text alone: in this ablation the picture has no effect"))
    else:
        lines.append(("looks at", "; ".join(looked_at)))
        if config.get("vision_attends_text") is False:
            lines.append(("ablation", "the vision tower does not see the text"))
    num_parameters = facts.results.get("num_parameters") or facts.num_parameters
    return [
        *lines,
        ("attention", _shown("`{}`", config.get("attention_variant"))),
        ("labels", _shown("`{}`", config.get("label_scheme"))),
        ("parameters", _shown("{:,}", num_parameters)),
    ]


def _results(split: str, scores: Mapping[str, Any], answers: str) -> str:
    per_type = [(table_cell(name), of) for name, of in scores.get("per_type", {}).items()]
    rows = [
        [label, *(f"{100 * of[metric]:.1f}" for metric in METRICS), f"{of['support']:,}"]
        for label, of in [*per_type, ("**all**", scores)]
    ]
    table = markdown_table([split, *METRICS.values(), answers], rows)
    if "accuracy" in scores:
        unreadable = scores.get("unreadable_rows")
        among = f", {unreadable:,} without room for both entities among them" if unreadable else ""
        return f"{table}\n\nAccuracy over all rows{among}: {100 * scores['accuracy']:.1f}."
    if "unreachable_entities" not in scores:
        return table
    reached = f"{scores['unreachable_entities']:,} of {scores['support']:,}"
    return f"{table}\n\nEntities that no token reaches: {reached}."


def _spread(facts: ModelFacts) -> list[str]:
    """A table of means and deviations, if there are any."""
    spread, seeds = facts.get("spread"), facts.results.get("seeds") or ()
    if not spread:
        return []
    metrics = METRICS | (ACCURACY if all("accuracy" in of for of in spread.values()) else {})
    rows = [
        [split, *(f"{100 * of[metric]['mean']:.1f} ± {100 * of[metric]['std']:.1f}" for metric in metrics)]
        for split, of in spread.items()
    ]
    title = f"Mean and standard deviation of {len(seeds)} such runs, with the seeds {', '.join(map(str, seeds))}:"
    return [f"{title}\n\n{markdown_table(['', *metrics.values()], rows)}"]


def _data(facts: ModelFacts) -> str:
    paragraphs = []
    if facts.dataset or facts.dataset_id:
        name = dataset_name(facts.dataset_id or facts.dataset)
        if facts.dataset_id:
            name = f"[{name}](https://huggingface.co/datasets/{facts.dataset_id})"
        known = facts.known_dataset
        paragraphs.append(f"Trained on {name}. {known.description if known else ''}".strip())
    if facts.get("statistics"):
        paragraphs.append(counts_table(facts.get("statistics"), facts.task.counted))
    return "\n\n".join(paragraphs)


def _training(facts: ModelFacts) -> list[tuple[str, Any]]:
    training, hardware, results = facts.options("training"), facts.get("hardware"), facts.results
    options = {name: training.get(key) for name, key in TRAINING.items()}
    if training.get("max_steps", -1) > 0:
        options = {"steps": training["max_steps"], **options, "epochs": None}
    if all(is_given(options[name]) for name in options if name.startswith("learning rate of")):
        options["learning rate"] = None  # nothing has it
    if options["batches a step"] == 1:
        options["batches a step"] = None
    options["gradients clipped at"] = options["gradients clipped at"] or None  # 0 does not clip
    options |= {name: facts.options("data").get(key) or None for name, key in DATA.items()}
    kept = _shown("step {:,}", facts.best_step)
    if kept and facts.kept_epoch is not None:
        kept += f", epoch {facts.kept_epoch:g}"
    if kept and training.get("metric_for_best_model") == "f1":
        kept += ", the best by validation F1"
    device = hardware.get("device")
    if device and hardware.get("num_devices"):
        device = f"{hardware['num_devices']} x {device}"
    memory = [hardware.get(f"peak_{of}memory_bytes") for of in ("", "device_")]
    precision = results.get("mixed_precision")
    return [
        ("recipe", _shown("`{}`", results.get("recipe") and PurePath(results["recipe"]).name)),
        *options.items(),
        ("mixed precision", None if precision == "no" else precision),
        ("seed", results.get("seed")),
        ("kept", kept),
        ("device", device),
        ("processes", hardware.get("num_processes")),
        ("CPU cores", hardware.get("cpu_cores")),
        ("peak memory", _shown("{:.1f} GB", memory[0] and memory[0] / 1e9)),
        ("peak device memory", _shown("{:.1f} GB", memory[1] and memory[1] / 1e9)),
        ("training time", _duration(results.get("train_seconds"))),
        ("energy", _shown("{:,.1f} Wh", hardware.get("energy_watt_hours"))),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts.get("versions").items())),
        ("code", _shown("commit `{}`", results.get("git_commit"))),
    ]


def _limits(facts: ModelFacts) -> list[str]:
    known = facts.known_dataset
    unknown = "Other languages and other kinds of text than those of the training data were not measured."
    lines = [known.limits if known else unknown, *facts.task.limits]
    if any(facts.options("model").get(f"{tower}_model") for tower in ("text", "vision")):
        lines.append("The pretrained towers bring the biases of their own data.")
    if facts.results.get("seed") is not None and not facts.get("spread"):
        lines.append("The scores are of one run with one seed; their spread over seeds is not recorded.")
    return lines


def _bullets(lines: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(f"- {name}: {value}" if name else f"- {value}" for name, value in lines if is_given(value))


def _shown(text: str, value: Any) -> str | None:
    """The text with the value in it; None where there is none."""
    return None if value is None else text.format(value)


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
