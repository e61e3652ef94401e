"""An engine's answer and what is needed to render it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from service.api.schemas import Timing
from service.images.preparation import PreparedImage
from service.link.messages import InferenceResult, ModelInfo


@dataclass(frozen=True)
class EngineResult:
    """An engine's answer, and what is needed to render it.

    Attributes:
        model: whose answer it is.
        prepared: what it is about.
        result: the answer.
        decode: decodes the image once more. Nothing keeps its pixels while the request waits: they
            may be a hundred times the file.
        cancelled: set when nobody waits for the response any more.
    """

    model: ModelInfo
    prepared: PreparedImage
    result: InferenceResult
    decode: Callable[[], Image.Image]
    cancelled: threading.Event

    def raise_if_cancelled(self) -> None:
        """Raise if nobody waits any more; long work calls this now and then."""
        if self.cancelled.is_set():
            raise RenderCancelledError

    def timing(self, render_seconds: float) -> Timing:
        """Say where the time went."""
        return Timing(
            decode_seconds=self.prepared.decode_seconds,
            queue_seconds=self.result.queue_seconds,
            inference_seconds=self.result.inference_seconds,
            render_seconds=render_seconds,
            batch_size=self.result.batch_size,
        )


class RenderCancelledError(Exception):
    """Ends a thread's work on a response that nobody waits for; never reaches a caller."""
