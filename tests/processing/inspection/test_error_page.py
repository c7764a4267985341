import io
import re

import numpy as np
from datasets import Dataset, Image, List
from PIL import Image as Pictures

from processing.inspection.error_page import MAX_EXAMPLES, error_page
from processing.rows.row_features import ner_features, re_features
from processing.scoring.error_analysis import ENTITY_ERRORS, analyse_entities, analyse_relations


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
GOLD = [1, 2, 0, 3, 4, 1, 2]
PREDICTED = [1, 0, 1, 0, 1, 3, 4]
TOKENS = ["<b>New", "York", "&", "a", "b", "c", "d"]


def make_rows(features, *rows):
    encoded = Image(decode=False)
    features["image"], features["aux_crops"], features["rcnn_crops"] = encoded, List(encoded), List(encoded)
    defaults = {"image_id": None, "image": None, "aux_crops": [], "rcnn_crops": []}
    return Dataset.from_list([{**defaults, **row} for row in rows], features=features)


def noise(seed):
    """A picture that no codec makes small."""
    file, pixels = io.BytesIO(), np.random.default_rng(seed).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Pictures.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def analysed(tags, rows):
    """Of rows that all have these gold and predicted tags."""
    return analyse_entities([[[TAGS[tag] for tag in of] for of in tags]] * len(rows), rows["tokens"])


def test_every_kind_with_its_examples():
    row = {"tokens": TOKENS, "ner_tags": GOLD, "aux_crops": [noise(0)]}
    rows = make_rows(ner_features(TAGS), *({"id": f"/home/me/{number}", **row} for number in range(9)))
    page = error_page(
        {"/home/me/runs/mine": analysed((GOLD, PREDICTED), rows)}, rows, name="/home/me/own", split="test"
    )
    assert "<h1>Errors on own (test)</h1>" in page and "<h2>mine</h2>" in page and "/home" not in page
    assert "F1 are in percent, by the protocol word.</p>" in page
    assert re.findall(r"<h3>([^<]*)</h3>", page)[1:] == [kind.capitalize() for kind in ENTITY_ERRORS]
    assert page.count("9 of 9 tweets). 6 of these tweets:</p>") == len(ENTITY_ERRORS) - 1, "none is missed"
    assert "<p>A gold entity that no predicted one is matched with (0 in 0 of 9 tweets).</p>" in page
    assert page.count("<article") == (len(ENTITY_ERRORS) - 1) * MAX_EXAMPLES
    assert '<p class="note">wrong boundary: &lt;b&gt;New York (PER), predicted &lt;b&gt;New (PER)</p>' in page
    assert "<b>" not in page and "<script" not in page and "<img" not in page, "crops are left out"
    assert ">&lt;b&gt;New York<small> PER</small></mark>" in page, "what is gold is marked"


def test_the_page_is_small_with_the_largest_pictures():
    pictures = (
        {"id": str(number), "tokens": TOKENS, "ner_tags": GOLD, "image": noise(number)} for number in range(40)
    )
    rows = make_rows(ner_features(TAGS), *pictures)
    tags = [(GOLD, PREDICTED), (GOLD, [0] * 7)] * 20  # the second misses all
    named = [[[TAGS[tag] for tag in of] for of in pair] for pair in tags]
    page = error_page({"mine": analyse_entities(named, rows["tokens"])}, rows, name="own", split="test")
    assert page.count("<image") == MAX_EXAMPLES * len(ENTITY_ERRORS)
    assert 300_000 < len(page.encode()) < 1_000_000


def test_relations():
    row = {"id": "1", "tokens": ["Jordan", "met", "Paris"], "relation": 1}
    row |= {
        name: {"name": word, "start": at, "end": at + 1}
        for name, word, at in (("head", "Jordan", 0), ("tail", "Paris", 2))
    }
    rows = make_rows(re_features(["None", "peer"]), row, row)
    analysis = analyse_relations([("peer", None), (None, None)], rows[:])
    page = error_page({"mine": analysis}, rows, name="own", split="validation")
    assert page.count("<article") == 1 and "validation, 1" in page
    assert "F1 are in percent.</p>" in page, "relations are compared in one way"
    assert '<p class="note">missed: peer (Jordan, Paris)</p>' in page
