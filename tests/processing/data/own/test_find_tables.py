import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from processing.data.own.find_tables import find_tables, source_digest
from processing.data.own.tables import read_table
from processing.rows.picture_files import PICTURE_ENDINGS


@pytest.fixture
def folder(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True, parents=True)
            path.touch()
        return tmp_path

    return make


def names(root):
    return {s: [path.removeprefix(f"{root}/") for path in paths] for s, paths in find_tables(root).splits.items()}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "validation", "test"),
        ("train", "valid", "test"),
        ("training", "dev", "testing"),
        ("train", "val", "eval"),
        ("Train", "Dev", "TEST"),
    ],
)
def test_names_of_splits(folder, train, validation, test):
    files = {"train": [f"{train}.jsonl"], "validation": [f"{validation}.jsonl"], "test": [f"{test}.jsonl"]}
    root = folder(f"{test}.jsonl", f"{validation}.jsonl", f"{train}.jsonl", "notes.txt", "readme.md", "other.jsonl")
    found = names(root)
    assert found == files
    assert list(found) == ["train", "validation", "test"]


def test_an_empty_file_of_a_split_is_not_passed_over(folder):
    root = folder("train.jsonl", "test.txt", "notes.txt")
    assert names(root) == {"train": ["train.jsonl"], "test": ["test.txt"]}


def test_parts(folder):
    root = folder("data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet", "data/x.parquet")
    assert names(root) == {"train": [f"data/train-0000{i}-of-00002.parquet" for i in (0, 1)]}


def test_a_part_is_missing(folder):
    with pytest.raises(ValueError, match=r"expected 2 parts of the train split, got train-00001-of-00002\.csv\. Add"):
        find_tables(folder("train-00001-of-00002.csv"))


def test_a_lone_file_beside_the_rows(folder):
    root = folder("data/train-00000-of-00001.parquet", "crops.json")  # as prepare_crops.py leaves it
    assert names(root) == {"train": ["data/train-00000-of-00001.parquet"]}


def test_a_lone_file(folder):
    assert names(folder("tweets.csv", "dataset_info.json")) == {"train": ["tweets.csv"]}


def test_a_link(folder):
    root = folder("blobs/123", "snapshot/x")
    link = root / "snapshot" / "test.jsonl"
    link.symlink_to(root / "blobs" / "123")
    assert find_tables(link) == (str(link), {"test": (str(link),)}, ())


def test_a_link_to_itself(folder):
    root = folder("train.jsonl")
    for name in ("photo.jpg", "photos"):
        (root / name).symlink_to(name)
    (root / "loop").symlink_to(".")
    assert names(root) == {"train": ["train.jsonl"]}
    (root / "valid.jsonl").symlink_to("valid.jsonl")
    with pytest.raises(OSError, match=r"Too many levels of symbolic links: '.*valid\.jsonl'"):
        find_tables(root)


def test_a_file(folder):
    root = folder("tweets.csv", "dev.csv")
    assert find_tables(root / "tweets.csv").splits == {"train": (str(root / "tweets.csv"),)}
    assert find_tables(root / "dev.csv").splits == {"validation": (str(root / "dev.csv"),)}


def test_several_files_of_a_split(folder):
    with pytest.raises(ValueError, match=r"several files would be the validation split: dev\.csv, valid\.csv"):
        find_tables(folder("dev.csv", "valid.csv", "train.csv"))


def test_several_endings(folder):
    with pytest.raises(ValueError, match=r"files of text alone, or of Parquet alone, got test\.parquet, train\.jsonl"):
        find_tables(folder("test.parquet", "train.jsonl"))


def test_texts_of_several_endings(folder):
    assert names(folder("train.json", "dev.jsonl", "test.conll", "README.txt")) == {
        "train": ["train.json"],
        "validation": ["dev.jsonl"],
        "test": ["test.conll"],
    }
    with pytest.raises(ValueError, match=r"several files would be the train split: train\.json, train\.jsonl"):
        find_tables(folder("train.jsonl"))


def test_nothing(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: .*gone"):
        find_tables(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"looked in .* for train.*it holds a\.csv, b\.csv\. Name the files"):
        find_tables(folder("a.csv", "b.csv"))


def test_saved_to_disk(tmp_path):
    dataset = datasets.Dataset.from_dict({"text": ["a", "b", "c"]})
    splits = datasets.DatasetDict({"train": dataset, "dev": dataset.select([2, 0]), "extra": dataset})
    splits.save_to_disk(tmp_path / "all", num_shards={"train": 2, "dev": 1, "extra": 1})
    found = find_tables(tmp_path / "all")
    assert {split: len(paths) for split, paths in found.splits.items()} == {"train": 2, "validation": 1}
    assert found.unused == ("extra",)
    assert [row["text"] for path in found.splits["train"] for _, row in read_table(path)] == ["a", "b", "c"]
    assert [row["text"] for path in found.splits["validation"] for _, row in read_table(path)] == ["c", "a"]
    datasets.DatasetDict({"val": dataset, "dev": dataset}).save_to_disk(tmp_path / "two")
    with pytest.raises(ValueError, match=r"two: several of its splits \['val', 'dev'\] would be one split"):
        find_tables(tmp_path / "two")
    dataset.save_to_disk(tmp_path / "one")
    assert list(find_tables(tmp_path / "one").splits) == ["train"]
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"one: cannot be read as what save_to_disk writes: KeyError"):
        find_tables(tmp_path / "one")
    dataset.save_to_disk(tmp_path / "below" / "train")
    with pytest.raises(FileNotFoundError, match=r"it holds train\. save_to_disk wrote train: pass one such folder"):
        find_tables(tmp_path / "below")


def test_other_names_of_parquet(tmp_path):
    for name in ("mine-train", "mine-test"):
        pq.write_table(pa.table({"text": [name]}), tmp_path / f"{name}.parquet")
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "loading_report.json").write_text("{}")
    assert names(tmp_path) == {"train": ["mine-train.parquet"], "test": ["mine-test.parquet"]}


def test_sub_folders_of_parquet(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"text": [name]}), tmp_path / name / "0.parquet")
    assert names(tmp_path) == {"train": ["train/0.parquet"], "test": ["test/0.parquet"]}


@pytest.mark.parametrize("ending", PICTURE_ENDINGS)
def test_a_picture_that_is_added_changes_the_digest(folder, ending):
    root = folder("train.csv")
    (root / "train.csv").write_text(f"text,photo\nOslo,1{ending}\n")
    before = source_digest(find_tables(root), str(root), str(root / "cache"))
    assert source_digest(find_tables(root), str(root), str(root / "cache")) == before
    (root / f"1{ending}").touch()
    assert source_digest(find_tables(root), str(root), str(root / "cache")) != before
