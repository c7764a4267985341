"""Measure the server: what many clients get done against one, and what hostile ones beside them cost."""

import base64
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from processing.columns import as_list

from .measuring import summary
from .work import Work


CLIENTS = 32
STALLED = 200
SECONDS = 600  # for a start or an answer, however slow the machine is
SCRIPTS = Path(__file__).resolve().parents[1]


def measure_serving(work: Work) -> dict[str, Any]:
    """
    Requests a second over HTTP, each with the text, the whole picture and the crops of a row. The same rows are asked
    about in every run. Those of hostile clients are not counted.
    """
    given = work.options
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        model = given.served_model
        if model is None:
            work.ifaformer().save_pretrained(folder)
            work.processor.save_pretrained(folder)
            model = folder
        address = stack.enter_context(server(model, given.batch_size, given.device))
        client = stack.enter_context(httpx.Client(base_url=address, timeout=SECONDS, limits=httpx.Limits()))
        rows = [as_request(row) for row in work.sample]
        one, many = (ask(client, rows, number)[1] for number in (1, CLIENTS))  # which warms up too
        rounds, beside = [], []
        for _ in range(given.repeats):
            rounds.append(
                {f"{number} client{'s' * (number > 1)}": ask(client, rows, number)[0] for number in (1, CLIENTS)}
            )
            alone = ask(client, rows, 8)[0]
            beside.append({"8 clients alone": alone})
            for name, hostile in (
                ("200 stalled clients", stalled),
                ("picture bombs", bombs),
                ("100 MB", large_bodies),
            ):
                with hostile(address):
                    beside[-1][f"8 clients beside {name}"] = ask(client, rows, 8)[0]
    return {
        "requests": len(rows),
        "largest difference of a score between 1 client and 32": largest_difference(one, many),
        "clients": summary(rounds, "1 client", "requests"),
        "hostile": summary(beside, "8 clients alone", "requests"),
    }


@contextmanager
def server(model: str, batch_size: int, device: str) -> Iterator[str]:
    """The address of serve.py in a process of its own."""
    options = ["--model", model, "--port", "0", "--batch_size", str(batch_size), "--device", device]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(SCRIPTS / "serve.py"), *options]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        with ThreadPoolExecutor(1) as reader:
            try:
                ready = next((line for line in process.stdout if line.startswith("Ready: ")), None)
                if ready is None:
                    raise ValueError(f"serve.py has ended with {process.wait()}: start it by itself to see why.")
                # Its other lines are read, or it would wait once the pipe is full.
                reader.submit(lambda: [None for _ in process.stdout or ()])
                yield ready.split()[1].removesuffix("/docs")
            finally:
                process.kill()  # upon which the reader comes to an end


def as_request(row: dict[str, Any]) -> dict[str, Any]:
    """The JSON of a row."""
    body: dict[str, Any] = {"tokens": row["tokens"]}
    for column in ("image", "aux_crops", "rcnn_crops"):
        pictures = [base64.b64encode(content_of(picture)).decode() for picture in as_list(row[column])]
        body |= {column: pictures} if pictures else {}
    return body


def content_of(picture: Any) -> bytes:
    if isinstance(picture, dict):
        return picture["bytes"] or Path(picture["path"]).read_bytes()
    file = BytesIO()
    picture.convert("RGB").save(file, format="JPEG", quality=95)
    return file.getvalue()


def ask(client: httpx.Client, rows: list[dict[str, Any]], num_clients: int) -> tuple[float, list[dict[str, Any]]]:
    """Requests a second, and the answers, where so many clients send the next one when they have an answer."""
    start = time.perf_counter()
    with ThreadPoolExecutor(num_clients) as clients:
        answers = list(clients.map(lambda row: client.post("/tag", json=row).raise_for_status().json(), rows))
    return len(rows) / (time.perf_counter() - start), answers


def largest_difference(one: list[dict[str, Any]], many: list[dict[str, Any]]) -> float:
    """Of the scores of the same entities; a ValueError where the entities are not the same."""
    differences = [0.0]
    for first, second in zip(one, many, strict=True):
        of_both = [[{**entity, "score": 0} for entity in report["entities"]] for report in (first, second)]
        if of_both[0] != of_both[1] or first.get("problems") != second.get("problems"):
            raise ValueError(f"Answers differ: {first} alone, {second} among others.")
        pairs = zip(first["entities"], second["entities"], strict=True)
        differences += [abs(a["score"] - b["score"]) for a, b in pairs]
    return max(differences)


@contextmanager
def stalled(address: str) -> Iterator[None]:
    """Clients who send the beginning of a request and nothing more."""
    with ExitStack() as stack:
        for _ in range(STALLED):
            url = httpx.URL(address)
            connection = stack.enter_context(socket.create_connection((url.host, url.port), timeout=SECONDS))
            connection.sendall(b"POST /tag HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{")
        yield


@contextmanager
def _repeated(address: str, content: bytes) -> Iterator[None]:
    """A client who sends this again and again."""
    is_over = False

    def send() -> None:
        with httpx.Client(base_url=address, timeout=SECONDS) as client:
            while not is_over:
                try:
                    client.post("/tag", content=content, headers={"content-type": "application/json"})
                except httpx.TransportError:
                    continue  # the server had enough of it

    with ThreadPoolExecutor(1) as client:
        client.submit(send)
        try:
            yield
        finally:
            is_over = True


def bombs(address: str) -> Any:
    """Small files of pictures with the most pixels that are still decoded, 24 million."""
    file = BytesIO()
    Image.fromarray(np.zeros((4000, 6000), dtype=np.uint8)).convert("RGB").save(file, format="PNG")
    return _repeated(address, b'{"text": "Jordan", "image": "%s"}' % base64.b64encode(file.getvalue()))


def large_bodies(address: str) -> Any:
    """Bodies of 100 MB."""
    return _repeated(address, b" " * 10**8)
