"""handler.py beside a model, where this project is not installed, as an endpoint has them."""

import json
import shutil

import pytest

from hub_card.serving.handler import EndpointHandler


PROGRAM = """
import base64, json, sys
sys.path.insert(0, ".")
from handler import EndpointHandler

handler = EndpointHandler(path=".")
picture = base64.encodebytes(open("picture.png", "rb").read()).decode()
results = []
for inputs in json.loads(sys.argv[1]):
    for row in inputs if isinstance(inputs, list) else [inputs]:
        if isinstance(row, dict) and "image" in row:
            row["image"] = picture
    results.append(handler({"inputs": inputs}))
print(json.dumps(results))
"""


@pytest.fixture
def picture(tmp_path):
    from PIL import Image

    path = tmp_path / "picture.png"
    Image.radial_gradient("L").convert("RGB").resize((60, 40)).save(path)
    return path


def without_scores(value):
    if isinstance(value, dict):
        return {name: without_scores(of) for name, of in value.items() if name != "score"}
    return [*map(without_scores, value)] if isinstance(value, list) else value


@pytest.mark.parametrize("task", ["ner", "re"])
def test_an_endpoint_answers_as_the_pipeline(
    task, checkpoint, relation_checkpoint, picture, run_without_project, repository, tmp_path
):
    from modeling_ifaformer.prediction import load_tagger

    model = checkpoint if task == "ner" else relation_checkpoint
    folder = shutil.copytree(model, tmp_path / "endpoint")
    shutil.copy(repository / "hub_card" / "serving" / "handler.py", folder)
    shutil.copy(picture, folder)
    pair = {} if task == "ner" else {"head": "Jordan", "tail": "Paris"}
    row = {"text": "Jordan met Paris", **pair}
    with_picture = {**row, "image": picture.read_bytes()}
    inputs = [row, {**row, "image": ""}, [row, {**row, "image": ""}, {"text": ""}], [], "Jordan met Paris"]
    tagger = load_tagger(model)
    expected = [
        dict(tagger(row, on_error="report")),
        dict(tagger(with_picture, on_error="report")),
        [dict(report) for report in tagger([row, with_picture, {"text": ""}], on_error="report")],
        [],
        dict(tagger("Jordan met Paris", on_error="report")),
    ]
    results = json.loads(run_without_project(PROGRAM, json.dumps(inputs), cwd=folder).stdout.splitlines()[-1])
    assert without_scores(results) == without_scores(expected)
    assert results[2][2]["problems"] and ("relation" in results[0]) is (task == "re")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "inputs must be a text"),
        ({"inputs": [["Jordan"]]}, "inputs must be a text"),
        ({"inputs": ["a"] * 257}, "at most 256 of these"),
        ({"inputs": {"text": "a", "image": "/etc/passwd"}}, "image must be base64 of a picture"),
        ({"inputs": {"text": "a", "aux_crops": [{"path": "/etc/passwd"}]}}, "aux_crops must be base64"),
        ({"inputs": "a", "parameters": {"aux_detector": "somebody/code"}}, "parameters must be an object"),
        ({"inputs": "a", "parameters": {"batch_size": 0}}, "batch_size must be a whole number from 1 to 256."),
        ({"inputs": "a", "parameters": {"threshold": 5}}, "threshold must be a number from 0 to 1"),
    ],
)
def test_what_a_request_may_not_hold(checkpoint, data, message):
    handler = EndpointHandler(checkpoint)
    with pytest.raises(ValueError, match=message):
        handler(data)


def test_an_endpoint_has_the_versions_tested(repository):
    def pins(path):
        return {line for line in path.read_text(encoding="utf-8").splitlines() if "==" in line}

    wanted = pins(repository / "hub_card" / "serving" / "handler_requirements.txt")
    assert len(wanted) == 2 and wanted <= pins(repository / "constraints.txt")
