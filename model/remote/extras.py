"""The advice to install an extra, for every message that asks for one."""

from __future__ import annotations


def install_extra(extra: str) -> str:
    """Return a clause that says how to install an extra, as pip and as uv do it."""
    package = f"'overlock-service[{extra}]'"
    return f"install the extra {extra}: pip install {package}, or uv tool install {package}"
