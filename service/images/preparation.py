"""From a body to a network's input, for requests and for the command line alike."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from model.config import Task
from model.kernels.cpu.library import native_obstacle
from service.api.schemas import ImageFacts
from service.images.decode import DecodedImage, ImageLimits, decode_image
from service.images.network_input import network_input, short_side_needed
from service.images.upload import find_image
from service.link.messages import NetworkInput
from service.settings import Settings

logger = logging.getLogger(__name__)

MAX_IMAGE_SIDE = 32_768
"""Longest side, pixels, whatever the area."""


class Decoding:
    """Decodes images for the models of the settings. Any thread may call it.

    Putting it together compiles the kernel that resizes a classifier's images, in a second or two
    where that was not done before, so that no request has to wait for it.

    Raises:
        SettingsError: if there is no folder for compiled kernels.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = ImageLimits(settings.max_image_pixels, MAX_IMAGE_SIDE)
        if settings.model_of(Task.CLASSIFY) is not None:
            obstacle = native_obstacle(settings.cache_folder / "kernels")
            if obstacle is not None:
                logger.warning(
                    "Images to classify are resized by Pillow, at a tenth of the speed, since %s.",
                    obstacle,
                )

    def prepare(self, body: bytes, content_type: str | None, task: Task) -> Prepared:
        """Find the image in a body, decode it and bring it to the task's geometry.

        Args:
            body: complete.
            content_type: what is said of it; None if nothing is.
            task: one that is served.

        Raises:
            ServiceError: as the body, its type or its image is refused.
        """
        started = time.perf_counter()
        decoded = self.decode(body, content_type, short_side_needed(task, self._settings))
        original_size = (decoded.height, decoded.width)
        return Prepared(
            network_input=network_input(decoded.image, original_size, task, self._settings),
            facts=ImageFacts(width=decoded.width, height=decoded.height, frames=decoded.frames),
            decode_seconds=time.perf_counter() - started,
        )

    def decode(
        self, body: bytes, content_type: str | None, short_side_needed: int | None = None
    ) -> DecodedImage:
        """Decode the image in a body; a reduction of it may do (see ``decode_image``)."""
        upload = find_image(body, content_type)
        return decode_image(
            upload.body,
            content_type=upload.content_type,
            limits=self._limits,
            short_side_needed=short_side_needed,
        )


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
