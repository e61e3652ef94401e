from __future__ import annotations

import os
import tempfile
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
def faulty_starts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for the number of ``faulty``'s engines that die before their first line."""
    return tmp_path_factory.mktemp("faulty") / "starts"


@pytest.fixture(scope="session")
def faulty(start_faulty: Start, faulty_starts: Path) -> Iterator[RunningService]:
    """A faulty service, shared by tests that leave it ready again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAULTY_STARTS_FILE", str(faulty_starts))
        started = start_faulty()
    with started as service:
        yield service


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own for its services' runtime folders, of a short path."""
    with tempfile.TemporaryDirectory(prefix="reloads-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)
