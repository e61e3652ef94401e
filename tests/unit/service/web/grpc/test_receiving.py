from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from service.api.errors import MemoryFullError
from service.web.grpc import receiving
from service.web.grpc.receiving import MessageReceiver


class Sender:
    """A client whose message arrives when a test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        self.asked.set()
        return await self.message


async def waits(work: Callable[[], Coroutine[object, object, bytes]]) -> asyncio.Task[bytes]:
    task = asyncio.create_task(work())
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def begun(receiver: MessageReceiver, sender: Sender) -> asyncio.Task[bytes]:
    return await waits(lambda: receiver.receive(sender.read))


async def test_a_message_beyond_the_places_is_not_asked_for_until_one_is_free() -> None:
    receiver, first, second = MessageReceiver(1), Sender(), Sender()
    receiving_first = await begun(receiver, first)
    receiving_second = await begun(receiver, second)
    assert first.asked.is_set()
    assert not second.asked.is_set()
    first.message.set_result(b"first")
    second.message.set_result(b"second")
    assert (await receiving_first, await receiving_second) == (b"first", b"second")


async def test_one_that_takes_long_gives_way_where_others_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "UPLOAD_SECONDS", 0.0)
    receiver, slow, other = MessageReceiver(1), Sender(), Sender()
    receiving_slow = await begun(receiver, slow)
    await asyncio.sleep(0.01)
    assert not receiving_slow.done()
    other.message.set_result(b"other")
    assert await receiver.receive(other.read) == b"other"
    with pytest.raises(MemoryFullError):
        await receiving_slow


async def test_one_that_others_wait_for_gives_way_as_soon_as_it_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "UPLOAD_SECONDS", 0.05)
    receiver, slow, other = MessageReceiver(1), Sender(), Sender()
    receiving_slow = await begun(receiver, slow)
    other.message.set_result(b"other")
    assert await receiver.receive(other.read) == b"other"
    with pytest.raises(MemoryFullError):
        await receiving_slow


async def test_whatever_ends_frees_its_place() -> None:
    receiver = MessageReceiver(1)
    for _ in range(3):
        gone = await begun(receiver, Sender())
        waiting = await begun(receiver, Sender())
        waiting.cancel()
        gone.cancel()
        await asyncio.gather(gone, waiting, return_exceptions=True)
    failing = Sender()
    failing.message.set_exception(OSError("no message"))
    with pytest.raises(OSError, match="no message"):
        await receiver.receive(failing.read)
    fine = Sender()
    fine.message.set_result(b"fine")
    assert await receiver.receive(fine.read) == b"fine"
