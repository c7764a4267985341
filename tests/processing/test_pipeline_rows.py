import logging
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from processing.images import EMPTY, NO_SUCH_FILE, ImageError
from processing.object_proposals import DetectedObject, encode_crops
from processing.pipeline_rows import (
    NO_BOX,
    NO_CROPS,
    NO_IMAGE,
    NO_NUMBER,
    NO_SUCH_IMAGE,
    OUTSIDE,
    TOO_MANY,
    WRONG_TEXT,
    PipelineRow,
    given_boxes,
    read_row_pictures,
    read_words,
)
from processing.problems import Problem, ProblemError


LIMITS = {"image": 1, "aux_crops": 3, "rcnn_crops": 2}


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))


def read(row, limits=LIMITS, crops="auto", kinds=(), max_images=1):
    """The pictures by column, and the row with what else is known of it."""
    read_row = PipelineRow(columns=row)
    pictures = read_row_pictures(read_row, limits, crops, kinds, max_images=max_images)
    return pictures, read_row


@pytest.mark.parametrize(
    "crops",
    [
        (1, 2, 30, 20),
        [[1, 2, 30, 20]],
        [{"box": (1, 2, 30, 20)}],
        {"box": [1, 2, 30, 20]},
        {"aux_crops": [[1, 2, 30, 20]], "rcnn_crops": []},
        np.array([[1, 2, 30, 20]]),
        torch.tensor([1.0, 2.0, 30.0, 20.0]),
    ],
)
def test_ways_to_give_a_box(crops, image):
    assert given_boxes(crops, LIMITS) == {"aux_crops": [{"box": [1.0, 2.0, 30.0, 20.0]}]}
    pictures, found = read({"image": image, "aux_crops": [image]}, crops=crops)
    assert pictures["aux_crops"] == encode_crops(image, [(1, 2, 30, 20)])
    assert "rcnn_crops" not in pictures and not found.problems


def test_labels_and_columns_of_boxes():
    found = DetectedObject("a face", 0.7, (0.0, 0.0, 5.0, 5.0))
    described = {"label": "a face", "score": 0.7, "box": [0.0, 0.0, 5.0, 5.0]}
    assert given_boxes({"rcnn_crops": [found]}, LIMITS) == {"rcnn_crops": [described]}
    assert given_boxes([described], {**LIMITS, "aux_crops": 0}) == {"rcnn_crops": [described]}
    assert given_boxes([], LIMITS) == {}
    of_another_kind = {**described, "label": 3, "score": "much"}  # a class without a name, and no number
    assert given_boxes([of_another_kind], LIMITS) == {"aux_crops": [{"box": described["box"], "label": "3"}]}


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        ("some", rf"{NO_CROPS} (got 'some')"),
        ({"boxes": []}, f"{NO_CROPS} (got columns boxes)"),
        ([(1, 2, 3)], f"{NO_BOX} (got (1, 2, 3))"),
        ([5], f"{NO_BOX} (got 5)"),
        ([(0, 0, 10**400, 5)], f"{NO_BOX} (got (0, 0, 1{'0' * 72})"),
        ([{"label": "dog"}], f"{NO_BOX} (got {{'label': 'dog'}})"),
        ([("a", 0, 1, 1)], f"{NO_BOX} (got ('a', 0, 1, 1))"),
        ([(5, 0, 5, 1)], f"{NO_BOX} (got [5.0, 0.0, 5.0, 1.0])"),
        ([(5, 3, 6, 1)], f"{NO_BOX} (got [5.0, 3.0, 6.0, 1.0])"),
        ([(0, 0, float("nan"), 1)], f"{NO_BOX} (got [0.0, 0.0, nan, 1.0])"),
        ([(0, 0, float("inf"), 1)], f"{NO_BOX} (got [0.0, 0.0, inf, 1.0])"),
        ([(0, 0, 10**400, 1)], f"{NO_BOX} (got (0, 0, 1{'0' * 72})"),
        ([(0, 0, 10**5000, 1)], f"{NO_BOX} (got a value of type tuple that cannot be shown)"),
        ([range(10**12)], f"{NO_BOX} (got range(0, 1000000000000))"),
        (
            [torch.zeros(4, 2)],
            f"{NO_BOX} (got tensor([[0., 0.],\n        [0., 0.],\n        [0., 0.],\n        [0., 0.]]))",
        ),
        ({10**5000: []}, f"{NO_CROPS} (got columns a value of type int that cannot be shown)"),
    ],
)
def test_what_is_no_box(crops, message, image):
    with pytest.raises(ProblemError, match=f"^{re.escape(f'crops: {message}')}$"):
        given_boxes(crops, LIMITS)
    pictures, found = read({"image": image}, crops=crops)
    assert list(map(str, found.problems)) == [f"crops: {message}"] and pictures == {"image": [image]}


