"""A model's result in the form in which the Hub collects those of a data set: `.eval_results/*.yaml`."""

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from .model_facts import RELATIONS, ModelFacts


FOLDER = ".eval_results"


def eval_results(facts: ModelFacts) -> dict[str, str]:
    """
    By path in the repository, the YAML of the F1 of the test split, a fraction of 1. Empty where the data are not on
    the Hub, or the split was not scored. `model-index` in the card has all scores.
    """
    scores, task = facts.scores.get("test"), facts.task
    if scores is None or facts.dataset_id is None:
        return {}
    counted = "relations but the negative one" if task is RELATIONS else "whole entities"
    entry = EvalResultEntry(
        dataset_id=facts.dataset_id,
        task_id=task.tag,
        value=round(scores["f1"], 4),
        notes=f"F1 on the test split, the micro average over all {counted}",
    )
    return {f"{FOLDER}/{task.tag}.yaml": yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)}
