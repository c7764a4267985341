"""What a push checks, and what its error says."""

import re
from unittest.mock import Mock

import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from hub_card.sharing import NotPushed, check_destination
from hub_card.sharing import upload as upload_module
from hub_card.sharing.upload import upload


@pytest.fixture
def push(hub, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    return lambda **options: upload({tmp_path: ["a.txt"]}, "me/x", "model", message="Upload x", **options)


def server_error(status):
    return HfHubHTTPError(f"{status} from the Hub", response=Mock(headers={}, status_code=status))


def test_a_destination_is_checked_before_the_work(monkeypatch):
    with pytest.raises(NotPushed, match=r"^Not pushed: HF_HUB_OFFLINE is set\nNothing was published\. Unset it, then"):
        check_destination("me/x")
    monkeypatch.setattr(upload_module, "is_offline_mode", lambda: False)
    monkeypatch.setattr(upload_module, "get_token", lambda: None)
    with pytest.raises(
        NotPushed, match=r"no token.* 401 .*\nNothing was published.*hf auth login.* then push again\."
    ):
        check_destination("me/x")
    check_destination("me/x", token="hf_x")
    monkeypatch.setattr(upload_module, "get_token", lambda: "hf_x")
    check_destination("me/x")
    for name in ("a/b/c", "me/bad--name", "", "me/x.git"):
        with pytest.raises(NotPushed, match=rf"got '{re.escape(name)}': .*\nNothing was published"):
            check_destination(name)


@pytest.mark.parametrize("request_name", ["create_repo", "create_commit"])
def test_a_refused_push_says_what_to_do(push, hub, request_name):
    hub.errors = {request_name: server_error(403)}
    message = r"^Not pushed: 403 .*\nNothing was published\. .*hf auth login.*may write to me/x.* then push again\.$"
    with pytest.raises(NotPushed, match=message):
        push()


@pytest.mark.parametrize(
    "error",
    [
        OfflineModeIsEnabled("no network"),
        TimeoutError("no network"),
        HfHubHTTPError.__bases__[0]("no network"),
        RuntimeError("no network"),  # as the client has it of an upload
    ],
)
def test_a_network_that_fails(push, hub, error):
    hub.errors = {"create_repo": error}
    with pytest.raises(NotPushed, match=r"^Not pushed: no network\nNothing was published\. "):
        push()
    hub.errors = {"create_commit": error}
    with pytest.raises(NotPushed, match=r"not known whether.* no network\nhttps://\S+/me/x has all of it or nothing"):
        push()


def test_an_error_of_the_hub_while_it_commits(push, hub):
    hub.errors = {"create_commit": server_error(504)}
    with pytest.raises(NotPushed, match=r"^It is not known whether this was pushed: 504 "):
        push()


def test_a_public_repository_is_not_made_private(push, hub):
    hub.is_private = False
    push()
    with pytest.raises(NotPushed, match="me/x is public, and a push makes only new repositories private"):
        push(private=True)


def test_only_what_is_stale_is_deleted(push, hub):
    hub.former = ["a.txt", "data/old.txt", "own.py"]
    push(stale=["*.txt", "data/*"])
    assert hub.added == {"a.txt": b"a"} and hub.deleted == {"data/old.txt"}
