"""The two listeners: the API, and the storage of large files at another origin, as on the Hub."""

import base64
import hashlib
import json
import re
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import yaml

from . import cards, xet
from .state import KINDS, Answer, Blob, Commit, Hub, Refusal, Repo, Request, json_answer


DATE = "2026-01-01T00:00:00.000Z"


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A Hub that answers inside the block, and is checked after it."""
    hub = Hub()
    hub.routes = {route for handler in (API, Storage) for route, _, _ in handler.ROUTES}
    servers = [Listener(handler, hub) for handler in (API, Storage)]
    hub.endpoint, hub.storage_endpoint = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    hub.check()


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, handler: type["Handler"], hub: Hub):
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub

    def shutdown_request(self, request: Any) -> None:
        self.close_request(request)  # the inherited one says goodbye first, which a cut connection does not

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may hang up
            self.hub.errors.append(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """The transport: reads a request, meets the armed faults, notes it in the log, answers."""

    server: Listener
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    ROUTES: tuple[tuple[str, str, str], ...] = ()

    def do_GET(self) -> None:
        self.hub = self.server.hub
        path, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        _, _, self.token = self.headers.get("Authorization", "").partition("Bearer ")
        method = "GET" if self.command == "HEAD" else self.command
        self.route, arguments = None, {}
        for route, wanted, pattern in self.ROUTES:
            if method == wanted and (match := re.fullmatch(pattern, path)):
                self.route = route
                arguments = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                break
        with self.hub.lock:
            faults = (fault for fault in self.hub.faults if fault.applies(self.route, self.command, path))
            if (fault := next(faults, None)) is not None:
                fault.met += 1
        cut = None if fault is None else fault.cut
        if cut == "request":
            self.read_body(half=True)
            return self.cut(reset=True)
        body = self.read_body()
        if fault is not None and fault.status is not None:
            answer = Refusal(fault.status, None, "armed by the test", **fault.headers).answer
        else:
            answer = self.answer(arguments, body)
        if cut == "answer":
            return self.cut()
        self.note(None if cut else answer.status)
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        self.wfile.flush()
        self.close_connection = self.close_connection or bool(cut)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def answer(self, arguments: dict[str, str], body: bytes) -> Answer:
        if self.route is None:
            return Refusal(404, None, f"no route: {self.command} {self.path}").answer
        with self.hub.lock:
            try:
                return getattr(self, f"answer_{self.route}")(body=body, **arguments)
            except Refusal as refusal:
                return refusal.answer
            except Exception:
                self.hub.errors.append(traceback.format_exc())
                return Refusal(500, None, "the loopback Hub is broken").answer

    def note(self, status: int | None) -> None:
        name = type(self).__name__
        self.hub.requests.append(Request(name, self.command, self.path, self.route, self.token or None, status))

    def cut(self, reset: bool = False) -> None:
        self.note(None)
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read_body(self, half: bool = False) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            return self.rfile.read(length // 2 if half else length)
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
            if half:
                return body
        self.rfile.readline()
        return body

    def content(self, data: bytes, headers: dict[str, str]) -> Answer:
        """Of a file, or the part that Range asks for."""
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            return Answer(data, 200, headers)
        first, last = match.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        if start > end:
            return Answer(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
        return Answer(data[start : end + 1], 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})

    def log_message(self, format: str, *args: Any) -> None:
        pass


_REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<repo_id>[^/]+/[^/]+)"
_FILES = r"/(?:(?P<kind>datasets|spaces)/)?(?P<repo_id>[^/]+/[^/]+)"


class API(Handler):
    ROUTES = (
        ("whoami", "GET", r"/api/whoami-v2"),
        ("create", "POST", r"/api/repos/create"),
        ("delete", "DELETE", r"/api/repos/delete"),
        ("validate_yaml", "POST", r"/api/validate-yaml"),
        ("harmless", "GET", r"/api/agent-harnesses|/api/telemetry/.*"),
        ("complete", "POST", r"/api/complete/(?P<key>.+)"),
        ("info", "GET", rf"{_REPO}(?:/revision/(?P<revision>[^/]+))?"),
        ("settings", "PUT", rf"{_REPO}/settings"),
        ("preupload", "POST", rf"{_REPO}/preupload/(?P<revision>[^/]+)"),
        ("commit", "POST", rf"{_REPO}/commit/(?P<revision>[^/]+)"),
        ("tree", "GET", rf"{_REPO}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?"),
        ("paths_info", "POST", rf"{_REPO}/paths-info/(?P<revision>[^/]+)"),
        ("xet_token", "GET", rf"{_REPO}/xet-(?P<access>read|write)-token/(?P<revision>[^/]+)"),
        ("auth_check", "GET", rf"{_REPO}/auth-check(?P<write>/write)?"),
        ("refs", "GET", rf"{_REPO}/refs"),
        ("commits", "GET", rf"{_REPO}/commits/(?P<revision>[^/]+)"),
        ("branch", "POST", rf"{_REPO}/branch/(?P<branch>[^/]+)"),
        ("delete_branch", "DELETE", rf"{_REPO}/branch/(?P<branch>[^/]+)"),
        ("tag", "POST", rf"{_REPO}/tag/(?P<revision>[^/]+)"),
        ("delete_tag", "DELETE", rf"{_REPO}/tag/(?P<tag>[^/]+)"),
        ("batch", "POST", rf"{_FILES}\.git/info/lfs/objects/batch"),
        ("verify", "POST", rf"{_FILES}\.git/info/lfs/objects/verify"),
        ("resolve", "GET", rf"{_FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
    )

    def user(self) -> tuple[str, str] | None:
        """(name, role) of the token's owner."""
        if not self.token:
            return None
        if self.token not in self.hub.tokens:
            raise Refusal(401, None, "Invalid credentials in Authorization header")
        return self.hub.tokens[self.token]

    def may_write(self, namespace: str) -> None:
        user = self.user()
        if user is None:
            raise Refusal(401, None, "Invalid username or password.")
        if user != (namespace, "write"):
            raise Refusal(403, None, f"You don't have the rights to write to the namespace {namespace!r}")

    def find(self, kind: str, repo_id: str, write: bool = False) -> Repo:
        user = self.user()
        repo = self.hub.repos.get((kind, repo_id))
        if repo is None or (repo.private and (user is None or user[0] != repo_id.split("/")[0])):
            # A private repository and a missing one look alike, as they must.
            raise Refusal(401 if user is None else 404, "RepoNotFound", "Repository not found")
        if write:
            self.may_write(repo_id.split("/")[0])
        return repo

    def url(self, repo: Repo) -> str:
        prefix = "" if repo.kind == "models" else f"{repo.kind}/"
        return f"{self.hub.endpoint}/{prefix}{repo.id}"

    def answer_harmless(self, body: bytes) -> Answer:
        return json_answer([])

    def answer_whoami(self, body: bytes) -> Answer:
        user = self.user()
        if user is None:
            raise Refusal(401, None, "Invalid username or password.")
        name, role = user
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        return json_answer({"type": "user", "id": name, "name": name, "fullname": name, "orgs": [], "auth": access})

    def named(self, body: bytes) -> tuple[str, str, dict[str, Any]]:
        """(kind, id, request) of a request to create or delete."""
        request = json.loads(body)
        user = self.user()
        namespace = request.get("organization") or (user[0] if user else "")
        self.may_write(namespace)
        return KINDS[request.get("type") or "model"], f"{namespace}/{request['name']}", request

    def answer_create(self, body: bytes) -> Answer:
        kind, repo_id, request = self.named(body)
        if (repo := self.hub.repos.get((kind, repo_id))) is not None:
            message = f"You already created this {kind[:-1]} repo"
            return json_answer({"error": message, "url": self.url(repo)}, 409, {"X-Error-Message": message})
        if kind == "spaces" and not request.get("sdk"):
            raise Refusal(400, None, '"sdk" is required')
        repo = self.hub.create(repo_id, kind, request.get("visibility") == "private")
        return json_answer({"url": self.url(repo), "name": repo_id, "id": repo_id})

    def answer_delete(self, body: bytes) -> Answer:
        kind, repo_id, _ = self.named(body)
        self.find(kind, repo_id, write=True)
        del self.hub.repos[kind, repo_id]
        return Answer()

    def answer_settings(self, body: bytes, kind: str, repo_id: str) -> Answer:
        self.find(kind, repo_id, write=True).private = json.loads(body)["visibility"] == "private"
        return json_answer({})

    def answer_validate_yaml(self, body: bytes) -> Answer:
        request = json.loads(body)
        errors = [{"message": problem} for problem in cards.problems(request["content"], request["repoType"])]
        return json_answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def answer_info(self, body: bytes, kind: str, repo_id: str, revision: str = "main") -> Answer:
        repo = self.find(kind, repo_id)
        commit = repo.at(revision)
        siblings = []
        for path, blob in sorted(commit.files.items()):
            siblings.append({"rfilename": path})
            if self.query.get("blobs", ["false"])[0].lower() == "true":
                siblings[-1] |= {"size": blob.size, "blobId": blob.git_oid}
                if blob.large:
                    siblings[-1]["lfs"] = {"sha256": blob.oid, "size": blob.size, "pointerSize": 130}
        try:
            card = card_data(commit.files["README.md"].data) if "README.md" in commit.files else {}
        except yaml.YAMLError:
            card = {}
        return json_answer(
            {
                "id": repo.id,
                "author": repo.id.split("/")[0],
                "sha": commit.oid,
                "private": repo.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "createdAt": DATE,
                "lastModified": DATE,
                "tags": card.get("tags") or [],
                "cardData": card,
                "pipeline_tag": card.get("pipeline_tag"),
                "library_name": card.get("library_name"),
                "siblings": siblings,
            }
        )

    def answer_preupload(self, body: bytes, kind: str, repo_id: str, revision: str) -> Answer:
        files = self.find(kind, repo_id, write=True).at(revision).files
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            large = path.endswith(self.hub.large) or file["size"] > 10_000_000
            answers.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
            if path in files:
                answers[-1]["oid"] = files[path].oid
        return json_answer({"files": answers})

    def answer_batch(self, body: bytes, repo_id: str, kind: str = "models") -> Answer:
        repo = self.find(kind, repo_id, write=True)
        objects = []
        for item in json.loads(body)["objects"]:
            oid, size = item["oid"], item["size"]
            objects.append({"oid": oid, "size": size})
            key = f"{repo.key}/{oid}"
            if key in self.hub.storage:
                continue  # without actions: it is there
            upload: dict[str, Any] = {"href": f"{self.hub.storage_endpoint}/upload/{key}/0"}
            if self.hub.part_size is not None and size > self.hub.part_size:
                parts = range(1, -(-size // self.hub.part_size) + 1)
                urls = {str(part): f"{self.hub.storage_endpoint}/upload/{key}/{part}" for part in parts}
                upload["header"] = {"chunk_size": str(self.hub.part_size), **urls}
                upload["href"] = f"{self.hub.endpoint}/api/complete/{key}"
            verify = {"href": f"{self.url(repo)}.git/info/lfs/objects/verify"}
            objects[-1]["actions"] = {"upload": upload, "verify": verify}
        return json_answer({"transfer": "basic", "objects": objects})

    def answer_complete(self, body: bytes, key: str) -> Answer:
        data = b"".join(self.hub.storage.pop(f"{key}/{part['partNumber']}") for part in json.loads(body)["parts"])
        if hashlib.sha256(data).hexdigest() != key.split("/")[-1]:
            raise Refusal(400, None, "the parts are not the file")
        self.hub.storage[key] = data
        return json_answer({})

    def answer_verify(self, body: bytes, repo_id: str, kind: str = "models") -> Answer:
        repo = self.find(kind, repo_id, write=True)
        item = json.loads(body)
        if len(self.hub.storage.get(f"{repo.key}/{item['oid']}", b"")) != item["size"]:
            raise Refusal(404, None, "not in storage")
        return json_answer({})

    def answer_commit(self, body: bytes, kind: str, repo_id: str, revision: str) -> Answer:
        repo = self.find(kind, repo_id, write=True)
        if revision not in repo.branches:
            raise Refusal(404, "RevisionNotFound", f"no branch {revision}")
        head = repo.at(revision)
        header, *operations = map(json.loads, body.splitlines())
        header = header["value"]
        if header.get("parentCommit") not in (None, head.oid):
            raise Refusal(412, None, "A commit has happened since. Please refresh and try again.")
        files, added, deleted = dict(head.files), [], []
        for operation in operations:
            key, value = operation["key"], operation["value"]
            path = value["path"]
            if key == "file":
                files[path] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                files[path] = self.stored(repo, value["oid"], value["size"])
            elif key in ("deletedFile", "deletedFolder"):
                folder = path.rstrip("/") + "/"
                gone = [name for name in files if (name == path if key == "deletedFile" else name.startswith(folder))]
                if not gone:
                    raise Refusal(404, "EntryNotFound", "A file with this name doesn't exist")
                for name in gone:
                    del files[name]
                deleted += gone
            else:
                raise Refusal(400, None, f"{key} is not understood")
            if key in ("file", "lfsFile"):
                added.append(path)
        commit = self.hub.commit(repo, revision, header["summary"], files, tuple(added), tuple(deleted))
        return json_answer({"commitUrl": f"{self.url(repo)}/commit/{commit.oid}", "commitOid": commit.oid})

    def stored(self, repo: Repo, oid: str, size: int) -> Blob:
        """A large file that was uploaded before."""
        if (data := self.hub.storage.get(f"{repo.key}/{oid}")) is not None:
            return Blob(data, large=True)
        if self.hub.xet is None or (xet_hash := xet.find(self.hub.xet / repo.key, oid)) is None:
            raise Refusal(400, None, f"{oid} was not uploaded")
        return xet.XetBlob(b"", True, xet_hash, oid, size)

    def answer_xet_token(self, body: bytes, kind: str, repo_id: str, access: str, revision: str) -> Answer:
        repo = self.find(kind, repo_id, write=access == "write")
        if self.hub.xet is None:
            raise Refusal(404, None, "this Hub speaks no Xet")
        folder = self.hub.xet / repo.key
        folder.mkdir(parents=True, exist_ok=True)
        return xet.token(folder)

    def entries(self, commit: Commit) -> dict[str, dict[str, Any]]:
        """Files and folders by path."""
        entries = {path: blob.entry(path) for path, blob in commit.files.items()}
        for path in commit.files:
            for parent in list(PurePosixPath(path).parents)[:-1]:
                folder = str(parent)
                oid = hashlib.sha1(f"{commit.oid} {folder}".encode()).hexdigest()
                entries[folder] = {"type": "directory", "path": folder, "oid": oid, "size": 0}
        return dict(sorted(entries.items()))

    def answer_tree(self, body: bytes, kind: str, repo_id: str, revision: str, path: str = "") -> Answer:
        commit = self.find(kind, repo_id).at(revision)
        prefix = f"{path}/" if path else ""
        entries = [entry for name, entry in self.entries(commit).items() if name.startswith(prefix)]
        if path and not entries:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist", **{"X-Repo-Commit": commit.oid})
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"][len(prefix) :]]
        start = int(self.query.get("cursor", ["0"])[0])
        end = start + self.hub.page_size
        headers = {}
        if end < len(entries):
            query = {**{name: values[0] for name, values in self.query.items()}, "cursor": str(end)}
            query = "&".join(f"{name}={quote(value)}" for name, value in query.items())
            headers["Link"] = f'<{self.hub.endpoint}{self.path.partition("?")[0]}?{query}>; rel="next"'
        return json_answer(entries[start:end], 200, headers)

    def answer_paths_info(self, body: bytes, kind: str, repo_id: str, revision: str) -> Answer:
        entries = self.entries(self.find(kind, repo_id).at(revision))
        paths = parse_qs(body.decode())["paths"]
        return json_answer([entries[path] for path in paths if path in entries])

    def answer_auth_check(self, body: bytes, kind: str, repo_id: str, write: str | None) -> Answer:
        self.find(kind, repo_id, write=write is not None)
        return json_answer({})

    def answer_refs(self, body: bytes, kind: str, repo_id: str) -> Answer:
        repo = self.find(kind, repo_id)
        branches, tags = (
            [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in refs.items()]
            for folder, refs in (("heads", repo.branches), ("tags", repo.tags))
        )
        return json_answer({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    def answer_commits(self, body: bytes, kind: str, repo_id: str, revision: str) -> Answer:
        rest = {"message": "", "date": DATE, "authors": [{"user": repo_id.split("/")[0]}]}
        history = self.find(kind, repo_id).history(revision)
        return json_answer([{"id": commit.oid, "title": commit.title, **rest} for commit in history])

    def answer_branch(self, body: bytes, kind: str, repo_id: str, branch: str) -> Answer:
        repo = self.find(kind, repo_id, write=True)
        if branch in repo.branches:
            raise Refusal(409, None, f"Reference already exists: {branch}")
        repo.branches[branch] = repo.at(json.loads(body or b"{}").get("startingPoint") or "main").oid
        return json_answer({}, 201)

    def answer_delete_branch(self, body: bytes, kind: str, repo_id: str, branch: str) -> Answer:
        if self.find(kind, repo_id, write=True).branches.pop(branch, None) is None:
            raise Refusal(404, "RevisionNotFound", f"no branch {branch}")
        return Answer()

    def answer_tag(self, body: bytes, kind: str, repo_id: str, revision: str) -> Answer:
        repo = self.find(kind, repo_id, write=True)
        tag = json.loads(body)["tag"]
        if tag in repo.tags:
            raise Refusal(409, None, f"Tag reference exists already: {tag}")
        repo.tags[tag] = repo.at(revision).oid
        return json_answer({}, 201)

    def answer_delete_tag(self, body: bytes, kind: str, repo_id: str, tag: str) -> Answer:
        if self.find(kind, repo_id, write=True).tags.pop(tag, None) is None:
            raise Refusal(404, "RevisionNotFound", f"no tag {tag}")
        return Answer()

    def answer_resolve(self, body: bytes, repo_id: str, revision: str, path: str, kind: str = "models") -> Answer:
        repo = self.find(kind, repo_id)
        commit = repo.at(revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:
            raise Refusal(404, "EntryNotFound", "Entry not found", **headers)
        blob = commit.files[path]
        headers["ETag"] = f'"{blob.git_oid}"'
        if not blob.large:
            return self.content(blob.data, headers)
        headers |= {"X-Linked-Etag": f'"{blob.oid}"', "X-Linked-Size": str(blob.size)}
        if isinstance(blob, xet.XetBlob):
            route = f"{self.hub.endpoint}/api/{repo.key}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": blob.xet_hash, "Link": f'<{route}>; rel="xet-auth"'}
        return Answer(b"", 302, {**headers, "Location": f"{self.hub.storage_endpoint}/download/{repo.key}/{blob.oid}"})


class Storage(Handler):
    """Knows no tokens, and must see none."""

    ROUTES = (
        ("upload", "PUT", r"/upload/(?P<key>.+)/(?P<part>\d+)"),
        ("download", "GET", r"/download/(?P<key>.+)"),
    )

    def answer_upload(self, body: bytes, key: str, part: str) -> Answer:
        etag = hashlib.sha256(body).hexdigest()
        if part == "0" and etag != key.split("/")[-1]:
            raise Refusal(400, None, "these bytes are not that file")
        self.hub.storage[key if part == "0" else f"{key}/{part}"] = body
        return Answer(headers={"ETag": f'"{etag}"'})

    def answer_download(self, body: bytes, key: str) -> Answer:
        return self.content(self.hub.storage[key], {"ETag": f'"{key.split("/")[-1]}"'})


def card_data(card: bytes) -> Any:
    """The front matter."""
    text = card.decode().replace("\r\n", "\n")
    match = re.match(r"---\n(.*?)\n?---(?:\n|$)", text, re.DOTALL)
    return (yaml.safe_load(match[1]) or {}) if match else {}
