from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.running_service import RunningService

# prometheus-client looks at it once, when it is imported first.
_metrics = tempfile.TemporaryDirectory(prefix="overlock-test-metrics-")  # gone with the process
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics.name

# A shell's background job ignores Ctrl-C, and so would every process that the tests start from one.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Triton looks at it when it is imported. Without a GPU its interpreter runs the kernels.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def _metrics_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore after a test what the command line removes from its process's environment."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", _metrics.name)


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """Restore after a test the handlers that a command leaves to its process's last second."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--soak-seconds",
        type=float,
        default=8.0,
        help="how long clients come and leave; `make soak` takes a minute",
    )


def pytest_collection_finish() -> None:
    """Keep what was imported out of collections: tests that ask for one took a second each."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter clean up as ever: Triton's bindings count what is left."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def demo() -> Iterator[RunningService]:
    """The service without any setting, shared by the tests that only send it requests."""
    with RunningService() as service:
        yield service


@pytest.fixture(scope="session")
def photos_dir() -> Path:
    folder = os.environ.get("GOLDEN_PHOTOS_DIR")
    if not folder:
        pytest.skip("GOLDEN_PHOTOS_DIR names no folder with the photographs; none can be kept here")
    return Path(folder)
