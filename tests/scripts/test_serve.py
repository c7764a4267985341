"""serve.py as a user starts it: a process that answers, and ends as it is asked to."""

import base64
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from io import BytesIO

import httpx
import pytest
from PIL import Image


SECONDS = 300  # far above what a start takes on a busy machine


def hand_over(output, lines):
    """Put each line into the queue as it comes, and None at the end."""
    for line in output:
        lines.put(line)
    lines.put(None)


@pytest.fixture
def start(repository):
    """`start("--model", ..., TOKEN="...")` -> the process and its address; it is ended with the test."""
    processes = []

    def run(*arguments, **variables):
        command = [sys.executable, str(repository / "scripts" / "serve.py"), "--port", "0", *map(str, arguments)]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        processes.append(process)
        lines = queue.Queue()
        threading.Thread(target=hand_over, args=(process.stdout, lines), daemon=True).start()
        printed = []
        while (line := lines.get(timeout=SECONDS)) is not None:
            printed.append(line)
            if found := re.match(r"Ready: (http://[\d.:]+)/docs", line):
                client = httpx.Client(base_url=found[1], timeout=SECONDS)
                return process, client, printed
        raise AssertionError("".join(printed))

    yield run
    for process in processes:
        process.kill()
        process.wait(SECONDS)


def test_a_server_of_both_models(start, checkpoint, relation_checkpoint):
    models = ("--model", checkpoint, "--relation_model", relation_checkpoint, "--device", "cpu")
    process, client, printed = start(*models, IFAFORMER_TOKEN="secret")
    assert not [line for line in printed if "IFAFORMER_TOKEN" in line or "secret" in line]
    assert client.get("/health").json() == {"status": "ok", "tag": True, "relations": True}
    assert client.post("/tag", json={"text": "Jordan met Paris"}).status_code == 401
    client.headers["authorization"] = "Bearer secret"
    file = BytesIO()
    Image.new("RGB", (40, 30), "teal").save(file, format="PNG")
    row = {"text": "Jordan met Paris", "image": base64.b64encode(file.getvalue()).decode()}
    report = client.post("/tag", json=row).json()
    assert set(report) >= {"text", "entities", "relations"}
    form = {"text": "Jordan met Paris", "head": "Jordan", "tail": "Paris"}
    assert client.post("/relations", data=form, files={"image": file.getvalue()}).json()["relation"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == -signal.SIGTERM, "as every process that ends by it"
    with pytest.raises(httpx.TransportError):
        client.get("/health")


def test_a_server_of_relations_alone(start, relation_checkpoint):
    process, client, _ = start("--model", relation_checkpoint, "--device", "cpu", IFAFORMER_TOKEN="")
    assert client.get("/health").json() == {"status": "ok", "tag": False, "relations": True}
    assert "no model for entities" in client.post("/tag", json={"text": "Jordan"}).json()["detail"]
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 0


def test_what_is_wrong_with_the_options(run_script, checkpoint, relation_checkpoint):
    for arguments, message in (
        ([], "Name the model, for example --model runs/demo."),
        (["--model", "no/such"], "no/such"),
        (["--model", checkpoint, "--batch_size", "0"], "batch_size must be at least 1, got 0."),
        (["--model", checkpoint, "--aux_detector", "no/such"], "aux_detector no/such does not load"),
        (["--model", checkpoint, "--host", "192.0.2.1"], "The server cannot answer on 192.0.2.1, port 8000"),
        (["--model", checkpoint, "--port", "0", "--relation_types", "a.json"], "Name one: --relation_model."),
        (
            ["--model", relation_checkpoint, "--port", "0", "--threshold", "0.5"],
            f"--threshold can be used only with an entity model; {relation_checkpoint} is a relation model.",
        ),
    ):
        port = [] if "--host" in arguments else ["--port", "0"]
        ended = run_script("serve.py", *arguments, *(port if "--port" not in arguments else []), exit_code=1)
        assert message in ended.stderr.splitlines()[-1] and "Traceback" not in ended.stderr
