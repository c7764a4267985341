"""What the models of `make demo` and `make demo_re` can do, where these were run in this checkout."""

import numpy as np
import pytest
from transformers import pipeline

from processing.columns import CROP_COLUMNS
from processing.data import load_data
from processing.data.demo.relation_tweets import TYPICAL_RELATIONS, plan_relation
from processing.labels import entity_spans
from processing.scoring.calibration import calibration_error
from processing.tokenizing import row_words


@pytest.fixture(scope="module")
def run(pytestconfig):
    """`run(name)` -> the folder of its model."""

    def find(name):
        folder = pytestconfig.rootpath / "runs" / name
        if not (folder / "model.safetensors").is_file():
            pytest.skip(f"there is no model (make {name})")
        return str(folder)

    return find


@pytest.fixture(scope="module")
def answers(run, tmp_path_factory):
    """`answers(columns)` -> test F1 with these columns of pictures; score and correctness of each entity found."""
    data, _ = load_data("demo", cache_dir=str(tmp_path_factory.mktemp("cache")))
    rows = data["test"]
    names = rows.features["ner_tags"].feature.names
    tagger = pipeline("multimodal-token-classification", model=run("demo"), trust_remote_code=True)

    def of(columns):
        gold, found = [], []
        for number, row in enumerate(rows):
            _, _, offsets = row_words(row)
            for entity_type, start, end in entity_spans([names[tag] for tag in row["ner_tags"]]):
                gold.append((number, entity_type, offsets[start][0], offsets[end - 1][1]))
        for number, entities in enumerate(tagger(rows.select_columns(["tokens", *columns]), batch_size=64)):
            for entity in entities:
                place = (number, entity["entity_group"], entity["start"], entity["end"])
                found.append((entity["score"], place in gold))
        scores, is_right = np.array(found).T
        return 2 * is_right.sum() / (len(gold) + len(found)), scores, is_right

    return of


@pytest.mark.parametrize(
    ("columns", "least_f1"),
    [(["image", "aux_crops", "rcnn_crops"], 0.97), (["image"], 0.95), ([], 0.35)],
    ids=["with crops", "whole picture alone", "text alone"],
)
def test_what_is_missing_is_made_up_for_or_known(answers, columns, least_f1):
    f1, scores, is_right = answers(columns)
    assert f1 >= least_f1
    assert calibration_error(scores, is_right) <= 0.05


def test_the_examples_of_relations_are_found(run):
    extractor = pipeline("multimodal-relation-extraction", model=run("demo_re"), trust_remote_code=True)
    for relation, index in TYPICAL_RELATIONS.items():
        tweet = plan_relation(0, "test", index)
        crops = {name: [crop.box for crop in getattr(tweet.scene, name)] for name in CROP_COLUMNS}
        row = {"tokens": list(tweet.tokens), "image": tweet.scene.paint(), "crops": crops}
        assert extractor({**row, "head": tweet.head, "tail": tweet.tail})["relation"] == relation
