"""A Hub that only notes what it is asked, a model, and a data set."""

import json
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, RepoUrl
from PIL import Image

from hub_card.sharing import upload as upload_module
from modeling_ifaformer import IFAformerForTokenClassification
from processing.data import load_data
from processing.labels import label_maps


class NotingHub:
    """
    What stands for the Hub.

    Attributes:
        former: files that the repository has from before.
        is_private: whether it is private, from before.
        error: raised by the request of that name, None where nothing is refused.
        created: arguments of the request that made the repository.
        added: by path, the bytes that the commit brought.
        deleted: the paths that it took away.
    """

    def __init__(self):
        self.former, self.is_private, self.errors = [], True, {}
        self.created, self.commit, self.added, self.deleted = {}, {}, {}, set()

    def ask(self, request):
        if request in self.errors:
            raise self.errors[request]


@pytest.fixture
def hub(monkeypatch):
    hub = NotingHub()

    def create_repo(self, repo_id, **kwargs):
        hub.ask("create_repo")
        hub.created = {"repo_id": repo_id, **kwargs}
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def auth_check(self, repo_id, **kwargs):
        assert kwargs["write"]

    def create_commit(self, repo_id, operations, **kwargs):
        hub.ask("create_commit")
        hub.commit = kwargs
        hub.added = {
            operation.path_in_repo: Path(operation.path_or_fileobj).read_bytes()
            for operation in operations
            if isinstance(operation, CommitOperationAdd)
        }
        hub.deleted = {
            operation.path_in_repo for operation in operations if isinstance(operation, CommitOperationDelete)
        }

    api = upload_module.HfApi
    monkeypatch.setattr(upload_module, "is_offline_mode", lambda: False)
    monkeypatch.setattr(upload_module, "get_token", lambda: "hf_token")
    for card_class in ("DatasetCard", "ModelCard", "SpaceCard"):
        monkeypatch.setattr(getattr(upload_module, card_class), "validate", lambda self: None)
    monkeypatch.setattr(api, "create_repo", create_repo)
    monkeypatch.setattr(api, "auth_check", auth_check)
    monkeypatch.setattr(api, "repo_info", lambda *args, **kwargs: Mock(private=hub.is_private))
    monkeypatch.setattr(api, "list_repo_files", lambda *args, **kwargs: hub.former)
    monkeypatch.setattr(api, "preupload_lfs_files", lambda *args, **kwargs: None)
    monkeypatch.setattr(api, "create_commit", create_commit)
    return hub


@pytest.fixture(scope="module")
def saved_model(make_config, make_processor, tmp_path_factory):
    """A whole model, to be copied."""
    folder = tmp_path_factory.mktemp("saved")
    processor = make_processor()
    IFAformerForTokenClassification(make_config(**label_maps(processor.labels))).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def model(saved_model, tmp_path):
    """A folder of a model as save_pretrained leaves it."""
    return shutil.copytree(saved_model, tmp_path / "runs" / "mine")


@pytest.fixture
def own_data(tmp_path):
    """A folder of five tweets for training and one for test."""
    folder = tmp_path / "tweets"
    (folder / "photos").mkdir(parents=True)
    for name, colour in (("1.png", "red"), ("2.png", "green")):
        Image.new("RGB", (6, 4), colour).save(folder / "photos" / name)
    rows = [
        {"id": f"t{i}", "text": "Jordan met Paris", "spans": [{"start": 0, "end": 6, "label": "PER"}]}
        for i in range(5)
    ]
    rows[0] |= {"image": "photos/1.png", "aux_crops": ["photos/2.png", "photos/1.png"]}
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "test.jsonl").write_text(json.dumps(rows[1]), encoding="utf-8")
    return folder


@pytest.fixture
def load(tmp_path):
    """`load(folder)` -> its rows."""
    return lambda folder: load_data(str(folder), cache_dir=str(tmp_path / "cache"))[0]
