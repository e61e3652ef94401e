from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from service.commands.batch import run as batch_run
from service.commands.batch.actors import MakeNetwork
from service.commands.batch.ray_session import LOCAL_VARIABLES, VARIABLES, local_ray

# Ray looks at them once, when it is imported.
os.environ.update(LOCAL_VARIABLES | VARIABLES)
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

from support import batch_runs
from support.batch_networks import MeanNetwork
from support.batch_runs import Batch, arguments


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OVERLOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OVERLOCK_DTYPE", "float32")


@pytest.fixture
def batch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Batch:
    """Run in a folder of the test's own, in this process, with a quick network, without Ray."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_run, "local_ray", batch_runs.no_ray)
    monkeypatch.setattr(batch_run, "described", batch_runs.described_here)
    monkeypatch.setattr(batch_run, "run_pipeline", batch_runs.pipeline_here)

    def run(*words: str, network: MakeNetwork = MeanNetwork) -> int:
        return batch_run.run(arguments(*words), network)

    return run


@pytest.fixture(scope="session")
def ray_module() -> Iterator[Any]:
    """A Ray that the tests share, with two GPUs that nobody has; it finds the tests' modules."""
    before = os.environ.get("PYTHONPATH")
    root = Path(__file__).parents[2]
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, (str(root), str(root / "tests"), before))
    )
    try:
        with local_ray(cpus=4, gpus=2, store_bytes=512 * 2**20) as ray:
            yield ray
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@pytest.fixture
def on_ray(ray_module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Batch:
    """Run in a folder of the test's own, on the Ray that is shared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(batch_run, "local_ray", lambda **_: nullcontext(ray_module))

    def run(*words: str, network: MakeNetwork | None = None) -> int:
        parsed = arguments(*words, "--decoders", "1")
        return batch_run.run(parsed, network) if network else batch_run.run(parsed)

    return run
