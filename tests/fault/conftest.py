from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.running_service import RunningService

INJECTION = Path(__file__).with_name("injection")


Start = Callable[..., RunningService]


@pytest.fixture(scope="session")
def start_faulty() -> Start:
    """Start a service whose device fails as an image's colour says."""

    def start(prefix: Sequence[str] = (), **settings: str | int) -> RunningService:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(INJECTION), prepend=os.pathsep)
            defaults: dict[str, str | int] = {"segment_model": "off", "default_timeout_seconds": 60}
            return RunningService(prefix, **defaults | settings)

    return start


@pytest.fixture(scope="session")
def faulty(start_faulty: Start) -> Iterator[RunningService]:
    """A faulty service, shared by tests that leave it ready again."""
    with start_faulty() as service:
        yield service
