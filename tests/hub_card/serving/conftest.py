"""A pipeline that tests hold up and let go, and real servers in threads of this process."""

import socket
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from hub_card.serving.application import create_app
from hub_card.serving.uvicorn_server import PipelineServer, bind


SECONDS = 60  # far above what anything here takes on a busy machine


class HeldPipeline:
    """
    Answers each row with its own text once it is let go.

    Attributes:
        batches: the texts of each call.
        started: set when a call has begun.
        is_free: calls wait for it.
    """

    def __init__(self):
        self.batches, self.started, self.is_free = [], threading.Event(), threading.Event()

    def __call__(self, rows, batch_size, on_error):
        assert on_error == "report" and batch_size == len(rows)
        self.batches.append([row["text"] for row in rows])
        self.started.set()
        assert self.is_free.wait(SECONDS)
        if any(row["text"] == "broken" for row in rows):
            raise RuntimeError("the secret of /home/somebody")
        return [{"text": row["text"], "entities": []} for row in rows]


@pytest.fixture
def held():
    pipeline = HeldPipeline()
    yield pipeline
    pipeline.is_free.set()


@pytest.fixture(scope="session")
def eventually():
    """`eventually(condition)` waits until it holds; a failure where it does not within a minute."""

    def wait(condition):
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)

    return wait


class Running:
    """A server in a thread: `server`, its `address` and `port`, and an HTTP `client`."""

    def __init__(self, application):
        bound = bind("127.0.0.1", 0)
        self.port = bound.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.server = PipelineServer(application)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]}, daemon=True)
        self.thread.start()
        self.client = httpx.Client(base_url=self.address, timeout=SECONDS)
        for _ in range(10 * SECONDS):
            if self.server.started or not self.thread.is_alive():
                break
            self.thread.join(0.1)
        assert self.server.started

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    @staticmethod
    def rest_of(connection):
        """All that comes until the server closes the connection; a timeout where it does not."""
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        self.client.close()


@pytest.fixture
def start():
    """`start(entities=..., ...)`, as `create_app`, -> a running server; it ends with the test."""
    with ExitStack() as stack:

        def run(*arguments, **options):
            running = Running(create_app(*arguments, **options))
            stack.callback(running.stop)
            return running

        yield run


@pytest.fixture(scope="module")
def taggers(checkpoint, relation_checkpoint):
    """By what they find, the pipelines of tiny models."""
    from modeling_ifaformer.prediction import load_tagger

    return {"entities": load_tagger(checkpoint), "relations": load_tagger(relation_checkpoint)}
