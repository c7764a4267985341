"""The server of exported models, as the container starts it."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest


# As if torch and transformers were not installed.
START = """
import runpy, sys
sys.modules.update(dict.fromkeys(["torch", "transformers"]))
runpy.run_module("hub_card.serving", run_name="__main__")
"""


def start(repository, errors=None, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", START],
        cwd=repository,
        env={**os.environ, "PORT": "0", **variables},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def test_requests_are_answered_without_torch(repository, exported, exported_relations):
    server = start(repository, MODEL=exported, RELATION_MODEL=exported_relations)
    try:
        with ThreadPoolExecutor(1) as reader:
            try:
                ready = reader.submit(server.stdout.readline).result(timeout=300)
            except TimeoutError:
                server.kill()  # upon which the reader comes to an end
                raise
        assert ready.startswith("Ready: http://127.0.0.1:")
        address = ready.split()[1].removesuffix("/docs")
        for path, row in (
            ("/tag", {"text": "Jordan met Paris"}),
            ("/relations", {"text": "Jordan met Paris", "head": "Jordan", "tail": "Paris"}),
        ):
            data, headers = json.dumps(row).encode(), {"Content-Type": "application/json"}
            request = urllib.request.Request(address + path, data, headers)
            with urllib.request.urlopen(request, timeout=300) as answer:
                assert json.loads(answer.read())["text"] == row["text"]
        server.send_signal(signal.SIGTERM)
        # uvicorn answers what is there, and then ends by the signal.
        assert server.wait(timeout=300) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"MODEL": ""}, "Name the exported model in the variable MODEL"),
        ({"MODEL": "nowhere"}, "nowhere: there is no such folder"),
        ({"MODEL": "tests"}, "tests holds no exported model"),
        ({"MODEL": "nowhere", "PORT": "many"}, "The variable PORT must be a whole number, got 'many'"),
        ({"MODEL": "nowhere", "PORT": "99999"}, "port 99999"),
        ({"MODEL": "nowhere", "MAX_WAITING": "0"}, "MAX_WAITING must be at least 1"),
    ],
)
def test_what_cannot_start_says_why(repository, variables, message):
    server = start(repository, subprocess.PIPE, **variables)
    _, errors = server.communicate(timeout=300)
    assert server.returncode == 1 and message in errors


def test_arguments_are_refused_with_the_variables_that_there_are(repository):
    command = [sys.executable, "-m", "hub_card.serving", "--port", "1"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert (
        done.returncode == 1
        and "There are no arguments, got --port 1." in done.stderr
        and "RELATION_MODEL" in done.stderr
    )


def test_the_container_copies_what_the_server_imports(repository):
    """And installs what it needs, at versions that are tested."""
    lines = (repository / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    (install,) = [line for line in lines if line.startswith("RUN pip install")]
    packages = install.split("constraints.txt")[1].split()
    pinned = (repository / "constraints.txt").read_text(encoding="utf-8").lower()
    assert {"onnxruntime", "numpy", "tokenizers", "regex", "pillow", "fastapi", "uvicorn"} <= set(packages)
    assert all(f"{name}==" in pinned for name in packages if name != "regex")
    copied = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert copied == ["constraints.txt", "processing", "hub_card", "${MODEL}"]
