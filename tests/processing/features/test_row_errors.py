import pytest

from processing.features.row_errors import by_row
from processing.images import ImageError


ROWS = {"id": ["a", "b", "c"], "number": [1, 2, 3]}


def refuse(error, wrong=2):
    """An encoder that refuses a batch with a certain number in it."""

    def encode(rows, processor):
        if wrong in rows["number"]:
            raise error
        return [processor + number for number in rows["number"]]

    return encode


def test_without_an_error_the_batch_is_encoded_at_once():
    assert by_row(ROWS, refuse(ValueError(), wrong=4), 10) == [11, 12, 13]


@pytest.mark.parametrize("kind", [ValueError, TypeError])
def test_the_row_is_named(kind):
    with pytest.raises(ValueError, match=r"^Row 'b' cannot be prepared: Text 0 is odd$") as error:
        by_row(ROWS, refuse(kind("Text 0 is odd")), 10)
    assert type(error.value) is ValueError


def test_pictures_are_told_apart():
    with pytest.raises(
        ImageError, match=r"^Row 'b' cannot be prepared: broken\. It could be read when .* load it again"
    ):
        by_row(ROWS, refuse(ImageError("broken")), 10)


def test_what_no_single_row_is_to_blame_for():
    def encode(rows, processor):
        if len(rows["id"]) > 1:
            raise ValueError("together too much")

    with pytest.raises(ValueError, match=r"^together too much$"):
        by_row(ROWS, encode, 10)


def test_other_errors_pass():
    with pytest.raises(OSError, match=r"^disk$"):
        by_row(ROWS, refuse(OSError("disk")), 10)
