"""What annotation tools import, and that reading it again gives the same rows."""

import json
import logging
from itertools import pairwise

import pytest
from datasets import Dataset
from PIL import Image

from modeling_ifaformer.prediction import windows
from modeling_ifaformer.prediction.annotation_files import TOOLS, annotation_path, write_annotation_file
from modeling_ifaformer.prediction.bulk import BulkPrediction
from modeling_ifaformer.prediction.input_rows import RowSource, file_rows
from modeling_ifaformer.prediction.taggers import load_tagger
from processing.data import load_data
from processing.jobs.processes import JobError


TEXT = "\N{PARTY POPPER} Jordan met Ana"
ENTITIES = [
    {"entity_group": "PER", "score": 0.5, "word": "Jordan", "start": 2, "end": 8},
    {"entity_group": "ORG", "score": 0.75, "word": "Ana", "start": 13, "end": 16},
]
RELATIONS = [{"head": 1, "tail": 0, "relation": "peer", "score": 0.5}]
TAGGED = {"text": TEXT, "entities": ENTITIES}
TRIPLES = {**TAGGED, "relations": RELATIONS}
PAIR = {"text": TEXT, "relation": "peer", "score": 0.5, "head": ENTITIES[1], "tail": ENTITIES[0]}


@pytest.fixture
def finished(tmp_path):
    """Input with a picture, and the results of its rows, as a source and the path of the output."""
    (tmp_path / "my photos").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "my photos" / "1.jpg")

    def finish(*results):
        rows = [{"id": f"row {number}", "text": "x", "image": "my photos/1.jpg"} for number, _ in enumerate(results)]
        results = [{"id": row["id"], **result} for row, result in zip(rows, results, strict=True)]
        (tmp_path / "tweets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "out.jsonl").write_text("".join(json.dumps(result) + "\n" for result in results))
        return file_rows([str(tmp_path / "tweets.jsonl")]), tmp_path / "out.jsonl"

    return finish


def written(source, output, to, **options):
    number = write_annotation_file(source, output, to, "demo", **options)
    text = annotation_path(output, to).read_text(encoding="utf-8")
    records = json.loads(text) if to == "label_studio" else [json.loads(line) for line in text.splitlines()]
    assert len(records) == number
    return records


def test_label_studio(finished):
    (task,) = written(*finished(TRIPLES), "label_studio")
    assert task["data"] == {"id": "row 0", "text": TEXT, "image": "/data/local-files/?d=my%20photos/1.jpg"}
    (prediction,) = task["predictions"]
    first, _, relation = prediction["result"]
    assert (prediction["model_version"], prediction["score"]) == ("demo", 0.625)
    assert first["value"] == {"start": 2, "end": 8, "text": "Jordan", "labels": ["PER"]}
    assert (first["from_name"], first["to_name"], first["type"], first["score"]) == ("label", "text", "labels", 0.5)
    assert relation["type"] == "relation" and (relation["from_id"], relation["to_id"]) == ("1", "0")


def test_doccano(finished):
    tagged, triples, pair = written(*finished(TAGGED, TRIPLES, PAIR), "doccano")
    assert tagged["label"] == [[2, 8, "PER"], [13, 16, "ORG"]] and tagged["image"] == "my photos/1.jpg"
    assert triples["entities"][0] == {"id": 0, "label": "PER", "start_offset": 2, "end_offset": 8}
    assert triples["relations"] == [{"id": 0, "from_id": 1, "to_id": 0, "type": "peer"}]
    assert [entity["label"] for entity in pair["entities"]] == ["head", "tail"]


@pytest.mark.parametrize("to", [*TOOLS, None])
def test_the_least_certain(finished, to):
    results = [{**TAGGED, "confidence": confidence} for confidence in (0.5, 0.25, None, 0.75)]
    records = written(*finished(*results, {"text": None, "entities": []}), to, least_certain=2)
    assert [record.get("data", record)["id"] for record in records] == ["row 1", "row 0"]
    assert to != "label_studio" or records[0]["predictions"][0]["score"] == 0.25


def test_pictures_held_as_bytes_are_counted(finished, tmp_path, caplog):
    path, output = tmp_path / "tweets.parquet", finished(TAGGED, TAGGED)[1]
    picture = {"bytes": (tmp_path / "my photos" / "1.jpg").read_bytes(), "path": "1.jpg"}
    rows = [{"text": "x", "image": picture, "aux_crops": [picture]}, {"text": "x", "image": None, "aux_crops": []}]
    Dataset.from_list(rows).to_parquet(path)
    logger = logging.getLogger("modeling_ifaformer.prediction.annotation_files")
    logger.addHandler(caplog.handler)
    try:
        assert "image" not in written(file_rows([str(path)]), output, "doccano")[0]
    finally:
        logger.removeHandler(caplog.handler)
    assert "input holds as bytes: image of 1 rows, aux_crops of 1 rows. To show" in caplog.text


def test_a_data_uri_is_no_local_file(finished):
    source, output = finished(TAGGED)
    uri = "data:image/png;base64,iVBORw0KGgo="
    rows = [row._replace(pictures={"image": uri}) for row in source.read()]
    (task,) = written(RowSource(lambda: iter(rows), source.content), output, "label_studio")
    assert task["data"]["image"] == uri


def test_nothing_to_write(finished):
    assert written(*finished({"text": None, "entities": []}), "label_studio") == []


def test_other_rows(finished):
    source, output = finished(TAGGED, TAGGED)
    output.write_text(json.dumps(TAGGED) + "\n")
    with pytest.raises(JobError, match=r"out\.jsonl does not have the rows of the input"):
        write_annotation_file(source, output, "doccano", "demo")


@pytest.mark.parametrize("to", TOOLS)
@pytest.mark.parametrize(("result", "task"), [(TAGGED, "ner"), (TRIPLES, "ner"), (TRIPLES, "re"), (PAIR, "re")])
def test_import_export_import_gives_the_same_rows(finished, tmp_path, to, result, task):
    without = {name: [] if name in ("entities", "relations") else value for name, value in result.items()}
    source, output = finished(result, without)

    def load(path):
        data, _ = load_data(str(path), cache_dir=str(tmp_path / "cache"), image_dir=str(tmp_path), task=task)
        return data["train"].features, data["train"].to_list()

    def with_pictures(path):
        lines = [{**json.loads(line), "image": "my photos/1.jpg"} for line in path.read_text().splitlines()]
        lines = [{**line, "relations": line.get("relations", [])} if "entities" in line else line for line in lines]
        path.with_name("own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path.with_name("own.jsonl")

    write_annotation_file(source, output, to, "demo")
    features, rows = load(annotation_path(output, to))
    assert (features, rows) == load(with_pictures(output))
    assert rows and all(row["id"].startswith("row ") and row["image"]["path"] for row in rows)


def test_several_pictures_are_read_back(tmp_path):
    for name in ("0.png", "1.png"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    row = {"id": "a", "text": TEXT, "image": ["0.png", "1.png"]}
    (tmp_path / "tweets.jsonl").write_text(json.dumps(row))
    (tmp_path / "out.jsonl").write_text(json.dumps({**row, **TAGGED}))
    (task,) = written(file_rows([str(tmp_path / "tweets.jsonl")]), tmp_path / "out.jsonl", "label_studio")
    assert task["data"]["image"] == [f"/data/local-files/?d={number}.png" for number in range(2)]
    path = annotation_path(tmp_path / "out.jsonl", "label_studio")
    data, report = load_data(str(path), cache_dir=str(tmp_path / "cache"), image_dir=str(tmp_path))
    assert len(data["train"][0]["image"]) == 2 and not report.absent


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_bulk_prediction_that_goes_on(checkpoint, tmp_path, monkeypatch, ending):
    """The file is that of one uninterrupted run, and can be asked for later."""
    monkeypatch.setattr(windows, "WINDOW_BATCHES", 1)
    texts = [" ".join(["Jordan", "met", "Ana", "today"][: 1 + index % 4]) for index in range(9)]
    (tmp_path / "tweets.txt").write_text("\n".join([*texts, ""]))
    source, tagger = file_rows([str(tmp_path / "tweets.txt")]), load_tagger(checkpoint, device="cpu")

    def run(name, **options):
        output = tmp_path / f"{name}.{ending}"
        return output, BulkPrediction(source, tagger, batch_size=2, **options).write_file(output)

    output, report = run("whole", least_certain=4)
    assert report.rows == 9
    chosen = [json.loads(line) for line in annotation_path(output, None).read_text().splitlines()]
    assert len(chosen) == 4 and all(0 < one["confidence"] <= two["confidence"] <= 1 for one, two in pairwise(chosen))

    answers = tagger._answers
    calls = iter(range(3))

    def stop(*arguments):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return answers(*arguments)

    monkeypatch.setattr(tagger, "_answers", stop, raising=False)
    with pytest.raises(KeyboardInterrupt):
        run("killed", least_certain=4, to="doccano")
    monkeypatch.undo()
    monkeypatch.setattr(windows, "WINDOW_BATCHES", 1)
    killed, _ = run("killed", least_certain=4, to="doccano")
    documents = [json.loads(line) for line in annotation_path(killed, "doccano").read_text().splitlines()]
    assert [document["text"] for document in documents] == [one["text"] for one in chosen]
    assert run("killed", least_certain=9, to="label_studio")[1] is None
    assert len(json.loads(annotation_path(killed, "label_studio").read_text())) == 9
    predicted, _ = load_data(str(killed), cache_dir=str(tmp_path / "cache"))
    assert [" ".join(tokens) for tokens in predicted["train"]["tokens"]] == texts
