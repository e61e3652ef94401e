from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator

import pytest

from service.logs import ACCESS, configure_logging


class Stream:
    """Standard error, with each write apart."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.written = asyncio.Event()

    def write(self, text: str) -> None:
        self.writes.append(text)
        self.written.set()

    def flush(self) -> None:
        pass


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    stream, root = Stream(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", stream)
    configure_logging("text", "http-0")
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_lines_about_requests_are_written_together(stream: Stream) -> None:
    for number in range(3):
        logging.getLogger(ACCESS).info("request %d", number)
    assert stream.writes == []
    await asyncio.wait_for(stream.written.wait(), 5)
    (text,) = stream.writes
    assert [line.split()[-1] for line in text.splitlines()] == ["0", "1", "2"]
    stream.written.clear()
    logging.getLogger(ACCESS).info("request %d", 3)
    await asyncio.wait_for(stream.written.wait(), 5)
    assert len(stream.writes) == 2


async def test_another_line_is_written_at_once_behind_those_before_it(stream: Stream) -> None:
    logging.getLogger(ACCESS).info("a request")
    logging.getLogger("service").info("another line")
    (text,) = stream.writes
    assert [line.split()[-1] for line in text.splitlines()] == ["request", "line"]


async def test_the_end_of_a_process_writes_what_is_due(stream: Stream) -> None:
    logging.getLogger(ACCESS).info("a request")
    logging.getLogger().handlers[0].flush()  # as logging.shutdown does at exit
    assert len(stream.writes) == 1


@pytest.fixture
def no_event_loop() -> Iterator[None]:
    """The browser's tests may have left theirs to this thread."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(running)


@pytest.mark.usefixtures("no_event_loop")
def test_without_an_event_loop_a_line_is_written_at_once(stream: Stream) -> None:
    logging.getLogger(ACCESS).info("a request")
    assert len(stream.writes) == 1


@pytest.mark.usefixtures("no_event_loop")
@pytest.mark.parametrize("error", [OSError("No space left on device"), ValueError("closed file")])
def test_a_log_that_cannot_be_written_does_not_matter(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: str) -> None:
        raise error

    with monkeypatch.context() as full:
        full.setattr(stream, "write", fail)
        logging.getLogger("service").info("a line that is lost")
    logging.getLogger("service").info("another")
    (text,) = stream.writes
    assert text.split()[-1] == "another"
