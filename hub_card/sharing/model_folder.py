"""The folder of a model that is shared: what of it a user needs, and its card."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

from hub_card.eval_results import FOLDER, eval_results
from hub_card.model_card import model_card, save_model_card
from hub_card.model_facts import CURVE, ENTITIES, MATRIX, RELATIONS, ModelFacts, is_hub_name

from .upload import CARD, upload


HANDLER = "handler.py"
# What Inference Endpoints look for beside a model, by the names there, and where it is here.
ENDPOINT_FILES = {HANDLER: "handler.py", "requirements.txt": "handler_requirements.txt"}


@dataclass(frozen=True)
class PushedModel:
    """The repository of a model that was pushed, and whether its README.md is its author's own, pushed as it is."""

    url: str
    has_own_card: bool


def push_model(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    title: str | None = None,
    license: str | None = None,
    language: Sequence[str] = (),
    dataset_id: str | None = None,
    description: str = "",
    num_parameters: int | None = None,
    space_id: str | None = None,
    private: bool = False,
    token: str | None = None,
) -> PushedModel:
    """
    Publish the folder of a trained model in one commit; the folder stays as it is.

    Its card is made of `results.json`, where training wrote one, and of the configuration. A README.md that its author
    wrote or changed is pushed instead. Beside it lie `handler.py` with its `requirements.txt`, by which Inference
    Endpoints serve the model, unless the folder has a `handler.py` of its own; and where the data are on the Hub, the
    test F1 in `.eval_results`, see [`eval_results`].

    Args:
        folder: of a model and its processor, as `train.py` or `save_pretrained` leave it.
        repo_id: name of the repository, `user/name`.
        title: heading of the card; by default the name of the repository.
        license: the Hub's identifier, `mit` for example.
        language: ISO 639-1 codes.
        dataset_id: name on the Hub of the data that the model was trained on.
        description: what the model is, in Markdown.
        num_parameters: of the model, for the card of one without `results.json`.
        space_id: name on the Hub of a Space in which the model can be tried, which the card links.
        private, token: as for [`upload`].

    Raises:
        ValueError: for a folder that holds no whole model, or whose card cannot be made; for a `space_id` that is no
            name of a repository.
        NotPushed: where the upload fails.
    """
    folder = Path(folder)
    if space_id is not None and not is_hub_name(space_id):
        raise ValueError(f"The Space is named as on the Hub, user/name, got {space_id!r}.")
    files: dict[Path, Iterable[str]] = {folder: model_files(folder)}
    results, config, readme = _read_results(folder), _read_json(folder / CONFIG_NAME), folder / CARD
    facts = ModelFacts(
        results, config, repo_id, title, license, language, dataset_id, description, num_parameters, space_id
    )
    told = ("title", "license", "language", "dataset_id", "description", "space_id")
    given = [name for name in told if getattr(facts, name)]
    has_own_card = readme.exists()
    if has_own_card and results:
        # As train.py writes it, not knowing and knowing where the model goes; and as this function would.
        made = [ModelFacts(results, config), ModelFacts(results, config, repo_id), facts]
        has_own_card = readme.read_text(encoding="utf-8") not in [str(model_card(of)) for of in made]
    if has_own_card and given:
        raise ValueError(
            f"{readme} is its author's own and is pushed as it is, so that {', '.join(given)} would have no effect. "
            "Write that into it and leave the options out, or remove it to have a card made."
        )
    if not has_own_card and config.get("architectures") == ["IFAformerModel"]:
        raise ValueError(f"{folder} holds a bare model, which has no task that a card could describe. Write {readme}.")
    with tempfile.TemporaryDirectory() as made_here:
        made_folder = Path(made_here)
        if not has_own_card:
            save_model_card(facts, made_folder)
        for name, text in eval_results(facts).items():
            (made_folder / name).parent.mkdir(exist_ok=True)
            (made_folder / name).write_text(text, encoding="utf-8")
        if (folder / HANDLER).is_file():
            files[folder] = [*files[folder], *(name for name in ENDPOINT_FILES if (folder / name).is_file())]
        else:
            for name, source in ENDPOINT_FILES.items():
                shutil.copyfile(Path(__file__).parents[1] / "serving" / source, made_folder / name)
        files[made_folder] = [
            path.relative_to(made_folder).as_posix() for path in made_folder.rglob("*") if path.is_file()
        ]
        message = f"Upload {facts.title or repo_id.split('/')[-1]}"
        url = upload(files, repo_id, "model", message=message, stale=STALE_MODEL_FILES, private=private, token=token)
    return PushedModel(url, has_own_card)


