from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_service import RunningService

INJECTION = Path(__file__).with_name("injection")


@pytest.fixture(scope="session")
def faulty() -> Iterator[RunningService]:
    """A service whose device fails as an image's colour says; its tests leave it well again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(INJECTION))
        service = RunningService(segment_model="off", default_timeout_seconds=60)
    with service:
        yield service
