"""What keeps clients within limits before anything of a request is looked at: an ASGI middleware."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse


Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class RequestLimits:
    """
    What a request may take up.

    Args:
        max_body: bytes of a request's body. A picture of 10 MB fits in as base64.
        max_held: bytes of all bodies that are held at the same time.
        max_open: requests that are open at the same time. A process may have some 1,000 open files.
        idle_seconds: how long a client may send nothing before its request has arrived.
        arrival_seconds: how long a request may take to arrive.
        answer_seconds: how long a request waits for its answer.
        linger_seconds: how long the rest of a body that is too large is read and thrown away, so that the client
            reads why it was refused.
    """

    max_body: int = 16 * 10**6
    max_held: int = 512 * 10**6
    max_open: int = 500
    idle_seconds: float = 10
    arrival_seconds: float = 120
    answer_seconds: float = 60
    linger_seconds: float = 5


@dataclass
class _Body:
    """What has arrived of a body: its parts, their bytes, and whether that is all."""

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    is_whole: bool = False


class Refusal(Exception):
    """The error of a request that is not let in: the status of the answer and a sentence."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


HEALTH = "/health"
LEFT = 499  # the status in the figures of a client who left before the answer
BUSY = "Too many requests at the same time. Send this one again in a few seconds."
STOPPING = "The server is stopping and takes no new requests."


class Admission:
    """
    The middleware before the application, which gets requests whose body has arrived as a whole.

    Args:
        app: what comes behind it.
        token: what a request must bring as `Authorization: Bearer TOKEN`; None where nobody is asked for one.
        open_paths: where no token is asked for.
        limits: see [`RequestLimits`].
        observe: called with the path and the status of each answer.
    """

    def __init__(
        self,
        app: Any,
        token: str | None = None,
        open_paths: frozenset[str] = frozenset(),
        limits: RequestLimits | None = None,
        observe: Callable[[str, int], object] = lambda path, status: None,
    ):
        self.app, self.open_paths, self.limits, self.observe = app, open_paths, limits or RequestLimits(), observe
        self._token = None if token is None else token.strip().encode()
        self.num_open = self.num_held = 0
        self.is_stopping = False
        self._arriving: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        """Let nothing in any more, and wait for no body that has not arrived. What was let in is answered."""
        self.is_stopping = True
        for timeout in self._arriving:
            timeout.reschedule(asyncio.get_running_loop().time())

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = LEFT

        async def noting(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        body = _Body()
        try:
            self._check_token(scope)
            with self._place(scope):
                self._check_size(scope)
                await self._read(scope, receive, body)
                await self._pass_on(scope, receive, noting, body)
        except Refusal as refusal:
            self._forget(body)
            await self._refuse(refusal, receive, noting, is_whole=body.is_whole)
        except Exception:
            status = 500
            raise
        finally:
            self._forget(body)
            self.observe(scope["path"], status)

    def _forget(self, body: _Body) -> None:
        self.num_held -= body.size
        body.parts, body.size = [], 0

    @contextmanager
    def _place(self, scope: Any) -> Iterator[None]:
        """A place among the open requests. Who is refused has none, and who asks for the health needs none."""
        if self.is_stopping:
            raise Refusal(503, STOPPING)
        if self.num_open >= self.limits.max_open and scope["path"] != HEALTH:
            raise Refusal(503, BUSY)
        self.num_open += 1
        try:
            yield
        finally:
            self.num_open -= 1

    def _check_token(self, scope: Any) -> None:
        headers = Headers(scope=scope)
        if self._token is not None and scope["path"] not in self.open_paths:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            is_right = hmac.compare_digest(given.strip().encode("latin-1"), self._token)
            if scheme.lower() != "bearer" or not is_right:
                raise Refusal(401, "This server asks for a token: send the header `Authorization: Bearer TOKEN`.")

    def _check_size(self, scope: Any) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length[:20]) > self.limits.max_body:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        megabytes = self.limits.max_body / 10**6
        return Refusal(413, f"The request is larger than {megabytes:g} MB, which is the most that is taken.")

    async def _read(self, scope: Any, receive: Receive, body: _Body) -> None:
        """The whole body, within the limits of size and time. What has a body and needs none is not waited for."""
        loop, limits = asyncio.get_running_loop(), self.limits
        end = loop.time() + limits.arrival_seconds
        body.is_whole = scope["method"] in ("GET", "HEAD")
        while not body.is_whole:
            timeout = asyncio.timeout_at(min(end, loop.time() + limits.idle_seconds))
            self._arriving.add(timeout)
            try:
                async with timeout:
                    message = await receive()
            except TimeoutError:
                if self.is_stopping:
                    raise Refusal(503, STOPPING) from None
                seconds = f"{limits.idle_seconds:g} seconds without any byte, or {limits.arrival_seconds:g} in all"
                raise Refusal(408, f"The request did not arrive in time: {seconds}. Send it again.") from None
            finally:
                self._arriving.discard(timeout)
            if message["type"] == "http.disconnect":
                raise Refusal(408, "The client left.")
            part = message.get("body", b"")
            if body.size + len(part) > limits.max_body:
                raise self._too_large()
            if self.num_held + len(part) > limits.max_held:
                raise Refusal(503, BUSY)
            body.parts.append(part)
            body.size += len(part)
            self.num_held += len(part)
            body.is_whole = not message.get("more_body", False)

    async def _pass_on(self, scope: Any, receive: Receive, send: Send, body: _Body) -> None:
        """Let the application answer; where the client leaves before, its work is ended."""
        content, body.parts = b"".join(body.parts), []
        messages = [{"type": "http.request", "body": content, "more_body": False}]
        del content

        async def receive_again() -> dict[str, Any]:
            if not messages:
                await asyncio.Event().wait()  # for ever: that the client leaves is seen below
            return messages.pop()

        work = asyncio.ensure_future(self.app(scope, receive_again, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unfinished = [task for task in (work, leaving) if not task.done()]
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        if not work.cancelled():
            work.result()  # an error of the application is uvicorn's to log

    async def _refuse(self, refusal: Refusal, receive: Receive, send: Send, is_whole: bool) -> None:
        headers = {"connection": "close"}
        headers |= {"retry-after": "2"} if refusal.status == 503 else {}
        headers |= {"www-authenticate": "Bearer"} if refusal.status == 401 else {}
        answer = JSONResponse({"detail": refusal.detail}, refusal.status, headers=headers)
        await send({"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers})
        await send({"type": "http.response.body", "body": answer.body, "more_body": True})
        if not (is_whole or refusal.status in (401, 408) or self.is_stopping):
            # A connection that is closed while the client still sends takes the answer away with it.
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.linger_seconds):
                    await _disconnected(receive, or_end_of_body=True)
        await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive, or_end_of_body: bool = False) -> None:
    """Wait until the client leaves, or until its body is at its end; what it sends is thrown away."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or (or_end_of_body and not message.get("more_body", False)):
            return