@pytest.mark.parametrize(
    "objects", [5, np.float32(1), torch.zeros(3), {"box": [1]}, [None], "abc", [(0, 0, 10**400, 1)]]
)
def test_objects_that_are_none(objects, image):
    pictures, found = read({"image": image, "aux_crops": [image], "aux_objects": objects})
    assert pictures["aux_crops"] == [image]
    assert {problem.kind for problem in found.problems} <= {NO_BOX} and not found.objects.get("aux_crops")


@pytest.mark.parametrize("tokens", [5, np.array(None), torch.tensor(1), range(10**12), [["Jordan"]], type])
def test_what_holds_no_words(tokens):
    with pytest.raises(ProblemError, match=f"tokens: {WRONG_TEXT}"):
        read_words({"tokens": tokens}, "unicode")
    with pytest.raises(ProblemError, match=f"text: {WRONG_TEXT}"):
        read_words({"text": tokens}, "unicode")


def test_words_may_come_one_by_one():
    assert read_words({"tokens": (word for word in ("Jordan", "met"))}, "unicode")[1] == ["Jordan", "met"]


def test_tokens_are_no_text():
    with pytest.raises(ProblemError, match="tokens: tokens are a list of words; a text belongs in the column text"):
        read_words({"tokens": "['Jordan' 'met']"}, "unicode")


SIDE = st.integers(-60, 90)


@given(left=SIDE, top=SIDE, width=st.integers(1, 90), height=st.integers(1, 90))
def test_a_box_is_clipped_or_reported(left, top, width, height, image):
    box = (left, top, left + width, top + height)
    pictures, found = read({"image": image}, crops=[box])
    inside = left < 40 and top < 30 and left + width > 0 and top + height > 0
    if inside:
        clipped = (max(left, 0), max(top, 0), min(left + width, 40), min(top + height, 30))
        assert pictures["aux_crops"] == encode_crops(image, [clipped])
        assert found.objects["aux_crops"] == [{"box": list(clipped)}] and not found.problems
    else:
        details = f"({[float(side) for side in box]} in a picture of 40 x 30 pixels)"
        assert found.problems == [Problem(OUTSIDE, "aux_crops", 0, details)]
        assert pictures["aux_crops"] == found.objects["aux_crops"] == []


def test_the_row_s_own_choice_wins(image):
    row = {"image": image, "aux_crops": [image], "crops": "none"}
    assert read(row)[0] == {"image": [image]}
    row["crops"] = {"rcnn_crops": [(0, 0, 9, 9)] * 3}
    pictures, found = read(row, crops="none")
    assert len(pictures["rcnn_crops"]) == 2 and "aux_crops" not in pictures
    assert found.problems == [Problem(TOO_MANY, "rcnn_crops", details="(3 are given, 2 are used)")]


def test_boxes_need_a_picture(tmp_path):
    assert read({}, crops=[(0, 0, 5, 5)])[1].problems == [Problem(NO_IMAGE, "crops")]
    pictures, found = read({"image": tmp_path / "gone.jpg"}, crops=[(0, 0, 5, 5)])
    assert found.problems == [Problem(NO_SUCH_FILE, "image", details=f"({tmp_path / 'gone.jpg'})")]
    assert pictures == {"image": []} and found.images == {}


def test_several_pictures_and_boxes_of_each(image):
    limits = {"image": 3, "aux_crops": 9, "rcnn_crops": 6}
    boxes = [{"box": (0, 0, 5, 5), "image": 2}, {"box": (1, 1, 9, 9)}, {"box": (0, 0, 5, 5), "image": 1}]
    row = {"image": [image, b"", image.rotate(180)]}
    pictures, found = read(row, limits, boxes, max_images=3)
    assert pictures["image"] == [image, image.rotate(180)] and found.used_pictures["image"] == [0, 2]
    assert [(problem.kind, problem.place) for problem in found.problems] == [
        (EMPTY, "image 1"),
        (NO_SUCH_IMAGE, "aux_crops 2"),
    ]
    of_last, of_first = encode_crops(image.rotate(180), [(0, 0, 5, 5)]), encode_crops(image, [(1, 1, 9, 9)])
    assert pictures["aux_crops"] == of_last + of_first
    assert [described["image"] for described in found.objects["aux_crops"]] == [2, 0]
    with pytest.raises(ProblemError, match=re.escape(NO_NUMBER)):
        given_boxes([{"box": (0, 0, 5, 5), "image": -1}], limits)


