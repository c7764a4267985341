"""What a hostile visitor sends to the page of a Space, by itself and over HTTP."""

import json
import os
import socket
import threading
import time
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from PIL import Image


pytest.importorskip("gradio", reason="gradio is not installed (pip install -e .[space])")
import gradio.processing_utils
import httpx


META = {"_type": "gradio.FileData"}
TEXT = "Jordan met Paris in New York City ."
NO_UPLOAD = "There is no such upload, or not any more: upload the picture again."
NO_FILE = {"detail": "A file is given by the path that its upload returned."}
TOKEN = "hf_thisIsTheTokenOfTheServer"


@pytest.fixture(scope="module")
def photo():
    file = BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((60, 40)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def elsewhere(tmp_path, photo):
    """A picture of the server that nobody has uploaded."""
    path = tmp_path / "secret.png"
    path.write_bytes(photo)
    return path


@pytest.fixture
def odd_files(uploads, elsewhere):
    """By what they are, paths below the folder of uploads that lead elsewhere or are no regular files."""
    folder = uploads / "odd"
    folder.mkdir()
    (folder / "link.png").symlink_to(elsewhere)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder_link").symlink_to(elsewhere.parent)
    os.mkfifo(folder / "pipe.png")
    names = ("link.png", "loop.png", "folder_link/secret.png", "pipe.png", "absent.png", "")
    yield {name: str(folder / name) for name in names}
    for name in ("link.png", "loop.png", "folder_link", "pipe.png"):
        (folder / name).unlink()
    folder.rmdir()


class Visitor(httpx.Client):
    """Calls a served page as a program does; `address` is the visitor's own, as a proxy tells it."""

    def __init__(self, server, address="203.0.113.1"):
        super().__init__(base_url=server, headers={"x-forwarded-for": address}, timeout=60)

    def upload(self, content, name="photo.png"):
        (path,) = self.post("/gradio_api/upload", files={"files": (name, content)}).raise_for_status().json()
        return path

    def call(self, endpoint, body):
        headers = {"content-type": "application/json"}
        return self.post(f"/gradio_api/call/{endpoint}", content=body, headers=headers)

    def join(self, endpoint, data):
        return self.call(endpoint, json.dumps({"data": data}).encode())  # httpx writes no half surrogate pairs

    def ask(self, endpoint, *data):
        """The status and the answer, as text."""
        answer = self.join(endpoint, data)
        if answer.status_code == 200:
            answer = self.get(f"/gradio_api/call/{endpoint}/{answer.json()['event_id']}")
        return answer.status_code, answer.text


@pytest.fixture(scope="module")
def page(space_app, checkpoint, relation_checkpoint):
    return space_app.build([checkpoint], [], space_app.Taggers({}, relation_checkpoint))


@pytest.fixture(scope="module")
def offered(checkpoint):
    """The checkpoint as visitors name it."""
    return Path(checkpoint).name


@pytest.fixture(scope="module")
def offered_relations(relation_checkpoint):
    """The relation model as visitors name it."""
    return Path(relation_checkpoint).name


@pytest.fixture(scope="module")
def server(space_app, page):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        yield space_app.serve(page, prevent_thread_lock=True, quiet=True)[1]
        page.close()


@pytest.fixture
def visitor(server):
    with Visitor(server) as visitor:
        yield visitor


def test_only_uploads_are_read(visitors, uploads, odd_files, elsewhere, photo):
    (uploads / "photo.png").write_bytes(photo)
    assert visitors.read_upload(str(uploads / "photo.png")) == photo
    outside = [str(elsewhere), f"{uploads}/../{elsewhere.parent.name}/secret.png", "/dev/zero", "/etc/shadow"]
    for path in [*odd_files.values(), *outside, str(uploads), f"{uploads}/..", "", "a\0b", "\ud800", "/" + "a" * 5000]:
        with pytest.raises(visitors.Refused) as refusal:
            visitors.read_upload(path)
        assert str(refusal.value) == NO_UPLOAD, path


def test_the_size_is_known_before_anything_is_read(visitors, uploads):
    with open(uploads / "huge.png", "wb") as file:
        file.truncate(10**12)
    with pytest.raises(visitors.Refused, match=r"has 1000000\.0 MB, at most 10 are taken"):
        visitors.read_upload(str(uploads / "huge.png"))


def test_a_models_work_is_ended(visitors, monkeypatch):
    monkeypatch.setattr(visitors, "MAX_SECONDS", 0.05)
    layer, calls = torch.nn.Linear(1, 1), 0
    with pytest.raises(visitors.Refused, match=r"took longer than 0\.05 seconds"), visitors.time_limit():
        for _ in range(10**9):
            layer(torch.zeros(1))
            calls += 1
    assert calls
    layer(torch.zeros(1))  # the limit was of what is above alone


def test_files_of_the_server_over_http(visitor, odd_files, elsewhere, offered, photo, space_app):
    def look_at(**picture):
        return visitor.ask("tag", TEXT, picture, "", offered, "none")

    own = visitor.upload(photo)
    status, seen = look_at(path=own, meta=META, orig_name="<b>\0\ud800" + "x" * 10_000)
    assert status == 200 and "event: complete" in seen and "data:image/jpeg" in seen
    for more in ({}, {"meta": META}, {"url": "http://127.0.0.1:9/x"}, {"is_stream": True, "meta": META}):
        for path in (str(elsewhere), "/etc/shadow", "/no/such", "/dev/zero", "app.py", "", "http://127.0.0.1:9/x"):
            status, seen = look_at(path=path, **more)
            assert (status, json.loads(seen)) == (400, NO_FILE), path
        for path in odd_files.values():
            status, seen = look_at(path=path, **more)
            assert "data:image" not in seen and (NO_UPLOAD in seen or "error" in seen or status == 400), path
    for text in ({"path": str(elsewhere), "meta": META}, [[{"path": str(elsewhere), "meta": META}]]):
        assert visitor.ask("tag", text, None, "", offered, "none")[0] == 400, "of any field"
    for given in ({"url": "data:image/png;base64,AAAA"}, {"b64_json": "AAAA"}, {"path": None}):
        assert "event: error" in look_at(**given)[1]
    for path in (elsewhere, space_app.__file__, "app.py", "README.md", "../app.py", "/etc/passwd"):
        assert visitor.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_nothing_is_fetched_for_a_visitor(visitor, offered, photo, monkeypatch):
    fetched = []

    async def fetch(*arguments, **options):
        fetched.append(arguments)
        raise OSError

    monkeypatch.setattr(gradio.processing_utils, "async_ssrf_protected_download", fetch)
    monkeypatch.setattr("gradio.routes.secure_url_stream_response", fetch)
    monkeypatch.setattr("gradio.routes.App.build_proxy_request", fetch)
    address = "https://example.com/x.png"
    for picture in (
        {"path": address, "meta": META},
        {"path": address},
        {"path": visitor.upload(photo), "url": address},
    ):
        visitor.ask("tag", TEXT, picture, "", offered, "none")
        visitor.ask("tag", picture, picture, picture, offered, "none")
    for route in (f"file={address}", f"file/{address}", f"file={address.upper()}", f"proxy={address}"):
        assert visitor.get(f"/gradio_api/{route}").status_code == 404
    assert fetched == []


def test_routes_that_the_page_does_not_need(visitor, offered):
    data = {"data": ["Jordan", None, "", offered, "none"]}
    routes = ("run/tag", "api/tag", "component_server", "process_recording", "stream/x", "vibe-edit", "vibe-code")
    for route in (*routes, "run-history/connect", "login"):
        assert visitor.post(f"/gradio_api/{route}", json=data).status_code == 404, route
    for route in ("deep_link?session_hash=x", "runs", "stream/a/b/1/playlist.m3u8"):
        assert visitor.get(f"/gradio_api/{route}").status_code == 404, route
    assert visitor.get("/monitoring/summary").status_code == visitor.get("/gradio_api/vibe-code").status_code == 403
    assert visitor.put("/gradio_api/upload").status_code == 404
    assert visitor.get("/gradio_api/info", params={"x": "x" * 3000}).status_code == 414


@pytest.mark.filterwarnings("ignore")
def test_values_of_other_types(visitor, offered, offered_relations, repository, capsys):
    other = "user/other-model"
    rows = [[None] * 5, [], ["a"], ["a"] * 50, [["a"], "/etc/passwd", 5, offered, "none"]]
    rows += [["a", picture, "", offered, "none"] for picture in (1, [1], "x", {"path": 5}, {"meta": 5}, True)]
    rows += [["a", None, "", name, "none"] for name in ("/etc", other, [other], [offered], [], {}, None, 1, "\ud800")]
    rows += [["a", None, "", offered, way] for way in ("x", ["none"], {}, 1)]
    rows += [[TEXT, None, boxes, offered, "none"] for boxes in ({"a": 1}, [[1, 2, 3, 4]] * 200, 5, "{")]
    answers = [visitor.ask("tag", *row) for row in rows]
    for body in (b"[1]", b"{", b'{"data": 5}', b"[" * 50_000, b'{"data": [' + b"[" * 9_000, b"\xff", b""):
        answer = visitor.call("tag", body)
        answers.append((answer.status_code, answer.text))
    assert all(status >= 400 or "event: error" in seen for status, seen in answers)
    for text in (5, ["a"], {"a": 1}, "\ud800", "", None):
        answers.append(visitor.ask("tag", text, None, "", offered, None))
    for head, tail in (("\ud800", "x"), (5, ["x"]), (None, {"a": 1})):
        answers.append(visitor.ask("relate", TEXT, None, "", offered_relations, head, tail))
    assert all("event: complete" in seen for _, seen in answers[-9:])
    told = "".join(seen for _, seen in answers)
    assert TOKEN not in told and str(repository) not in told and os.getcwd() not in told
    assert other not in capsys.readouterr().err, "no other model is looked for"


def test_requests_have_a_size(visitor, offered, page):
    assert visitor.ask("tag", "\U0001f600" * 2000, None, " " * 10_000, offered, "none")[0] == 200
    assert visitor.ask("tag", "a" * 60_000, None, "", offered, "none")[0] == 413
    join = {"data": [], "fn_index": 0, "session_hash": "x" * 101}
    assert visitor.post("/gradio_api/queue/join", json=join).status_code == 400
    two = [("files", (f"{number}.png", b"0" * 6_000_000)) for number in range(2)]
    assert visitor.post("/gradio_api/upload", files=two).status_code == 413


def test_who_uploads_most_loses_the_oldest(server, visitor, visitors, monkeypatch):
    monkeypatch.setattr(visitors, "MAX_KEPT", 2)
    with Visitor(server, "203.0.113.2") as other:
        paths = [other.upload(b"a photo"), *(visitor.upload(b"photo %d" % number) for number in range(4))]
    wait_for(lambda: not os.path.exists(paths[3]))
    assert [os.path.exists(path) for path in paths] == [True, False, False, False, True]


def test_files_are_uploaded_one_by_one(visitor, uploads):
    before = set(uploads.rglob("*"))
    for number in (2, 900):
        files = [("files", (f"{name}.png", b"0")) for name in range(number)]
        answer = visitor.post("/gradio_api/upload", files=files)
        assert answer.status_code == 400 and "one by one" in answer.text
    assert set(uploads.rglob("*")) == before


def test_work_is_ended_over_http(visitor, visitors, offered, monkeypatch):
    asked = ("tag", TEXT, None, "", offered, "none")
    with monkeypatch.context() as patch:
        patch.setattr(visitors, "MAX_SECONDS", 0)
        seen = visitor.ask(*asked)[1]
        assert "event: error" in seen and "took longer than 0 seconds and was ended" in seen
    assert "event: complete" in visitor.ask(*asked)[1], "the limit was of one request"


def test_requests_that_are_held_open(server, visitor, visitors, monkeypatch):
    monkeypatch.setattr(visitors, "MAX_OPEN_EACH", 3)

    def hold(address):
        place = urlsplit(server)
        connection = socket.create_connection((place.hostname, place.port), timeout=30)
        head = f"GET /gradio_api/heartbeat/{address} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\n\r\n"
        connection.sendall(head.encode())
        return connection, connection.recv(100)

    held = [hold("203.0.113.8") for _ in range(5)]
    assert [answer[:12] for _, answer in held] == [b"HTTP/1.1 200"] * 3 + [b"HTTP/1.1 503"] * 2
    assert visitor.get("/gradio_api/info").status_code == 200, "of another address"
    monkeypatch.setattr(visitors, "MAX_OPEN", 3)
    assert visitor.get("/gradio_api/info").status_code == 503
    for connection, _ in held:
        connection.close()
    wait_for(lambda: visitor.get("/gradio_api/info").status_code == 200)


def begin_upload(server, address):
    """A connection that has sent the head of an upload, and the beginning of its body."""
    place = urlsplit(server)
    connection = socket.create_connection((place.hostname, place.port), timeout=30)
    head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {address}\r\nContent-Length: 5000000\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    part = '--b\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n\r\nabc'
    connection.sendall((head + part).encode())
    return connection


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_stalled_uploads(server, visitor, visitors, uploads, offered, photo, monkeypatch):
    monkeypatch.setattr(visitors, "MAX_OPEN_EACH", 3)
    before = {path for path in uploads.rglob("*") if path.is_file()}

    def beginnings():
        return len({path for path in uploads.iterdir() if path.is_file()} - before)

    stalled = [begin_upload(server, "203.0.113.9") for _ in range(3)]
    wait_for(lambda: beginnings() == 3)
    with begin_upload(server, "203.0.113.9") as one_too_many:
        assert one_too_many.recv(100).startswith(b"HTTP/1.1 503")
    own = visitor.upload(photo)  # of another address
    assert "complete" in visitor.ask("tag", TEXT, {"path": own, "meta": META}, "", offered, "none")[1]
    for connection in stalled:
        connection.close()
    wait_for(lambda: beginnings() == 0)  # who leaves leaves nothing behind

    monkeypatch.setattr(visitors, "MAX_REQUEST_SECONDS", 0.5)
    with begin_upload(server, "203.0.113.9") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 400")
        while connection.recv(1000):
            pass  # until the server has closed it
    wait_for(lambda: beginnings() == 0)


def test_visitors_take_turns(server, page, visitors, offered, monkeypatch):
    monkeypatch.setattr(visitors, "MAX_WAITING_EACH", 3)
    go, answered = threading.Event(), []

    def answer(text, *rest):
        assert go.wait(30)
        answered.append(text)
        return text, {}

    tag = next(function for function in page.fns.values() if function.api_name == "tag")
    monkeypatch.setattr(tag, "fn", answer)
    with Visitor(server) as greedy, Visitor(server, "203.0.113.2") as other:
        assert greedy.join("tag", ["greedy 0", None, "", offered, "none"]).status_code == 200
        wait_for(lambda: any(page._queue.active_jobs))
        statuses = [
            greedy.join("tag", [f"greedy {number}", None, "", offered, "none"]).status_code for number in range(1, 6)
        ]
        assert statuses == [200, 200, 200, 503, 503], "one is answered, three wait"
        monkeypatch.setattr(visitors, "MAX_WAITING", 8)
        asked = [other.join("tag", [f"other {number}", None, "", offered, "none"]) for number in range(2)]
        assert [asking.status_code for asking in asked] == [200, 503], "one, since the queue is half full"
        go.set()
        assert "complete" in other.get(f"/gradio_api/call/tag/{asked[0].json()['event_id']}").text
        wait_for(lambda: len(answered) == 5)
    assert answered == ["greedy 0", "greedy 1", "other 0", "greedy 2", "greedy 3"]
