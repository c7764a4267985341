"""The application on uvicorn, with what uvicorn does not limit, and a stop that waits for nobody who has stalled."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .admission import Admission


MAX_CONNECTIONS = 800  # a process may have some 1,000 open files
HEAD_SECONDS = 10  # until the head of a request has arrived
STOP_SECONDS = 90  # until what was accepted is answered: more than the longest answer takes


class _PunctualProtocol(H11Protocol):
    """uvicorn's protocol, which ends connections that come to no request: uvicorn itself would wait for ever."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class PipelineServer(uvicorn.Server):
    """
    uvicorn's server of the application. Where it stops, it finishes what was taken and refuses all else.

    Args:
        application: what it serves.
        tell: called once it can be connected to.
    """

    def __init__(self, application: Admission, tell: Callable[[], object] = lambda: None):
        config = uvicorn.Config(
            application,
            http=_PunctualProtocol,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=STOP_SECONDS,
            server_header=False,
        )
        super().__init__(config)
        self.application, self.tell = application, tell

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.tell()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.application.stop()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """
    A socket on that address, which nobody can connect to before it is served; port 0 is any free one.

    Raises:
        OSError: for an address that is not of this machine, or is in use.
    """
    # With the protocol named, asyncio sends parts at once (TCP_NODELAY); else each answer would wait for 40 ms.
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise OSError(
            f"The server cannot answer on {host}, port {port}: {error}. Name others: --host, --port."
        ) from error
    return bound


def ready_line(bound: socket.socket) -> str:
    """What a server says when it can be connected to."""
    host, port = bound.getsockname()[:2]
    return f"Ready: http://{f'[{host}]' if ':' in host else host}:{port}/docs describes the server."


def open_warning(host: str, token: str | None) -> str | None:
    """What is to be told of a server that answers everybody; None of one that does not."""
    if token is not None or host.startswith(("127.", "localhost", "::1")):
        return None
    return "IFAFORMER_TOKEN is not set: everybody who reaches this address is answered."


def serve(application: Admission, bound: socket.socket, tell: Callable[[], object]) -> None:
    """
    Answer requests on the socket until SIGTERM or SIGINT; `tell` is called once it can be connected to. In the end no
    request is taken any more, and the function returns when those that were taken are answered; after SIGTERM the
    process then ends by that signal.
    """
    with suppress(KeyboardInterrupt):  # which uvicorn raises when all is done
        PipelineServer(application, tell).run(sockets=[bound])
