#!/usr/bin/env python3
"""The first step of ``overlock``: check that ``service`` and ``model`` are its own packages.

``pyproject.toml`` installs this file a second time, as the script ``overlock``, which imports
nothing of ours at first: when ``PYTHONPATH`` holds another ``service``, a module of this package
cannot even say so.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # They wait until the command can end in order; what is imported next would raise a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

REFUSED = 2
OWN_FILES = {"service": "cli.py", "model": "zoo.py"}
"""A file of each of our packages."""


def shadowing_path(package: str) -> Path | None:
    """Return what is imported instead of one of our packages; None if nothing is.

    Args:
        package: a key of ``OWN_FILES``.
    """
    spec = find_spec(package)
    if spec is None:
        return None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    if any((folder / OWN_FILES[package]).is_file() for folder in folders):
        return None
    return folders[0] if folders else Path(spec.origin or package)


def refuse_shadows() -> None:
    """End this process with a sentence if another package has the name of one of ours."""
    for package in OWN_FILES:
        path = shadowing_path(package)
        if path is not None:
            sys.stderr.write(
                f"overlock: {path} has the name of a package of overlock-service and is imported "
                f"instead; take {path.parent} off PYTHONPATH.\n"
            )
            sys.exit(REFUSED)


def main() -> None:
    """Run the command line, unless its packages are not its own."""
    refuse_shadows()
    import_module("service.cli").main()


if __name__ == "__main__":
    main()
