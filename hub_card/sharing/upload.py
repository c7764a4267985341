"""Upload to the Hub: checks before any work, and one commit for everything."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import yaml
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    HfApi,
    ModelCard,
    ModelInfo,
    RepoUrl,
    SpaceCard,
    get_token,
    is_offline_mode,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from processing.rows.local_paths import real_path_below


CARD = "README.md"

# What the Hub's client raises where the network or the Hub fails: OSError, the base of its HTTP library's errors
# (httpx or httpx2, as its version has it), and RuntimeError around those while it uploads.
HUB_ERRORS: tuple[type[Exception], ...] = (*HfHubHTTPError.__bases__, RuntimeError)

_LOGIN = "Check that `hf auth login` has a token that may"


class NotPushed(RuntimeError):
    """A push that failed. Its message says why, what is published, and what to do before pushing again."""


def _nothing_published(reason: object, remedy: str) -> NotPushed:
    return NotPushed(f"Not pushed: {reason}\nNothing was published. {remedy}, then push again.")


@contextmanager
def _before_the_commit(remedy: str) -> Iterator[None]:
    """Turns errors of the Hub, which have the remedy, and of what cannot be pushed into [`NotPushed`]."""
    try:
        yield
    except NotPushed:
        raise
    except ValueError as error:
        raise _nothing_published(error, "Put that right") from error
    except HUB_ERRORS as error:
        raise _nothing_published(error, f"{remedy}, and the network") from error


def check_destination(repo_id: str, token: str | None = None) -> None:
    """
    Check before the work that the name is one of a repository, and that there is a token to ask the Hub with.

    Args:
        token: by default that of HF_TOKEN or of `hf auth login`.

    Raises:
        NotPushed: for a bad name, without a token, and while the Hub's client is offline.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = f"expected the name of a repository, user/name, got {repo_id!r}: {error}"
        raise _nothing_published(reason, "Name another") from error
    if is_offline_mode():
        raise _nothing_published("HF_HUB_OFFLINE is set", "Unset it")
    if (token or get_token()) is None:
        reason = "there is no token, and without one the Hub answers 401 Unauthorized"
        raise _nothing_published(reason, f"{_LOGIN} write to {repo_id}")


def make_repository(repo_id: str, repo_type: str, *, private: bool = False, token: str | None = None) -> RepoUrl:
    """
    Make the repository, or see that it is there and may be written to.

    Args:
        repo_id, repo_type, private, token: as for [`upload`].

    Raises:
        NotPushed: where the Hub refuses it, and for a public repository that is to be private.
    """
    api = HfApi(token=token)
    with _before_the_commit(f"{_LOGIN} write to {repo_id}"):
        repository = api.create_repo(
            repo_id,
            repo_type=repo_type,
            private=private or None,
            exist_ok=True,
            space_sdk="gradio" if repo_type == "space" else None,
        )
        # A repository that was there before does not say until the commit whether it may be written to.
        api.auth_check(repository.repo_id, repo_type=repo_type, write=True)
        if private and not api.repo_info(repository.repo_id, repo_type=repo_type).private:
            reason = f"{repository} is public, and a push makes only new repositories private"
            raise _nothing_published(reason, "Make it private yourself, or name another")
    return repository


def find_model(name: str, token: str | None = None) -> ModelInfo:
    """What the Hub says of a model that a Space will load; NotPushed where it has none."""
    with _before_the_commit(f"{_LOGIN} read {name}"):
        try:
            return HfApi(token=token).model_info(name)
        except (RepositoryNotFoundError, HFValidationError) as error:
            reason = f"a Space loads its models from the Hub, and the Hub has none of the name {name}, or not for you"
            raise _nothing_published(reason, "Push the model first, or name another") from error


def upload(
    files: Mapping[Path, Iterable[str]],
    repo_id: str,
    repo_type: str,
    *,
    message: str,
    stale: Sequence[str] = (),
    private: bool = False,
    token: str | None = None,
) -> str:
    """
    Publish files in one commit. The repository is made if it is not there.

    Args:
        files: by folder, the paths below it, which are those in the repository too; a later folder's file comes in
            place of an earlier one. A README.md among them is validated before anything is sent. A link that leads
            out of its folder is refused.
        repo_id: name of the repository, `user/name`.
        repo_type: "model", "dataset" or "space", which is one of Gradio.
        message: of the commit.
        stale: patterns of paths that are deleted from the repository where `files` do not hold them.
        private: make a new repository private.
        token: by default that of HF_TOKEN or of `hf auth login`.

    Returns:
        The URL of the repository.

    Raises:
        NotPushed: where that fails.
    """
    api = HfApi(token=token)
    remedy = f"{_LOGIN} write to {repo_id}"
    with _before_the_commit(remedy):
        paths = _real_paths(files)
        if CARD in paths:
            _validate_card(paths[CARD], repo_type)
        repository = make_repository(repo_id, repo_type, private=private, token=token)
        # Not upload_folder, which cuts many files into several commits.
        former = api.list_repo_files(repository.repo_id, repo_type=repo_type)
        gone = [name for name in former if name not in paths and any(fnmatch(name, pattern) for pattern in stale)]
        additions = [CommitOperationAdd(name, path) for name, path in paths.items()]
        api.preupload_lfs_files(repository.repo_id, additions, repo_type=repo_type)
        try:
            api.create_commit(
                repository.repo_id,
                [*additions, *map(CommitOperationDelete, gone)],
                commit_message=message,
                repo_type=repo_type,
            )
        except HUB_ERRORS as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            # The Hub may have done what was asked, and its answer have been lost.
            raise NotPushed(
                f"It is not known whether this was pushed: {error}\n{repository} has all of it or nothing. {remedy}, "
                "and the network, then push again, which does no harm if all is there."
            ) from error
    return str(repository)


def _real_paths(files: Mapping[Path, Iterable[str]]) -> dict[str, Path]:
    """By path in the repository, with links followed; a ValueError for what lies outside of its folder."""
    paths = {}
    for folder, names in files.items():
        for name in names:
            path = real_path_below(folder / name, folder)
            if path is None:
                raise ValueError(
                    f"{folder / name} is a link that leads out of {folder}, and is not shared. Copy the file there."
                )
            paths[name] = Path(path)
    return paths


def _validate_card(path: Path, repo_type: str) -> None:
    """By the client's own rules, then by the Hub's; a ValueError names the field that is refused."""
    try:
        card_class = {"model": ModelCard, "dataset": DatasetCard, "space": SpaceCard}[repo_type]
        card_class(path.read_text(encoding="utf-8")).validate()
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"the metadata at the head of {path.name} are refused: {error}") from error
