import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from PIL import Image

from processing.features.batch_order import largest_first
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


def test_largest_first(features):
    # the longest text, then two crops of 16, a picture of 24 pixels, one crop
    assert largest_first(features) == [1, 2, 3, 0]
    assert largest_first(features.select([0, 3, 1, 0])) == [2, 1, 0, 3]
    assert largest_first(features.remove_columns(["pixel_values", "aux_pixel_values"])) == [1, 0, 2, 3]
    assert largest_first(features.select([])) == []


def test_no_pixel_is_read(features):
    features.set_transform(lambda rows: pytest.fail("a row was read"))
    largest_first(features)
