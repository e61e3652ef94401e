"""Torchvision's operators, for comparison."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


@pytest.fixture(scope="session")
def torchvision_ops() -> Any:
    """Return torchvision's operators; skip where they are missing or do not fit PyTorch."""
    try:
        return importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision's operators do not load here: {error}")
