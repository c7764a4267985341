import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from processing.features.batch_order import feature_sizes, largest_first
from processing.features.prepare import prepare_features


@pytest.fixture
def features(make_processor, tmp_path):
    picture = Image.new("RGB", (30, 30), "teal")
    rows = Dataset.from_dict(
        {
            "id": ["a", "b", "c", "d"],
            "tokens": [["Jordan"], ["Jordan", "met", "Paris"], ["Jordan"], ["Jordan"]],
            "image": [None, None, picture, None],
            "aux_crops": [[picture], [], [], [picture, picture]],
        },
        features=Features(
            {
                "id": Value("string"),
                "tokens": List(Value("string")),
                "image": ImageFeature(),
                "aux_crops": List(ImageFeature()),
            }
        ),
    )
    return prepare_features(rows, make_processor(), str(tmp_path))


def test_sizes_are_those_of_the_features(features):
    sizes = feature_sizes(features)
    assert sizes[:, 0].tolist() == [len(row["input_ids"]) for row in features]
    picture, crop = 3 * 24 * 24, 3 * 16 * 16
    assert sizes[:, 1].tolist() == [crop, 0, picture, 2 * crop]
    assert feature_sizes(features.select([])).shape == (0, 2)


def test_sizes_read_no_pixel(features):
    features.set_transform(lambda rows: pytest.fail("a row was read"))
    feature_sizes(features)


def test_largest_first(features):
    # the longest text, then two crops of 16, a picture of 24 pixels, one crop
    assert largest_first(feature_sizes(features)) == [1, 2, 3, 0]
    assert largest_first(np.array([[3, 1], [3, 1], [9, 0]])) == [2, 0, 1]
    assert largest_first([]) == []
