"""What a Hub holds, and what a test may see and set of it."""

import hashlib
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote


# The client's name for a kind of repository, and the Hub's in URLs.
KINDS = {"model": "models", "dataset": "datasets", "space": "spaces"}
LARGE = (".arrow", ".bin", ".gz", ".jpg", ".parquet", ".png", ".pt", ".pth", ".safetensors", ".tar", ".zip")
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()
# Token -> user and role. The first is the default of `run_client`.
TOKENS = {
    "hf_write": ("me", "write"),
    "hf_read": ("me", "read"),
    "hf_stranger": ("stranger", "write"),
}


@dataclass(frozen=True)
class Blob:
    data: bytes
    large: bool = False

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()

    @property
    def oid(self) -> str:
        """By which the client sees whether a file has changed."""
        return hashlib.sha256(self.data).hexdigest() if self.large else self.git_oid

    @property
    def size(self) -> int:
        return len(self.data)

    def entry(self, path: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": path, "oid": self.git_oid, "size": self.size}
        if self.large:
            entry["lfs"] = {"oid": self.oid, "size": self.size, "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    """`added` and `deleted` are what the client sent, `files` is everything."""

    oid: str
    parent: str | None
    repo_id: str
    branch: str
    title: str
    files: dict[str, Blob]
    added: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass
class Repo:
    id: str
    kind: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.id}"

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """Newest first."""
        commits = [self.at(revision)]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits


@dataclass(frozen=True)
class Request:
    """One line of the log. `status` is None where the connection was cut, `route` where nobody knows the way."""

    origin: str
    method: str
    path: str
    route: str | None
    token: str | None
    status: int | None


@dataclass
class Fault:
    route: str
    status: int | None
    cut: str | None
    times: float
    method: str | None
    contains: str
    headers: dict[str, str]
    met: int = 0

    def applies(self, route: str | None, method: str, path: str) -> bool:
        wanted = self.method in (None, method) and self.contains in unquote(path)
        return self.route == route and wanted and self.met < self.times


@dataclass
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    def __init__(self, status: int, code: str | None, message: str, **headers: str):
        super().__init__(message)
        self.answer = json_answer({"error": message}, status, {"X-Error-Message": message, **headers})
        if code is not None:
            self.answer.headers["X-Error-Code"] = code


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})


class Hub:
    """The state, and what a test may see and set."""

    def __init__(self) -> None:
        self.tokens = dict(TOKENS)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.storage: dict[str, bytes] = {}  # by kind of repository, its id and the sha256
        self.requests: list[Request] = []
        self.commits: list[Commit] = []
        self.faults: list[Fault] = []
        self.errors: list[str] = []
        self.large: tuple[str, ...] = LARGE  # suffixes of files that go to the storage; the others come in the commit
        self.part_size: int | None = None  # larger files come in parts
        self.page_size = 1000  # entries a page of a tree
        self.xet: Path | None = None  # folder for the large files of clients that speak Xet; None: none does
        self.lock = threading.RLock()
        self.routes: set[str] = set()
        self.endpoint = self.storage_endpoint = ""

    def arm(
        self,
        route: str,
        *,
        status: int | None = None,
        cut: str | None = None,
        times: float = 1,
        method: str | None = None,
        contains: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """
        Let the next requests fail; each has to come, or `check` complains.

        Args:
            route: a name of `API.ROUTES` or `Storage.ROUTES`.
            status: refuse with this status; nothing is done.
            cut: "request" resets the connection when half of the request is read, and nothing is done; "answer" does
                what was asked and closes without an answer; "body" closes after half of the answer.
            times: how often; `math.inf` for good.
            method: only requests of this method.
            contains: only requests with this in the path.
            headers: of the refusal, Retry-After for example.
        """
        if (status is None) == (cut is None) or cut not in (None, "request", "answer", "body"):
            raise ValueError("either a status, or a cut of request, answer or body")
        if route not in self.routes:
            raise ValueError(f"no route {route!r}")
        self.faults.append(Fault(route, status, cut, times, method, contains, dict(headers or {})))

    def disarm(self) -> None:
        self.faults.clear()

    def seed(
        self, repo_id: str, files: Mapping[str, bytes] | None = None, repo_type: str = "model", private: bool = False
    ) -> Repo:
        """A repository that was there before."""
        repo = self.create(repo_id, KINDS[repo_type], private)
        if files:
            blobs = {path: Blob(data, path.endswith(LARGE)) for path, data in files.items()}
            self.storage |= {f"{repo.key}/{blob.oid}": blob.data for blob in blobs.values() if blob.large}
            self.commit(repo, "main", "seed", {**repo.at("main").files, **blobs}, tuple(blobs))
        return repo

    def repo(self, repo_id: str, repo_type: str = "model") -> Repo:
        return self.repos[KINDS[repo_type], repo_id]

    def files(self, repo_id: str, repo_type: str = "model", revision: str = "main") -> dict[str, bytes]:
        """What is published, by path, without .gitattributes; nothing where there is no repository."""
        if (KINDS[repo_type], repo_id) not in self.repos:
            return {}
        files = self.repo(repo_id, repo_type).at(revision).files
        return {path: blob.data for path, blob in sorted(files.items()) if path != ".gitattributes"}

    def asked(self, route: str, contains: str = "", method: str | None = None) -> list[Request]:
        return [
            request
            for request in self.requests
            if request.route == route and contains in unquote(request.path) and method in (None, request.method)
        ]

    def check(self) -> None:
        """What must hold after any test."""
        assert not self.errors, "\n".join(self.errors)
        strangers = [request for request in self.requests if request.route is None]
        assert not strangers, f"no route for {strangers}"
        leaks = [request for request in self.requests if request.origin == "Storage" and request.token]
        assert not leaks, f"the token went to the storage host: {leaks}"
        unmet = [fault for fault in self.faults if not fault.met or fault.met < fault.times < math.inf]
        assert not unmet, f"these faults were armed and nobody ran into them: {unmet}"

    def create(self, repo_id: str, kind: str, private: bool) -> Repo:
        repo = self.repos[kind, repo_id] = Repo(repo_id, kind, private)
        self.commit(repo, "main", "initial commit", {".gitattributes": Blob(GITATTRIBUTES)})
        return repo

    def commit(
        self,
        repo: Repo,
        branch: str,
        title: str,
        files: Mapping[str, Blob],
        added: tuple[str, ...] = (),
        deleted: tuple[str, ...] = (),
    ) -> Commit:
        parent = repo.branches.get(branch)
        oid = hashlib.sha1(f"{repo.kind}/{repo.id} {len(self.commits)}".encode()).hexdigest()
        commit = Commit(oid, parent, repo.id, branch, title, dict(files), added, deleted)
        repo.commits[oid] = commit
        repo.branches[branch] = oid
        self.commits.append(commit)
        return commit
