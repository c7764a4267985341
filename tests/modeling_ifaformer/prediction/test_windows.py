"""Windows of rows, their order by length, and results that do not depend on it."""

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modeling_ifaformer.prediction import windows
from modeling_ifaformer.prediction.input_rows import InputRow
from modeling_ifaformer.prediction.taggers import load_tagger
from modeling_ifaformer.prediction.windows import cut_windows, size_in_memory, tag_window, with_id
from processing.problems import Problem
from processing.tagged_text import TaggedRelation


@pytest.fixture(scope="module")
def tagger(checkpoint):
    return load_tagger(checkpoint, device="cpu")


@pytest.fixture
def rows():
    """31 rows: texts of 1 to 9 words, every third with a picture, every fifth with crops, two that cannot be used."""
    generator = random.Random(0)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 30, 30, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in pixels]
    columns = []
    for index in range(31):
        row = {"text": " ".join(generator.choices(["Jordan", "met", "Paris", "New", "York", "!"], k=index % 9 + 1))}
        if index % 3 == 0:
            row["image"] = pictures[index % 4]
        if index % 5 == 0:
            row["aux_crops"] = pictures[: index % 3 + 1]
        columns.append(row)
    rows = [InputRow(f"a.jsonl:{index}", row) for index, row in enumerate(columns)]
    rows[4], rows[9] = InputRow("a.jsonl:4", {}, Problem("no row")), InputRow("a.jsonl:9", {"text": ""})
    return rows


def test_windows_are_cut_by_rows_and_bytes(monkeypatch):
    monkeypatch.setattr(windows, "WINDOW_BATCHES", 2)
    monkeypatch.setattr(windows, "WINDOW_BYTES", 100)

    def sizes(*texts):
        rows = [InputRow("", {"text": "x" * length}) for length in texts]
        found = list(cut_windows(iter(rows), batch_size=2))
        assert [row for window in found for row in window] == rows
        return [len(window) for window in found]

    assert sizes(*[1] * 9) == [4, 4, 1]
    assert sizes(1, 1, 120, 60, 30, 9, 1) == [3, 4]
    assert sizes() == []


def test_results_are_those_of_each_row_alone(tagger, rows):
    together = tag_window(rows, tagger, batch_size=4)
    assert len({entity["entity_group"] for result in together for entity in result["entities"]}) > 1
    assert [index for index, result in enumerate(together) if not result.is_tagged] == [4, 9]
    assert together[4] == {"text": None, "entities": [], "problems": ["a.jsonl:4: no row"]}
    for row, result in zip(rows, together, strict=True):
        [alone] = tag_window([row], tagger, batch_size=4)
        assert alone["text"] == result["text"] and alone.pictures == result.pictures
        image = row.columns.get("image")
        assert result.pictures.get("image", []) == ([] if image is None else [image])
        for one, other in zip(alone["entities"], result["entities"], strict=True):
            assert one.pop("score") == pytest.approx(other["score"], abs=1e-5)
            assert one == {name: value for name, value in other.items() if name != "score"}


def test_results_do_not_depend_on_the_order(tagger, rows):
    straight = tag_window(rows, tagger, batch_size=4)
    order = random.Random(1).sample(range(len(rows)), len(rows))
    shuffled = tag_window([rows[index] for index in order], tagger, batch_size=4)
    for index, result in zip(order, shuffled, strict=True):
        assert [(e["word"], e["entity_group"]) for e in result["entities"]] == [
            (e["word"], e["entity_group"]) for e in straight[index]["entities"]
        ]


def test_batches_have_rows_of_like_length_and_those_without_a_picture_come_first(tagger, rows, monkeypatch):
    batches = []
    collate = tagger.collate

    def recorded(batch):
        pixels = [row.features.get(name) for row in batch for name in ("pixel_values", "aux_pixel_values")]
        batches.append((any(of is not None and len(of) for of in pixels), [row.num_tokens for row in batch]))
        return collate(batch)

    monkeypatch.setattr(tagger, "collate", recorded)
    tag_window(rows, tagger, batch_size=4)
    assert [len(lengths) for _, lengths in batches] == [4] * 7 + [2]
    have_picture = [has_picture for has_picture, _ in batches]
    assert have_picture == sorted(have_picture) and set(have_picture) == {False, True}
    without = [length for has_picture, lengths in batches if not has_picture for length in lengths]
    assert without == sorted(without) and max(without) > min(without) + 5


