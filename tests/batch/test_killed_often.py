"""Five thousand images and ten kills, on a disk and in a bucket: minutes, so exhaustive."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from service.commands.batch.actors import local_network
from service.commands.console.exits import DONE
from support.batch_runs import Batch, files_in, rows_of, write_scenes
from support.command_line import OVERLOCK, environment

IMAGES, KILLS, PATIENCE_SECONDS = 5000, 10, 600.0

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(2 * KILLS * PATIENCE_SECONDS)]

Listed = Callable[[], dict[str, bytes]]


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="pets")
    yield client
    client.close()


def objects_in(bucket: Any) -> dict[str, bytes]:
    """Return all objects of a run's folder in the bucket, by their names."""
    found = bucket.list_objects_v2(Bucket="pets", Prefix="found/").get("Contents", [])
    return {
        entry["Key"].removeprefix("found/"): bucket.get_object(Bucket="pets", Key=entry["Key"])[
            "Body"
        ].read()
        for entry in found
    }


def run_and_kill(folder: Path, words: list[str], chance: random.Random, listed: Listed) -> None:
    """Start a run, and kill it some time after another part has come, or let it end."""
    before, until = len(listed()), time.monotonic() + PATIENCE_SECONDS
    with subprocess.Popen(
        [OVERLOCK, "batch", *words],
        cwd=folder,
        env=environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while len(listed()) <= before and process.poll() is None:
            assert time.monotonic() < until, "no part came"
            time.sleep(0.1)
        time.sleep(chance.uniform(0, 2))
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_ten_kills_leave_every_image_once_and_the_files_of_a_quiet_run(
    place: str, batch: Batch, bucket: Any, tmp_path: Path
) -> None:
    write_scenes(tmp_path / "photos", IMAGES)
    words = ["classify", "photos", "--part-size", "100", "--output"]
    assert batch(*words, "quiet", network=local_network) == DONE
    quiet = files_in(tmp_path / "quiet")
    output = "found" if place == "disk" else "s3://pets/found"
    (tmp_path / "found").mkdir()

    def listed() -> dict[str, bytes]:
        return files_in(tmp_path / "found") if place == "disk" else objects_in(bucket)

    chance = random.Random(23)
    for _ in range(KILLS):
        run_and_kill(tmp_path, [*words, output], chance, listed)
    process = subprocess.run(
        [OVERLOCK, "batch", *words, output],
        cwd=tmp_path,
        env=environment() | {"AWS_ENDPOINT_URL": os.environ["AWS_ENDPOINT_URL"]},
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    assert process.returncode == DONE, process.stderr.decode()
    assert listed() == quiet
    paths = [row["path"] for row in rows_of(tmp_path / "quiet")]
    assert len(paths) == len(set(paths)) == IMAGES
