from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from service.processes.changes import Changes
from service.processes.counts import SupervisorCounts
from service.processes.generation import Generation
from service.processes.reloads import ReloadError, Reloads


@dataclass
class ServingGeneration:
    """The generation of a start, with engines that are ready."""

    number: int = 1
    sockets: tuple[str, ...] = ()
    ready: bool = True


@dataclass
class NoCounts:
    """Counts that are lost."""

    def increment(self, _: object) -> None:
        """Lose it."""


async def test_an_unforeseen_error_fails_the_reload_and_not_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def begin(number: int, _: Generation | None) -> Any:
        if number > 1:
            raise ValueError("embedded null byte")
        return ServingGeneration()

    reloads = Reloads(begin, [], Changes(), cast("SupervisorCounts", NoCounts()))
    running = asyncio.create_task(reloads.run())
    for _ in range(2):
        async with asyncio.timeout(5):
            with pytest.raises(ReloadError, match=r"unforeseen error, ValueError.'embedded null"):
                await reloads.ask()
    assert reloads.generation.number == 1
    assert "Traceback" in caplog.text
    assert not running.done()
    running.cancel()
