"""The work of a peer's server on a request, the same as the service's.

The decoder with its limits and the geometry are the service's own functions, unless the environment
asks for those of the peers' own examples; the answer holds the same five classes. A peer's file
only connects these with its framework.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from model.config import CLASSIFIERS
from model.images.preprocess import classification_input, resized_size
from model.labels.tables import imagenet_labels
from service.answers.classify import best_classes
from service.images.decode import ImageLimits, decode_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODEL = "overlock_t"
"""The model whose geometry and labels are served."""

TOP_K = 5
BATCH_WINDOW_SECONDS = 0.005
"""Time that a framework waits for a batch to fill: the fixed cost of the simulated device."""

LIMITS = ImageLimits(max_pixels=50_000_000, max_side=32_768)


def decode(body: bytes) -> NDArray[np.uint8]:
    """Turn a JPEG into the network's input, (224, 224, 3) uint8."""
    geometry = CLASSIFIERS[MODEL].geometry
    decoded = decode_image(
        body,
        content_type="image/jpeg",
        limits=LIMITS,
        short_side_needed=geometry.resize_short_side,
    )
    return classification_input(decoded.image, geometry)


def decode_as_documented(body: bytes) -> NDArray[np.uint8]:
    """Do the same with Pillow alone, as the peers' own examples do.

    The pixels are equal, since a JPEG of the benchmark's sizes is not reduced while it is decoded.

    Source: Mosec's ``resnet50_msgpack``, Ray Serve's ``resnet50_example``; LitServe's and BentoML's
    examples of image classifiers.
    """
    geometry = CLASSIFIERS[MODEL].geometry
    image = Image.open(BytesIO(body)).convert("RGB")
    size = resized_size(image.width, image.height, geometry.resize_short_side)
    resized = image.resize(size, Image.Resampling.BICUBIC)
    crop = geometry.crop_size
    left, top = (round((side - crop) / 2) for side in size)
    return np.asarray(resized.crop((left, top, left + crop, top + crop)))


DECODER_VARIABLE = "BENCHMARK_DECODER"
"""The environment variable that names a peer's decoder."""

SERVICES, DOCUMENTED = "service", "documented"

_DECODERS: dict[str, Callable[[bytes], NDArray[np.uint8]]] = {
    SERVICES: decode,
    DOCUMENTED: decode_as_documented,
}


def chosen_decoder() -> Callable[[bytes], NDArray[np.uint8]]:
    """Return the decoder that the environment names, by default the service's."""
    return _DECODERS[os.environ.get(DECODER_VARIABLE, SERVICES)]


def answer(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Return the document for a caller, best class first."""
    labels = imagenet_labels()
    return {
        "model": MODEL,
        "predictions": [
            {"class_id": class_id, "label": labels[class_id], "score": float(scores[class_id])}
            for class_id in best_classes(scores, TOP_K).tolist()
        ],
    }
