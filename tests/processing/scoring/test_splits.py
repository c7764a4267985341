import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from processing.columns import PICTURE_COLUMNS
from processing.data.demo.entity_tweets import DemoMNER
from processing.data.loading import encode_pictures
from processing.images import EMPTY, UNKNOWN_FORMAT
from processing.rows.row_features import ner_features, re_features
from processing.scoring.splits import Split, shuffle_pictures


TAGS = ["O", "B-PER", "I-PER"]
ABSENT = {"image_id": None, "image": None, "aux_crops": [], "rcnn_crops": []}


@pytest.fixture
def tagged() -> Dataset:
    """Of the second row a tokenizer keeps nothing."""
    rows = [
        {"id": "a", "tokens": ["New", "York", "Jordan"], "ner_tags": [0, 0, 1], **ABSENT},
        {"id": "b", "tokens": ["\u200d"], "ner_tags": [1], **ABSENT},
        {"id": "c", "tokens": ["Jordan"], "ner_tags": [1], **ABSENT},
    ]
    return Dataset.from_list(rows, features=ner_features(TAGS))


def test_rows_without_a_token_are_missed(tagged, make_processor, tmp_path, caplog):
    split = Split(tagged, make_processor(tags=TAGS), cache_dir=str(tmp_path))
    assert split.features.with_format(None)["row"] == [0, 2]
    assert "1 rows have no token and are not given to the model" in caplog.text
    perfect = [row["labels"] for row in split.features]
    scores = split.score(perfect)
    assert (scores["precision"], scores["recall"], scores["support"]) == (1, pytest.approx(2 / 3), 3)
    assert (scores["unreachable_words"], scores["unreachable_entities"]) == (1, 1)
    assert split.score(perfect, "published")["recall"] == 1
    assert split.confusion(perfect) == {"types": ["PER"], "counts": [[2, 1], [0, 0]]}
    assert split.counts(perfect).tolist() == [[1, 1, 1], [0, 0, 1], [1, 1, 1]]
    assert split.counts(perfect, "published").tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert [(match.row, match.kind) for match in split.errors(perfect).matches] == [
        (0, "correct"),
        (1, "missed"),
        (2, "correct"),
    ]
    assert split.errors(perfect, ["JORDAN"]).counts["training words"] == {
        "every word seen": {"gold": 2, "predicted": 2, "correct": 2},
        "no word seen": {"gold": 1, "missed": 1},
    }
    with pytest.raises(ValueError, match=r"zip\(\)"):
        split.score(perfect[:1])


def test_unusable_pictures_are_counted_by_kind(tagged, make_processor, tmp_path):
    page, nothing = ({"bytes": data, "path": None} for data in (b"<html>", b""))
    pictures = {"aux_crops": [[page, nothing], [page], [page]]}
    rows = encode_pictures(DatasetDict(test=Dataset.from_dict({**tagged[:], **pictures}, tagged.features)))["test"]
    split = Split(rows, make_processor(tags=TAGS), cache_dir=str(tmp_path))
    assert split.unusable_pictures == {UNKNOWN_FORMAT: 2, EMPTY: 1}, "the second row is not read"


def test_gold_tags_that_the_model_does_not_know(tagged, make_processor, tmp_path):
    split = Split(tagged, make_processor(tags=["O", "B-X"]), labels=False, cache_dir=str(tmp_path))
    scores = split.score([[1] * len(row["input_ids"]) for row in split.features])
    assert set(scores["per_type"]) == {"PER", "X"} and scores["f1"] == 0


@pytest.fixture
def related() -> Dataset:
    """Head and tail are the first and the last word; in the second row they are far apart."""
    rows = []
    for row_id, number, relation in (("a", 1, 1), ("b", 30, 2), ("c", 2, 0)):
        words = ["Jordan", *["!"] * number, "Paris"]
        head, tail = ({"name": "x", "start": at, "end": at + 1} for at in (0, number + 1))
        rows.append({"id": row_id, "tokens": words, "head": head, "tail": tail, "relation": relation, **ABSENT})
    return Dataset.from_list(rows, features=re_features(["None", "x", "y"]))


@pytest.mark.parametrize("label_scheme", ["word", "deepke"])
def test_rows_whose_entities_have_no_room_count_as_without_relation(
    related, make_processor, label_scheme, tmp_path, caplog
):
    processor = make_processor(label_scheme=label_scheme, relations=["None", "x", "y"], max_length=24)
    processor.add_entity_markers()
    split = Split(related, processor, cache_dir=str(tmp_path))
    assert [row["row"] for row in split.features] == [0, 2]
    assert "1 rows have no room for both entities and are not given to the model" in caplog.text
    scores = split.score(np.array([1, 0]))
    assert (scores["accuracy"], scores["recall"], scores["unreadable_rows"]) == (pytest.approx(2 / 3), 0.5, 1)
    assert split.confusion(np.array([1, 0]))["counts"] == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert split.counts(np.array([1, 0])).tolist() == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert split.errors(np.array([2, 1])).matches == [
        (0, "wrong relation", ("x", 1, 2), ("y", 1, 2)),
        (1, "missed", ("y", 1, 31), None),
        (2, "spurious", None, ("x", 1, 3)),
    ]
    processor.max_length = None
    assert len(Split(related, processor, cache_dir=str(tmp_path)).features) == 3


def test_shuffling_moves_all_pictures_of_a_row_together_and_no_text(tmp_path):
    builder = DemoMNER(cache_dir=str(tmp_path), num_train=0, num_validation=0, num_test=40)
    builder.download_and_prepare()
    rows = encode_pictures(builder.as_dataset())["test"]

    def pictures(rows):
        return [[row[column] for column in PICTURE_COLUMNS] for row in rows]

    shuffled = shuffle_pictures(rows, seed=0)
    assert shuffled["tokens"] == rows["tokens"] and shuffled["ner_tags"] == rows["ner_tags"]
    assert shuffled.features == rows.features
    before, after = pictures(rows), pictures(shuffled)
    assert sorted(map(repr, before)) == sorted(map(repr, after))
    moved = [one != other for one, other in zip(before, after, strict=True) if one[0] is not None]
    assert len(moved) > 30 and all(moved)
    assert pictures(shuffle_pictures(rows, seed=1)) != after