def test_each_text_is_tokenized_once(tagger, rows, monkeypatch):
    texts = []
    tokenizer = type(tagger.processor.tokenizer)
    call = tokenizer.__call__

    def counted(self, text, *args, **kwargs):
        texts.extend(text)
        return call(self, text, *args, **kwargs)

    monkeypatch.setattr(tokenizer, "__call__", counted)
    tag_window(rows, tagger, batch_size=4)
    assert texts == [row.columns.get("text", "").split() for row in rows if row.problem is None]


def test_relations_are_those_of_each_row_alone(relation_checkpoint, rows):
    extractor = load_tagger(relation_checkpoint, device="cpu")
    for index, row in enumerate(rows):
        if row.problem is None and index % 9 > 1:
            words = row.columns.pop("text").split() or [""]
            row.columns.update(id=index, tokens=words, head=(0, 1), tail={"start": len(words) - 1, "end": len(words)})
    together = tag_window(rows, extractor, batch_size=4)
    assert together[4] == {"text": None, "problems": ["a.jsonl:4: no row"]} and not together[4].is_tagged
    assert {index for index, result in enumerate(together) if not result.is_tagged} >= {4, 9, 10, 18}
    assert len({result["relation"] for result in together if result.is_tagged}) > 1
    for row, result in zip(rows, together, strict=True):
        [alone] = tag_window([row], extractor, batch_size=4)
        if alone.is_tagged:
            assert alone.pop("score") == pytest.approx(result.pop("score"), abs=1e-5)
            assert alone.confidence == pytest.approx(result.confidence, abs=1e-5)
            alone.confidence = result.confidence
            assert next(iter(alone)) == "id"
        assert alone == result and vars(alone) == vars(result)


def test_pictures_may_be_arrays(tagger):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 30, 3), dtype=np.uint8)

    def tag(convert):
        pictures = {"image": convert(pixels), "aux_crops": [convert(pixels)], "rcnn_crops": []}
        rows = [InputRow("", {"text": "Jordan met Paris"} | pictures), InputRow("", {"text": "Paris"})]
        return [result["entities"] for result in tag_window(rows, tagger, batch_size=2)]

    assert tag(np.asarray) == tag(Image.fromarray)
    assert size_in_memory({"text": "abc", "image": pixels}) == 3 + 2700


def test_size_counts_what_is_in_the_row():
    assert size_in_memory({"text": "abc", "context": "ab"}) == 5
    assert size_in_memory({"text": "abc", "image": Path("a/path.png")}) == 3
    stored = {"text": "abc", "image": {"path": None, "bytes": b"1234"}, "aux_crops": [b"12", b"345"]}
    assert size_in_memory(stored) == 12
    assert size_in_memory({"tokens": ["x" * 100] * 5}) >= 500


def test_an_id_stands_in_front_and_nothing_is_lost():
    result = TaggedRelation({"relation": "/per/loc/in", "score": 0.5})
    result.text, result.pictures, result.crops = "Jordan", {"image": ["a.png"]}, {"aux_crops": []}
    named = with_id(result, {"id": 7, "text": "Jordan"})
    assert list(named) == ["id", *result] and named["id"] == 7 and vars(named) == vars(result)
    assert type(named) is TaggedRelation and with_id(result, {}) == result


def test_the_context_of_a_row_stays_with_its_result(tagger):
    columns = [{"text": "Jordan met Paris", "context": "a caption"}, {"text": "Jordan"}]
    rows = [InputRow(f"a.jsonl:{number}", row) for number, row in enumerate(columns)]
    assert [result.get("context") for result in tag_window(rows, tagger, 2)] == ["a caption", None]
