"""Which release of the package this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

UNINSTALLED = "0+uninstalled"
"""Of a checkout that runs without having been installed: nothing says which release that is."""


def release() -> str:
    """Return the installed package's version."""
    try:
        return version("overlock-service")
    except PackageNotFoundError:
        return UNINSTALLED
