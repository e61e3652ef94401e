"""What a program needs beside an exported network: an image's preparation, the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.config import ClassificationGeometry
from model.export.program import INPUT_NAME, OUTPUT_NAME
from model.zoo import LoadedModel

BUNDLED = ("demo", "random")
"""Weights that are no file of the user's."""


def metadata_of(
    name: str, loaded: LoadedModel, activation: str, size: tuple[int, int]
) -> dict[str, str]:
    """Describe an exported network.

    Args:
        name: of the model.
        loaded: the network.
        activation: what makes probabilities of a classifier's logits; "argmax" for a segmenter.
        size: height and width of its input, pixels.

    Returns:
        Texts by name, as both formats hold them; ``labels`` and ``preprocessing`` are JSON.
    """
    weights = loaded.weights if loaded.weights in BUNDLED else Path(loaded.weights).name
    return {
        "model": name,
        "architecture": loaded.name,
        "task": str(loaded.task),
        "weights": weights,
        "weights_sha256": loaded.digest or "none",
        "weights_kind": loaded.weights_kind,
        "input": INPUT_NAME,
        "output": OUTPUT_NAME,
        "activation": activation,
        "labels": json.dumps(loaded.labels, ensure_ascii=False),
        "preprocessing": json.dumps(_preprocessing(loaded, size)),
    }


def _preprocessing(loaded: LoadedModel, size: tuple[int, int]) -> dict[str, Any]:
    """Return the steps from an upright image to the network's input, in their order."""
    config = loaded.input
    geometry, (height, width) = config.geometry, size
    steps: dict[str, Any]
    if isinstance(geometry, ClassificationGeometry):
        steps = {
            "resize": "short_side",
            "short_side": geometry.resize_short_side,
            "interpolation": geometry.interpolation,
            "antialias": True,
            "crop": "center",
        }
    else:
        steps = {
            "resize": "stretch",
            "interpolation": "bilinear",
            "antialias": False,
            "crop": "none",
        }
    return {
        "color": "RGB" if config.channels == 3 else "grey",
        **steps,
        "height": height,
        "width": width,
        "divide_by": 255,
        "mean": config.mean,
        "std": config.std,
        "layout": "NCHW",
        "dtype": "float32",
    }
