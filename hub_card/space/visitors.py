"""
What the page takes of a visitor, and what holds it to that.

gradio checks a file's path only where the visitor's request asks for it, downloads addresses, takes uploads of any
number and has no time limit: [`Gate`] and [`read_upload`] are ours.
"""

import asyncio
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from limits import MAX_MEGABYTES, Refused
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse
from torch.nn.modules.module import register_module_forward_pre_hook


# What a request may hold beside what limits.py says.
MAX_REQUEST = 60_000  # bytes of a request without a picture: all texts fit in, each character as an escape
MAX_ADDRESS = 2_000  # bytes of a request's path and of its query
MAX_SESSION = 100  # characters of a session's name

# How long a request may take: until it has arrived, and the model's work for it.
MAX_REQUEST_SECONDS = 120
MAX_SECONDS = 20

# Requests are answered one at a time, so that memory does not grow with visitors. So many may wait, in all and of one
# address, which may have 1 when the queue is half full.
MAX_WAITING, MAX_WAITING_EACH = 100, 10
# So many may be open, in all and of one address. A process may have some 1,000 open files, and an upload takes up 3 of
# them. A page in a browser holds two or three requests. The visitors of some proxies all have one address.
MAX_OPEN, MAX_OPEN_EACH = 300, 100

MAX_KEPT = 300  # uploads
KEPT_SECONDS = 3_600  # of an upload

# What the page and gradio's clients post. All else that gradio offers (recording, editing, ...) is not for visitors.
POSTED = re.compile(r"/gradio_api/(upload|queue/join|call/.*|run/.*|cancel|reset)/?")
# Would be fetched from elsewhere for a visitor, or written to the disk of the server.
NOT_SERVED = re.compile(r"/gradio_api/(proxy=|file[=/]https?:|deep_link)", re.IGNORECASE)

# Windows has neither of the two.
FILE_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def read_upload(path: str) -> bytes:
    """
    The content of a file that a visitor has uploaded. What else there is on the server, and what is not there at all,
    is refused in the same words.

    Raises:
        Refused: for what is no regular file below gradio's folder of uploads, and for one above `MAX_MEGABYTES`.
    """
    folder = Path(get_upload_folder()).resolve()
    try:
        parent = Path(path).parent.resolve(strict=True)
        if not parent.is_relative_to(folder):
            raise PermissionError
        descriptor = os.open(parent / Path(path).name, FILE_FLAGS)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise PermissionError
            limit = MAX_MEGABYTES * 10**6
            content = file.read(limit + 1) if status.st_size <= limit else None
    except (OSError, ValueError, RuntimeError):  # Python 3.11 tells of a loop of links by a RuntimeError
        raise Refused("There is no such upload, or not any more: upload the picture again.") from None
    if content is None or len(content) > limit:
        megabytes = max(status.st_size, limit + 1) / 10**6
        raise Refused(f"The picture has {megabytes:.1f} MB, at most {MAX_MEGABYTES} are taken: make it smaller.")
    return content


@contextmanager
def time_limit() -> Iterator[None]:
    """
    End what a model computes within it after `MAX_SECONDS`. A thread cannot be stopped from outside: the check is made
    whenever a module of the model is called.

    Raises:
        Refused: where the time is over.
    """
    end = time.monotonic() + MAX_SECONDS

    def check(module: Any, arguments: Any) -> None:
        if time.monotonic() > end:
            raise Refused(
                f"This took longer than {MAX_SECONDS:g} seconds and was ended: give less text, or fewer boxes."
            )

    hook = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


