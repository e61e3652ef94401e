from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.running_service import RunningService


@pytest.fixture(scope="session")
def demo() -> Iterator[RunningService]:
    """The service without any setting, shared by the tests that only send it requests."""
    with RunningService() as service:
        yield service
