"""What of a prediction stands on a page that is passed on."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from datetime import date

import pytest
from PIL import Image

from modeling_ifaformer.prediction.input_rows import InputRow, dataset_rows, file_rows
from modeling_ifaformer.prediction.prediction_page import article, results_page
from modeling_ifaformer.prediction.prediction_report import PredictionReport
from processing.columns import CROP_COLUMNS
from processing.data import load_data
from processing.inspection.html_page import OUTSIDE
from processing.pipeline_rows import TOO_MANY
from processing.problems import Problem
from processing.rendering import CROP_COLOURS, type_colour
from processing.tagged_text import TaggedText


EMBEDDED = "data:image/jpeg;base64"
PROBLEM = Problem("this is neither a string nor a list of words", "text", details="(got 'my password is hunter2')")


def tagged(row, problems=(), is_tagged=True):
    result = TaggedText(text="hunter2 is my password", entities=[]).with_problems(problems, is_tagged)
    result.used_pictures = {column: list(range(len(row.columns.get(column, ())))) for column in CROP_COLUMNS}
    result.show_pictures(row.columns)
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
    page = results_page("Entities", "demo", articles, PredictionReport(rows=100), is_explained=False).decode()
    assert str(tmp_path) not in page
    link = read[1].columns["image"]
    assert os.path.islink(link) and not os.path.islink(read[1].shown(link)), "read by its real path"


def test_only_crops_below_the_folder_of_the_input_are_embedded(folder):
    crops = ["photos/a.png", "link.png", "others/b.png", "inside.png"]
    (folder / "tweets.jsonl").write_text(json.dumps({"text": "a", "image": "photos/a.png", "rcnn_crops": crops}))
    (row,) = file_rows([str(folder / "tweets.jsonl")]).read()
    text = article(row, tagged(row))
    assert text.count(EMBEDDED) == 3 and text.count(OUTSIDE) == 1
    assert text.count("<li>") == 4, "a crop that is not embedded keeps its place"


def test_the_first_of_several_pictures_is_shown(folder):
    (folder / "tweets.jsonl").write_text(json.dumps({"text": "a", "image": ["photos/a.png", "link.png"]}))
    (row,) = file_rows([str(folder / "tweets.jsonl")]).read()
    text = article(row, tagged(row, [Problem(TOO_MANY, "image")]))
    assert EMBEDDED in text and OUTSIDE not in text


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


BADGE = '<span class="badge">1</span>'


def head_of(found, is_explained=False, num_shown=1, **counts):
    report = PredictionReport(found, **counts)
    page = results_page(
        "Names", "<demo>", [f'<article class="tweet">{BADGE}</article>'] * num_shown, report, is_explained
    )
    body = ElementTree.fromstring(re.search(r"<main>.*</main>", page.decode())[0])
    assert [of.get("class") for of in body.find("div[@class='tweets']")] == ["tweet"] * num_shown
    return ["".join(p.itertext()) for p in body.findall("p")], page.decode()


def test_a_page_tells_model_date_counts_and_legend():
    counts = {"rows": 9, "without_entities": 2, "skipped": Counter({"text: none": 1})}
    told, page = head_of(("entities",), entities=Counter(PER=3, LOC=12), **counts)
    assert told == [
        f"The first 1 of 9 tweets. Tagged by <demo> on {date.today().isoformat()}.",
        "Entities: 12 LOC, 3 PER. Tweets without an entity: 2.",
        "Rows that could not be tagged: 1.",
        "The colour of a frame or a number tells what found the crop: phrase grounding (aux), or a detector of a "
        "closed set (rcnn).",
    ]
    assert all(f"border-color:{colour}" in page for colour in CROP_COLOURS.values())
    assert f"background:{type_colour('PER')}" in page, "a legend of the types"
    relations = {"rows": 1, "relations": Counter({"/per/org/member_of": 4, "None": 1})}
    told, _ = head_of(("relations",), **relations)
    assert told[0].startswith("All 1 tweets.") and told[1] == "Relations: 4 /per/org/member_of, 1 None."
    assert len(told) == 3 and "Entities: none." in " ".join(head_of(("entities", "relations"), rows=1)[0])
    assert not any("Choose a name" in fact for fact in told)
    assert b"tells what found" not in results_page("Names", "m", ["<article></article>"], PredictionReport(), False)
    assert "Choose a name by a click, or with the arrow keys" in head_of(("entities",), True, rows=1)[0][-1]


def test_half_of_a_surrogate_pair_ends_no_page():
    result = TaggedText(text="a \ud83d b", entities=[])
    page = results_page("a", "b", [result.article()], PredictionReport(rows=1), is_explained=False)
    assert "a ? b" in page.decode()


def test_an_absent_picture_is_nowhere(folder):
    row = InputRow("tweets.jsonl:1", {"text": "a", "image": "../absent.png"})
    text = article(row, tagged(row, [Problem("there is no such file", "image")]))
    assert "there is no such file" in text and OUTSIDE not in text
