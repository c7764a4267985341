"""What is refused of the metadata at the head of a README.md: the client's own rules, types and known names."""

import pkgutil
import re
from typing import Any

import yaml
from huggingface_hub import DatasetCard, ModelCard, SpaceCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.inference._generated import types as tasks
from huggingface_hub.utils import validate_repo_id


CARDS = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}
TEXT = ("license", "library_name", "pipeline_tag", "pretty_name", "title", "emoji", "app_file", "short_description")
TEXTS = (
    *("language", "tags", "datasets", "base_model", "metrics"),
    *("task_categories", "task_ids", "size_categories", "multilinguality", "models"),
)
REPOSITORIES = ("datasets", "base_model", "models")
# https://huggingface.co/docs/hub/spaces-config-reference
SDKS = {"gradio", "docker", "static"}
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
TASKS = {module.name.replace("_", "-") for module in pkgutil.iter_modules(tasks.__path__)}
# https://github.com/huggingface/hub-docs/blob/main/modelcard.md
LICENSES = {"afl-3.0", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "mit", "other", "unknown"}


def problems(content: str, repo_type: str) -> list[str]:
    """A sentence for each field that is refused."""
    if repo_type not in CARDS:
        return [f'"repoType" must be one of {", ".join(CARDS)}']
    try:
        data: dict[str, Any] = CARDS[repo_type](content).data.to_dict()
    except (ValueError, yaml.YAMLError) as error:
        return [str(error)]
    found = []
    for field in TEXT:
        if field in data and not isinstance(data[field], str):
            found.append(f'"{field}" must be a string')
    for field in TEXTS:
        values = data.get(field, [])
        values = [values] if isinstance(values, str) else values
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            found.append(f'"{field}" must be a string or a list of strings')
        elif field in REPOSITORIES:
            found += [f'"{field}" names no repository: {value}' for value in values if not _is_repository(value)]
        elif field == "language":
            found += [f'"language" must hold ISO 639 codes: {value}' for value in values if not 2 <= len(value) <= 3]
        elif field == "task_categories":
            found += [f'"task_categories" must hold known tasks: {value}' for value in values if value not in TASKS]
    if data.get("pipeline_tag", "token-classification") not in TASKS:
        found.append(f'"pipeline_tag" must be one of {", ".join(sorted(TASKS))}')
    if data.get("license", "mit") not in LICENSES:
        found.append(f'"license" must be one of {", ".join(sorted(LICENSES))}')
    if repo_type == "space":
        found += _space_problems(data)
    for model in data.get("model-index", []):
        for result in model["results"]:
            if result["task"]["type"] not in TASKS:
                found.append(f'"model-index" has an unknown task: {result["task"]["type"]}')
            for metric in result["metrics"]:
                if not isinstance(metric["value"], int | float):
                    found.append(f'"model-index" has a value of {metric["type"]} that is no number')
    return found


def _space_problems(data: dict[str, Any]) -> list[str]:
    found = []
    if data.get("sdk") not in SDKS:
        found.append(f'"sdk" must be one of {", ".join(sorted(SDKS))}')
    for name in ("sdk_version", "python_version"):
        version = data.get(name, "1.0")
        if not isinstance(version, str) or not re.fullmatch(r"\d+(\.\d+){1,2}", version):
            found.append(f'"{name}" must be a version, as a string')
    for name in ("colorFrom", "colorTo"):
        if data.get(name, "gray") not in COLOURS:
            found.append(f'"{name}" must be one of {", ".join(sorted(COLOURS))}')
    if len(data.get("short_description", "")) > 60:
        found.append('"short_description" must have at most 60 characters')
    return found


def _is_repository(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True
