"""The work of a peer's server on a request, the same as the service's.

The decoder with its limits and the geometry are the service's own functions; the answer holds the
same five classes. A peer's file only connects these with its framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.config import CLASSIFIERS
from model.images.preprocess import classification_input
from model.labels.tables import imagenet_labels
from service.answers.classify import best_classes
from service.images.decode import ImageLimits, decode_image

if TYPE_CHECKING:
    import numpy as np
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
