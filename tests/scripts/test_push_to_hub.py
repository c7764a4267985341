import json
from unittest.mock import Mock

import pytest
from datasets import load_dataset
from huggingface_hub import RepoUrl
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from processing.data import load_data


@pytest.fixture
def own_data(tmp_path):
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


def test_a_folder_that_loads_as_the_same_rows(run_script, own_data, tmp_path):
    shared = tmp_path / "shared"
    description = tmp_path / "about.md"
    description.write_text("Five tweets of our own.", encoding="utf-8")
    printed = run_script(
        "push_to_hub.py",
        *("--dataset", own_data, "--cache_dir", tmp_path / "cache", "--output_dir", shared, "--rows_per_shard", "2"),
        *("--license", "mit", "--language", "en", "--title", "Our tweets", "--description", description),
    ).stdout
    assert f"Written: {shared}" in printed
    assert sorted(path.name for path in (shared / "data").iterdir()) == [
        "test-00000-of-00001.parquet",
        *(f"train-0000{index}-of-00003.parquet" for index in range(3)),
    ]
    card = (shared / "README.md").read_text(encoding="utf-8")
    assert "# Our tweets\n\nFive tweets of our own." in card and "license: mit" in card and "| PER | 5 | 1 |" in card

    expected, _ = load_data(str(own_data), cache_dir=str(tmp_path / "cache"))
    for path in (own_data / "photos").iterdir():
        path.unlink()  # the pictures are inside
    loaded = load_dataset(str(shared), cache_dir=str(tmp_path / "cache2"))
    streamed = load_dataset(str(shared), streaming=True)
    for split, rows in loaded.items():
        assert rows.features["ner_tags"] == expected[split].features["ner_tags"]
        for row, other, wanted in zip(rows, streamed[split], expected[split], strict=True):
            assert row["tokens"] == other["tokens"] == wanted["tokens"]
            assert row["ner_tags"] == other["ner_tags"] == wanted["ner_tags"]
            assert len(row["aux_crops"]) == len(wanted["aux_crops"])
            assert (row["image"] is None) == (other["image"] is None) == (wanted["image"] is None)
    assert loaded["train"][0]["image"].getpixel((0, 0)) == (255, 0, 0)
    # and it trains: the same rows by the same command-line name
    again, _ = load_data(str(shared), cache_dir=str(tmp_path / "cache"))
    assert again["train"]["tokens"] == expected["train"]["tokens"]
    assert again["train"]["ner_tags"] == expected["train"]["ner_tags"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Name where to: --repo_id user/name, --output_dir FOLDER, or both."),
        (["--repo_id", "a/b/c"], "--repo_id: "),
    ],
)
def test_what_is_refused_before_anything_is_read(run_script, own_data, options, message):
    result = run_script("push_to_hub.py", "--dataset", own_data, *options, exit_code=1)
    assert message in result.stderr and "Generating" not in result.stderr


def test_an_earlier_folder_is_not_mixed_with_a_later_one(run_script, own_data, tmp_path):
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "shared" / "data" / "train-00000-of-00009.parquet").write_bytes(b"")
    arguments = ("--dataset", own_data, "--output_dir", tmp_path / "shared")
    assert "holds Parquet files already" in run_script("push_to_hub.py", *arguments, exit_code=1).stderr


@pytest.fixture
def push(script_module, monkeypatch, own_data, tmp_path):
    """Run the command in this process against a Hub that only notes what it is asked."""
    script = script_module("push_to_hub")
    requests = {}

    def create_repo(self, repo_id, **kwargs):
        requests["create"] = {"repo_id": repo_id, **kwargs}
        return RepoUrl(f"https://huggingface.co/datasets/{repo_id}")

    def upload_folder(self, *, folder_path, **kwargs):
        files = {path.relative_to(folder_path).as_posix() for path in folder_path.rglob("*") if path.is_file()}
        requests["upload"] = {"files": files, **kwargs}

    monkeypatch.setattr(script.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(script.HfApi, "upload_folder", upload_folder)
    arguments = ["--dataset", str(own_data), "--cache_dir", str(tmp_path / "cache"), "--repo_id", "me/tweets"]

    def run(*options):
        monkeypatch.setattr("sys.argv", ["push_to_hub.py", *arguments, *options])
        script.main()
        return requests

    run.script = script
    return run


def test_one_commit_holds_all_and_replaces_an_earlier_version(push, capsys):
    requests = push("--private", "true")
    assert requests["create"] == {
        "repo_id": "me/tweets",
        "repo_type": "dataset",
        "private": True,
        "exist_ok": True,
    }
    upload = requests["upload"]
    assert upload["repo_id"] == "me/tweets" and upload["repo_type"] == "dataset"
    shards = {f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")}
    assert upload["files"] == {"README.md", *shards}
    assert upload["delete_patterns"] == ["data/*.parquet"]
    assert "Pushed: https://huggingface.co/datasets/me/tweets" in capsys.readouterr().out


def test_a_refused_push_says_what_to_do(push, monkeypatch):
    def refuse(*args, **kwargs):
        raise HfHubHTTPError("403 Forbidden", response=Mock(headers={}))

    monkeypatch.setattr(push.script.HfApi, "create_repo", refuse)
    with pytest.raises(SystemExit, match=r"Not pushed: 403 Forbidden(.|\n)*may write to me/tweets, then run the same"):
        push()
