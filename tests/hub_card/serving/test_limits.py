"""What a request may hold: boxes of every form, and what is none."""

import json

import pytest

from hub_card.serving import limits


def test_a_name_is_a_short_line():
    assert limits.label_of("Foto 1 (ä).png") == "Foto 1 (ä).png"
    assert limits.label_of("a\nb\0\u202e\ud800c") == "a\ufffdb\ufffd\ufffd\ufffdc"
    assert limits.label_of("x" * 10**6) == "x" * 100 + "..."


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        {},
        [1, 2, 3, 4],
        [[1, 2, 3, 4.5]] * 100,
        {"box": [1, 2, 3, 4], "label": "a dog", "score": 0.5},
        {"aux_crops": [{"box": [1, 2, 3, 4], "label": None}], "rcnn_crops": None},
        {"aux_crops": [1, 2, 3, 4]},
    ],
)
def test_boxes_of_every_form_are_taken(boxes):
    assert limits.read_boxes(json.dumps(boxes)) == boxes


def test_a_box_of_a_certain_picture():
    text = '{"box": [1, 2, 3, 4], "image": 1}'
    (of_list,), alone = limits.read_boxes(f"[{text}]"), limits.read_boxes(text)
    (of_column,), of_other = limits.read_boxes(f'{{"aux_crops": [{text}], "rcnn_crops": {text}}}').values()
    for box in (of_list, alone, of_column, of_other):
        assert box["image"] == 1 and type(box["image"]) is int, "the number of a picture, not a float"
    for image in ("-1", "0.5", '"1"', "true", "1e400"):
        with pytest.raises(limits.Refused):
            limits.read_boxes(f'[{{"box": [1, 2, 3, 4], "image": {image}}}]')


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("[" * 10_000, "The boxes are no JSON"),
        (" " * 10_001, "The boxes have 10,001 characters, at most 10,000 are taken."),
        (f"[[1, 2, 3, {'9' * 5000}]]", "A box is"),
        ("[[0, 0, NaN, 9]]", "A box is"),
        ("[[0, 0, 1e999, 9]]", "A box is"),
        ("[[true, 0, 9, 9]]", "A box is"),
        ('[["1", "2", "3", "4"]]', "A box is"),
        ('[{"box": [0, 0, 9, 9], "score": NaN}]', "A box is"),
        ('[{"box": [0, 0, 9, 9], "label": {"path": "/etc/passwd"}}]', "A box is"),
        ('[{"box": [0, 0, 9, 9], "more": 1}]', "A box is"),
        ('[{"box": {"box": [0, 0, 9, 9]}}]', "A box is"),
        (json.dumps([[1, 2, 3, 4]] * 101), "There are 101 boxes, at most 100 are taken."),
        ('{"aux_crops": 5}', "Boxes are lists"),
        ('"auto"', "Boxes are lists"),
        ("null", "Boxes are lists"),
        ('{"crops": []}', "Boxes are given as a list, or by aux_crops and rcnn_crops."),
    ],
)
def test_boxes_that_are_none(boxes, message):
    with pytest.raises(limits.Refused) as refusal:
        limits.read_boxes(boxes)
    assert str(refusal.value).startswith(message)
