"""What is refused before anything of a request is looked at."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from hub_card.serving.admission import Admission, RequestLimits


HEAD = "POST /tag HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_of_100_mb(start, held, has_length):
    running = start(held)
    part = b"x" * 10**6
    content = part * 100 if has_length else (part for _ in range(100))
    answer = running.client.post("/tag", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 413 and answer.json()["detail"].startswith("The request is larger than 16 MB")
    assert running.server.application.num_held == 0 and not held.batches
    assert running.client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize("limits", [{"idle_seconds": 0.3}, {"arrival_seconds": 0.6, "idle_seconds": 30}])
def test_a_client_that_stalls_is_told(start, held, eventually, limits):
    """One sends nothing more, the other a byte now and then."""
    running = start(held, limits=RequestLimits(**limits))
    with running.connect() as connection:
        connection.sendall(f"{HEAD}Content-Length: 1000\r\n\r\n{{".encode())
        end = time.monotonic() + 60
        while "arrival_seconds" in limits and running.server.application.num_open and time.monotonic() < end:
            connection.sendall(b" ")
            time.sleep(0.05)
        answer = running.rest_of(connection).decode()
    assert answer.startswith("HTTP/1.1 408") and "The request did not arrive in time" in answer
    eventually(lambda: running.server.application.num_open == running.server.application.num_held == 0)


def test_a_token(start, held):
    held.is_free.set()
    running = start(held, token="gehéim")
    row = {"json": {"text": "a"}}
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic gehéim".encode()}):
        for answer in (
            running.client.post("/tag", headers=headers, **row),
            running.client.get("/metrics", headers=headers),
        ):
            assert (
                answer.status_code == 401
                and "send the header `Authorization: Bearer TOKEN`" in answer.json()["detail"]
            )
            assert answer.headers["www-authenticate"] == "Bearer"
    right = {"authorization": "Bearer gehéim".encode()}
    assert running.client.post("/tag", headers=right, **row).json() == {"text": "a", "entities": []}
    assert running.client.get("/metrics", headers=right).status_code == 200
    assert running.client.get("/health").status_code == running.client.get("/docs").status_code == 200


def test_open_requests_and_their_bytes_are_limited(start, held, eventually):
    running = start(held, limits=RequestLimits(max_open=2, max_held=1500, linger_seconds=0.1))
    with running.connect() as one:
        one.sendall(f"{HEAD}Content-Length: 2000\r\n\r\n".encode() + b" " * 1000)
        eventually(lambda: running.server.application.num_held == 1000)
        answer = running.client.post("/tag", json={"text": "a" * 600})
        assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
        with running.connect() as two:
            two.sendall(f"{HEAD}Content-Length: 2000\r\n\r\n".encode())
            eventually(lambda: running.server.application.num_open == 2)
            answer = running.client.post("/tag", json={"text": "a"})
            assert answer.status_code == 503 and answer.json()["detail"].startswith("Too many requests")
            assert running.client.get("/health").status_code == 200
    eventually(lambda: not running.server.application.num_open)  # those who left are forgotten
    assert running.client.get("/health").status_code == 200 and running.server.application.num_held == 0


def test_clients_without_the_token_take_no_place(start, held, eventually):
    held.is_free.set()
    running = start(held, token="secret", limits=RequestLimits(max_open=2))
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(running.connect()).sendall(f"{HEAD}Content-Length: 2000\r\n\r\n{{".encode())
        headers = {"authorization": "Bearer secret"}
        assert running.client.post("/tag", json={"text": "a"}, headers=headers).status_code == 200
        eventually(lambda: running.server.application.num_open == 0)


def test_the_work_for_a_client_who_leaves_is_ended():
    ended, observed = [], []

    async def application(scope, receive, send):
        assert (await receive())["body"] == b"ab"
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main():
        messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"b"}]
        messages.append({"type": "http.request", "body": b"a", "more_body": True})

        async def receive():
            return messages.pop()

        async def send(message):
            raise AssertionError(message)

        admission = Admission(application, observe=lambda path, status: observed.append(status))
        async with asyncio.timeout(60):
            await admission({"type": "http", "method": "POST", "path": "/tag", "headers": []}, receive, send)
        assert admission.num_open == admission.num_held == 0

    with ThreadPoolExecutor(1) as other:  # a browser of other tests may have a loop in this one
        other.submit(asyncio.run, main()).result(timeout=120)
    assert ended == [True] and observed == [499], "no failure of the server"
