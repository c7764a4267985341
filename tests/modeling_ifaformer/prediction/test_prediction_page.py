"""What of a prediction stands on a page that is passed on."""

import json
import os

import pytest
from PIL import Image

from modeling_ifaformer.prediction.input_rows import InputRow, dataset_rows, file_rows
from modeling_ifaformer.prediction.prediction_page import article, results_page
from processing.data import load_data
from processing.inspection.html_page import OUTSIDE
from processing.problems import Problem
from processing.tagged_text import TaggedText


EMBEDDED = "data:image/jpeg;base64"
PROBLEM = Problem("this is neither a string nor a list of words", "text", details="(got 'my password is hunter2')")


def tagged(row, problems=(), is_tagged=True):
    result = TaggedText(text="hunter2 is my password", entities=[]).with_problems(problems, is_tagged)
    result.image = row.columns.get("image")
    return result


def test_problems_are_told_without_what_stood_in_the_row():
    row = InputRow("/home/me/tweets.jsonl:3", {})
    skipped = article(row, tagged(row, [PROBLEM], is_tagged=False))
    assert f"tweets.jsonl:3: {PROBLEM.published}</p>" in skipped
    assert "hunter2" not in skipped and "/home" not in skipped
    shown = article(row, tagged(row, [PROBLEM]))
    assert f">{PROBLEM.published}</p>" in shown and "hunter2 is my" in shown and "got" not in shown


@pytest.fixture
def folder(tmp_path):
    """`mine` with a picture and links to the inside and to the outside."""
    folder = tmp_path / "mine"
    (folder / "photos").mkdir(parents=True)
    for path in (folder / "photos" / "a.png", tmp_path / "outside.png", tmp_path / "others" / "b.png"):
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), "teal").save(path)
    (folder / "inside.png").symlink_to("photos/a.png")
    (folder / "link.png").symlink_to("../outside.png")
    (folder / "others").symlink_to(tmp_path / "others")
    return folder


WITHIN = ["photos/a.png", "inside.png", ["photos/a.png"]]
OUT = ["link.png", "others/b.png", "../outside.png", "{}/outside.png", {"path": "{}/outside.png"}]


def test_only_pictures_below_the_folder_of_the_input_are_embedded(folder, tmp_path):
    out = json.loads(json.dumps(OUT).replace("{}", str(tmp_path)))
    rows = [{"text": "a", "image": image} for image in [*WITHIN, *out]]
    (folder / "tweets.jsonl").write_text("\n".join(map(json.dumps, rows)))
    read = list(file_rows([str(folder / "tweets.jsonl")]).read())
    articles = [article(row, tagged(row)) for row in read]
    for text in articles[: len(WITHIN)]:
        assert EMBEDDED in text and OUTSIDE not in text
    for text in articles[len(WITHIN) :]:
        assert OUTSIDE in text and EMBEDDED not in text
    page = results_page("Entities", articles, 100, is_explained=False).decode()
    assert str(tmp_path) not in page
    assert os.path.islink(read[1].columns["image"]) and not os.path.islink(read[1].shown), "read by its real path"


def test_the_folder_of_the_pictures_may_be_named(folder, tmp_path):
    (folder / "tweets.jsonl").write_text(json.dumps({"text": "a", "image": "outside.png"}))
    (row,) = file_rows([str(folder / "tweets.jsonl")], image_dir=str(tmp_path)).read()
    assert EMBEDDED in article(row, tagged(row))


def test_pictures_of_a_data_set(folder, tmp_path):
    rows = [
        {"text": "a", "spans": [{"start": 0, "end": 1, "label": "A"}], "image": name}
        for name in (*WITHIN[:2], *OUT[:2])
    ]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data, _ = load_data(str(folder), cache_dir=str(tmp_path / "cache"))
    read = dataset_rows(data["train"], f"{folder} train").read()
    articles = [article(row, tagged(row)) for row in read]
    assert [EMBEDDED in text for text in articles] == [True, True, False, False]
    assert [OUTSIDE in text for text in articles] == [False, False, True, True]


def test_an_absent_picture_is_nowhere(folder):
    row = InputRow("tweets.jsonl:1", {"text": "a", "image": "../absent.png"})
    text = article(row, tagged(row, [Problem("there is no such file", "image")]))
    assert "there is no such file" in text and OUTSIDE not in text
