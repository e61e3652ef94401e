"""Preparation of a network's input from a request's body, for the service and the command line."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from PIL import Image

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from model.images.preprocess import (
    classification_input,
    detection_input,
    padded_size,
    segmentation_input,
)
from model.kernels.cpu.library import cpu_kernels_unsupported_reason
from service.api.schemas import ImageFacts
from service.images.decode import DecodedImage, ImageLimits, decode_image
from service.images.upload import find_image
from service.link.messages import NetworkInput
from service.settings import Settings

logger = logging.getLogger(__name__)

MAX_IMAGE_SIDE = 32_768
"""Longest side of an image, pixels, whatever its area."""


@dataclass(frozen=True)
class PreparedImage:
    """An image, decoded and brought to the network's geometry.

    Attributes:
        network_input: sent to the engine.
        facts: told to the caller.
        decode_seconds: time that the preparation took.
    """

    network_input: NetworkInput
    facts: ImageFacts
    decode_seconds: float


class ImagePreparer:
    """Decodes and resizes images for the models of the settings. Thread-safe.

    Its construction compiles the kernel that resizes a classifier's images, once on a machine and
    in a second or two, so that no request has to wait for it.

    Raises:
        SettingsError: if there is no folder for compiled kernels.
    """

    def __init__(self, settings: Settings) -> None:
        self._limits = ImageLimits(settings.max_image_pixels, MAX_IMAGE_SIDE)
        self._models = {task: settings.model_of(task) for task in Task}
        self._square_segments = settings.segment_geometry == "square"
        # A JPEG may be reduced while it is decoded, down to this short side. None for the dense
        # tasks: their resizing is not antialiased, so a reduced image would give other pixels,
        # and their results are in the pixels of the original.
        self._short_sides: dict[Task, int | None] = dict.fromkeys(Task)
        classifier = self._models[Task.CLASSIFY]
        if classifier is not None:
            geometry = CLASSIFIERS[classifier].geometry
            self._short_sides[Task.CLASSIFY] = geometry.resize_short_side
            reason = cpu_kernels_unsupported_reason(settings.cache_folder / "kernels")
            if reason is not None:
                logger.warning(
                    "Images to classify are resized by Pillow, at a tenth of the speed, since %s.",
                    reason,
                )

    def prepare(self, body: bytes, content_type: str | None, task: Task) -> PreparedImage:
        """Find the image in a body, decode it and bring it to the task's geometry.

        Args:
            body: complete.
            content_type: the request's header; None if there is none.
            task: one that is served.

        Raises:
            ServiceError: if the body, its type or its image is rejected.
        """
        started = time.perf_counter()
        decoded = self.decode(body, content_type, self._short_sides[task])
        original_size = (decoded.height, decoded.width)
        return PreparedImage(
            network_input=self._network_input(decoded.image, original_size, task),
            facts=ImageFacts(width=decoded.width, height=decoded.height, frames=decoded.frames),
            decode_seconds=time.perf_counter() - started,
        )

    def decode(
        self, body: bytes, content_type: str | None, short_side_needed: int | None = None
    ) -> DecodedImage:
        """Decode the image in a body; ``decode_image`` explains the short side."""
        upload = find_image(body, content_type)
        return decode_image(
            upload.body,
            content_type=upload.content_type,
            limits=self._limits,
            short_side_needed=short_side_needed,
        )

    def _network_input(
        self, image: Image.Image, original_size: tuple[int, int], task: Task
    ) -> NetworkInput:
        """Resize an upright RGB image as in the evaluation of the task's model."""
        name = self._models[task]
        assert name is not None, "the route has checked that the task is served"
        match task:
            case Task.CLASSIFY:
                pixels = classification_input(image, CLASSIFIERS[name].geometry)
            case Task.SEGMENT:
                geometry = SEGMENTERS[name].geometry
                pixels = segmentation_input(image, geometry, square=self._square_segments)
            case Task.DETECT:
                geometry = DETECTORS[name].geometry
                pixels = detection_input(image, geometry)
                # The engine pads, after it has normalised.
                size = padded_size(pixels.shape[0], pixels.shape[1], geometry.multiple)
                return NetworkInput(pixels, size, original_size)
        return NetworkInput(pixels, (pixels.shape[0], pixels.shape[1]), original_size)
