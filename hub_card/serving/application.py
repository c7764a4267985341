"""The server's routes: what comes in, is refused, and goes out."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException as AnyHTTPException

from processing.columns import PICTURE_COLUMNS

from .admission import BUSY, Admission, RequestLimits
from .batching import Batcher, NotAnswered, QueueFull
from .limits import MAX_BOXES, MAX_PICTURES, Refused
from .request_bodies import RelationRequest, TagRequest, read_form, read_json


DESCRIPTION = """
The entities of a text and its picture, and relations between entities. A request is JSON with pictures as base64, or a
form with pictures as files. An answer is the pipeline's report: what could not be used is named in its `problems`.
"""
NUM_THREADS = 4  # which decode pictures
MAX_FIELDS = 20  # of a form, besides files
OPEN_PATHS = frozenset(["/health", "/docs", "/docs/oauth2-redirect", "/openapi.json"])
REFUSED = {
    401: "The token is missing or wrong.",
    404: "The server has no model for this.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    415: "The request is neither JSON nor a form.",
    422: "The request holds something else than is expected.",
    500: "The model failed on this request.",
    503: "The queue is full, or the server is stopping: the header Retry-After says when to come back.",
}
NOT_THERE = {
    404: "There is nothing at this address. POST /tag or /relations, or GET /health, /metrics or /docs.",
    405: "This address does not take that method. POST /tag or /relations, or GET /health, /metrics or /docs.",
}


def create_app(
    entities: Any = None,
    relations: Any = None,
    *,
    token: str | None = None,
    batch_size: int = 32,
    max_waiting: int = 100,
    limits: RequestLimits | None = None,
) -> Admission:
    """
    The application, for an ASGI server.

    Args:
        entities, relations: what answers `/tag` and `/relations`: an `IFAformerPipeline` and an
            `IFAformerRelationPipeline`, or anything that is called like these with a list of rows, `batch_size` and
            `on_error="report"`. None where there is no such model.
        token: what a request must bring as `Authorization: Bearer TOKEN`, but for `/health` and `/docs`. None where
            nobody is asked for one.
        batch_size: rows that a pipeline gets at once at most.
        max_waiting: requests of a pipeline that may wait or be worked on at the same time.
        limits: what a request may take up.

    Returns:
        The application behind its [`Admission`], whose `stop()` refuses new requests.
    """
    limits, metrics = limits or RequestLimits(), Metrics()
    worker = ThreadPoolExecutor(1, thread_name_prefix="pipeline")
    readers = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="reader")
    batchers = {
        path: Batcher(pipeline, worker, batch_size, max_waiting, metrics.batch_rows.labels(path).observe)
        for path, pipeline in (("/tag", entities), ("/relations", relations))
        if pipeline is not None
    }
    for path, batcher in batchers.items():
        metrics.waiting.labels(path).set_function(partial(getattr, batcher, "num_waiting"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batcher.run()) for batcher in batchers.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            worker.shutdown(wait=False, cancel_futures=True)
            readers.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="IFAformer", description=DESCRIPTION, lifespan=lifespan, redoc_url=None)
    secured = [Depends(HTTPBearer(auto_error=False))] if token is not None else []  # for the page; Admission checks it
    admission = Admission(app, token, OPEN_PATHS, limits, metrics.note_answer)
    metrics.open.set_function(partial(getattr, admission, "num_open"))
    metrics.held.set_function(partial(getattr, admission, "num_held"))

    def add(path: str, schema: type[TagRequest], summary: str, lacking: str) -> None:
        async def answer(request: Request) -> Any:
            if path not in batchers:
                raise HTTPException(404, lacking)
            with metrics.seconds.labels(path).time():
                report = await _report(request, schema, batchers[path], readers, limits.answer_seconds)
            if report.get("problems"):
                metrics.problems.labels(path).inc()
            return JSONResponse(report)

        options: dict[str, Any] = {"summary": summary, "dependencies": secured, "openapi_extra": _body_of(schema)}
        options["responses"] = {status: {"description": text} for status, text in REFUSED.items()}
        app.post(path, name=path.strip("/"), response_class=JSONResponse, **options)(answer)

    other = "This server has no model for {}; it was started with a model for {} alone. POST {} instead."
    add("/tag", TagRequest, "The entities of a text", other.format("entities", "relations", "/relations"))
    add("/relations", RelationRequest, "The relation of two entities", other.format("relations", "entities", "/tag"))

    @app.get("/health", summary="Whether the server takes requests, and for which models")
    async def health() -> Response:
        status = {"status": "stopping" if admission.is_stopping else "ok"}
        return JSONResponse(status | {name: f"/{name}" in batchers for name in ("tag", "relations")})

    @app.get("/metrics", summary="Figures for Prometheus", dependencies=secured)
    async def figures() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.exception_handler(AnyHTTPException)
    async def told(request: Request, error: AnyHTTPException) -> Response:
        is_routed = isinstance(error, HTTPException)
        detail = error.detail if is_routed else NOT_THERE.get(error.status_code, error.detail)
        return JSONResponse({"detail": detail}, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        # uvicorn closes the connection after an error.
        detail = "The server failed on this request. Its log says why."
        return JSONResponse({"detail": detail}, 500, headers={"connection": "close"})

    return admission


async def _report(
    request: Request, schema: type[TagRequest], batcher: Batcher, readers: Executor, seconds: float
) -> dict[str, Any]:
    """The report of a request's row; what keeps it from one is an HTTPException."""
    loop = asyncio.get_running_loop()
    try:
        with batcher.place():
            async with asyncio.timeout(seconds):
                row = await _row(request, schema, readers)
                prepared = await loop.run_in_executor(readers, batcher.prepare, row)
                del row
                return dict(await batcher.answer(prepared))
    except Refused as reason:
        raise HTTPException(422, str(reason)) from None
    except QueueFull:
        raise HTTPException(503, BUSY, {"retry-after": "2"}) from None
    except TimeoutError:
        detail = f"There was no answer within {seconds:g} seconds. Send the request again later."
        raise HTTPException(503, detail, {"retry-after": "10"}) from None
    except NotAnswered:
        raise HTTPException(500, "The model failed on this request. The log of the server says why.") from None


