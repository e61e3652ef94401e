from __future__ import annotations

import asyncio

import pytest

from service.api.errors import NotReadyError
from service.web.http.draining import Draining


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
