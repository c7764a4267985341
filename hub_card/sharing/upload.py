"""
What the commands that share something on the Hub have in common: checks before any work, the files of a model, one
commit for everything, and what the user reads where that fails.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

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

from .model_folder import CARD


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