async def _row(request: Request, schema: type[TagRequest], readers: Executor) -> dict[str, Any]:
    kind = request.headers.get("content-type", "")
    media_type = kind.partition(";")[0].strip().lower()
    if media_type == "application/json":
        body = await request.body()
        return await asyncio.get_running_loop().run_in_executor(readers, read_json, schema, body)
    if media_type == "multipart/form-data":
        try:
            async with request.form(max_files=MAX_PICTURES + 2 * MAX_BOXES, max_fields=MAX_FIELDS) as form:
                return await read_form(schema, form)
        except (LookupError, UnicodeError):
            raise Refused(
                "The form is not text in the charset that its content type names. Send it as UTF-8."
            ) from None
    got = kind[:80] or "no content type"
    raise HTTPException(415, f"Expected application/json or multipart/form-data, got {got}.")


def _body_of(schema: type[TagRequest]) -> dict[str, Any]:
    """The body of a request for the page, which FastAPI does not know: it is read by hand, for both its forms."""
    as_json = schema.model_json_schema(mode="validation")
    file = {"type": "string", "format": "binary"}
    fields: dict[str, Any] = {"text": {"type": "string"}, "context": {"type": "string"}, "crops": {"type": "string"}}
    needed = ["text", *(("head", "tail") if issubclass(schema, RelationRequest) else ())]
    fields |= {name: {"type": "string"} for name in needed}
    fields |= {name: {"type": "array", "items": file} for name in PICTURE_COLUMNS}
    form = {"type": "object", "properties": fields, "required": needed}
    content = {"application/json": {"schema": as_json}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


class Metrics:
    """What `/metrics` tells, of one application alone."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        make: dict[str, Any] = {"registry": self.registry, "namespace": "ifaformer"}
        self.answers = Counter("answers", "Answers by address and status.", ["path", "status"], **make)
        self.seconds = Histogram("request_seconds", "Seconds from a whole body to the answer.", ["path"], **make)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128)
        self.batch_rows = Histogram("batch_rows", "Rows that were answered together.", ["path"], buckets=sizes, **make)
        self.problems = Counter("reports_with_problems", "Reports that name problems.", ["path"], **make)
        self.waiting = Gauge("waiting_requests", "Requests that wait or are worked on.", ["path"], **make)
        self.open = Gauge("open_requests", "Requests that are open, arriving ones among them.", **make)
        self.held = Gauge("held_bytes", "Bytes of bodies that are held.", **make)

    def note_answer(self, path: str, status: int) -> None:
        """Count an answer; addresses that are not there are one, since clients choose them."""
        known = path in (*OPEN_PATHS, "/tag", "/relations", "/metrics")
        self.answers.labels(path if known else "other", status).inc()
