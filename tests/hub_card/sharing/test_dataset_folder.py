"""The Parquet files and the card of a data set, in a folder and on their way to the Hub."""

import json
import os
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from hub_card.sharing import NotPushed, dataset_folder, push_dataset, write_dataset
from processing.data import load_data
from processing.jobs.processes import JobError


def shards(folder):
    return sorted(path.name for path in folder.glob("data/*"))


def test_the_folder_loads_as_the_same_rows(own_data, load, tmp_path):
    shared, expected = tmp_path / "shared", load(own_data)
    write_dataset(expected, shared, title="Our tweets", rows_per_shard=2, report="train: 5 rows", license="mit")
    assert shards(shared) == [
        "test-00000-of-00001.parquet",
        *(f"train-0000{index}-of-00003.parquet" for index in range(3)),
    ]
    card = (shared / "README.md").read_text(encoding="utf-8")
    assert "# Our tweets\n" in card and "license: mit" in card and "| PER | 5 | 1 |" in card
    assert "    train: 5 rows" in card and str(tmp_path) not in card
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
    again = load(shared)  # and it trains: the same rows by the same command-line name
    assert again["train"]["tokens"] == expected["train"]["tokens"]
    assert again["train"]["ner_tags"] == expected["train"]["ner_tags"]


def test_what_is_shared_has_no_path_of_this_machine(own_data, load, tmp_path):
    rows = [json.loads(line) for line in (own_data / "train.jsonl").read_text().splitlines()]
    rows[0] |= {"image": str(own_data / "photos" / "1.png"), "aux_crops": ["gone.png", "my password"]}
    rows += [{"id": "t9", "text": 5, "spans": []}, {"id": "my password", "text": ["my password"], "spans": []}]
    (own_data / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    data, report = load_data(str(own_data), cache_dir=str(tmp_path / "cache"))
    files = write_dataset(data, tmp_path / "shared", title="x", report=report.published())
    assert len(report.skipped) == 2 and str(report).count("my password") == 2
    assert "t0: aux_crops 1: there is no such file" in files["README.md"].read_text()
    for path in files.values():
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content and b"my password" not in content
    (image,) = pq.read_table(files["data/train-00000-of-00001.parquet"])["image"].slice(0, 1).to_pylist()
    assert image["path"] == "1.png"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_folder_are_not_shared(own_data, load, tmp_path, kind):
    photos, elsewhere = own_data / "photos", tmp_path / "elsewhere"
    if kind == "folder":
        photos.rename(elsewhere)
        photos.symlink_to(elsewhere)
    else:
        (photos / "1.png").rename(elsewhere)
        (photos / "1.png").symlink_to("../../elsewhere")
    data = load(own_data)
    assert data["train"][0]["image"] is not None, "training follows it"
    with pytest.raises(ValueError, match=r"and there are . among .*/1\.png, image of the row with the id t0\."):
        write_dataset(data, tmp_path / "shared", title="x")
    assert not (tmp_path / "shared").exists()


def test_links_inside_the_folder_are_shared_as_files(own_data, load, tmp_path):
    (own_data / "photos" / "1.png").rename(own_data / "one")
    (own_data / "photos" / "1.png").symlink_to("../one")
    write_dataset(load(own_data), tmp_path / "shared", title="x")
    assert load_dataset(str(tmp_path / "shared"), split="train", cache_dir=str(tmp_path / "cache2"))[0]["image"]


@pytest.mark.parametrize("column", ["id", "image_id"])
def test_names_that_are_paths_are_not_shared(own_data, load, tmp_path, column):
    text = (own_data / "train.jsonl").read_text()
    row = json.loads(text.splitlines()[1]) | {column: "/home/alice/1.jpg"}
    (own_data / "train.jsonl").write_text(text.replace(text.splitlines()[1], json.dumps(row)))
    with pytest.raises(ValueError, match=rf"and there are 1 in the column {column}\. The first is '/home/alice"):
        write_dataset(load(own_data), tmp_path / "shared", title="x")
    (own_data / "train.jsonl").write_text(text.replace('"t1"', '"/m/0abc"'))
    write_dataset(load(own_data), tmp_path / "shared", title="x")  # a name of a knowledge base, not of a file


def test_an_interrupted_call_is_gone_on_with(own_data, load, tmp_path, monkeypatch):
    data, shared = load(own_data), tmp_path / "shared"
    written = []

    def write(rows, path, fail_at=None):
        if len(written) == fail_at:
            raise OSError("No space left")
        path.parent.mkdir(exist_ok=True)
        original(rows, path)
        written.append(path.name)

    original = dataset_folder.write_shard
    monkeypatch.setattr(dataset_folder, "write_shard", partial(write, fail_at=2))
    with pytest.raises(JobError, match=rf"Cannot write {shared}: No space left"):
        write_dataset(data, shared, title="x", rows_per_shard=2)
    assert shards(shared) == sorted(written) and len(written) == 2
    monkeypatch.setattr(dataset_folder, "write_shard", write)
    with pytest.raises(JobError, match=r"rows_per_shard: 2 before, 5 now.*name another folder"):
        write_dataset(data, shared, title="x", rows_per_shard=5)
    picture = next(Path(row["image"]["path"]) for row in data["train"] if row["image"] and row["image"]["path"])
    before, times = picture.read_bytes(), picture.stat()
    picture.write_bytes(before[:-1] + b"x")
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(JobError, match="other pictures"):
        write_dataset(data, shared, title="x", rows_per_shard=2)
    picture.write_bytes(before)
    for _ in range(2):
        write_dataset(data, shared, title="x", rows_per_shard=2)
    assert shards(shared) == sorted(written) and len(written) == 4, "each file was written once"
    assert load_dataset(str(shared), split="train", cache_dir=str(tmp_path / "cache2"))["id"] == data["train"]["id"]


def test_files_of_something_else_are_left_alone(own_data, load, tmp_path):
    data, shared = load(own_data), tmp_path / "shared"
    (shared / "data").mkdir(parents=True)
    (shared / "data" / "train-00000-of-00009.parquet").write_bytes(b"")
    with pytest.raises(JobError, match="is there already, and nothing says how it was made"):
        write_dataset(data, shared, title="x")
    write_dataset(data, tmp_path / "other", title="x")
    (own_data / "test.jsonl").unlink()
    with pytest.raises(JobError, match=r"made from other data or with other settings \(.*other rows\)"):
        write_dataset(load(own_data), tmp_path / "other", title="x")
    with pytest.raises(ValueError, match="rows_per_shard must be at least 1, got 0"):
        write_dataset(data, tmp_path / "third", title="x", rows_per_shard=0)
    assert not (tmp_path / "third").exists()


def test_only_a_card_that_was_made_here_is_replaced(own_data, load, tmp_path):
    data, shared = load(own_data), tmp_path / "shared"
    shared.mkdir()
    card = shared / "README.md"
    card.write_text("mine")
    with pytest.raises(ValueError, match=r"README\.md is not as write_dataset wrote it\. Move it"):
        write_dataset(data, shared, title="x")
    assert [path.name for path in shared.iterdir()] == ["README.md"] and card.read_text() == "mine"
    card.unlink()
    for title in ("first", "second"):
        write_dataset(data, shared, title=title)
        assert f"# {title}\n" in card.read_text(encoding="utf-8")
    changed = card.read_text(encoding="utf-8") + "They are ours.\n"
    card.write_text(changed, encoding="utf-8")
    with pytest.raises(ValueError, match="or name another folder"):
        write_dataset(data, shared, title="third")
    assert card.read_text(encoding="utf-8") == changed


def test_one_commit_replaces_an_earlier_version(hub, own_data, load, tmp_path):
    hub.former = ["README.md", "LICENSE", "data/test-00000-of-00001.parquet", "data/train-00000-of-00009.parquet"]
    url = push_dataset(load(own_data), "me/tweets", title="Tweets", private=True, language=["en"])
    assert url == "https://huggingface.co/me/tweets"
    assert (hub.created["repo_id"], hub.created["repo_type"], hub.created["private"]) == ("me/tweets", "dataset", True)
    assert hub.commit["commit_message"] == "Upload Tweets"
    assert set(hub.added) == {"README.md", *(f"data/{name}-00000-of-00001.parquet" for name in ("train", "test"))}
    assert hub.deleted == {"data/train-00000-of-00009.parquet"}
    assert b'load_dataset("me/tweets")' in hub.added["README.md"]


def test_a_folder_whose_upload_failed_is_pushed_by_the_same_call(hub, own_data, load, tmp_path):
    data, shared = load(own_data), tmp_path / "shared"
    hub.errors = {"create_commit": TimeoutError("no network")}
    with pytest.raises(NotPushed, match="no network"):
        push_dataset(data, "me/tweets", folder=shared)
    before = {path: path.stat().st_mtime_ns for path in shared.glob("data/*")}
    hub.errors = {}
    push_dataset(data, "me/tweets", folder=shared)
    assert len(hub.added) == 3 and {path: path.stat().st_mtime_ns for path in shared.glob("data/*")} == before