class Gate:
    """
    An ASGI middleware before gradio's own routes, which lets through what the page needs, within the limits above.

    It uses what gradio 6.29 to 6.31 do not document: `Blocks.upload_file_set`, and of `Blocks._queue` the lists in
    `event_queue_per_concurrency_id` with each event's `_id` and `request`.

    Args:
        app: what comes behind it.
        page: gradio's `Blocks`, whose queue and uploads are looked at.
    """

    def __init__(self, app: Any, page: Any):
        self.app, self.page = app, page
        self.open: Counter[str] = Counter()  # requests, by address
        self.uploads: dict[str, str] = {}  # the address of each path, in the order in which they came

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visitor = _visitor(scope)
        self.open[visitor] += 1
        try:
            if self.open.total() > MAX_OPEN or self.open[visitor] > MAX_OPEN_EACH:
                raise HTTPException(503, "Too many requests at the same time: try again in a minute.")
            await self._take(visitor, scope, receive, send)
        except HTTPException as refusal:
            answer = JSONResponse({"detail": refusal.detail}, refusal.status_code, headers={"connection": "close"})
            await answer(scope, receive, send)
        finally:
            self.open[visitor] -= 1
            self.open += Counter()  # without those of 0

    async def _take(self, visitor: str, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        posted = POSTED.fullmatch(path) if scope["method"] == "POST" else None
        if max(len(path), len(scope["query_string"])) > MAX_ADDRESS:
            raise HTTPException(414, "The address is too long.")
        if NOT_SERVED.match(path) or not (posted or scope["method"] in ("GET", "HEAD", "OPTIONS")):
            raise HTTPException(404, "Not found")
        if posted and posted[1] == "upload":
            await self._take_upload(visitor, scope, receive, send)
            return
        arriving = Arriving(receive, MAX_REQUEST)
        if posted:
            await arriving.check_json()
            if posted[1].startswith(("queue", "call")):
                self._check_number(visitor)
        await self.app(scope, arriving, send)
        if posted:
            self._take_turns()

    @property
    def _queues(self) -> list[list[Any]]:
        """The requests that wait, those of both tabs in one list, in order."""
        return [queue.queue for queue in self.page._queue.event_queue_per_concurrency_id.values()]

    def _check_number(self, visitor: str) -> None:
        waiting = Counter(_visitor(event.request.scope) for queue in self._queues for event in queue)
        most = MAX_WAITING_EACH if waiting.total() < MAX_WAITING / 2 else 1
        if waiting[visitor] >= most:
            raise HTTPException(503, f"{waiting[visitor]} of your requests wait already: try again later.")

    def _take_turns(self) -> None:
        """The first request of every address comes before the second one of any."""
        for queue in self._queues:
            turns: dict[str, int] = {}
            number: Counter[str] = Counter()
            for event in queue:
                visitor = _visitor(event.request.scope)
                number[visitor] += 1
                turns[event._id] = number[visitor]
            queue.sort(key=lambda event: turns[event._id])

    async def _take_upload(self, visitor: str, scope: Any, receive: Any, send: Any) -> None:
        _, options = parse_options_header(Headers(scope=scope).get("content-type"))
        arriving = Arriving(receive, MAX_MEGABYTES * 10**6 + MAX_REQUEST, b"--" + options.get(b"boundary", b""))
        status, body = 0, b""

        async def answer(message: dict[str, Any]) -> None:
            nonlocal status, body
            status, body = message.get("status", status), body + message.get("body", b"")
            if message["type"] == "http.response.start" and not arriving.is_complete:
                message["headers"] = [*message["headers"], (b"connection", b"close")]  # the rest is not waited for
            await send(message)

        await self.app(scope, arriving, answer)
        for path in json.loads(body) if status == 200 else ():
            self.uploads.pop(path, None)
            self.uploads[path] = visitor
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        """Delete uploads until `MAX_KEPT` are left, each time the oldest one of the address that has most of them."""
        while len(self.uploads) > MAX_KEPT:
            ((greedy, _),) = Counter(self.uploads.values()).most_common(1)
            path = next(path for path, visitor in self.uploads.items() if visitor == greedy)
            del self.uploads[path]
            Path(path).unlink(missing_ok=True)  # gradio deletes old ones too
            self.page.upload_file_set.discard(path)


def _visitor(scope: Any) -> str:
    """The address that a request comes from."""
    return (scope.get("client") or ("",))[0]


class Arriving:
    """
    The `receive` of an ASGI request. A body that is too large or too late, one of several files, and a visitor who
    leaves raise a MultiPartException, upon which gradio removes the beginning of an upload from its disk.

    Args:
        receive: that of the server.
        limit: bytes that the body may have.
        boundary: what stands before each file of an upload, and behind the last one. gradio holds every file of a
            request open.
    """

    def __init__(self, receive: Any, limit: int, boundary: bytes | None = None):
        self.receive, self.left, self.boundary, self.is_complete = receive, limit, boundary, False
        self.num_boundaries, self.end_of_last = 0, b""
        self.end = asyncio.get_running_loop().time() + MAX_REQUEST_SECONDS
        self.held: list[dict[str, Any]] = []

    async def __call__(self) -> dict[str, Any]:
        if self.held:
            return self.held.pop(0)
        if self.is_complete:  # what comes now is that the visitor leaves
            return await self.receive()
        try:
            async with asyncio.timeout_at(self.end):
                message = await self.receive()
        except TimeoutError:
            raise MultiPartException(f"The request took longer than {MAX_REQUEST_SECONDS} seconds.") from None
        if message["type"] == "http.disconnect":
            raise MultiPartException("The visitor left.")
        body = message.get("body", b"")
        self.left -= len(body)
        if self.left < 0:
            raise MultiPartException("The request is above the maximum allowed size.")
        if self.boundary is not None:
            seen = self.end_of_last + body
            self.num_boundaries += seen.count(self.boundary)
            self.end_of_last = seen[1 - len(self.boundary) :]
            if self.num_boundaries > 2:
                raise MultiPartException("Files are uploaded one by one.")
        self.is_complete = not message.get("more_body", False)
        return message

    async def check_json(self) -> None:
        """Wait for the whole body, which gradio gets afterwards. What is not taken of it is an HTTPException."""
        body = b""
        try:
            while not self.is_complete:
                body += (await self())["body"]
            request = json.loads(body, object_hook=_check_file)
        except MultiPartException as reason:
            raise HTTPException(413 if self.left < 0 else 408, reason.message) from None
        except (ValueError, RecursionError):
            raise HTTPException(400, "The body is no JSON of a request.") from None
        if not isinstance(request, dict) or len(str(request.get("session_hash"))) > MAX_SESSION:
            raise HTTPException(400, "The body is no JSON of a request.")
        self.held = [{"type": "http.request", "body": body, "more_body": False}]


def _check_file(value: dict[str, Any]) -> dict[str, Any]:
    """gradio looks for files in all that comes, downloads those with an address, and tells which others there are."""
    path = value.get("path")
    if path is not None:
        folder = os.path.abspath(get_upload_folder())
        if not (isinstance(path, str) and path.startswith(folder + os.sep) and os.path.normpath(path) == path):
            raise HTTPException(400, "A file is given by the path that its upload returned.")
    return value
