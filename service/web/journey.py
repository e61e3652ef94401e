"""What a request carries with it on its way through an HTTP worker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from PIL import Image

from service.errors import DeadlineExceededError
from service.link.client import NetworkInput, Result
from service.link.messages import ModelInfo
from service.web.permits import Permit
from service.web.schemas import ImageFacts, Timing


@dataclass(frozen=True)
class Prepared:
    """An image, decoded and brought to the network's geometry.

    Attributes:
        network_input: what the engine gets.
        facts: what the caller is told of the image.
        decode_seconds: how long all of that took.
    """

    network_input: NetworkInput
    facts: ImageFacts
    decode_seconds: float


@dataclass(frozen=True)
class Answered:
    """An engine's answer, and what is needed to render it.

    Attributes:
        model: whose answer it is.
        prepared: what it is about.
        result: the answer.
        decode: decodes the image once more. Nothing keeps its pixels while the request waits: they
            may be a hundred times the file.
        given_up: set when nobody waits for the response any more.
    """

    model: ModelInfo
    prepared: Prepared
    result: Result
    decode: Callable[[], Image.Image]
    given_up: threading.Event

    def go_on(self) -> None:
        """Raise if nobody waits any more; long work calls this now and then."""
        if self.given_up.is_set():
            raise GivenUpError

    def timing(self, render_seconds: float) -> Timing:
        """Say where the time went."""
        return Timing(
            decode_seconds=self.prepared.decode_seconds,
            queue_seconds=self.result.queue_seconds,
            inference_seconds=self.result.inference_seconds,
            render_seconds=render_seconds,
            batch_size=self.result.batch_size,
        )


@dataclass(frozen=True)
class Wish:
    """A request whose body has arrived.

    Attributes:
        model: that answers it.
        body: as it came.
        content_type: the request's header.
        deadline: monotonic moment after which nobody waits for the response.
        timeout_seconds: the length of time that the caller asked for.
        permit: holds its bytes.
        stages: where it is noted how long each stage took, seconds.
        given_up: set when nobody waits for the response any more.
    """

    model: ModelInfo
    body: bytes
    content_type: str | None
    deadline: float
    timeout_seconds: float
    permit: Permit
    stages: dict[str, float]
    given_up: threading.Event = field(default_factory=threading.Event)

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Give the work inside up at the deadline, with DeadlineExceededError."""
        try:
            async with asyncio.timeout(self.deadline - time.monotonic()):
                yield
        except TimeoutError:
            raise DeadlineExceededError(timeout_seconds=self.timeout_seconds) from None


class GivenUpError(Exception):
    """Ends a thread's work on a response that nobody waits for; never reaches a caller."""
