"""Reader of the lock files in requirements/."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.markers import Marker

FOLDER = Path(__file__).parents[2] / "requirements"

TORCH = (FOLDER / "torch.txt").read_text("utf-8").strip().removeprefix("torch==")
"""Torch's version, without that of a build."""

LINE = re.compile(r"^([\w.-]+)==([^\s;]+)(?: ; (.*?))? \\$", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    """Return a lock file's versions for this machine, by the packages' normalised names."""
    found = LINE.findall((FOLDER / name).read_text("utf-8"))
    return {
        normalised(package): version
        for package, version, marker in found
        if not marker or Marker(marker).evaluate()
    }


def normalised(package: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", package).lower()
