import pytest
import yaml
from datasets import load_dataset

from hub_card.dataset_card import dataset_card
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.mnre import MNRE_RELATIONS
from processing.inspection.statistics import split_statistics
from processing.rows.parquet_folder import shard_path, write_shard
from processing.rows.row_features import re_features


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    builder = DemoMNER(cache_dir=str(tmp_path_factory.mktemp("cache")), num_train=30, num_validation=8, num_test=8)
    builder.download_and_prepare()
    return builder.as_dataset()


def facts(data, **kwargs):
    statistics = {split: split_statistics(rows) for split, rows in data.items()}
    values = {
        "title": "Tweets | drawn",
        "features": data["train"].features,
        "statistics": statistics,
        "num_bytes": dict.fromkeys(data, 1000),
    }
    return {**values, **kwargs}


def test_metadata(demo):
    card = dataset_card(**facts(demo, license="mit", language=["en"]))
    metadata = yaml.safe_load(card.content.split("---\n")[1])
    assert metadata["pretty_name"] == "Tweets | drawn"
    assert (metadata["license"], metadata["language"]) == ("mit", ["en"])
    assert metadata["task_categories"] == ["token-classification"]
    assert metadata["size_categories"] == ["n<1K"]
    assert [split["split"] for split in metadata["configs"][0]["data_files"]] == ["train", "validation", "test"]
    assert [split["num_examples"] for split in metadata["dataset_info"]["splits"]] == [30, 8, 8]
    names = metadata["dataset_info"]["features"][3]["list"]["class_label"]["names"]
    assert names["0"] == "O"


def test_text_says_what_was_counted_and_nothing_else(demo):
    report = "train: 30 rows\nphoto.jpg: no such file"
    content = dataset_card(**facts(demo, description="Drawn by **us**.", report=report, repo_id="me/drawn")).text
    assert "# Tweets \\| drawn\n\nDrawn by **us**." in content
    assert "| rows | 30 | 8 | 8 |" in content
    entities = split_statistics(demo["train"])["entities"]
    assert f"| PER | {entities['PER']} |" in content
    assert "    photo.jpg: no such file" in content
    assert 'load_dataset("me/drawn")' in content and "- `aux_objects`: label, score and box" in content
    assert "None" not in content.split("## Counts")[1]
    bare = dataset_card(**facts(demo)).text
    assert "What loading reported" not in bare and "Not described:" in bare
    assert "license" not in dataset_card(**facts(demo)).content


def test_a_type_with_a_bar_breaks_no_table(demo):
    statistics = {split: {**split_statistics(rows), "entities": {"a|b": 1}} for split, rows in demo.items()}
    content = dataset_card(**facts(demo, statistics=statistics)).text
    assert "| a\\|b | 1 | 1 | 1 |" in content


def test_relations(demo):
    statistics = {
        "train": {"rows": 12_000, "words": {"longest": 3}, "relations": {"None": 2}, "without_image": 12_000},
    }
    card = dataset_card(**facts(demo, statistics=statistics, features=re_features(MNRE_RELATIONS)))
    assert "relation extraction" in card.text and "- `head`" in card.text and "ner_tags" not in card.text
    assert "aux_objects" not in card.text, "these data have none"
    assert card.data.size_categories == ["10K<n<100K"] and card.data.task_categories == ["text-classification"]


def test_no_split(demo):
    with pytest.raises(ValueError, match="needs the statistics of at least one split"):
        dataset_card(**facts(demo, statistics={}))


def test_the_datasets_library_reads_the_card(demo, tmp_path):
    for split, rows in demo.items():
        write_shard(rows, shard_path(tmp_path, split, 0, 1))
    (tmp_path / "README.md").write_text(str(dataset_card(**facts(demo))), encoding="utf-8")
    loaded = load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].features == demo["train"].features
    assert loaded["test"]["id"] == demo["test"]["id"]
