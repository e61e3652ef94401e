"""Checkpoints as the authors store them: their keys and shapes, values from ``golden.fill``."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from support.fill import parameter

KEYS_DIR = Path(__file__).parents[1] / "golden" / "keys"


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Every key of the official checkpoint of ``name`` with its shape."""
    shapes: dict[str, list[int]] = json.loads((KEYS_DIR / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def official_state(name: str) -> dict[str, Tensor]:
    """The flat state dict of ``name``'s official checkpoint, with the reference's values."""
    return {
        key: torch.from_numpy(parameter(key, shape)) for key, shape in official_shapes(name).items()
    }


def official_numbers() -> dict[str, Tensor]:
    """Some official keys, each with a number of its own by which it can be recognised."""
    parts = ("blocks1.0.", "head.", "aux_head.")
    return {
        key: torch.tensor([float(number)])
        for number, key in enumerate(official_shapes("overlock_xt"))
        if key.startswith(parts)
    }
