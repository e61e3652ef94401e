"""The service as users start it: images a second over HTTP beside the bare engine's.

Runs only if the service's packages are installed; the other sections need few of them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from benchmarks.on_gpu.bench import Bench, Row

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def rows(bench: Bench) -> Iterator[Row]:
    missing = missing_packages()
    if missing:
        yield {"what": f"not started: {', '.join(missing)} missing"}
        return
    try:  # not at the top: it imports packages that may be missing
        from benchmarks.on_gpu.whole_service import rows as measured
    except ModuleNotFoundError as error:
        yield {"what": f"not started: {error.name} missing"}
        return
    yield from measured(bench)


def missing_packages() -> list[str]:
    """List the service's dependencies that are not installed."""
    dependencies = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", each)[0] for each in dependencies]
    return [name for name in names if not _installed(name)]


def _installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True
