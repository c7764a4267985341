import io

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from processing.inspection import contact_sheet as module
from processing.inspection.contact_sheet import CROP_KIND_NAMES, SheetEntry, contact_sheet
from processing.object_proposals import DetectedObject
from processing.rendering import CROP_COLOURS


def entry(objects, picture=None, text="a text", title="row 1"):
    return SheetEntry(title, text, picture or Image.new("RGB", (200, 150), "gray"), objects)


def size(sheet):
    return Image.open(io.BytesIO(sheet)).size


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn."""
    figures = []

    class Kept(Figure):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            figures.append(self)

    monkeypatch.setattr(module, "Figure", Kept)
    return figures


def test_an_object_without_a_score_has_its_label_alone(drawn):
    contact_sheet([entry({"aux": [DetectedObject("dog", None, (50.0, 30.0, 150.0, 120.0))], "rcnn": []})])
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["dog"]


def test_each_object_has_a_frame_in_its_colour_with_label_and_score(drawn):
    objects = {
        "aux": [DetectedObject("dog", 0.5, (50.0, 30.0, 150.0, 120.0))],
        "rcnn": [DetectedObject("$cat$", 0.25, (0.0, 0.0, 20.0, 10.0))],
    }
    contact_sheet([entry(objects, text="Jordan met $5 and $6")], "the title")
    (figure,) = drawn
    (axes,) = figure.axes
    dog, cat = axes.patches
    assert (dog.get_xy(), dog.get_width(), dog.get_height()) == ((50.0, 30.0), 100.0, 90.0)
    assert [text.get_text() for text in axes.texts] == ["dog 0.50", "$cat$ 0.25"]
    assert [patch.get_edgecolor() for patch in (dog, cat)] == [to_rgba(CROP_COLOURS[kind]) for kind in CROP_KIND_NAMES]
    (picture,) = axes.images
    assert picture.get_extent() == [0, 200, 150, 0], "boxes are in pixels of the picture"
    assert (axes.get_title("left"), axes.get_title("right")) == ("row 1", "aux 1, rcnn 1")
    assert axes.get_xlabel().strip() == "Jordan met $5 and $6"
    assert figure.get_suptitle() == "the title"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CROP_KIND_NAMES.values())


def test_a_large_picture_keeps_its_boxes(drawn):
    contact_sheet(
        [entry({"aux": [DetectedObject("a", 0.5, (0.0, 0.0, 6000.0, 4000.0))]}, Image.new("L", (6000, 4000)))]
    )
    (axes,) = drawn[0].axes
    assert axes.images[0].get_extent() == [0, 6000, 4000, 0] and max(axes.images[0].get_size()) < 1000
    assert axes.patches[0].get_width() == 6000


def test_grid():
    one, three, seven = (size(contact_sheet([entry({"aux": []})] * number)) for number in (1, 3, 7))
    assert one[0] < three[0] == seven[0]
    assert one[1] == three[1] < seven[1]
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_the_same_entries_give_the_same_bytes():
    assert contact_sheet([entry({"aux": []})] * 2, "title") == contact_sheet([entry({"aux": []})] * 2, "title")


def test_whatever_comes_in_is_drawn(recwarn):
    """Boxes in all corners, thin pictures, texts without end or blank, scripts the font does not know."""
    whole = DetectedObject("x" * 300, 1.0, (0.0, 0.0, 3.0, 900.0))
    speck = DetectedObject("", 0.0, (2.9, 899.0, 3.0, 900.0))
    entries = [
        entry({"aux": [whole] * 30, "rcnn": [speck]}, Image.new("RGB", (3, 900))),
        entry(
            {"aux": []}, Image.new("RGB", (2000, 2)), text="word" * 500 + " \u65e5\u672c \U0001f602 " + "word " * 500
        ),
        entry({}, Image.new("RGB", (1, 1)), text="", title="title " * 100),
    ]
    sheet = contact_sheet(entries, "title " * 100)
    assert size(sheet) == size(contact_sheet([entry({"aux": []})] * 3, "title"))
    assert not list(recwarn)
