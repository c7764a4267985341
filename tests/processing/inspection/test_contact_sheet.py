import numpy as np
from PIL import Image, ImageColor

from processing.detectors import DetectedObject
from processing.inspection.contact_sheet import PICTURE_HEIGHT, SheetEntry, contact_sheet
from processing.rendering import CROP_COLOURS


def count(sheet, colour):
    return int((np.asarray(sheet) == ImageColor.getrgb(colour)).all(axis=-1).sum())


def entry(objects, picture=None, text="a text"):
    return SheetEntry("row 1", text, picture or Image.new("RGB", (200, 150), "gray"), objects)


def test_frames_are_where_the_boxes_are():
    box = (50.0, 30.0, 150.0, 120.0)
    plain = np.asarray(contact_sheet([entry({"aux": [], "rcnn": []})]))
    framed = np.asarray(contact_sheet([entry({"aux": [DetectedObject("dog", 0.5, box)], "rcnn": []})]))
    left, top = np.argwhere((plain == ImageColor.getrgb("gray")).all(axis=-1))[0][::-1]
    scale = PICTURE_HEIGHT / 150
    colour = ImageColor.getrgb(CROP_COLOURS["aux"])
    for x, y in ((50, 75), (100, 30.4), (149.4, 75), (100, 119.4)):  # the middle of each edge
        assert tuple(framed[round(top + y * scale), round(left + x * scale)]) == colour
    middle = round(top + 75 * scale), round(left + 100 * scale)
    assert tuple(framed[middle]) == ImageColor.getrgb("gray")


def test_a_colour_for_each_kind_and_a_legend():
    detected = DetectedObject("dog", 0.5, (50.0, 30.0, 150.0, 120.0))
    nothing = contact_sheet([entry({"aux": [], "rcnn": []})])
    legend = {kind: count(nothing, colour) for kind, colour in CROP_COLOURS.items()}
    assert all(legend.values())
    for kind, other in (("aux", "rcnn"), ("rcnn", "aux")):
        sheet = contact_sheet([entry({kind: [detected], other: []})])
        assert count(sheet, CROP_COLOURS[kind]) > legend[kind] + 500
        assert count(sheet, CROP_COLOURS[other]) == legend[other]


def test_label_score_and_text_are_drawn():
    def sheet(label="dog", score=0.5, text="a text", title="title"):
        objects = {"aux": [DetectedObject(label, score, (50.0, 30.0, 150.0, 120.0))]}
        return contact_sheet([entry(objects, text=text)], title).tobytes()

    assert len({sheet(), sheet(label="cat"), sheet(score=0.6), sheet(text="other"), sheet(title="other")}) == 5


def test_grid():
    entries = [entry({"aux": []})] * 7
    one, three, seven = (contact_sheet(entries[:number]) for number in (1, 3, 7))
    assert one.width < three.width == seven.width
    assert one.height == three.height < seven.height
    assert contact_sheet([]).width > 0


def test_whatever_comes_in_is_drawn():
    """Boxes in all corners, thin pictures, texts without end or blank, scripts the font does not know."""
    whole = DetectedObject("x" * 300, 1.0, (0.0, 0.0, 3.0, 900.0))
    speck = DetectedObject("", 0.0, (2.9, 899.0, 3.0, 900.0))
    entries = [
        entry({"aux": [whole] * 30, "rcnn": [speck]}, Image.new("RGB", (3, 900))),
        entry({"aux": []}, Image.new("L", (2000, 2)), text="word" * 500 + " \u65e5\u672c \U0001f602 " + "word " * 500),
        SheetEntry("", "", None, {}, "cannot be read: " + "reason " * 100),
    ]
    sheet = contact_sheet(entries, "title " * 100)
    assert sheet.size == contact_sheet([entry({"aux": []})] * 3, "title").size
