import io
import json

import pytest
from datasets import Dataset, DatasetDict, Image, List
from PIL import Image as Pictures

from processing.data import load_data
from processing.inspection.html_page import FRAMES, OUTSIDE
from processing.inspection.sample_page import choose_rows, sample_page
from processing.inspection.statistics import split_statistics
from processing.problems import ProblemError
from processing.rows.row_features import ner_features, re_features, with_context, with_objects, with_texts


def picture(width=40):
    file = io.BytesIO()
    Pictures.new("RGB", (width, 20)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def make_rows(features, *rows):
    encoded = Image(decode=False)
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, List(encoded), List(encoded)
    defaults = {"image_id": None, "image": None, "aux_crops": [], "rcnn_crops": []}
    return Dataset.from_list([{**defaults, **row} for row in rows], features=features)


@pytest.fixture
def data():
    rows = [{"id": str(index), "tokens": ["Paris", "<b>"], "ner_tags": [1, 0]} for index in range(5)]
    features = ner_features(["O", "B-LOC"])
    return DatasetDict(
        train=make_rows(features, *rows[:3]), test=make_rows(features, *rows[3:], {**rows[0], "image": picture()})
    )


def render(data, rows, **options):
    statistics = {split: split_statistics(of_split) for split, of_split in data.items()}
    return sample_page(data, rows, statistics, name="mine", **options)


def test_rows_chosen_at_random(data):
    everything = [("train", 0), ("train", 1), ("train", 2), ("test", 0), ("test", 1), ("test", 2)]
    assert choose_rows(data) == everything
    chosen = choose_rows(data, num_samples=3, seed=1)
    assert chosen == choose_rows(data, num_samples=3, seed=1) and set(chosen) < set(everything)
    assert chosen == sorted(chosen, key=everything.index) and len(set(chosen)) == 3
    assert any(choose_rows(data, num_samples=3, seed=seed) != chosen for seed in range(2, 6))
    assert choose_rows(data, split="test", num_samples=9) == everything[3:]


def test_rows_chosen_by_id(data):
    assert choose_rows(data, ids=["4", "0"]) == [("test", 1), ("train", 0), ("test", 2)]
    assert choose_rows(data, ids=["0"], split="train") == [("train", 0)]
    with pytest.raises(ValueError, match=r"No row has the id 7, 8\. Ids look like '0'\."):
        choose_rows(data, ids=["7", "0", "8"])
    with pytest.raises(ValueError, match="split must be one of train, test, got 'dev'"):
        choose_rows(data, split="dev")
    with pytest.raises(ValueError, match="num_samples must be 0 or more, got -1"):
        choose_rows(data, num_samples=-1)


def test_a_page(data):
    page = render(data, [("train", 0), ("test", 2)], report="1 row <left> out\n2 pictures")
    assert page.count("<article") == 2 and page.count("There is no picture.") == 1
    assert page.count("data:image/jpeg") == 1
    assert "Paris<small> LOC</small>" in page and "&lt;b&gt;" in page and "<b>" not in page
    assert '<p class="note">1 row &lt;left&gt; out</p><p class="note">2 pictures</p>' in page
    assert "entities, LOC" in page and FRAMES not in page, "there are no crops"
    assert '<div class="tweets"><article' in page and "No names found" not in page


def test_texts_are_shown_as_they_were_given():
    row = {"id": "0", "tokens": ["(", "Ana", "🔥", ")", "!"], "ner_tags": [0, 1, 0, 0, 0], "text": "(Ana🔥)!"}
    rows = make_rows(with_texts(ner_features(["O", "B-PER"])), row | {"offsets": [[i, i + 1] for i in range(5)]})
    with pytest.raises(ProblemError, match="offsets"):
        render(DatasetDict(train=rows), [("train", 0)])
    offsets = [[0, 1], [1, 4], [4, 5], [5, 6], [6, 7]]
    page = render(DatasetDict(train=make_rows(rows.features, row | {"offsets": offsets})), [("train", 0)])
    assert "Ana<small> PER</small></mark>🔥)!</p>" in page


def test_contexts_are_told():
    context = [{"kind": "ocr", "text": "<b>OPEN"}, {"kind": None, "text": "known"}]
    row = {"id": "0", "tokens": ["Paris"], "ner_tags": [1], "context": context}
    page = render(DatasetDict(test=make_rows(with_context(ner_features(["O", "B-LOC"])), row)), [("test", 0)])
    assert "ocr: &lt;b&gt;OPEN" in page and "context: known" in page


def test_objects_are_drawn_and_what_cannot_be_read_is_told():
    found = {"label": "dog", "score": 0.5, "box": [1.0, 2.0, 30.0, 15.0]}
    row = {"id": "0", "tokens": ["a"], "ner_tags": [0], "image": picture(), "aux_objects": [found], "rcnn_objects": []}
    damaged = {"bytes": b"x", "path": None}
    rows = make_rows(with_objects(ner_features(["O"])), {**row, "aux_crops": [picture(29)], "rcnn_crops": [damaged]})
    page = render(DatasetDict(train=rows), [("train", 0)])
    assert FRAMES in page and ">dog (found by the detector)<" in page and page.count('fill="none"') == 1
    assert page.count("data:image/jpeg") == 1 and page.count("<use") == 1, "the crop is cut from the picture"
    assert '<p class="note">rcnn_crops 0: this is not a picture' in page


def test_crops_are_shown_where_their_boxes_are_not_known_or_there_is_no_picture():
    found = {"label": "dog", "score": 0.5, "box": [1.0, 2.0, 30.0, 15.0]}
    row = {"id": "0", "tokens": ["a"], "ner_tags": [0], "aux_crops": [picture(29)]}
    boxes = {"aux_objects": [found], "rcnn_objects": []}
    damaged = {"bytes": b"x", "path": None}
    for image, objects, num_embedded in (
        (picture(), {"aux_objects": [], "rcnn_objects": []}, 2),
        (None, boxes, 1),
        (damaged, boxes, 1),
    ):
        rows = make_rows(with_objects(ner_features(["O"])), {**row, **objects, "image": image})
        page = render(DatasetDict(train=rows), [("train", 0)])
        assert page.count("data:image/jpeg") == num_embedded and page.count('<img class="crop"') == 1
        assert FRAMES in page and (">dog (" in page) is (objects is boxes)


def test_nothing_of_this_machine_is_told_or_embedded(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    Pictures.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    Pictures.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "b.png").symlink_to("../secret.png")
    (folder / "c.png").symlink_to("a.png")
    (folder / "d.png").write_bytes(b"no picture")
    span = {"text": "a", "spans": [{"start": 0, "end": 1, "label": "A"}]}
    rows = [{"id": str(folder / name[0]), "image": name, "rcnn_crops": [name]} for name in ("a.png", "b.png", "c.png")]
    rows += [{"id": "e", "image": "gone.png"}, {"id": "f", "image": "d.png"}, {"id": "g", "text": ["hunter2"]}]
    (folder / "train.jsonl").write_text("\n".join(json.dumps(span | row) for row in rows))
    data, report = load_data(str(folder), cache_dir=str(tmp_path / "cache"))
    statistics = {"train": split_statistics(data["train"])}
    shown = choose_rows(data)
    page = sample_page(data, shown, statistics, name=str(folder), report=report.published())
    assert page.count("data:image/jpeg") == 4 and page.count(OUTSIDE) == 2
    assert str(tmp_path) not in page and "hunter2" not in page and "<h1>Data set mine</h1>" in page
    assert "hunter2" in str(report) and "image: this is not a picture" in page


def test_relations():
    features = re_features(["None", "/per/loc/in"])
    row = {"id": "0", "tokens": ["New", "York", "is", "Jordan"], "relation": 1}
    places = {"head": {"name": "Jordan", "start": 3, "end": 4}, "tail": {"name": "New York", "start": 0, "end": 2}}
    overlapping = {"head": {"name": "York", "start": 1, "end": 2}, "tail": places["tail"]}
    rows = make_rows(features, {**row, **places}, {**row, **overlapping})
    first, second = (render(DatasetDict(train=rows), [("train", index)]) for index in range(2))
    assert "<p><bdi>Jordan</bdi> <b>in</b> <bdi>New York</bdi></p>" in first
    assert "Jordan<small> head</small>" in first and "New York<small> tail</small>" in first
    assert "York<small> head</small>" in second and "<small> tail</small>" not in second
