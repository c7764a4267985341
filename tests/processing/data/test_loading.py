import errno
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets.arrow_writer import ArrowWriter
from PIL import Image

from processing.data import loading as data_module
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.loading import DATASETS, DEMOS, decode_pictures, encode_pictures, load_data
from processing.data.mnre import MNRE_RELATIONS
from processing.labels import TWITTER_TAGS
from processing.rows.parquet_folder import shard_path, write_shard
from processing.rows.row_features import ner_features, re_features, with_objects


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    cache = str(tmp_path_factory.mktemp("cache"))
    builder = DemoMNER(cache_dir=cache, num_train=5, num_validation=0, num_test=40)
    builder.download_and_prepare()
    return encode_pictures(builder.as_dataset())


def test_pictures_stay_encoded(demo):
    image = next(row["image"] for row in demo["test"] if row["image"] is not None)
    assert set(image) == {"bytes", "path"}


def test_decoded_pictures_are_pictures_again(demo):
    decoded = decode_pictures(demo)["test"]
    assert decoded.features == with_objects(ner_features(TWITTER_TAGS))
    assert isinstance(next(row["image"] for row in decoded if row["image"] is not None), Image.Image)


def test_no_two_demos_share_their_prepared_rows():
    """`datasets` names a builder, and the folder of what it has prepared, by the module of its class."""
    assert len({builder(num_train=0, num_validation=0, num_test=1).name for builder in DEMOS.values()}) == len(DEMOS)


