import json

import pytest
from datasets import Dataset
from PIL import Image

from processing.data.mnre import MNRE_RELATIONS
from processing.inspection.statistics import (
    has_pictures,
    seldom_first,
    split_statistics,
    statistics_table,
    text_table,
)
from processing.labels import TWITTER_TAGS
from processing.rows.row_features import ner_features, re_features


@pytest.fixture
def rows() -> Dataset:
    picture = Image.new("RGB", (4, 4))
    columns = {
        "id": ["a", "b", "c"],
        "image_id": ["1", None, "3"],
        "tokens": [["New", "York", "and", "Paris"], ["hm"], ["Jordan", "!"]],
        "ner_tags": [["B-LOC", "I-LOC", "O", "B-LOC"], ["O"], ["I-PER", "O"]],
        "image": [picture, None, picture],
        "aux_crops": [[picture, picture], [], [picture]],
        "rcnn_crops": [[], None, []],
    }
    return Dataset.from_dict(columns, features=ner_features(TWITTER_TAGS))


def test_entities(rows):
    assert split_statistics(rows) == {
        "rows": 3,
        "words": {"total": 7, "mean": pytest.approx(7 / 3), "median": 2, "95 %": 3, "longest": 4},
        "entities": {"LOC": 2, "PER": 1},  # an I- that continues nothing is an entity, as in scoring
        "without_image": 1,
        "aux_crops": {0: 1, 1: 1, 2: 1},
        "rcnn_crops": {0: 3},
        "rows_without_entity": 1,
    }


def test_whether_there_are_pictures(rows):
    statistics = split_statistics(rows)
    assert has_pictures(statistics) and has_pictures(json.loads(json.dumps(statistics)))
    without = rows.remove_columns("image").add_column("image", [None] * len(rows), feature=rows.features["image"])
    assert has_pictures(split_statistics(without)), "crops"
    crops = {column: [[]] * len(rows) for column in ("aux_crops", "rcnn_crops")}
    for column, empty in crops.items():
        feature = without.features[column]
        without = without.remove_columns(column).add_column(column, empty, feature=feature)
    assert not has_pictures(json.loads(json.dumps(split_statistics(without))))


def test_no_picture_is_decoded(rows, monkeypatch):
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: pytest.fail("a picture was opened"))
    split_statistics(rows)


def test_a_selection(rows):
    assert split_statistics(rows.select([2, 2]))["entities"] == {"PER": 2}
    assert split_statistics(rows.select([1]))["aux_crops"] == {0: 1}
    assert split_statistics(rows.select([]))["words"]["longest"] == 0


def test_columns_that_are_absent(rows):
    expected = "Expected the columns tokens, ner_tags, image, aux_crops, rcnn_crops, got id, image_id, tokens"
    with pytest.raises(ValueError, match=expected):
        split_statistics(rows.remove_columns(["image"]))


def test_relations():
    entities = [{"name": "Paris", "start": start, "end": start + 1} for start in (0, 2)]
    columns = {
        "id": ["a", "b", "c"],
        "image_id": [None] * 3,
        "tokens": [["Paris", "met", "Jordan"]] * 3,
        "head": [entities[0], entities[1], entities[1]],
        "tail": [entities[0], entities[0], entities[0]],
        "relation": ["None", "/per/per/peer", "None"],
        "image": [None] * 3,
        "aux_crops": [[]] * 3,
        "rcnn_crops": [[]] * 3,
    }
    statistics = split_statistics(Dataset.from_dict(columns, features=re_features(MNRE_RELATIONS)))
    assert statistics["relations"] == {"None": 2, "/per/per/peer": 1}
    assert statistics["tail_first"] == {"None": 1, "/per/per/peer": 1}
    assert statistics["head_first"] == {"None": 0, "/per/per/peer": 0}
    assert "entities" not in statistics
    json.dumps(statistics)
    table = {name: cells for name, *cells in statistics_table({"train": statistics})[1]}
    assert table["relations, None"] == ["2"] and table["tail first, None"] == ["1"]


@pytest.mark.parametrize(
    ("head_first", "tail_first", "seldom"),
    [(20, 0, "tail"), (19, 0, None), (96, 4, "tail"), (95, 5, None), (0, 20, "head"), (4, 96, "head"), (0, 0, None)],
)
def test_what_seldom_comes_first(head_first, tail_first, seldom):
    statistics = {"head_first": {"no": head_first, "peer": 50}, "tail_first": {"no": tail_first, "peer": 20}}
    assert seldom_first(statistics, "no") == seldom
    assert seldom_first({"head_first": {"peer": 50}, "tail_first": {}}, "no") is None
    assert seldom_first(statistics, "no", 0.02) == (None if head_first in (4, 96) else seldom)
    assert seldom_first(statistics, "no", 0.5) is None


def test_a_table_has_a_line_for_each_count_and_a_column_for_each_split(rows):
    statistics = {"train": split_statistics(rows), "test": split_statistics(rows.select([1]))}
    header, lines = statistics_table(statistics)
    assert header == ["", "train", "test"]
    table = {name: cells for name, *cells in lines}
    assert table["rows"] == ["3", "1"] and table["words, mean"] == ["2.3", "1.0"]
    assert table["entities, LOC"] == ["2", "0"] and table["rows without entity"] == ["1", "1"]
    assert table["rows with 2 aux crops"] == ["1", "0"] and table["rows with 0 rcnn crops"] == ["3", "1"]
    text = text_table([header, *lines]).splitlines()
    assert len(text) == len(lines) + 1 and len({len(line) for line in text}) == 1
    assert text[0].split() == ["train", "test"] and text[1].split() == ["rows", "3", "1"]
