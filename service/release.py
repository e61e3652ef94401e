"""The release of the installed package, and the commit that it was made from."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

PACKAGE = "overlock-service"

UNINSTALLED = "0+uninstalled"
"""Release of a checkout that runs without being installed."""

BUILT_FROM = Path(__file__).with_name("commit.txt")
"""Names the commit where there is no repository: the image's build writes it."""

COMMIT_DIGITS = 12


def release() -> str:
    """Return the installed package's version."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return UNINSTALLED


def commit() -> str | None:
    """Return the commit that this code is of, None if nothing tells.

    A checkout with changes has ``-dirty`` behind it.
    """
    if BUILT_FROM.exists():
        return BUILT_FROM.read_text(encoding="ascii").strip()[:COMMIT_DIGITS] or None
    return _of_the_checkout() or _of_the_installation()


def _of_the_checkout() -> str | None:
    root, git = Path(__file__).parents[1], shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    command.append(f"--abbrev={COMMIT_DIGITS}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() or None  # a repository of somebody else's is none of ours


def _of_the_installation() -> str | None:
    """Read what pip and uv note of a package that they installed from a repository."""
    try:
        noted = distribution(PACKAGE).read_text("direct_url.json")  # PEP 610
    except PackageNotFoundError:
        return None
    found = json.loads(noted or "{}").get("vcs_info", {}).get("commit_id")
    return None if found is None else str(found)[:COMMIT_DIGITS]
