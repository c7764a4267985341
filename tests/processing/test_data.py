import json

import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from processing import data as data_module
from processing.data import (
    DATASETS,
    decode_pictures,
    drop_tokenless,
    encode_pictures,
    load_data,
    shuffle_pictures,
    word_labels,
)
from processing.demo_mner import DemoMNER
from processing.labels import TWITTER_TAGS
from processing.rows import PICTURE_COLUMNS, ner_features


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    builder = DemoMNER(cache_dir=cache, num_train=5, num_validation=0, num_test=40)
    builder.download_and_prepare()
    return encode_pictures(builder.as_dataset())


def pictures(row):
    return [row[column] for column in PICTURE_COLUMNS]


def test_shuffling_moves_all_pictures_of_a_row_together_and_no_text(demo):
    rows = demo["test"]
    shuffled = shuffle_pictures(rows, seed=0)
    assert shuffled["tokens"] == rows["tokens"] and shuffled["ner_tags"] == rows["ner_tags"]
    assert shuffled.features == rows.features
    before, after = [pictures(row) for row in rows], [pictures(row) for row in shuffled]
    assert sorted(map(repr, before)) == sorted(map(repr, after))
    moved = [one != other for one, other in zip(before, after, strict=True) if one[0] is not None]
    assert len(moved) > 30 and all(moved)
    other = [pictures(row) for row in shuffle_pictures(rows, seed=1)]
    assert other != after


def test_pictures_stay_encoded(demo):
    image = next(row["image"] for row in demo["test"] if row["image"] is not None)
    assert set(image) == {"bytes", "path"}


def test_rows_without_a_token_are_kept_aside(demo, make_processor):
    rows = demo["train"].map(
        lambda row, index: {"tokens": ["\u200d"] * len(row["tokens"])} if index == 1 else {}, with_indices=True
    )
    kept, dropped = drop_tokenless(rows, make_processor())
    assert len(kept) == 4
    assert dropped == [word_labels(rows)[1]]
    same, nothing = drop_tokenless(demo["train"], make_processor())
    assert same is demo["train"] and nothing == []


def test_decoded_pictures_are_pictures_again(demo):
    decoded = decode_pictures(demo)["test"]
    assert decoded.features == ner_features(TWITTER_TAGS)
    assert isinstance(next(row["image"] for row in decoded if row["image"] is not None), Image.Image)


class TestLoadData:
    def test_your_own_file(self, tmp_path):
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "a.png")
        row = {"tokens": ["Jordan"], "ner_tags": ["B-PER"], "image": "a.png", "aux_crops": ["gone.png"]}
        (tmp_path / "tweets.jsonl").write_text(json.dumps(row))
        data, report = load_data(
            str(tmp_path / "tweets.jsonl"), cache_dir=str(tmp_path / "cache"), image_dir=str(tmp_path / "photos")
        )
        assert word_labels(data["train"]) == [["B-PER"]]
        assert set(data["train"][0]["image"]) == {"bytes", "path"}
        assert "gone.png: no such file" in report

    def test_published_data(self, shared, tmp_path):
        data, report = load_data("mnre", data_dir=str(shared / "data" / "mnre"), cache_dir=str(tmp_path))
        assert data["train"].features["relation"].names[0] == "None" and "text only" in report

    def test_unknown_names(self):
        with pytest.raises(ValueError, match=rf"dataset must be one of {', '.join(DATASETS)}, a file .*got 'twitter'"):
            load_data("twitter")

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("demo", {"image_dir": "x"}, "image_dir apply to files of your own, not to 'demo'"),
            ("user/name", {"strict": True}, "strict apply to files of your own, not to 'user/name'"),
            (".", {"data_dir": "x"}, r"data_dir applies to twitter2015, twitter2017, mnre, not to '\.'"),
        ],
    )
    def test_options_that_do_not_apply(self, name, options, message):
        with pytest.raises(ValueError, match=message):
            load_data(name, **options)

    def test_a_data_set_of_the_hub(self, demo, monkeypatch):
        monkeypatch.setattr(data_module, "load_dataset", lambda name, cache_dir: decode_pictures(demo))
        data, report = load_data("user/name")
        assert data["test"].features == demo["test"].features and report == ""

    def test_a_data_set_of_the_hub_with_other_columns(self, monkeypatch):
        other = DatasetDict({"train": Dataset.from_dict({"tokens": [["a"]], "ner_tags": [[0]]})})
        monkeypatch.setattr(data_module, "load_dataset", lambda name, cache_dir: other)
        with pytest.raises(ValueError, match=r"user/name, split train: expected the columns aux_crops, .*got tokens"):
            load_data("user/name")
