"""Requests that wait are answered together: one thread runs the pipeline on all of them that fit into a batch."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any


logger = logging.getLogger(__name__)


class QueueFull(RuntimeError):
    """The error of a request for which there is no place in the queue."""


class NotAnswered(RuntimeError):
    """The error of a row that the pipeline raised an error for. The log has that error."""


class Batcher:
    """
    The queue before a pipeline.

    Args:
        pipeline: called with a list of rows, `batch_size` and `on_error="report"`; it returns a report for each row.
            Where it has a method `prepare`, rows are given to that one by one beforehand, in any thread.
        worker: of one thread, in which the pipeline is called.
        batch_size: rows that the pipeline gets at once at most.
        max_waiting: requests that may wait or be worked on at the same time.
        observe: called with the number of rows of each batch.
    """

    def __init__(
        self,
        pipeline: Any,
        worker: Executor,
        batch_size: int = 32,
        max_waiting: int = 100,
        observe: Callable[[int], object] = lambda number: None,
    ):
        self.pipeline, self.worker, self.batch_size, self.max_waiting = pipeline, worker, batch_size, max_waiting
        self.observe, self.num_waiting = observe, 0
        self._queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, from the request's arrival to its answer; QueueFull where there is none."""
        if self.num_waiting >= self.max_waiting:
            raise QueueFull
        self.num_waiting += 1
        try:
            yield
        finally:
            self.num_waiting -= 1

    def prepare(self, row: Any) -> Any:
        """The row with its pictures decoded, where the pipeline can do that: others' answers do not wait for it."""
        prepare = getattr(self.pipeline, "prepare", None)
        return row if prepare is None else prepare(row)

    async def answer(self, row: Any) -> Any:
        """
        The report of a row.

        Raises:
            NotAnswered: where the pipeline fails on this very row.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((row, future))
        return await future

    async def run(self) -> None:
        """Answer whatever waits, until the task is cancelled. Nothing is waited for to fill a batch."""
        while True:
            waiting = [await self._queue.get()]
            while len(waiting) < self.batch_size and not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            waiting = [(row, future) for row, future in waiting if not future.done()]  # whose client has not left
            if waiting:
                self.observe(len(waiting))
                await self._answer_together(waiting)

    async def _answer_together(self, waiting: Sequence[tuple[Any, "asyncio.Future[Any]"]]) -> None:
        rows = [row for row, _ in waiting]
        try:
            reports = await asyncio.get_running_loop().run_in_executor(self.worker, self._ask, rows)
        except Exception:
            if len(waiting) > 1:  # one row may be to blame: the others are answered
                for one in waiting:
                    await self._answer_together([one])
                return
            logger.exception("A row was not answered.")
            if not waiting[0][1].done():
                waiting[0][1].set_exception(NotAnswered())
            return
        for (_, future), report in zip(waiting, reports, strict=True):
            if not future.done():
                future.set_result(report)

    def _ask(self, rows: list[Any]) -> list[Any]:
        reports = list(self.pipeline(rows, batch_size=len(rows), on_error="report"))
        if len(reports) != len(rows):
            raise ValueError(f"The pipeline gave {len(reports)} reports of {len(rows)} rows.")
        return reports
