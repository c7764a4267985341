"""The server as a whole: clients who stall, and how it ends."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import pytest

from hub_card.serving import uvicorn_server
from hub_card.serving.uvicorn_server import bind


def test_200_stalled_clients_keep_nobody_waiting(start, held, eventually):
    held.is_free.set()
    running = start(held)
    with ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(200)]
        for client in clients[:100]:
            client.sendall(b"POST /tag HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{")
        for client in clients[100:]:
            client.sendall(b"POST /tag HTTP/1.1\r\nHo")
        eventually(lambda: running.server.application.num_open == 100)
        with ThreadPoolExecutor(8) as pool:
            texts = [str(number) for number in range(40)]
            answers = pool.map(lambda text: running.client.post("/tag", json={"text": text}).json()["text"], texts)
            assert list(answers) == texts
        eventually(lambda: running.server.application.num_open == 100)  # A request counts until its answer is sent.


@pytest.mark.parametrize(
    "sent", [b"", b"GET /health HTTP/1.1\r\nHo", b"GET /health HTTP/1.1\r\nHost: here\r\n\r\nGET /he"]
)
def test_a_connection_that_comes_to_no_request_is_ended(start, held, monkeypatch, sent):
    monkeypatch.setattr(uvicorn_server, "HEAD_SECONDS", 0.3)
    running = start(held)
    with running.connect() as connection:
        connection.sendall(sent)
        answer = running.rest_of(connection)
    assert answer.count(b"200 OK") == sent.count(b"\r\n\r\n")


def test_connections_are_limited(start, held, monkeypatch):
    monkeypatch.setattr(uvicorn_server, "MAX_CONNECTIONS", 1)
    running = start(held)
    with running.connect() as first, running.connect() as second:
        with suppress(ConnectionResetError):  # as some systems say it
            assert second.recv(1) == b""
        first.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        assert first.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_stop_finishes_what_was_accepted_and_waits_for_nobody_else(start, held, eventually):
    running = start(held)
    with running.connect() as stalled, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(running.client.post, "/tag", json={"text": "a"})
        assert held.started.wait(60)
        stalled.sendall(b"POST /tag HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n{")
        eventually(lambda: running.server.application.num_open == 2)
        running.server.should_exit = True
        answer = running.rest_of(stalled)
        assert answer.startswith(b"HTTP/1.1 503") and b"The server is stopping" in answer
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{running.address}/health", timeout=60)
        assert not accepted.done()
        held.is_free.set()
        assert accepted.result(60).json() == {"text": "a", "entities": []}
    running.thread.join(60)
    assert not running.thread.is_alive()


def test_an_address_that_is_in_use():
    with bind("127.0.0.1", 0) as bound:
        bound.listen()
        with pytest.raises(OSError, match=r"The server cannot answer on 127\.0\.0\.1, port \d+: .* --host, --port"):
            bind("127.0.0.1", bound.getsockname()[1])