def _read_results(folder: Path) -> dict[str, Any]:
    """What `train.py` recorded; nothing where it did not write the folder. A ValueError tells of another file."""
    path = folder / "results.json"
    try:
        results = json.loads(path.read_bytes()) if path.exists() else {}
        model_card(ModelFacts(results))
    except Exception as error:  # the card finds in many ways what a wrong record lacks
        raise ValueError(f"{path}: expected what train.py records: {error!r}. Remove it to do without.") from error
    return results


# Of BERT, RoBERTa, BERTweet and XLM-R. Their fast tokenizers write only the first.
VOCABULARIES = (FULL_TOKENIZER_FILE, "vocab.txt", "vocab.json", "bpe.codes", "sentencepiece.bpe.model")
OPTIONAL = (IMAGE_PROCESSOR_NAME, SPECIAL_TOKENS_MAP_FILE, ADDED_TOKENS_FILE, "merges.txt", *VOCABULARIES)
# What training leaves of adapters beside the model that they are merged into, for `PeftModel`.
ADAPTER = ("adapter/adapter_config.json", "adapter/adapter_model.safetensors")
WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, "model-?????-of-?????.safetensors")
# Files of a former push that are deleted from the repository where the new push lacks them. Code is not among them: a
# .py file may be its owner's, and one that nothing refers to does no harm.
STALE_MODEL_FILES = (
    *WEIGHTS,
    *OPTIONAL,
    *ADAPTER,
    CURVE,
    MATRIX,
    *(f"{FOLDER}/{task.tag}.yaml" for task in (ENTITIES, RELATIONS)),
)


def model_files(folder: str | os.PathLike) -> dict[str, Path]:
    """
    The files of a model's folder that its users need, by path in the repository: configuration, weights, tokenizer,
    processor, the code that those refer to, the adapter if there is one, and the card with its pictures.

    Checkpoints, the state of the optimizer and the logs of a run are of no use to them. `results.json` stays too: it
    holds paths of the machine that trained, and the card says what it says of the model.

    Raises:
        ValueError: for a folder that lacks any of these files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder}: expected the folder of a trained model, but there is no such folder.")
    there = [name for name in (*OPTIONAL, *ADAPTER, CARD) if (folder / name).is_file()]
    wanted = [CONFIG_NAME, PROCESSOR_NAME, TOKENIZER_CONFIG_FILE]
    if not set(there).intersection(VOCABULARIES):
        wanted.append(VOCABULARIES[0])
    if (folder / SAFE_WEIGHTS_INDEX_NAME).is_file() and not (folder / SAFE_WEIGHTS_NAME).is_file():
        shards = _read_json(folder / SAFE_WEIGHTS_INDEX_NAME).get("weight_map", {}).values()
        wanted += [SAFE_WEIGHTS_INDEX_NAME, *sorted(set(shards))]
    else:
        wanted.append(SAFE_WEIGHTS_NAME)
    wanted += _code_files(folder)
    if CARD in there:
        wanted += _pictures((folder / CARD).read_text(encoding="utf-8"))
    wanted = list(dict.fromkeys(wanted))
    lacking = [name for name in wanted if ".." in Path(name).parts or not (folder / name).is_file()]
    if lacking:
        raise ValueError(
            f"{folder} is no complete model: it lacks {', '.join(lacking)}. Model and processor saved there by "
            "save_pretrained, as train.py does, make it complete."
        )
    return {name: folder / name for name in sorted({*wanted, *there})}


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
