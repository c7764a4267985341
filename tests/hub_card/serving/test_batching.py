"""The queue before a pipeline, without a server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from hub_card.serving.batching import Batcher, NotAnswered, QueueFull


def run(pipeline, ask, **options):
    """What `ask(batcher)` returns, while the batcher runs."""

    async def main():
        with ThreadPoolExecutor(1) as worker:
            batcher = Batcher(pipeline, worker, **options)
            running = asyncio.create_task(batcher.run())
            try:
                async with asyncio.timeout(60):
                    return await ask(batcher)
            finally:
                running.cancel()

    with ThreadPoolExecutor(1) as other:  # a browser of other tests may have a loop in this thread
        return other.submit(asyncio.run, main()).result(timeout=300)


async def first_of(batcher, pipeline, *texts):
    """The answers of the rest, of which the first alone is being worked on when the others come."""
    first = asyncio.create_task(batcher.answer({"text": "first"}))
    await asyncio.to_thread(pipeline.started.wait, 60)
    others = [asyncio.create_task(batcher.answer({"text": text})) for text in texts]
    await asyncio.sleep(0)  # they are in the queue now
    return first, others


def test_rows_that_wait_are_answered_together_and_each_gets_its_own_report(held):
    sizes = []

    async def ask(batcher):
        first, others = await first_of(batcher, held, "a", "b", "c", "d", "e")
        held.is_free.set()
        return await asyncio.gather(first, *others)

    reports = run(held, ask, batch_size=3, observe=sizes.append)
    assert held.batches == [["first"], ["a", "b", "c"], ["d", "e"]] and sizes == [1, 3, 2]
    assert [report["text"] for report in reports] == ["first", "a", "b", "c", "d", "e"]


def test_a_row_that_the_pipeline_fails_on_spoils_no_other(held, caplog):
    async def ask(batcher):
        first, others = await first_of(batcher, held, "a", "broken", "c")
        held.is_free.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, a, broken, c = run(held, ask)
    assert (first["text"], a["text"], c["text"]) == ("first", "a", "c") and isinstance(broken, NotAnswered)
    assert held.batches[1:] == [["a", "broken", "c"], ["a"], ["broken"], ["c"]]
    assert "A row was not answered." in caplog.text and "/home/somebody" in caplog.text, "the log has the reason"


def test_nothing_is_asked_for_those_who_have_left(held):
    async def ask(batcher):
        first, others = await first_of(batcher, held, "leaves", "stays")
        others[0].cancel()
        await asyncio.sleep(0)
        held.is_free.set()
        return await asyncio.gather(first, others[1])

    run(held, ask)
    assert held.batches == [["first"], ["stays"]]


def test_a_pipeline_that_loses_a_row():
    async def ask(batcher):
        return await asyncio.gather(batcher.answer({"text": "a"}), return_exceptions=True)

    (answer,) = run(lambda rows, batch_size, on_error: [], ask)
    assert isinstance(answer, NotAnswered)


def test_places_are_limited_and_given_back():
    batcher = Batcher(None, None, max_waiting=2)
    with batcher.place(), batcher.place():
        assert batcher.num_waiting == 2
        with pytest.raises(QueueFull), batcher.place():
            pass
    with batcher.place():
        assert batcher.num_waiting == 1


def test_rows_are_prepared_where_the_pipeline_can():
    class Preparing:
        def prepare(self, row):
            return {**row, "is_prepared": True}

    assert Batcher(Preparing(), None).prepare({"text": "a"}) == {"text": "a", "is_prepared": True}
    assert Batcher(print, None).prepare({"text": "a"}) == {"text": "a"}
