"""The release of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

UNINSTALLED = "0+uninstalled"
"""Release of a checkout that runs without being installed."""


def release() -> str:
    """Return the installed package's version."""
    try:
        return version("overlock-service")
    except PackageNotFoundError:
        return UNINSTALLED
