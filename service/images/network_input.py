"""Brings a decoded image to the geometry of a task's network."""

from __future__ import annotations

from PIL import Image

from model.config import CLASSIFIERS, DETECTORS, SEGMENTERS, Task
from model.images.preprocess import (
    classification_input,
    detection_input,
    padded_size,
    segmentation_input,
)
from service.link.messages import NetworkInput
from service.settings import Settings


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
