"""The card of a trained model, made of what its run recorded."""

import importlib.resources
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .figures import confusion_matrix, training_curve
from .markdown import markdown_table, table_cell
from .model_facts import (
    ACCURACY,
    CURVE,
    DATA,
    MATRIX,
    METRICS,
    RELATIONS,
    SOURCES,
    SPLITS,
    TRAINING,
    ModelFacts,
    Scores,
    _dataset_name,
    _is_given,
)


def model_card(facts: ModelFacts) -> ModelCard:
    """The card; it refers to the pictures of `facts.figures`, which `save_model_card` draws."""
    splits = [*(split for split in SPLITS if split in facts.scores), *sorted(set(facts.scores) - set(SPLITS))]
    dataset_name = _dataset_name(facts.dataset_id or facts.dataset)
    known = facts.dataset if facts.dataset in SOURCES else re.sub(r"[^\w.-]+", "-", dataset_name, flags=re.ASCII)
    dataset_type = facts.dataset_id or known
    task = facts.task
    metrics = METRICS | (ACCURACY if task is RELATIONS else {})
    data = ModelCardData(
        language=facts.language or None,
        license=facts.license,
        library_name="transformers",
        pipeline_tag=task.hub_task,
        tags=["ifaformer", "multimodal", task.tag],
        base_model=facts.base_models or None,
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=list(metrics) if splits else None,
        model_name=facts.title if splits else None,
        eval_results=[
            EvalResult(
                task_type=task.hub_task,
                task_name=task.name,
                dataset_type=dataset_type,
                dataset_name=dataset_name,
                dataset_split=split,
                metric_type=metric,
                metric_name=name,
                metric_value=round(getattr(facts.scores[split], metric), 4),
            )
            for split in splits
            for metric, name in metrics.items()
        ]
        or None,
    )
    template = importlib.resources.files(__package__) / "model_card_template.md"
    figures = facts.figures
    return ModelCard.from_template(
        data,
        template_str=template.read_text(encoding="utf-8"),
        title=facts.title,
        is_relation=task is RELATIONS,
        description=facts.description.strip(),
        model=_bullets(_model(facts)),
        repo_id=facts.repo_id,
        has_crops=facts.config.get("num_aux_crops", 0) > 0,
        results="\n\n".join(
            [*(_results(split, facts.scores[split], task.of_split) for split in splits), *_spread(facts)]
        ),
        matrix=MATRIX if MATRIX in figures else None,
        matrix_split=_matrix_split(facts) if MATRIX in figures else None,
        data=_data(facts),
        training=_bullets(_training(facts)),
        curve=CURVE if CURVE in figures else None,
        limits=_bullets([("", line) for line in _limits(facts)]),
    )


def save_model_card(facts: ModelFacts, folder: str | os.PathLike) -> Path:
    """Write `README.md` and its pictures into the folder of a saved model; the path of the former."""
    path = Path(folder) / "README.md"
    figures = facts.figures
    if CURVE in figures:
        (path.parent / CURVE).write_bytes(training_curve(facts.log_history, facts.kept_epoch))
    if MATRIX in figures:
        (path.parent / MATRIX).write_bytes(confusion_matrix(facts.confusion[_matrix_split(facts)]))
    path.write_text(str(model_card(facts)), encoding="utf-8")
    return path


def _matrix_split(facts: ModelFacts) -> str:
    return next((split for split in SPLITS if split in facts.confusion), next(iter(facts.confusion)))


def _model(facts: ModelFacts) -> list[tuple[str, Any]]:
    config, options = facts.config, facts.arguments.get("model", {})
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
    lines += [("attention", _code(config.get("attention_variant"))), ("labels", _code(config.get("label_scheme")))]
    lines.append(("parameters", _count(facts.num_parameters)))
    return lines


def _results(split: str, scores: Scores, answers: str) -> str:
    rows = [
        [label, *(f"{100 * getattr(of, metric):.1f}" for metric in METRICS), f"{of.support:,}"]
        for label, of in [*((table_cell(name), of) for name, of in scores.per_type.items()), ("**all**", scores)]
    ]
    table = markdown_table([split, *METRICS.values(), answers], rows)
    if scores.accuracy is not None:
        unreadable = ""
        if scores.unreadable_rows:
            unreadable = f", {scores.unreadable_rows:,} without room for both entities among them"
        return f"{table}\n\nAccuracy over all rows{unreadable}: {100 * scores.accuracy:.1f}."
    if scores.unreachable_entities is None:
        return table
    return f"{table}\n\nEntities that no token reaches: {scores.unreachable_entities:,} of {scores.support:,}."


