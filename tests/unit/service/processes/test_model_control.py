from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from service.api.errors import ControlOffError, NotReadyError, ServiceError, UnknownModelError
from service.processes.model_control import WorkerControl
from service.processes.state import ChangeOutcome, ConfiguredModel

MODELS = (ConfiguredModel("birds"), ConfiguredModel("moths", "UNAVAILABLE", "unloaded"))


class Sent:
    """A model control whose supervisor is a list."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.requests: list[dict[str, Any]] = []
        self.control = WorkerControl(MODELS, allowed=allowed, send=self.requests.append)

    async def begun(self, name: str = "birds") -> tuple[asyncio.Task[None], str]:
        """Begin a load; return its caller, and the id of the request."""
        count = len(self.requests)
        caller = asyncio.create_task(self.control.load(name))
        async with asyncio.timeout(5):
            while len(self.requests) == count:
                await asyncio.sleep(0)
        return caller, self.requests[-1]["request_id"]


async def test_a_caller_waits_for_the_outcome_of_its_own_request() -> None:
    sent = Sent()
    (first, first_id), (second, second_id) = await sent.begun(), await sent.begun()
    assert first_id != second_id
    sent.control.take_outcome(ChangeOutcome(second_id))
    await second
    assert not first.done()
    sent.control.take_outcome(ChangeOutcome(first_id, "load-failed", "no such file", None))
    with pytest.raises(ServiceError, match="no such file") as failure:
        await first
    assert failure.value.status == 422
    assert [request["change"] for request in sent.requests] == [
        {"action": "load", "name": "birds"}
    ] * 2


async def test_an_outcome_that_nobody_waits_for_is_dropped() -> None:
    sent = Sent()
    caller, request_id = await sent.begun()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    for unknown in (request_id, "of a worker before"):
        sent.control.take_outcome(ChangeOutcome(unknown))


async def test_without_a_supervisor_nobody_waits() -> None:
    sent = Sent()
    waiting = [(await sent.begun())[0] for _ in range(2)]
    sent.control.abandon()
    for caller in waiting:
        with pytest.raises(NotReadyError, match="has ended before the answer"):
            await caller
    with pytest.raises(NotReadyError, match="has ended before the answer"):
        await sent.control.unload("birds")


async def test_where_it_is_off_models_are_listed_and_not_changed() -> None:
    sent = Sent(allowed=False)
    for change in (sent.control.load, sent.control.unload):
        with pytest.raises(ControlOffError, match="OVERLOCK_MODEL_CONTROL"):
            await change("birds")
    assert sent.control.models() == [*MODELS]
    sent.control.take_models(MODELS[:1])
    assert sent.control.models() == [MODELS[0]]
    assert not sent.requests


@pytest.mark.parametrize("name", ["", "a" * 65, "../birds", "a\nb", "\ud800"])
async def test_what_can_be_no_name_is_not_sent(name: str) -> None:
    sent = Sent()
    with pytest.raises(UnknownModelError, match="there are birds, moths"):
        await sent.control.load(name)
    assert not sent.requests


def test_a_worker_needs_no_part_of_the_supervisor_for_it() -> None:
    program = (
        "import sys, service.processes.model_control as _\n"
        "print([each for each in ('torch', 'service.processes.child') if each in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "[]\n"
