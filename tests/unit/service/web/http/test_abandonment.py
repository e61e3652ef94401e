from __future__ import annotations

import asyncio

import pytest

from service.api.errors import NotReadyError
from service.web.http.abandonment import RequestsUnderWay, abandonable


class Owner:
    def __init__(self) -> None:
        self.under_way = RequestsUnderWay()

    @abandonable
    async def respond(self, seconds: float, *, answer: str) -> str:
        async with asyncio.timeout(60):
            await asyncio.sleep(seconds)
        return answer


async def test_requests_end_at_once_and_later_ones_too() -> None:
    owner = Owner()
    waiting = [asyncio.create_task(owner.respond(60, answer="late")) for _ in range(3)]
    await asyncio.sleep(0)
    owner.under_way.abandon()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, NotReadyError)
    with pytest.raises(NotReadyError):
        await owner.respond(0, answer="later")


async def test_otherwise_nothing_is_different() -> None:
    owner = Owner()
    assert await owner.respond(0, answer="here") == "here"
    waiting = asyncio.create_task(owner.respond(60, answer="late"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert owner.under_way.tasks == set()
