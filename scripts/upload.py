"""
What the commands that share something on the Hub have in common: checks before any work, the files of a model, one
commit for everything, and what the user reads where that fails.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    HfApi,
    ModelCard,
    RepoUrl,
    SpaceCard,
    get_token,
    is_offline_mode,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
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

from hub_card.model_card import CURVE, MATRIX


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

# What the Hub's client raises where the network or the Hub fails: OSError, the base of its HTTP library's errors
# (httpx or httpx2, as its version has it), and RuntimeError around those while it uploads.
HUB_ERRORS: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, RuntimeError)

_LOGIN = "Check that `hf auth login` has a token that may"


def check_destination(repo_id: str, again: str, token: str | None = None) -> None:
    """
    Before the work: whether the name is one, and the Hub can be asked as somebody.

    Args:
        again: command that repeats the push.
        token: if not HF_TOKEN's, or that of `hf auth login`.

    Raises:
        ValueError: for a bad name, the client's offline mode, and no token.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = f"expected the name of a repository, user/name, got {repo_id!r}: {error}"
        raise ValueError(_not_pushed(reason, "Name another", again)) from error
    if is_offline_mode():
        raise ValueError(_not_pushed("HF_HUB_OFFLINE is set", "Unset it", again))
    if (token or get_token()) is None:
        reason = "there is no token, and without one the Hub answers 401 Unauthorized"
        raise ValueError(_not_pushed(reason, f"{_LOGIN} write to {repo_id}", again))


def make_repository(repo_id: str, repo_type: str, *, private: bool, again: str, token: str | None = None) -> RepoUrl:
    """
    Make the repository, or see that it is there and may be written to.

    Args:
        repo_id, repo_type, private, again, token: as for [`upload`].

    Raises:
        SystemExit: where the Hub does not do it, and for a public repository that is to be private.
    """
    api = HfApi(token=token)
    try:
        repository = api.create_repo(
            repo_id,
            repo_type=repo_type,
            private=private or None,
            exist_ok=True,
            **({"space_sdk": "gradio"} if repo_type == "space" else {}),
        )
        # One that is there does not tell before the commit whether it may be written to.
        api.auth_check(repository.repo_id, repo_type=repo_type, write=True)
        is_open = private and not api.repo_info(repository.repo_id, repo_type=repo_type).private
    except HUB_ERRORS as error:
        raise SystemExit(_not_pushed(error, f"{_LOGIN} write to {repo_id}, and the network", again)) from error
    if is_open:  # it was there before, and the Hub leaves it so
        reason = f"{repository} is public, and a push makes new repositories private, not old ones"
        raise SystemExit(_not_pushed(reason, "Make it private yourself, or name another", again))
    return repository


def check_model(name: str, again: str, token: str | None = None) -> None:
    """
    Before a Space is made: whether the Hub has the model that it will load.

    Raises:
        SystemExit: where it has not, and where it cannot be asked.
    """
    try:
        private = HfApi(token=token).model_info(name).private
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise SystemExit(
            _not_pushed(
                f"a Space loads its model from the Hub, and it has none of the name {name}, or not for you",
                "Push the model first, with --model FOLDER --repo_id user/name, or name another",
                again,
            )
        ) from error
    except HUB_ERRORS as error:
        raise SystemExit(_not_pushed(error, f"{_LOGIN} read {name}, and the network", again)) from error
    if private:
        print(f"{name} is private: give the Space the secret HF_TOKEN, with a token that may read it.")


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


def upload(
    files: Mapping[str, Path],
    repo_id: str,
    repo_type: str,
    *,
    private: bool,
    message: str,
    again: str,
    stale: Sequence[str],
    token: str | None = None,
) -> str:
    """
    Publish the files in one commit, making the repository if need be; its URL.

    Args:
        files: by path in the repository. A README.md among them is validated before anything is sent.
        repo_type: "model", "dataset" or "space", which is one of Gradio.
        private: make a new repository private.
        message: of the commit.
        again: command that repeats the push.
        stale: patterns of paths that go where `files` lacks them.
        token: if not HF_TOKEN's, or that of `hf auth login`.

    Raises:
        SystemExit: where that fails, with what is published and what to do.
    """
    api = HfApi(token=token)
    remedy = f"{_LOGIN} write to {repo_id}, and the network"
    try:
        if CARD in files:
            _validate_card(files[CARD], repo_type)
        repository = make_repository(repo_id, repo_type, private=private, again=again, token=token)
        # Not upload_folder, which cuts many files into several commits.
        former = api.list_repo_files(repository.repo_id, repo_type=repo_type)
        additions = [CommitOperationAdd(name, path) for name, path in files.items()]
        api.preupload_lfs_files(repository.repo_id, additions, repo_type=repo_type)
    except ValueError as error:
        raise SystemExit(_not_pushed(error, "Put that right", again)) from error
    except HUB_ERRORS as error:
        raise SystemExit(_not_pushed(error, remedy, again)) from error
    gone = [name for name in former if name not in files and any(fnmatch(name, pattern) for pattern in stale)]
    try:
        api.create_commit(
            repo_id=repository.repo_id,
            repo_type=repo_type,
            operations=[*additions, *map(CommitOperationDelete, gone)],
            commit_message=message,
        )
    except HUB_ERRORS as error:
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            raise SystemExit(_not_pushed(error, remedy, again)) from error
        # The Hub may have done what was asked, and its answer have been lost.
        raise SystemExit(
            f"Not pushed, or not known to be: {error}\n{repository} has all of it or nothing. {remedy}, then run it "
            f"again, which does no harm if all is there:\n{again}"
        ) from error
    return str(repository)


def _not_pushed(reason: object, remedy: str, again: str) -> str:
    return f"Not pushed: {reason}\nNothing was published. {remedy}, then run it again:\n{again}"


def _validate_card(path: Path, repo_type: str) -> None:
    """By the client's own rules, then by the Hub's. Raises ValueError with the field that is refused."""
    try:
        card_class = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}[repo_type]
        card_class(path.read_text(encoding="utf-8")).validate()
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the metadata at the head of {path.name} are refused: {error}") from error


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
