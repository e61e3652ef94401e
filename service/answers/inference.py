"""An engine's result with everything that is needed to render it."""

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
    """An engine's result for one image, and what is needed to render it.

    Attributes:
        model: that was run.
        prepared: the image.
        result: arrays and times from the engine.
        decode: decodes the image again. Its pixels are not kept while the request waits: they may
            take a hundred times the memory of the file.
        cancelled: set when nobody waits for the response any more.
    """

    model: ModelInfo
    prepared: PreparedImage
    result: InferenceResult
    decode: Callable[[], Image.Image]
    cancelled: threading.Event

    def raise_if_cancelled(self) -> None:
        """Raise ``RenderCancelledError`` if nobody waits; long work calls this repeatedly."""
        if self.cancelled.is_set():
            raise RenderCancelledError

    def timing(self, render_seconds: float) -> Timing:
        """Return the times of the request's stages."""
        return Timing(
            decode_seconds=self.prepared.decode_seconds,
            queue_seconds=self.result.queue_seconds,
            inference_seconds=self.result.inference_seconds,
            render_seconds=render_seconds,
            batch_size=self.result.batch_size,
        )


class RenderCancelledError(Exception):
    """Nobody waits for a response: ends a thread's work on it, and never reaches a caller."""
