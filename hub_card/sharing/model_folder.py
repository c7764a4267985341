"""The folder of a model that is shared: what of it a user needs, and its card."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.tokenization_utils_base import (
    ADDED_TOKENS_FILE,
    FULL_TOKENIZER_FILE,
    SPECIAL_TOKENS_MAP_FILE,
    TOKENIZER_CONFIG_FILE,
)
from transformers.utils import (
    CONFIG_NAME,
    IMAGE_PROCESSOR_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
)

from hub_card.model_card import model_card
from hub_card.model_facts import CURVE, MATRIX, ModelFacts


def read_results(folder: Path) -> dict[str, Any]:
    """
    What `train.py` recorded; nothing where it did not write the folder.

    Raises:
        ValueError: for a file that is not of its making.
    """
    path = folder / "results.json"
    try:
        results = json.loads(path.read_bytes()) if path.exists() else {}
        ModelFacts.from_run(results, {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected what train.py records: {error!r}. Remove it to do without.") from error
    return results


def new_card(folder: Path, model: PreTrainedModel, arguments: Any, description: str) -> ModelFacts | None:
    """
    Facts for the model's card; None where the folder's README.md is its author's own.

    Raises:
        ValueError: for options that an own README.md leaves without effect, and a model that no card can be made of.
    """
    results, config = read_results(folder), model.config.to_dict()
    given = {
        "name": arguments.title,
        "license": arguments.license,
        "language": arguments.language or None,
        "dataset_id": arguments.dataset_id,
        "description": description or None,
    }
    facts = ModelFacts.from_run(
        {"num_parameters": model.num_parameters(), **results}, config, repo_id=arguments.repo_id, **given
    )
    readme = folder / CARD
    if readme.exists():
        # As train.py writes it, not knowing and knowing where the model goes; and as this command would.
        made = [ModelFacts.from_run(results, config), ModelFacts.from_run(results, config, repo_id=arguments.repo_id)]
        if not results or readme.read_text(encoding="utf-8") not in [str(model_card(of)) for of in [*made, facts]]:
            options = {"name": "title"}
            ignored = [f"--{options.get(name, name)}" for name, value in given.items() if value is not None]
            if ignored:
                raise ValueError(
                    f"{readme} is its author's own and is pushed as it is, without {', '.join(ignored)}: write that "
                    "into it and leave the options out, or remove it to have a card made."
                )
            return None
    elif type(model).__name__ == "IFAformerModel":
        raise ValueError(f"{folder}: a bare model has no task that a card could tell of: write {readme} yourself.")
    return facts


CARD = "README.md"


# Of BERT, RoBERTa, BERTweet and XLM-R, whose fast tokenizers write the first alone.
VOCABULARIES = (FULL_TOKENIZER_FILE, "vocab.txt", "vocab.json", "bpe.codes", "sentencepiece.bpe.model")


# What a push of a model replaces: these kinds of files of a former push go where the new one lacks them, nothing else.
# Code is not among them: a .py file may be its owner's, and one that nothing refers to does no harm.
STALE_MODEL_FILES = (
    SAFE_WEIGHTS_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    "model-?????-of-?????.safetensors",
    IMAGE_PROCESSOR_NAME,
    SPECIAL_TOKENS_MAP_FILE,
    ADDED_TOKENS_FILE,
    "merges.txt",
    *VOCABULARIES,
    CURVE,
    MATRIX,
)


def model_files(folder: Path) -> dict[str, Path]:
    """
    What a user of the model needs of a folder that `train.py`, `save_pretrained` of model and processor, or
    `convert_deepke_checkpoint.py` wrote, by path in the repository: configuration, weights, tokenizer, processor, the
    code that those refer to, and the card with its pictures.

    Checkpoints, state of the optimizer and the logs of a run are no use to them. Nor goes `results.json`: it holds
    paths of the machine that trained, and what it says of the model is on the card.

    Raises:
        ValueError: for a folder that lacks any of it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected the folder of a trained model, there is no such folder.")
    wanted = [CONFIG_NAME, PROCESSOR_NAME, TOKENIZER_CONFIG_FILE]
    optional = [IMAGE_PROCESSOR_NAME, SPECIAL_TOKENS_MAP_FILE, ADDED_TOKENS_FILE, "merges.txt", *VOCABULARIES, CARD]
    vocabularies = [name for name in VOCABULARIES if (folder / name).is_file()]
    wanted += vocabularies or VOCABULARIES[:1]
    if (folder / SAFE_WEIGHTS_INDEX_NAME).is_file() and not (folder / SAFE_WEIGHTS_NAME).is_file():
        shards = _read_json(folder / SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}).values()
        wanted += [SAFE_WEIGHTS_INDEX_NAME, *sorted(set(shards))]
    else:
        wanted.append(SAFE_WEIGHTS_NAME)
    wanted += _code_files(folder)
    if (folder / CARD).is_file():
        wanted += _pictures((folder / CARD).read_text(encoding="utf-8"))
    lacking = [name for name in dict.fromkeys(wanted) if not _is_inside(folder, name)]
    if lacking:
        raise ValueError(
            f"{folder} is no complete model: it lacks {', '.join(lacking)}. Model and processor saved there by "
            "save_pretrained, as train.py does, make it complete."
        )
    optional = [name for name in optional if (folder / name).is_file()]
    return {name: folder / name for name in sorted({*wanted, *optional})}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping, got {type(content).__name__}.")
    return content


def _code_files(folder: Path) -> Iterator[str]:
    """
    Python files without which the auto classes and `pipeline` cannot load the folder, and those they import; where
    one is not there, its name all the same.
    """
    configs = [_read_json(folder / name) for name in (CONFIG_NAME, PROCESSOR_NAME) if (folder / name).is_file()]
    references = [reference for config in configs for reference in config.get("auto_map", {}).values()]
    references += [task["impl"] for config in configs for task in config.get("custom_pipelines", {}).values()]
    if configs and not references:
        raise ValueError(
            f"{folder / CONFIG_NAME} names no code (auto_map), without which nobody can load the model. Load the "
            "folder with this project and save it again."
        )
    modules = {str(reference).rpartition(".")[0] for reference in references if "--" not in str(reference)}
    for module in sorted(modules):
        path = folder / f"{module}.py"
        yield path.name
        try:
            yield from (Path(other).name for other in get_relative_import_files(path))
        except FileNotFoundError as error:
            yield Path(error.filename).name


def _pictures(card: str) -> list[str]:
    """Paths of pictures that Markdown shows, those of other places aside."""
    links = re.findall(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)", card) + re.findall(r"<img[^>]*\ssrc=[\"']([^\"']+)", card)
    return [link for link in links if not re.match(r"[a-z][a-z+.-]*:|/|#", link, re.IGNORECASE)]


def _is_inside(folder: Path, name: str) -> bool:
    return (folder / name).is_file() and ".." not in Path(name).parts