def _spread(facts: ModelFacts) -> list[str]:
    """A table of means and deviations, if there are any."""
    if not facts.spread:
        return []
    metrics = METRICS | (ACCURACY if all("accuracy" in of for of in facts.spread.values()) else {})
    rows = [
        [split, *(f"{100 * of[metric]['mean']:.1f} ± {100 * of[metric]['std']:.1f}" for metric in metrics)]
        for split, of in facts.spread.items()
    ]
    seeds = ", ".join(map(str, facts.seeds))
    title = f"Mean and standard deviation of {len(facts.seeds)} such runs, with the seeds {seeds}:"
    return [f"{title}\n\n{markdown_table(['', *metrics.values()], rows)}"]


def _data(facts: ModelFacts) -> str:
    if facts.dataset is None and facts.dataset_id is None and not facts.statistics:
        return ""
    paragraphs = []
    source = SOURCES.get(facts.dataset or "")
    name = _dataset_name(facts.dataset_id or facts.dataset)
    if facts.dataset_id:
        name = f"[{name}](https://huggingface.co/datasets/{facts.dataset_id})"
    if facts.dataset or facts.dataset_id:
        paragraphs.append(f"Trained on {name}. {source.description if source else ''}".strip())
    if facts.statistics:
        key = facts.task.of_split
        names = sorted({name for of in facts.statistics.values() for name in of[key]})
        counts = [
            ("rows", [of["rows"] for of in facts.statistics.values()]),
            *((name, [of[key].get(name, 0) for of in facts.statistics.values()]) for name in names),
            ("rows without picture", [of["without_image"] for of in facts.statistics.values()]),
        ]
        rows = [[table_cell(name), *(f"{count:,}" for count in of)] for name, of in counts]
        paragraphs.append(markdown_table(["", *facts.statistics], rows))
    return "\n\n".join(paragraphs)


def _training(facts: ModelFacts) -> list[tuple[str, Any]]:
    training, hardware = facts.arguments.get("training", {}), facts.hardware
    options = {name: training.get(key) for name, key in TRAINING.items()}
    if training.get("max_steps", -1) > 0:
        options = {"steps": training["max_steps"], **options, "epochs": None}
    if all(map(_is_given, (options[name] for name in options if name.startswith("learning rate of")))):
        options["learning rate"] = None  # nothing has it
    if options["batches a step"] == 1:
        options["batches a step"] = None
    options["gradients clipped at"] = options["gradients clipped at"] or None  # 0 does not clip
    options |= {name: facts.arguments.get("data", {}).get(key) or None for name, key in DATA.items()}
    precision = None if facts.mixed_precision == "no" else facts.mixed_precision
    epoch = facts.kept_epoch
    kept = None if facts.best_step is None else f"step {facts.best_step:,}"
    if kept and epoch is not None:
        kept += f", epoch {epoch:g}"
    if kept and training.get("metric_for_best_model") == "f1":
        kept += ", the best by validation F1"
    device = hardware.device
    if device and hardware.num_devices:
        device = f"{hardware.num_devices} x {device}"
    return [
        ("recipe", _code(PurePath(facts.recipe).name if facts.recipe else None)),
        *options.items(),
        ("mixed precision", precision),
        ("seed", facts.seed),
        ("kept", kept),
        ("device", device),
        ("processes", hardware.num_processes),
        ("CPU cores", hardware.cpu_cores),
        ("peak memory", _gigabytes(hardware.peak_memory_bytes)),
        ("peak device memory", _gigabytes(hardware.peak_device_memory_bytes)),
        ("training time", _duration(facts.train_seconds)),
        ("energy", None if hardware.energy_watt_hours is None else f"{hardware.energy_watt_hours:,.1f} Wh"),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items()) or None),
        ("code", facts.git_commit and f"commit {_code(facts.git_commit)}"),
    ]


def _limits(facts: ModelFacts) -> list[str]:
    source = SOURCES.get(facts.dataset or "")
    lines = [
        source.limits
        if source
        else "Other languages and other kinds of text than it was trained on were not measured."
    ]
    lines += facts.task.limits
    if any(facts.arguments.get("model", {}).get(f"{tower}_model") for tower in ("text", "vision")):
        lines.append("The pretrained towers bring the biases of their own data.")
    if facts.seed is not None and not facts.spread:
        lines.append("The figures are of one run with one seed; their spread over seeds is not recorded.")
    return lines


def _bullets(lines: Sequence[tuple[str, Any]]) -> str:
    given = [(name, value) for name, value in lines if _is_given(value)]
    return "\n".join(f"- {name}: {value}" if name else f"- {value}" for name, value in given)


def _code(value: str | None) -> str | None:
    return None if value is None else f"`{value}`"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _gigabytes(value: int | None) -> str | None:
    return None if value is None else f"{value / 1e9:.1f} GB"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
