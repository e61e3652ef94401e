"""The demo's weights, which are a part of the package."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path

from model.config import Task

DEMO_WEIGHTS = {
    Task.CLASSIFY: "overlock_nano.safetensors",
    Task.SEGMENT: "upernet_nano.safetensors",
}
"""Files in ``model/demo/weights`` by task."""


def demo_weights(task: Task) -> AbstractContextManager[Path]:
    """Return the path of a task's file, to be used in a ``with`` statement."""
    return as_file(files("model.demo") / "weights" / DEMO_WEIGHTS[task])
