"""An engine's answer and what is needed to render it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from service.api.schemas import Timing
from service.images.preparation import Prepared
from service.link.messages import ModelInfo, Result


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


class GivenUpError(Exception):
    """Ends a thread's work on a response that nobody waits for; never reaches a caller."""
