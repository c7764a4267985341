"""Rows of several pictures, from their files to features, batches, crops and what a pipeline says and shows."""

import json
import logging

import datasets
import numpy as np
import pytest
from PIL import Image

from processing import IFAformerPipeline, IFAformerProcessor
from processing.crops.cropped_rows import CropFinder
from processing.data import load_data
from processing.features.prepare import prepare_features
from processing.inspection.sample_page import row_html
from processing.inspection.statistics import split_statistics, statistics_table
from processing.object_proposals import DetectedObject, ObjectDetector, ProposalOptions
from processing.problems import Problem
from processing.rows import is_list_column
from processing.rows.picture_files import NO_PICTURE


pytestmark = pytest.mark.usefixtures("cache")


ROW = {"tokens": ["Jordan", "met", "Paris"], "ner_tags": ["B-PER", "O", "B-LOC"]}


def picture(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """Files of three rows: of two pictures and one that is missing, of one that is no list, and of none."""
    folder = tmp_path / "tweets"
    folder.mkdir()
    for seed in range(5):
        picture(seed).save(folder / f"{seed}.png")
    objects = [{"label": "dog", "score": 0.5, "box": [0, 0, 9, 9], "image": number} for number in (0, 2, 1)]
    rows = [
        {
            **ROW,
            "image": ["0.png", "gone.png", "1.png"],
            "aux_crops": ["2.png", "3.png", "4.png"],
            "aux_objects": objects,
        },
        {**ROW, "image": "2.png"},
        ROW,
    ]
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_lists_in_files_of_your_own(folder):
    data, report = load_data(str(folder))
    rows = data["train"]
    assert is_list_column(rows, "image") and isinstance(rows.features["image"].feature, datasets.Image)
    assert [len(row["image"]) for row in rows] == [2, 1, 0]
    assert [found["image"] for found in rows[0]["aux_objects"]] == [0, 1, None], "of those that are left"
    counts = report.splits["train"].counts
    assert (counts["images"], counts["images_missing"], counts["rows_without_image"]) == (3, 1, 1)
    (absent,) = report.splits["train"].absent
    assert absent.problem.place == "image 1" and absent.path == "gone.png"
    assert split_statistics(rows)["without_image"] == 1 and split_statistics(rows)["images"] == {0: 1, 1: 1, 2: 1}
    assert ["rows with 2 images", "1"] in statistics_table({"train": split_statistics(rows)})[1]
    shown = row_html("train", rows, 0)
    assert shown.count("<svg viewBox") == 2 and "Picture 2 with one numbered frame" in shown
    assert "Picture 1 with one numbered frame" in shown, "a crop of a picture that is not there has no frame"


@pytest.mark.parametrize("form", ["csv", "csv with semicolons", "parquet", "saved"])
def test_other_forms_of_lists(folder, form, tmp_path):
    expected, _ = load_data(str(folder))
    other = tmp_path / "other"
    other.mkdir()
    if form == "saved":
        expected.save_to_disk(str(other / "data"))
        found, _ = load_data(str(other / "data"))
    else:
        for split, rows in expected.items():
            if form == "parquet":
                rows.to_parquet(str(other / f"{split}.parquet"))
                continue
            lines = [
                '"Jordan met Paris","B-PER O B-LOC","[""0.png"", ""1.png""]"',
                '"Jordan met Paris","B-PER O B-LOC",2.png',
                '"Jordan met Paris","B-PER O B-LOC",',
            ]
            if form == "csv with semicolons":
                lines[0] = '"Jordan met Paris","B-PER O B-LOC",0.png; 1.png'
            (other / f"{split}.csv").write_text("\n".join(["tokens,ner_tags,image", *lines]))
        found, _ = load_data(str(other), image_dir=str(folder))
    assert found["train"].features["image"] == expected["train"].features["image"]
    assert [len(row["image"]) for row in found["train"]] == [2, 1, 0]


def test_each_picture_has_as_many_crops_as_are_asked_for(folder):
    crops = [f"{number % 5}.png" for number in range(9)]
    rows = [{**ROW, "image": images, "rcnn_crops": crops} for images in (["0.png", "1.png"], ["2.png"], [])]
    for path in folder.glob("*.jsonl"):
        path.write_text("\n".join(map(json.dumps, rows)))
    data, report = load_data(str(folder))
    assert [len(row["rcnn_crops"]) for row in data["train"]] == [6, 3, 3]
    assert report.splits["train"].counts["crops_surplus"] == 3 + 6 + 6
    data, _ = load_data(str(folder), num_rcnn_crops=1)
    assert [len(row["rcnn_crops"]) for row in data["train"]] == [2, 1, 1]


def test_one_picture_a_row_is_no_list(folder):
    for path in folder.glob("*.jsonl"):
        path.write_text("\n".join(json.dumps({**ROW, "image": f"{number}.png"}) for number in range(3)))
    data, _ = load_data(str(folder))
    assert isinstance(data["train"].features["image"], datasets.Image)


def test_features_and_batches(folder, make_processor, caplog):
    rows = load_data(str(folder))[0]["train"]
    processor = make_processor(tags=rows.features["ner_tags"].feature.names, max_images=2)
    features = prepare_features(rows, processor)
    assert [len(row["pixel_values"]) for row in features] == [2, 1, 0] and not caplog.records
    batch = processor.data_collator([features[index] for index in range(3)])
    assert batch["pixel_values"].shape == (3, 2, 3, 24, 24)
    assert batch["image_mask"].tolist() == [[True, True], [True, False], [False, False]]
    direct = processor(
        [row["tokens"] for row in rows],
        images=[row["image"] for row in rows],
        aux_crops=[row["aux_crops"] for row in rows],
        rcnn_crops=[row["rcnn_crops"] for row in rows],
        is_split_into_words=True,
        return_tensors="pt",
    )
    assert direct["pixel_values"].equal(batch["pixel_values"])
    assert direct["aux_pixel_values"].shape[:2] == (3, 3) and direct["image_mask"].equal(batch["image_mask"])
    # A model of one picture takes the first one, and says so.
    one = make_processor(tags=rows.features["ner_tags"].feature.names)
    with caplog.at_level(logging.WARNING):
        features = prepare_features(rows, one)
    assert "1 rows have more than 1 pictures" in caplog.text
    assert [None if row["pixel_values"] is None else row["pixel_values"].shape for row in features] == [
        (3, 24, 24),
        (3, 24, 24),
        None,
    ]
    with pytest.raises(ValueError, match="Example 0 has 2 pictures in image, at most 1 are allowed"):
        one("Jordan", images=[picture(0), picture(1)])


def test_rows_of_one_picture_for_a_model_of_several(make_processor):
    processor = make_processor(max_images=3)
    batch = processor(["Jordan", "Paris"], images=[picture(0), None], return_tensors="pt")
    assert batch["pixel_values"].shape == (2, 1, 3, 24, 24) and batch["image_mask"].tolist() == [[True], [False]]
    assert processor.picture_limits == {"image": 3, "aux_crops": 9, "rcnn_crops": 6}


def test_none_in_a_list_is_told_like_a_picture_that_is_not_there(folder):
    for path in folder.glob("*.jsonl"):
        path.write_text(json.dumps({**ROW, "image": [None, "1.png"]}))
    data, report = load_data(str(folder))
    (absent,) = report.splits["train"].absent
    assert absent.problem == Problem(NO_PICTURE, "image", 0) and len(data["train"][0]["image"]) == 1
    features = data["train"].features.copy()
    rows = datasets.Dataset.from_list([{**data["train"][0], "image": [None, *data["train"][0]["image"]]}], features)
    cropped, record = CropFinder(ProposalOptions(), None, 2, "cpu").add_crops(rows)
    assert len(cropped[0]["image"]) == 1 and [of["reason"] for of in record["unreadable"]] == [f"bytes: {NO_PICTURE}"]
    assert NO_PICTURE in row_html("train", rows, 0)


def test_features_of_different_processors_make_no_batch(make_processor):
    rows = [make_processor(max_images=number)("Jordan", images=picture(0)) for number in (1, 2)]
    with pytest.raises(ValueError, match="they are features of processors with different max_images"):
        rows_of = [{name: values[0] for name, values in row.items()} for row in rows]
        make_processor().data_collator(rows_of)


def test_the_number_is_saved_and_compared(make_processor, make_config, tmp_path):
    make_processor(max_images=2).save_pretrained(tmp_path)
    loaded = IFAformerProcessor.from_pretrained(tmp_path)
    assert loaded.max_images == 2 and loaded.config_fields["max_images"] == 2
    with pytest.raises(ValueError, match="max_images is 2 in the processor, 1 in the configuration"):
        loaded.check_config(make_config(**{**loaded.config_fields, "max_images": 1}))
    with pytest.raises(ValueError, match="max_images must be a whole number of at least 1, got 0"):
        make_processor(max_images=0)


def test_a_pipeline_reads_explains_and_shows_them(make_model, make_processor):
    processor = make_processor(max_images=3)
    tagger = IFAformerPipeline(make_model(processor, max_images=3), processor=processor, device="cpu")
    boxes = [{"box": (0, 0, 20, 20)}, {"box": (5, 5, 30, 30), "image": 2}]
    row = {"text": "Jordan met Paris", "image": [picture(0), b"", picture(1)], "crops": {"aux_crops": boxes}}
    for method in ("occlusion", "attention"):
        result = tagger(row, on_error="report", explain=method)
        assert [problem.split(":")[0] for problem in result["problems"]] == ["image 1"]
        sources = [share["source"] for share in result["entities"][0]["shares"]]
        assert sources == ["text", "image 0", "image 2", "aux_crops 0", "aux_crops 1"]
        assert sum(share["share"] for share in result["entities"][0]["shares"]) == pytest.approx(1, abs=1e-4)
    assert [crop["image"] for crop in result["crops"]["aux_crops"]] == [0, 2]
    result.show_pictures(row)
    page = result._repr_html_()
    assert "Picture 1 with one numbered frame" in page and "Picture 3 with one numbered frame" in page
    assert "picture 3 as a whole" in page
    one, other = (
        tagger({**row, "image": images, "crops": "none"}) for images in ([picture(0), picture(1)], picture(0))
    )
    turned = tagger({**row, "image": [picture(1), picture(0)], "crops": "none"})
    scores = [[entity["score"] for entity in found] for found in (one, turned, other)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5) and scores[0] != pytest.approx(scores[2], abs=1e-5)


def test_detectors_look_at_each_picture(make_model, make_processor, monkeypatch):
    seen = []

    class Detector:
        is_zero_shot = False

        def detect(self, images, phrases=None, **options):
            seen.append((len(images), options["max_objects"]))
            return [[DetectedObject("dog", 0.9, (0, 0, 9, 9))] * 2 for _ in images]

    monkeypatch.setattr(ObjectDetector, "from_pretrained", lambda name, device: Detector())
    processor = make_processor(max_images=2)
    tagger = IFAformerPipeline(make_model(processor, max_images=2), processor=processor, device="cpu")
    rows = [{"text": "Jordan", "image": [picture(0), picture(1)]}, {"text": "Paris", "image": picture(2)}]
    results = list(tagger(rows, on_error="report", rcnn_detector="dogs", batch_size=2))
    assert seen == [(3, 2)], "two crops of each of three pictures"
    assert [[crop["image"] for crop in result["crops"]["rcnn_crops"]] for result in results] == [[0, 0, 1, 1], [0, 0]]


def test_crops_of_a_data_set(folder, monkeypatch):
    class Detector:
        is_zero_shot = False

        def detect(self, images, phrases=None, **options):
            return [[DetectedObject("dog", 0.9, (0, 0, 9, 9))] for _ in images]

    monkeypatch.setattr(ObjectDetector, "from_pretrained", lambda name, device: Detector())
    (folder / "1.png").write_bytes(b"no picture")
    rows = load_data(str(folder))[0]["train"]
    progress = []
    cropped, record = CropFinder(ProposalOptions(rcnn_detector="dogs"), None, 2, "cpu").add_crops(
        rows, progress.append
    )
    assert [len(row["image"]) for row in cropped] == [1, 1, 0] and sum(progress) == 3
    assert [[found["image"] for found in row["rcnn_objects"]] for row in cropped] == [[0], [0], []]
    assert [found["image"] for found in cropped[0]["aux_objects"]] == [0, None, None]
    assert record["counts"]["pictures"] == 2 and record["counts"]["pictures_unreadable"] == 1
    assert record["counts"]["rows_without_picture"] == 1 and record["counts"]["pictures_without_rcnn_crops"] == 0
    assert record["pictures"] == [0, 1]
