from __future__ import annotations

import asyncio

import pytest

from service.api.errors import NotReadyError
from service.web.http.middleware import Draining, RequestsUnderWay


async def respond(under_way: RequestsUnderWay, seconds: float) -> str:
    with under_way.entered():
        async with asyncio.timeout(60):
            await asyncio.sleep(seconds)
        return "here"


async def test_requests_end_at_once_and_later_ones_too() -> None:
    under_way = RequestsUnderWay()
    waiting = [asyncio.create_task(respond(under_way, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    under_way.abandon()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, NotReadyError)
    with pytest.raises(NotReadyError):
        await respond(under_way, 0)


async def test_a_request_that_is_cancelled_alone_stays_cancelled() -> None:
    under_way = RequestsUnderWay()
    assert await respond(under_way, 0) == "here"
    waiting = asyncio.create_task(respond(under_way, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_requests_are_taken_during_the_delay_and_refused_after_it() -> None:
    draining = Draining()
    running = asyncio.create_task(draining.run(0.05, 10.0))
    await asyncio.sleep(0)
    assert draining.begun
    with draining.request():
        await asyncio.sleep(0.1)
        with pytest.raises(NotReadyError, match="stopping"), draining.request():
            pass
        assert not running.done()
    await running


async def test_it_ends_at_its_limit_though_a_request_is_under_way() -> None:
    draining = Draining()
    with draining.request():
        await draining.run(0.0, 0.01)


async def test_it_ends_at_once_where_nothing_is_under_way() -> None:
    draining = Draining()
    with draining.request():
        pass
    await asyncio.wait_for(draining.run(0.0, 600.0), 1.0)
