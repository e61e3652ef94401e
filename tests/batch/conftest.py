from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from service.commands.batch import buckets
from service.commands.batch import run as batch_run
from service.commands.batch.actors import MakeNetwork
from service.commands.batch.ray_session import LOCAL_VARIABLES, VARIABLES, local_ray

# Ray looks at them once, when it is imported.
os.environ.update(LOCAL_VARIABLES | VARIABLES)
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

from support import batch_runs
from support.batch_networks import MeanNetwork
from support.batch_runs import Batch, arguments
from support.s3_store import s3_store


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


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The address of a store that speaks S3."""
    with s3_store() as address:
        yield address


@pytest.fixture
def empty_bucket(moto: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A client of a store with a bucket ``pets``, which this program's own clients reach too."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("HOME", str(tmp_path))
    buckets._file_system.cache_clear()
    client = boto3.client("s3", config=Config(retries={"max_attempts": 0}))
    client.create_bucket(Bucket="pets")
    yield client
    for entry in client.list_objects_v2(Bucket="pets").get("Contents", []):
        client.delete_object(Bucket="pets", Key=entry["Key"])
    client.delete_bucket(Bucket="pets")
    client.close()
    buckets._file_system.cache_clear()
