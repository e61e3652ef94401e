"""An engine's answer, with everything that a response is rendered from."""

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
    """An engine's answer, with everything that a response is rendered from.

    Attributes:
        model: the model that answered.
        prepared: the image.
        result: the answer.
        timing: the time that each stage took; who renders adds the time of that.
        decode: decodes the image again. Its pixels are not kept while the request waits: they may
            be a hundred times the file.
        cancelled: set when the caller no longer waits for the response.
    """

    model: ModelInfo
    prepared: PreparedImage
    result: InferenceResult
    timing: Timing
    decode: Callable[[], Image.Image]
    cancelled: threading.Event

    def raise_if_cancelled(self) -> None:
        """Raise RenderCancelledError if the caller no longer waits; long work calls this often."""
        if self.cancelled.is_set():
            raise RenderCancelledError


class RenderCancelledError(Exception):
    """Ends the rendering of a response that nobody waits for; never reaches a caller."""
