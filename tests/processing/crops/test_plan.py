import json
import os

import pytest

from processing import object_proposals
from processing.crops.plan import cut_batches, entity_types, phrase_source
from processing.jobs.digests import picture_id, without_folders
from processing.jobs.output_folder import claim_folder, finished_settings
from processing.rows.row_features import ner_features, re_features


def test_entity_types():
    assert entity_types(ner_features(["O", "B-PER", "I-PER", "B-LOC"])) == ["PER", "LOC"]
    assert entity_types(re_features(["None", "/per/org/member_of", "/per/per/peer"])) == ["per", "org"]


def test_batches_stay_within_a_split_and_hold_each_picture_once():
    pictures = {"train": ["a", None, "b", "a", "c"], "test": ["c", "d"]}
    phrases = {"train": [["dog"], ["dog"], ["dog"], ["car"], ["dog"]], "test": [["dog"], ["dog"]]}
    batches, keys = cut_batches(pictures, phrases, 3)
    assert [[(task.split, task.row, task.phrases) for task in batch] for batch in batches] == [
        [("train", 0, ["dog"]), ("train", 2, ["dog"]), ("train", 3, ["car"])],
        [("train", 4, ["dog"])],
        [("test", 1, ["dog"])],
    ]
    assert {split: [key is None for key in of_split] for split, of_split in keys.items()} == {
        "train": [False, True, False, False, False],
        "test": [False, False],
    }
    assert keys["test"][0] == keys["train"][4] and len({key for key in keys["train"] if key}) == 4
    assert [task.key for task in batches[0]] == [keys["train"][row] for row in (0, 2, 3)]

    batches, _ = cut_batches(pictures, {"train": [None] * 5, "test": [None] * 2}, 3)
    assert [[(task.split, task.row) for task in batch] for batch in batches] == [
        [("train", 0), ("train", 2), ("train", 4)],
        [("test", 1)],
    ], "without phrases, a picture is one task"


def test_picture_id(tmp_path):
    file = tmp_path / "picture"
    source = {"bytes": None, "path": str(file)}
    absent = picture_id(source)
    file.write_bytes(b"1")
    os.utime(file, (1, 1))
    first = picture_id(source)
    file.write_bytes(b"22")
    os.utime(file, (1, 1))
    longer = picture_id(source)
    os.utime(file, (2, 2))
    assert len({absent, first, longer, picture_id(source)}) == 4
    assert picture_id({"bytes": b"1", "path": "a"}) == picture_id({"bytes": b"1", "path": None})


def test_without_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert without_folders("IDEA-Research/grounding-dino-tiny") == "IDEA-Research/grounding-dino-tiny"
    assert without_folders(str(tmp_path)) == without_folders(".") == tmp_path.name


def test_phrase_source(monkeypatch):
    features = ner_features(["O", "B-LOC"])
    settings, find = phrase_source(["dog"], "en_none", features, "mine")
    assert (settings, find(["a", "b"])) == ({"given": ["dog"]}, [["dog"], ["dog"]])
    monkeypatch.setattr(object_proposals, "installed_spacy_model", lambda: None)
    for spacy_model in (None, "none"):
        settings, find = phrase_source(None, spacy_model, features, "mine")
        assert settings == {"label set": ["a building", "a landscape", "a landmark"]}
        assert find(["a"]) == [settings["label set"]]
    with pytest.raises(ValueError, match=r"labels of 'mine' name no entity types: .* --phrases"):
        phrase_source(None, None, ner_features(["O"]), "mine")


def test_claim_folder(tmp_path):
    shard = tmp_path / "data" / "train-00000-of-00001.parquet"
    problems = tmp_path / ".objects" / "unreadable" / "rank-0.jsonl"
    settings = tmp_path / ".objects" / "settings.json"
    for path in (shard, problems, tmp_path / "data" / ".x.1.tmp"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="no record of how they were made"):
        claim_folder(tmp_path, {"limit": 1}, overwrite=False)
    assert shard.exists() and not settings.exists()

    claim_folder(tmp_path, {"limit": 1}, overwrite=True)
    assert json.loads(settings.read_bytes()) == {"limit": 1}
    assert not shard.exists() and not problems.exists() and not list(tmp_path.rglob("*.tmp"))

    shard.write_bytes(b"")
    claim_folder(tmp_path, {"limit": 1}, overwrite=False)
    assert shard.exists(), "the same settings go on with what is there"
    with pytest.raises(ValueError, match=r"\(limit: 1 before, 2 now\).*--overwrite"):
        claim_folder(tmp_path, {"limit": 2}, overwrite=False)
    assert shard.exists() and finished_settings(tmp_path) is None

    with pytest.raises(ValueError, match=r"another data set or of other settings \(limit: .* now; other rows\): name"):
        claim_folder(tmp_path, {"limit": 2, "rows": "ab"}, overwrite=False)

    shard.unlink()
    (tmp_path / "crops.json").write_text('{"settings": {"limit": 1}}')
    assert finished_settings(tmp_path) == {"limit": 1}
    claim_folder(tmp_path, {"limit": 2}, overwrite=False)
    assert json.loads(settings.read_bytes()) == {"limit": 2}
    assert finished_settings(tmp_path) is None, "a folder that holds no rows is not finished"