class TestLoadData:
    def test_your_own_file(self, tmp_path):
        (tmp_path / "photos").mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "a.png")
        row = {"tokens": ["Jordan"], "ner_tags": ["B-PER"], "image": "a.png", "aux_crops": ["gone.png"]}
        (tmp_path / "tweets.jsonl").write_text(json.dumps(row))
        data, report = load_data(
            str(tmp_path / "tweets.jsonl"), cache_dir=str(tmp_path / "cache"), image_dir=str(tmp_path / "photos")
        )
        tags = data["train"].features["ner_tags"].feature
        assert tags.int2str(data["train"][0]["ner_tags"]) == ["B-PER"]
        assert set(data["train"][0]["image"]) == {"bytes", "path"}
        assert "gone.png: there is no such file" in str(report)

    def test_published_data(self, shared, tmp_path):
        data, report = load_data("mnre", data_dir=str(shared / "data" / "mnre"), cache_dir=str(tmp_path))
        assert data["train"].features["relation"].names[0] == "None" and "no row has a picture" in str(report)

    def test_unknown_names(self):
        with pytest.raises(ValueError, match=rf"dataset must be one of {', '.join(DATASETS)}, a file .*got 'twitter'"):
            load_data("twitter")

    @pytest.mark.parametrize("name", ["nowhere/", "./nowhere", "tweets.csv", "/no/tweets"])
    def test_paths_that_are_not_there_ask_no_hub(self, name, monkeypatch):
        monkeypatch.setattr(data_module, "load_dataset", lambda *args, **kwargs: pytest.fail("asked the Hub"))
        with pytest.raises(ValueError, match="no such file or folder"):
            load_data(name)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("demo", {"image_dir": "x"}, "image_dir can be given only for files of your own, not for 'demo'"),
            ("user/name", {"strict": True}, "strict can be given only for files of your own, not for 'user/name'"),
            (
                ".",
                {"data_dir": "x"},
                r"data_dir can be given only for twitter2015, twitter2017, mnre, not for '\.'\. Name your folder",
            ),
        ],
    )
    def test_options_that_do_not_apply(self, name, options, message):
        with pytest.raises(ValueError, match=message):
            load_data(name, **options)

    def test_a_data_set_of_the_hub(self, demo, monkeypatch):
        monkeypatch.setattr(data_module, "load_dataset", lambda name, cache_dir: decode_pictures(demo))
        data, report = load_data("user/name")
        assert data["test"].features == demo["test"].features and not report

    @pytest.mark.parametrize(
        ("tags", "message"),
        [
            (Value("string"), r"expected the column ner_tags, a list of class labels, or relation"),
            (Value("int64"), r"expected the column ner_tags, a list of class labels, or relation"),
            (ClassLabel(names=["O"]), r"expected id: .*image: Image.* got id: None, .*save_to_disk\(\)"),
        ],
    )
    def test_a_data_set_of_the_hub_with_other_columns(self, monkeypatch, tags, message):
        features = Features({"tokens": List(Value("string")), "ner_tags": List(tags)})
        rows = Dataset.from_dict({"tokens": [["a"]], "ner_tags": [["O" if tags == Value("string") else 0]]}, features)
        monkeypatch.setattr(data_module, "load_dataset", lambda name, cache_dir: DatasetDict({"train": rows}))
        with pytest.raises(ValueError, match=f"user/name, split train: {message}"):
            load_data("user/name")

    def test_numbers_of_crops_reach_the_builder(self, tmp_path):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        row = {"tokens": ["Jordan"], "ner_tags": ["B-PER"], "aux_crops": ["a.png"] * 5}
        (tmp_path / "tweets.jsonl").write_text(json.dumps(row))

        def number(**numbers):
            name = str(tmp_path / "tweets.jsonl")
            data, _ = load_data(name, cache_dir=str(tmp_path / "cache"), **numbers)
            return len(data["train"][0]["aux_crops"])

        assert (number(num_aux_crops=5), number(num_aux_crops=0), number()) == (5, 0, 3)

    @pytest.mark.parametrize("kind", ["parquet", "disk", "other numbers"])
    def test_relations_of_ones_own(self, tmp_path, kind):
        entity = {"name": "a", "start": 0, "end": 1}
        row = {"id": "x", "image_id": "", "tokens": ["a", "b"], "head": entity, "tail": entity, "relation": 1}
        row |= {"image": Image.new("RGB", (3, 3)), "aux_crops": [], "rcnn_crops": []}
        features = re_features(["None", "peer"])
        rows = encode_pictures(DatasetDict({"train": Dataset.from_list([row], features=features)}))
        if kind == "other numbers":
            wide = {"name": Value("string"), "start": Value("int64"), "end": Value("int64")}
            rows = rows.cast(Features({**rows["train"].features, "head": wide, "tail": wide}))
        folder = tmp_path / "own"
        if kind == "disk":
            rows.save_to_disk(str(folder))
        else:
            folder.mkdir()
            rows["train"].to_parquet(folder / "train.parquet")
        data, _ = load_data(str(folder), cache_dir=str(tmp_path / "cache"))
        assert decode_pictures(data)["train"].features == features
        assert data["train"].to_list() == rows["train"].to_list()

    @pytest.mark.parametrize("column", ["image", "aux_crops"])
    def test_a_file_with_our_columns_names_no_picture_elsewhere(self, tmp_path, column):
        """Whoever made the file would otherwise choose what of this machine is shared."""
        (tmp_path / "own").mkdir()
        Image.new("RGB", (3, 3)).save(tmp_path / "own" / "a.png")
        Image.new("RGB", (3, 3)).save(tmp_path / "secret.png")

        def load(path):
            picture = {"bytes": None, "path": str(path)}
            entity = {"name": "a", "start": 0, "end": 1}
            row = {"id": "x", "image_id": "", "tokens": ["a"], "head": entity, "tail": entity, "relation": 1}
            row |= {"image": None, "aux_crops": [], "rcnn_crops": []}
            row[column] = picture if column == "image" else [picture]
            table = pa.Table.from_pylist([row], schema=re_features(["None", "peer"]).arrow_schema)
            pq.write_table(table, tmp_path / "own" / "train.parquet")
            return load_data(str(tmp_path / "own"), cache_dir=str(tmp_path / "cache"))[0]["train"][0][column]

        assert load(tmp_path / "own" / "a.png")
        (tmp_path / "alias").symlink_to("own")
        loaded = load(tmp_path / "alias" / "a.png")
        real = {"bytes": None, "path": str(tmp_path / "own" / "a.png")}
        assert loaded == (real if column == "image" else [real]), "so that a link to the folder itself hides nothing"
        (tmp_path / "own" / "link.png").symlink_to("../secret.png")
        for path in (tmp_path / "secret.png", tmp_path / "own" / ".." / "secret.png", tmp_path / "own" / "link.png"):
            with pytest.raises(ValueError, match=rf"split train, row 0, {column}: expected a picture inside the file"):
                load(path)

    def test_relations_that_were_saved_as_parquet(self, tmp_path):
        entity = {"name": "a", "start": 0, "end": 1}
        columns = {"id": ["x"], "image_id": [None], "tokens": [["a", "b"]], "head": [entity], "tail": [entity]}
        columns |= {"relation": ["None"], "image": [Image.new("RGB", (3, 3))], "aux_crops": [[]], "rcnn_crops": [[]]}
        rows = Dataset.from_dict(columns, features=re_features(MNRE_RELATIONS))
        write_shard(rows, shard_path(tmp_path / "saved", "train", 0, 1))
        data, _ = load_data(str(tmp_path / "saved"), cache_dir=str(tmp_path / "cache"))
        assert data["train"].features["relation"].names == list(MNRE_RELATIONS)
        assert data["train"][0]["head"] == entity and data["train"][0]["image"]["bytes"]

    @pytest.mark.parametrize("end", [1, 4])
    def test_relations_whose_places_are_not_those_of_their_names(self, tmp_path, end):
        head, tail = {"name": "Jordan", "start": 0, "end": end}, {"name": "Paris", "start": 2, "end": 3}
        row = {"id": "x", "image_id": "", "tokens": ["Jordan", "met", "Paris"], "head": head, "tail": tail}
        rows = [{**row, "relation": 1, "image": None, "aux_crops": [], "rcnn_crops": []}]
        hidden = [{**rows[0], "relation": None}]
        (tmp_path / "own").mkdir()
        for split, of_split in (("train", rows), ("test", hidden)):
            data = Dataset.from_list(of_split, features=re_features(["None", "peer"]))
            data.to_parquet(tmp_path / "own" / f"{split}.parquet")
        if end == 1:
            data, report = load_data(str(tmp_path / "own"), cache_dir=str(tmp_path / "cache"))
            assert list(data) == ["train"]
            assert report.notes == ["the test split is left out, since its rows (1) have no labels"]
        else:
            wrong = r"split train, row 0: head: the text that is .* \('Jordan' is given, 0 to 4 is 'Jordan met Paris'"
            with pytest.raises(ValueError, match=wrong):
                load_data(str(tmp_path / "own"), cache_dir=str(tmp_path / "cache"))

    def test_tags_that_are_hidden(self):
        row = {"id": "x", "image_id": "", "tokens": ["a", "b"], "ner_tags": [0, 1], "image": None}
        row |= {"aux_crops": [], "rcnn_crops": []}
        rows = {"train": [row], "test": [{**row, "ner_tags": [-1, -1]}]}
        features = ner_features(["O", "B-PER"])
        data = DatasetDict({split: Dataset.from_list(of, features=features) for split, of in rows.items()})
        left, report = data_module._labelled("x", data)
        assert list(left) == ["train"] and "the test split is left out" in report.notes[0]

    def test_no_picture_is_written_twice(self, tmp_path):
        Image.effect_noise((300, 300), 90).save(tmp_path / "a.png")
        row = {"tokens": ["Jordan"], "ner_tags": ["B-PER"], "image": "a.png", "aux_crops": ["a.png"] * 3}
        (tmp_path / "tweets.jsonl").write_text(json.dumps(row))
        cache = tmp_path / "cache"
        data, _ = load_data(str(tmp_path / "tweets.jsonl"), cache_dir=str(cache))
        decode_pictures(encode_pictures(data))
        assert [path.name for path in cache.rglob("*.arrow")] == ["file_mner-train.arrow"]

    def test_a_full_disk(self, tmp_path, monkeypatch):
        (tmp_path / "tweets.jsonl").write_text(json.dumps({"tokens": ["Jordan"], "ner_tags": ["B-PER"]}))

        def no_space(*args, **kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(ArrowWriter, "finalize", no_space)
        with pytest.raises(OSError, match=r"no space left in .*another cache_dir"):
            load_data(str(tmp_path / "tweets.jsonl"), cache_dir=str(tmp_path / "cache"))


def test_a_lone_file_without_labels(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text('{"text": "Jordan met Paris"}\n{"text": "no one"}\n')
    for _ in range(2):  # The second time, the rows come from the cache.
        with pytest.raises(ValueError, match=r"test\.jsonl: none of its rows has labels .* predict\.py, with --input"):
            load_data(str(path), cache_dir=str(tmp_path / "cache"))
