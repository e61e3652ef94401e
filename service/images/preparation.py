"""From a body to a network's input, for requests and for the command line alike."""

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
"""Longest side, pixels, whatever the area."""


class ImagePreparer:
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
            content_type: what is said of it; None if nothing is.
            task: one that is served.

        Raises:
            ServiceError: as the body, its type or its image is refused.
        """
        started = time.perf_counter()
        decoded = self.decode(body, content_type, short_side_needed(task, self._settings))
        original_size = (decoded.height, decoded.width)
        return PreparedImage(
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
class PreparedImage:
    """An image, decoded and brought to the network's geometry.

    Attributes:
        network_input: what the engine gets.
        facts: what the caller is told of the image.
        decode_seconds: how long all of that took.
    """

    network_input: NetworkInput
    facts: ImageFacts
    decode_seconds: float


def short_side_needed(task: Task, settings: Settings) -> int | None:
    """Return the short side below which a JPEG may not be reduced while it is decoded.

    None for the dense tasks: their resizing is not antialiased, so a reduced image would become
    other pixels, and their results are in the pixels of the whole one.
    """
    if task is not Task.CLASSIFY:
        return None
    return CLASSIFIERS[settings.classify_model].geometry.resize_short_side


def network_input(
    image: Image.Image, original_size: tuple[int, int], task: Task, settings: Settings
) -> NetworkInput:
    """Resize an image as the task's model was evaluated.

    Args:
        image: RGB, upright.
        original_size: height and width before any reduction while decoding.
        task: what is wanted of it; one that is served.
        settings: which model answers it.
    """
    name = settings.model_of(task)
    assert name is not None, "the route has checked that the task is served"
    match task:
        case Task.CLASSIFY:
            pixels = classification_input(image, CLASSIFIERS[name].geometry)
        case Task.SEGMENT:
            square = settings.segment_geometry == "square"
            pixels = segmentation_input(image, SEGMENTERS[name].geometry, square=square)
        case Task.DETECT:
            geometry = DETECTORS[name].geometry
            pixels = detection_input(image, geometry)
            # The engine pads, after it has normalised.
            size = padded_size(pixels.shape[0], pixels.shape[1], geometry.multiple)
            return NetworkInput(pixels, size, original_size)
    return NetworkInput(pixels, (pixels.shape[0], pixels.shape[1]), original_size)