def test_pictures_above_the_limit_are_told(image):
    pictures, found = read({"image": [image] * 3}, max_images=2)
    assert len(pictures["image"]) == 2
    assert found.problems == [Problem(TOO_MANY, "image", details="(3 are given, 2 are used)")]


def test_what_is_left_to_propose(image):
    row = {"image": image, "aux_crops": [image], "rcnn_crops": []}
    _, found = read(row, kinds=["aux", "rcnn"])
    assert found.pending == ("rcnn",) and found.images == {0: image}
    for unread in ({**row, "image": None}, {**row, "image": b""}):
        _, found = read(unread, kinds=["aux", "rcnn"])
        assert found.pending == () and found.images == {}
    assert read(row, crops="none", kinds=["rcnn"])[1].pending == ()
    assert read(row, crops=[(0, 0, 5, 5)], kinds=["rcnn"])[1].pending == ()
    # a model without the whole picture looks at it all the same, to find crops in it
    pictures, found = read(row, limits={**LIMITS, "image": 0}, kinds=["rcnn"])
    assert found.images == {0: image} and "image" not in pictures


def test_objects_beside_own_crops(image):
    dog, cat = ({"label": label, "score": 0.5, "box": [0.0, 0.0, 9.0, 9.0]} for label in ("dog", "cat"))
    objects = [dog, cat]
    pictures, found = read({"aux_crops": [b"", image], "aux_objects": objects})
    assert len(found.problems) == 1 and len(pictures["aux_crops"]) == 1
    assert found.objects == {"aux_crops": [cat], "rcnn_crops": []} and found.crops == {"aux_crops": [cat]}
    assert found.used_pictures == {"image": [], "aux_crops": [1], "rcnn_crops": []}
    _, found = read({"aux_crops": [image], "aux_objects": objects})
    assert found.crops == {}, "not those of the crops"
    pictures, found = read({"aux_crops": [image], "aux_objects": [{"label": "dog"}]})
    assert [problem.kind for problem in found.problems] == [NO_BOX] and len(pictures["aux_crops"]) == 1


def test_crops_that_are_used_are_known_by_their_places(image):
    row = {"image": image, "aux_crops": image, "rcnn_crops": [b"", image, image]}  # two are read at most
    assert read(row)[1].used_pictures == {"image": [0], "aux_crops": [0], "rcnn_crops": [1]}
    assert read(row, crops="none")[1].used_pictures == {"image": [0]}
    assert read(row, crops=[(0, 0, 5, 5)])[1].used_pictures == {"image": [0]}
    assert read(row, limits={**LIMITS, "aux_crops": 0})[1].used_pictures == {"image": [0], "rcnn_crops": [1]}


def test_the_error_is_that_of_the_picture(image):
    with pytest.raises(ImageError, match=rf"^Row 3: image: {re.escape(EMPTY)} \(bytes\)"):
        read_row_pictures(PipelineRow(columns={"image": b""}, place="Row 3", raises=True), LIMITS, "auto", [])
    row = PipelineRow(columns={"aux_crops": [image, 3.5]}, raises=True)
    with pytest.raises(ImageError, match=r"^aux_crops 1: "):
        read_row_pictures(row, LIMITS, "auto", [])


@pytest.mark.parametrize(("whole", "done"), [(1, "whole pictures alone"), (0, "the text alone")])
def test_one_line_says_what_is_done_without_crops(whole, done, image, warned_anew):
    limits = {**LIMITS, "image": whole}
    with warned_anew.at_level(logging.WARNING):
        for row in ({"aux_crops": [image], "image": image}, {}, {"image": None}):
            read(row, limits=limits)
        read({"image": image}, limits=limits, crops="none")
        read({"image": image}, limits=limits, kinds=["aux"])
        assert "No crops and no detector" not in warned_anew.text
        for _ in range(2):
            read({"image": image}, limits=limits)
    assert warned_anew.text.count(f"No crops and no detector to find any: tagging by {done}.") == 1
