"""The card of a trained model, made of what its run recorded."""

import os
import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from processing.jobs.atomic_files import replacing, write_text
from processing.rows.local_paths import without_folders

from .figures import confusion_matrix, training_curve
from .markdown import code, counts_table, plain
from .model_facts import CURVE, MATRIX, RELATIONS, ModelFacts, dataset_name, is_hub_name


def model_card(facts: ModelFacts) -> ModelCard:
    """
    The card; it refers to the pictures of `facts.figures`, which `save_model_card` draws.

    Raises:
        KeyError: for scores without precision, recall or F1.
        jinja2.TemplateError: for records that lack something else.
    """
    task, known, scores = facts.task, facts.known_dataset, facts.scores
    name = dataset_name(facts.dataset_id or facts.dataset)
    dataset_type = facts.dataset if known else re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
    results = [
        EvalResult(
            task_type=task.hub_task,
            task_name=facts.task_name.capitalize(),
            dataset_type=facts.dataset_id or str(dataset_type),
            dataset_name=name,
            dataset_split=split,
            metric_type=metric,
            metric_name=metric_name,
            metric_value=round(of[metric], 4),
        )
        for split, of in scores.items()
        for metric, metric_name in task.metrics.items()
    ]
    data = ModelCardData(
        language=[*facts.language] or (["en"] if known else None),
        license=facts.license,
        library_name="transformers",
        pipeline_tag=task.hub_task,
        tags=["ifaformer", *(["multimodal"] if facts.sees_pictures else []), task.tag],
        base_model=[name for name in dict.fromkeys(facts.towers.values()) if name and is_hub_name(name)] or None,
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=list(task.metrics) if scores else None,
        model_name=facts.heading if scores else None,
        eval_results=results or None,
    )
    return ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("model_card_template.md")),
        facts=facts,
        task=task,
        config=facts.config,
        is_relation=task is RELATIONS,
        dataset_name=name,
        without_folders=without_folders,
        counts_table=counts_table,
        plain=plain,
        code=code,
        curve=CURVE if CURVE in facts.figures else None,
        matrix=MATRIX if MATRIX in facts.figures else None,
    )


def save_model_card(facts: ModelFacts, folder: str | os.PathLike) -> Path:
    """
    Write `README.md` and its pictures into the folder of a saved model; the path of the former.

    Raises:
        KeyError, ValueError, jinja2.TemplateError: as [`model_card`] and [`confusion_matrix`].
    """
    path = Path(folder) / "README.md"
    if CURVE in facts.figures:
        with replacing(path.parent / CURVE) as file:
            file.write(training_curve(facts.get("log_history"), facts.kept_epoch))
    if facts.confusion is not None:
        with replacing(path.parent / MATRIX) as file:
            file.write(confusion_matrix(**facts.confusion[1]))
    write_text(str(model_card(facts)), path)
    return path
