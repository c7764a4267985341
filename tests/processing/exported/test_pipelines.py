"""Exported models give what the pipelines of the library give, also where torch and transformers are not there."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from modeling_ifaformer.prediction.taggers import load_tagger
from processing.exported import ExportedPipeline, ExportedRelationPipeline, is_exported, load_exported
from processing.images import ImageError
from processing.problems import ProblemError


PICTURE = Image.linear_gradient("L").convert("RGB")
CROP = Image.radial_gradient("L").convert("RGB")
TEXT = "Jordan met Paris in New York City . #RT @Chelsea"
ROWS = [
    TEXT,
    {"text": TEXT, "image": PICTURE},
    {"text": "Paris unaffable", "image": PICTURE, "aux_crops": [CROP, PICTURE], "rcnn_crops": [CROP]},
    {"tokens": ["Jordan", "met", "the", "team"], "rcnn_crops": [CROP, CROP]},
    {"text": TEXT, "image": PICTURE, "crops": [[0, 0, 90, 90], {"box": [5, 5, 70, 60], "label": "a", "score": 0.5}]},
    {"text": "playing " * 9},
]
BAD = [{"text": ""}, {"text": "Paris", "image": b"no picture"}, {"text": 3}, {"text": "a", "rcnn_crops": [CROP] * 9}]
PAIR = {"text": TEXT, "head": (0, 6), "tail": (20, 33), "image": PICTURE, "aux_crops": [CROP]}


@pytest.fixture(scope="module")
def taggers(checkpoint, exported):
    return load_tagger(checkpoint, device="cpu"), load_exported(exported)


def near(value):
    """With numbers that may differ in their last digits."""
    if isinstance(value, dict):
        return {name: near(of) for name, of in value.items()}
    if isinstance(value, list):
        return [near(of) for of in value]
    return pytest.approx(value, abs=1e-4) if isinstance(value, float) else value


@pytest.mark.parametrize("options", [{}, {"on_error": "report"}, {"threshold": 0.3}, {"crops": "none"}])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_results_are_those_of_the_pipeline(taggers, options, batch_size):
    expected, found = (list(tagger(ROWS, batch_size=batch_size, **options)) for tagger in taggers)
    assert found == near(expected)
    assert any(found)


def test_one_row_a_generator_and_rows_that_were_tokenized(taggers):
    expected, found = (tagger(ROWS[2]) for tagger in taggers)
    assert found == near(expected)
    tagger = taggers[1]
    assert list(tagger(row for row in ROWS)) == near(list(tagger(ROWS)))
    assert tagger(tagger.tokenize(ROWS), batch_size=3) == near(tagger(ROWS))
    again = tagger(iter(ROWS[:2]))
    assert list(again) == near(tagger(ROWS[:2]))


def test_bad_rows_are_reported_or_raised_as_by_the_pipeline(taggers):
    expected, found = (tagger(BAD, on_error="report") for tagger in taggers)
    assert [row["problems"] for row in found] == [row["problems"] for row in expected]
    for tagger in taggers:
        with pytest.raises(ProblemError, match="Row 0"):
            tagger(BAD)
        with pytest.raises(ImageError, match="Row 1"):
            list(tagger(["Paris", BAD[1]]))


def test_confidence_is_that_of_the_pipeline(taggers):
    expected, found = (tagger(ROWS, on_error="report") for tagger in taggers)
    assert [row.confidence for row in found] == near([row.confidence for row in expected])


def test_the_end_of_a_text_that_is_longer_than_the_graph_reads_is_told(taggers):
    (row,) = taggers[1]([{"text": "Paris " * 80}], on_error="report")
    assert "words of it are cut off" in row["problems"][0] and row["entities"][-1]["end"] < 80 * 6


def test_relations_and_triples(checkpoint, relation_checkpoint, exported, exported_relations):
    expected = load_tagger(relation_checkpoint, device="cpu")
    found = load_exported(exported_relations)
    assert isinstance(found, ExportedRelationPipeline)
    assert found([PAIR, {**PAIR, "image": None}]) == near(expected([PAIR, {**PAIR, "image": None}]))
    triples = load_tagger(checkpoint, relation_model=relation_checkpoint, device="cpu")
    assert load_exported(exported, exported_relations)(ROWS) == near(triples(ROWS))


def test_what_an_exported_model_cannot_do_is_refused(exported, exported_relations, checkpoint):
    with pytest.raises(ValueError, match="explain works only for a model in torch"):
        load_exported(exported, explain="attention")
    with pytest.raises(ValueError, match="is a model of the task re, and ner is expected here"):
        ExportedPipeline(exported_relations)
    assert is_exported(exported) and not is_exported(checkpoint)
    with pytest.raises(ValueError, match=r"holds no exported model: there is no export\.json"):
        load_exported(checkpoint)
    with pytest.raises(ValueError, match="boxes belong to one row"):
        load_exported(exported)([PAIR], crops=[[0, 0, 9, 9]])


WITHOUT_TORCH = """
import json
import sys
sys.modules.update(dict.fromkeys(["torch", "transformers", "datasets", "pandas", "sklearn"]))  # as if they were absent
from processing.exported import load_exported
tagger = load_exported(sys.argv[1], relation_model=sys.argv[2])
print(json.dumps(tagger([{"text": sys.argv[3], "image": sys.argv[4]}])))
assert sys.modules["torch"] is None
"""


def test_torch_and_transformers_need_not_be_there(exported, exported_relations, repository, tmp_path):
    PICTURE.save(tmp_path / "picture.png")
    row = {"text": TEXT, "image": str(tmp_path / "picture.png")}
    command = [sys.executable, "-c", WITHOUT_TORCH, exported, exported_relations, TEXT, row["image"]]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == near(load_exported(exported, exported_relations)([row]))
