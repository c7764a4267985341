"""The server's answers: those of the pipeline, and what it says to a request that it cannot take."""

import base64
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image

from hub_card.serving.admission import RequestLimits
from hub_card.serving.limits import MAX_MEGABYTES


TEXT = "Jordan met Paris in New York City ."


def png(image):
    file = BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def photo():
    return png(Image.radial_gradient("L").convert("RGB").resize((60, 40)))


@pytest.fixture(scope="module")
def crop():
    return png(Image.linear_gradient("L").convert("RGB").resize((30, 30)))


def bomb():
    """Some 100 bytes that say of themselves that they are a picture of 2.5 gigapixels."""

    def chunk(name, data):
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = (50_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def as_text(content):
    return base64.encodebytes(content).decode()  # in lines, as the command base64 writes it


LARGE = as_text(b"0" * (MAX_MEGABYTES * 10**6 + 1))


def alike(report, expected):
    """The same but for the last digits of scores, which differ with the rows of the batch."""
    if isinstance(expected, dict):
        return report.keys() == expected.keys() and all(alike(report[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(report) == len(expected) and all(map(alike, report, expected))
    return report == (pytest.approx(expected, abs=1e-5) if isinstance(expected, float) else expected)


def test_answers_are_those_of_the_pipeline(start, taggers, photo, crop):
    running = start(**taggers)
    boxes = [[5, 5, 20, 20], {"box": [0, 0, 9, 9], "label": "a dog", "score": 0.5}]
    rows = [
        {"text": TEXT},
        {"tokens": ["Jordan", "met", "Paris"], "image": photo},
        {"text": TEXT, "image": photo, "aux_crops": [crop, photo], "rcnn_crops": [crop]},
        {"text": TEXT, "image": photo, "crops": boxes},
        {"text": TEXT, "image": [photo, crop]},
        {"text": TEXT, "image": b"no picture", "context": ["a man", {"text": "CHICAGO", "kind": "ocr"}]},
        {"text": ""},
        {"text": TEXT, "image": bomb()},
    ]
    for row in rows:
        expected = dict(taggers["entities"](row, on_error="report"))
        body = json.loads(json.dumps(row, default=as_text))
        answer = running.client.post("/tag", json=body)
        assert answer.status_code == 200 and alike(answer.json(), expected), answer.text
        names = [name for name in ("image", "aux_crops", "rcnn_crops") if name in row]
        if not names or "tokens" in row or "context" in row:
            continue
        several = {name: row[name] if isinstance(row[name], list) else [row[name]] for name in names}
        files = [(name, ("a.png", content)) for name in names for content in several[name]]
        fields = {"text": row["text"]} | ({"crops": json.dumps(boxes)} if "crops" in row else {})
        answer = running.client.post("/tag", data=fields, files=files)
        assert alike(answer.json(), expected), answer.text
    problems = running.client.post("/tag", json={"text": TEXT, "image": as_text(bomb())}).json()["problems"]
    assert "at most 25 megapixels" in problems[0]

    pair = {"text": "Jordan met Paris", "image": photo}
    expected = dict(taggers["relations"]({**pair, "head": (0, 6), "tail": "Paris"}, on_error="report"))
    assert expected["relation"]
    for head, tail in (("Jordan", "Paris"), ([0, 6], [11, 16]), ({"start": 0, "end": 6, "name": "Jordan"}, "Paris")):
        answer = running.client.post("/relations", json={**pair, "image": as_text(photo), "head": head, "tail": tail})
        assert alike(answer.json(), expected), answer.text
    form = {"text": pair["text"], "head": "Jordan", "tail": "Paris"}
    assert alike(running.client.post("/relations", data=form, files={"image": photo}).json(), expected)
    as_lists = {"tokens": '["Jordan", "met", "Paris"]', "head": "[0, 1]", "tail": '{"start": 2, "end": 3}'}
    assert alike(running.client.post("/relations", data=as_lists, files={"image": photo}).json(), expected)
    for place in ("Chicago", [0, 3], [0, 10**30]):
        answer = running.client.post("/relations", json={"text": "Jordan met Paris", "head": place, "tail": "Paris"})
        assert answer.status_code == 422 or answer.json()["problems"][0].startswith("head: ")


def test_relations_between_the_entities(start, checkpoint, relation_checkpoint):
    from modeling_ifaformer.prediction import load_tagger

    tagger = load_tagger(checkpoint, "ner", relation_checkpoint)
    running = start(entities=tagger, relations=tagger.relation_extractor)
    expected = dict(tagger({"text": TEXT}, on_error="report"))
    assert expected["entities"] and "relations" in expected
    assert alike(running.client.post("/tag", json={"text": TEXT}).json(), expected)
    both = running.client.post("/relations", json={"text": TEXT, "head": "Jordan", "tail": "Paris"})
    assert both.json()["relation"] and running.client.get("/health").json()["relations"]


def test_32_clients_get_the_answers_of_one(start, taggers, photo, crop):
    running = start(**taggers)
    texts = [" ".join(["Jordan met Paris"] * (1 + number % 5)) for number in range(32)]
    rows = [{"text": text, **({"image": as_text(photo if len(text) % 2 else crop)})} for text in texts]
    alone = [running.client.post("/tag", json=row).json() for row in rows]
    with ThreadPoolExecutor(32) as clients:
        together = list(clients.map(lambda row: running.client.post("/tag", json=row).json(), rows))
    assert all(map(alike, together, alone)) and [report["text"] for report in together] == texts


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "A text is expected as `text`"),
        ('{"text": 5}', "text: Input should be a valid string"),
        ('{"text": "\\ud800"}', "Invalid JSON"),
        (json.dumps({"text": "a" * 2001}), "text: The text has 2,001 characters, at most 2,000 are taken"),
        (json.dumps({"tokens": ["ab"] * 1000}), "The text of all tokens has 2,999 characters"),
        ('{"text": "a", "threshold": 1}', "threshold: Extra inputs are not permitted"),
        ('{"text": "a", "image": "/etc/passwd"}', "image 0: a picture is expected as base64; paths and addresses"),
        ('{"text": "a", "image": "https://here/a.png"}', "image 0: a picture is expected as base64"),
        ('{"text": "a", "image": {"path": "/etc/passwd"}}', "image 0: a picture is expected as base64"),
        (json.dumps({"text": "a", "image": [""] * 9}), "image: Value should have at most 8 items"),
        (json.dumps({"text": "a", "aux_crops": [LARGE]}), "aux_crops 0: the picture has 10.0 MB"),
        ('{"text": "a", "crops": "auto"}', "crops: The boxes are no JSON"),
        (json.dumps({"text": "a", "crops": [[1, 2, 3, 4]] * 101}), "crops: There are 101 boxes"),
        ('{"text": "a", "crops": [[1, 2, 3, ' + "9" * 5000 + "]]}", "Invalid JSON: number out of range"),
        ('{"text": "a", "crops": [[1, 2, 3, 1e999]]}', "crops: A box is"),
        ('{"text": "a", "crops": ' + "[" * 100_000 + "}", "Invalid JSON"),
        ('{"text": "a", "context": 5}', "context: "),
    ],
)
def test_what_is_refused(start, held, body, message):
    running = start(held)
    answer = running.client.post("/tag", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422 and answer.json()["detail"].startswith(message), answer.text
    assert len(answer.text) < 1000 and "passwd" not in answer.text and not held.batches
    held.is_free.set()
    assert running.client.post("/tag", json={"text": "a"}).json() == {"text": "a", "entities": []}, "the server lives"


def test_what_a_form_may_not_hold(start, held):
    running = start(held)
    for options, message in (
        ({"files": {"text": b"a"}}, "text: a field of text is expected, not a file."),
        ({"data": {"text": "a", "image": "a.png"}, "files": {"aux_crops": b"a"}}, "image: a file is expected."),
        ({"data": {"text": ["a", "b"]}, "files": {"image": b"a"}}, "text: Input should be a valid string"),
        ({"data": {"text": "a", "crops": "[[1]]"}, "files": {"image": b"a"}}, "crops: A box is"),
    ):
        answer = running.client.post("/tag", **options)
        assert answer.status_code == 422 and answer.json()["detail"].startswith(message), answer.text
    answer = running.client.post("/tag", content=b"--", headers={"content-type": "multipart/form-data"})
    assert answer.status_code == 400 and "boundary" in answer.json()["detail"]
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = running.client.post("/tag", content=b"text=a", headers={"content-type": kind})
        assert answer.status_code == 415 and answer.json()["detail"].startswith("Expected application/json or multip")
    assert not held.batches


def test_a_form_in_an_unknown_charset(start, held):
    running = start(held)
    headers = {"content-type": "multipart/form-data; boundary=x; charset=undefined"}
    content = b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\na\r\n--x--\r\n'
    answer = running.client.post("/tag", content=content, headers=headers)
    assert answer.status_code == 422 and "Send it as UTF-8" in answer.json()["detail"]


def test_a_model_that_is_not_there_and_other_addresses(start, held):
    running = start(relations=held)
    answer = running.client.post("/tag", json={"text": "a"})
    assert (
        answer.status_code == 404 and "no model for entities; it was started with a model for relations" in answer.text
    )
    assert start(held).client.post("/relations", json={}).json()["detail"].endswith("POST /tag instead.")
    assert running.client.get("/health").json() == {"status": "ok", "tag": False, "relations": True}
    for method, path, status in (("get", "/", 404), ("get", "/tag", 405), ("post", "/tag/../../etc", 404)):
        answer = getattr(running.client, method)(path)
        assert answer.status_code == status and "POST /tag or /relations" in answer.json()["detail"]


def test_a_full_queue_and_an_answer_that_does_not_come(start, held, eventually):
    running = start(held, max_waiting=2, limits=RequestLimits(answer_seconds=60))
    with ThreadPoolExecutor(2) as clients:
        waiting = [clients.submit(running.client.post, "/tag", json={"text": text}) for text in "ab"]
        eventually(lambda: 'waiting_requests{path="/tag"} 2.0' in running.client.get("/metrics").text)
        refused = running.client.post("/tag", json={"text": "c"})
        assert refused.status_code == 503 and refused.headers["retry-after"] == "2"
        held.is_free.set()
        assert [answer.result(60).json()["text"] for answer in waiting] == ["a", "b"]
    assert running.client.post("/tag", json={"text": "c"}).status_code == 200
    held.is_free.clear()
    late = start(held, limits=RequestLimits(answer_seconds=0.2)).client.post("/tag", json={"text": "d"})
    assert late.status_code == 503 and late.json()["detail"].startswith("There was no answer within 0.2 seconds")


def test_a_model_that_fails_says_nothing_of_the_machine(start, held):
    held.is_free.set()
    running = start(held)
    answer = running.client.post("/tag", json={"text": "broken"})
    assert answer.status_code == 500 and answer.json()["detail"].startswith("The model failed on this request.")
    assert "somebody" not in answer.text and running.client.post("/tag", json={"text": "a"}).status_code == 200


def test_figures_and_the_page(start, held):
    held.is_free.set()
    running = start(held)
    running.client.post("/tag", json={"text": "a"})
    running.client.get("/made/up")
    figures = running.client.get("/metrics").text
    for line in ('answers_total{path="/tag",status="200"} 1.0', 'answers_total{path="other",status="404"} 1.0'):
        assert f"ifaformer_{line}" in figures
    assert 'ifaformer_batch_rows_sum{path="/tag"} 1.0' in figures and "ifaformer_held_bytes 0.0" in figures
    assert "/docs" in running.client.get("/docs").text or "swagger" in running.client.get("/docs").text
    paths = running.client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/tag", "/relations", "/health", "/metrics"}
    content = paths["/relations"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert set(content["application/json"]["schema"]["required"]) == {"head", "tail"}
