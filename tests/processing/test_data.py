import pytest

from processing.data import drop_tokenless, load_mner, shuffle_pictures, word_labels
from processing.rows import PICTURE_COLUMNS


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    sizes = {"num_train": 5, "num_validation": 0, "num_test": 40}
    data, report = load_mner("demo", cache_dir=str(tmp_path_factory.mktemp("cache")), **sizes)
    assert report == ""
    return data


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


def test_unknown_name():
    with pytest.raises(ValueError, match=r"dataset must be one of .*got 'twitter'"):
        load_mner("twitter")
